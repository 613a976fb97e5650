"""Configurations of text search, and annotation files of rows."""

import json
from pathlib import Path

import pytest

from config import cfg_tbps
from config.load import load_config

LOG = "transreid.datasets"


@pytest.fixture
def caption_cfg(tmp_path):
    """A function: name of a data set, KEY, VALUE, … → the configuration, with ROOT_DIR `tmp_path`."""

    def make(name: str, *pairs: object):
        words = ["DATASETS.NAMES", name, "DATASETS.ROOT_DIR", str(tmp_path), *map(str, pairs)]
        return load_config(cfg_tbps, "", words)

    return make


@pytest.fixture
def write_json(tmp_path):
    """A function: name, content, options of `write_text` → that file below `tmp_path`, with imgs/ beside."""

    def write(name: str, content: object, **options: str) -> Path:
        path = tmp_path / name
        (path.parent / "imgs").mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, **{"encoding": "utf-8"} | options)
        return path

    return write
