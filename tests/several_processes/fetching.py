"""A process of several that reads Market-1501 from a folder where it is missing; test_download.py starts it.

Its words: address of an archive, folder.
"""

import sys
from dataclasses import replace

import torch

from config import cfg
from config.load import load_config
from datasets import DATA_SOURCES, make_dataset
from utils.distributed import process_group, rank

if __name__ == "__main__":
    url, root = sys.argv[1:]
    source = replace(DATA_SOURCES["market1501"], drive_id="", url=url, md5="", size=0)
    DATA_SOURCES["market1501"] = source
    with process_group(torch.device("cpu")):
        dataset = make_dataset(load_config(cfg, "", ["DATASETS.ROOT_DIR", root, "DATASETS.DOWNLOAD", "True"]))
        print(f"process {rank()}: {len(dataset.train)} images")
