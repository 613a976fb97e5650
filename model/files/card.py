"""Model cards: facts about a weights file that its tensors do not hold, as JSON next to it.

The card of `ViT-B-16_60.pth` is `ViT-B-16_60.json`.
"""

import dataclasses
import functools
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.reid import SideInformation
from utils.files import sha256_of_file, write_atomically
from utils.weights import split_choice

_logger = logging.getLogger("transreid.model")


@dataclass(frozen=True)
class ModelCard:
    """Facts about a re-id model in a file; raises ValueError about a wrong one.

    `name` is open_clip's, or the label of a description file; `quick_gelu` and `head_width` (of attention)
    are facts of its tower that shapes do not show. `method` trained it on `data`, with `versions` of
    packages. `size` (H, W), `stride`, `mean`, `std` and `resize` prepare images, `neck` is the test feature,
    `sie` the table of side information. `tokenizer` is None without a text tower. `sha256` is the file's.
    """

    name: str
    method: str
    size: tuple[int, int]
    stride: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: str
    neck: str
    sie: SideInformation | None
    classes: int
    tokenizer: str | None
    quick_gelu: bool
    head_width: int
    data: str
    versions: Mapping[str, str]
    sha256: str = ""

    def __post_init__(self) -> None:
        for field in ("size", "stride", "mean", "std"):
            if isinstance(getattr(self, field), list):
                object.__setattr__(self, field, tuple(getattr(self, field)))
        sie: Any = self.sie
        if isinstance(sie, dict) and sie.keys() == set(SideInformation._fields):
            object.__setattr__(self, "sie", SideInformation(**sie))
        for field, (holds, allowed) in _RULES.items():
            value = getattr(self, field)
            if not holds(value):
                raise ValueError(f"{field} is {value!r:.80}; allowed: {allowed}")

    def write(self, path: str | Path) -> None:
        """Write the card next to the weights in `path`, with their SHA-256. Raises OSError."""
        content = dataclasses.asdict(self) | {"sha256": sha256_of_file(path)}
        content["sie"] = None if self.sie is None else self.sie._asdict()
        text = json.dumps(content, indent=2) + "\n"
        write_atomically(card_path(path), lambda file: file.write_text(text, encoding="utf-8"))


def card_path(path: str | Path) -> Path:
    """The place of the card of the weights in `path`; all weights in one file have one card."""
    return split_choice(path)[0].with_suffix(".json")


def read_card(path: str | Path) -> ModelCard | None:
    """The card of the weights in `path`; None where there is none.

    Raises ValueError that names the card's file and the first mistake in it. A card of other weights is not
    used, with a warning: the weights may have been cut down or converted since, and can still be tested as
    files without a card are. open_clip's descriptions of models, also JSON, are not cards.
    """
    file, path = card_path(path), split_choice(path)[0]
    if not file.is_file():
        return None
    stamps = ((each.stat().st_ino, each.stat().st_mtime_ns, each.stat().st_size) for each in (file, path))
    return _read_card(file, path, *stamps)


@functools.lru_cache(maxsize=64)
def _read_card(file: Path, path: Path, *stamps: tuple[int, int, int]) -> ModelCard | None:
    """`read_card`; while the files keep their `stamps`, large weights are hashed once and warned of once."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}; allowed: an object")
        if not content.keys().isdisjoint(("vision_cfg", "model_cfg")):
            return None
        fields = [field.name for field in dataclasses.fields(ModelCard)]
        missing = [name for name in fields if name not in content]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        card = ModelCard(**{name: content[name] for name in fields})
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"{file} is no model card: {reason}") from error
    if card.sha256 != sha256_of_file(path):
        _logger.warning("%s is the card of another file than %s: not used", file, path)
        return None
    return card


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= 200


def _is_whole(value: object, least: int) -> bool:
    return type(value) is int and value >= least


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_is_whole(side, 1) for side in value)


def _is_rgb(value: object, above: float) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(_is_number(x) and x > above for x in value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_sie(value: object) -> bool:
    if not isinstance(value, SideInformation):
        return value is None
    counts = _is_whole(value.cameras, 0) and _is_whole(value.views, 0)
    return counts and value.rows > 0 and _is_number(value.scale)


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_text, "text"),
    "method": (_is_text, "text"),
    "size": (_is_pair, "two whole numbers above 0"),
    "stride": (_is_pair, "two whole numbers above 0"),
    "mean": (lambda value: _is_rgb(value, -math.inf), "three numbers"),
    "std": (lambda value: _is_rgb(value, 0), "three numbers above 0"),
    "resize": (lambda value: value in ("bilinear", "bicubic"), "'bilinear', 'bicubic'"),
    "neck": (lambda value: value in ("before", "after"), "'before', 'after'"),
    "sie": (_is_sie, "null, or cameras, views (one of them above 0) and scale"),
    "classes": (lambda value: _is_whole(value, 0), "a whole number from 0"),
    "tokenizer": (lambda value: value is None or _is_text(value), "null or text"),
    "quick_gelu": (lambda value: isinstance(value, bool), "true, false"),
    "head_width": (lambda value: _is_whole(value, 1), "a whole number above 0"),
    "data": (_is_text, "text"),
    "versions": (
        lambda value: isinstance(value, dict) and all(map(_is_text, (*value, *value.values()))),
        "an object of texts",
    ),
    "sha256": (_is_text, "text"),
}
