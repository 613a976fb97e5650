"""The setting of a load: a model, a gallery, pictures to ask with, and the server in its own process."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import ROOT
from config import cfg_base
from config.load import load_config
from model import make_card, make_model
from retrieval import Gallery, Metadata
from utils.files import sha256_of_file

# Costs little next to what is measured, the server.
_TOY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
_ADDED = 500  # rows at a time


class Setting(NamedTuple):
    """A gallery, its model, and JPEG pictures of the model's size, which the first entries of it show."""

    gallery: Path
    weight: Path
    pictures: list[bytes]
    keys: list[str]


def prepare(folder: Path, tower: str, entries: int, pictures: int, seed: int) -> Setting:
    """Make all in a folder; `tower` is 'toy' or a MODEL.NAME. The model is drawn, not trained."""
    import clipreid

    pairs = ["MODEL.NAME", tower, "MODEL.PRETRAIN_CHOICE", "none"]
    pairs += ["INPUT.SIZE_TRAIN", "[256, 128]", "INPUT.SIZE_TEST", "[256, 128]"]
    if tower == "toy":
        (folder / "toy.json").write_text(json.dumps(_TOY))
        pairs += ["MODEL.NAME", str(folder / "toy.json"), "MODEL.STRIDE_SIZE", "[32, 32]"]
    config = load_config(cfg_base, "", pairs)
    torch.manual_seed(seed)
    network = make_model(config, 2, 2, 1)
    weight = folder / "model.pth"
    torch.save(network.state_dict(), weight)
    make_card(config, network, "base", data="drawn", versions={}).write(weight)
    model = clipreid.load_model(weight, device="cpu")
    shown = [_picture(seed + i) for i in range(pictures)]
    paths = []
    for i, data in enumerate(shown):
        paths.append(folder / f"{i}.jpg")
        paths[-1].write_bytes(data)
    features = model.encode_image(paths).features
    keys = [sha256_of_file(path) for path in paths]
    facts = [
        Metadata(identity=f"p{i}", camera=f"c{i % 6}", path=str(path), picture=key)
        for i, (path, key) in enumerate(zip(paths, keys, strict=True))
    ]
    generator = torch.Generator().manual_seed(seed)
    with Gallery.create(folder / "gallery.db", {"reid": model.space_model}) as gallery:
        gallery.add(features, keys, facts)
        for first in range(pictures, entries, _ADDED):
            numbers = range(first, min(first + _ADDED, entries))
            rows = torch.randn(len(numbers), features.shape[1], generator=generator)
            others = [Metadata(identity=f"p{i}", camera=f"c{i % 6}") for i in numbers]
            gallery.add(rows, [f"entry-{i}" for i in numbers], others)
    return Setting(folder / "gallery.db", weight, shown, keys)


def _picture(seed: int) -> bytes:
    """A JPEG file of 256 x 128 pixels: coarse noise, so that it has the size of a photograph's."""
    coarse = np.random.default_rng(seed).integers(0, 256, (32, 16, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(coarse).resize((128, 256), Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
    return data.getvalue()


@contextmanager
def serving(setting: Setting, options: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server's process and address. Raises RuntimeError where it does not start."""
    command = [sys.executable, str(ROOT / "tools/serve.py"), "--gallery", str(setting.gallery)]
    command += ["--weight", str(setting.weight), "--device", "cpu", "--port", "0", "--no-page", "--rate", "0"]
    with subprocess.Popen([*command, *options], text=True, stdout=subprocess.PIPE) as process:
        try:
            for line in process.stdout or ():
                if found := re.search(r" at (http://\S+)$", line):
                    yield process, found[1]
                    return
            raise RuntimeError(f"the server ended with status {process.wait()}")
        finally:
            process.terminate()
            process.communicate()
