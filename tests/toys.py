"""Toy towers, settings and pictures, once for all tests."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
_VISION = {
    "toy-vit": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8},
    "toy-resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
}
TOWERS = {name: {"embed_dim": 16, "vision_cfg": it, "text_cfg": _TEXT} for name, it in _VISION.items()}
MODEL = {"MODEL.NAME": "toy-vit", "MODEL.PRETRAIN_CHOICE": "none", "MODEL.STRIDE_SIZE": "[8, 8]"}
SETTINGS = MODEL | {
    "MODEL.DEVICE": "cpu",
    "INPUT.SIZE_TRAIN": "[32, 16]",
    "INPUT.SIZE_TEST": "[32, 16]",
    "INPUT.PADDING": "2",
    "DATALOADER.SAMPLER": "softmax_triplet",
    "DATALOADER.NUM_INSTANCE": "2",
    "DATALOADER.NUM_WORKERS": "0",
}


def words(settings: Mapping[str, Any]) -> list[Any]:
    """KEY VALUE KEY VALUE …, as command lines and `load_config` take settings."""
    return [word for pair in settings.items() for word in pair]


def write_tower(path: Path, name: str = "toy-vit", **changes: Any) -> Path:
    """A file that MODEL.NAME may name."""
    path.write_text(json.dumps(TOWERS[name] | changes))
    return path


def save_noise(path: Path, seed: int = 0) -> Path:
    """An image of 32 x 16 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def draw_market(root: Path, train: Iterable[int], test: Iterable[int], gallery_shots: int = 1) -> Path:
    """A Market-1501 in two cameras: noise around a colour for each identity; returns `root`."""
    rng = np.random.default_rng(0)
    splits = ("bounding_box_train", train, 1), ("query", test, 1), ("bounding_box_test", test, gallery_shots)
    for folder, pids, shots in splits:
        path = root / "Market-1501-v15.09.15" / folder
        path.mkdir(parents=True)
        for pid in pids:
            colour = np.random.default_rng(pid).integers(0, 200, (1, 1, 3))
            for camera in (1, 2):
                for shot in range(shots):
                    pixels = colour + rng.integers(0, 50, (32, 16, 3))
                    file = path / f"{pid:04d}_c{camera}s1_{shot:06d}_00.jpg"
                    Image.fromarray(pixels.astype(np.uint8)).save(file, quality=95)
    return root


TEXT_SETTINGS = MODEL | {
    "MODEL.DEVICE": "cpu",
    "MODEL.TEXT_LENGTH": "16",
    "MODEL.SIMCLR_MLP": "[16, 8, 16]",
    "INPUT.SIZE_TRAIN": "[32, 16]",
    "INPUT.SIZE_TEST": "[32, 16]",
    "DATASETS.NAMES": "captions",
    "DATALOADER.NUM_WORKERS": "0",
    "SOLVER.IMS_PER_BATCH": "8",
    "SOLVER.MAX_EPOCHS": "2",
}
_COLOURS = ("red", "green", "blue", "white", "black", "grey", "brown", "pink")


def draw_captions(root: Path, train: int = 8, test: int = 4, shots: int = 2) -> Path:
    """A text search data set in the prepared form: noise around a colour, two captions an image.

    Returns `root`.
    """
    for split, people in (("train", range(train)), ("test", range(100, 100 + test))):
        rows = []
        for person in people:
            for shot in range(shots):
                path = save_noise(root / "imgs" / f"{split}/{person}_{shot}.png", 10 * person + shot)
                coat, bag = _COLOURS[person % 8], _COLOURS[(3 * person + 1) % 8]
                captions = [f"A person in a {coat} coat, picture {shot}.", f"Somebody with a {bag} bag"]
                row = {"file_path": str(path.relative_to(root / "imgs")), "id": person, "captions": captions}
                rows.append(row | {"captions_bt": [f"{coat} is the coat", ""]})
        (root / f"{split}_reid.json").write_text(json.dumps(rows))
    return root


def save_text_model(path: Path, seed: int = 0, **changes: Any) -> Path:
    """The file and the model card of a toy text search model; needs the fixture `toy_towers`."""
    import torch

    from config import cfg_tbps
    from config.load import load_config
    from model import make_text_search_card, make_text_search_model

    torch.manual_seed(seed)
    cfg = load_config(cfg_tbps, "", words(TEXT_SETTINGS | changes))
    model = make_text_search_model(cfg)
    torch.save(model.state_dict(), path)
    make_text_search_card(cfg, model, "tbps", data="captions", versions={}).write(path)
    return path
