"""Model cards: facts about a weights file that its tensors do not hold, as JSON next to it or in it.

The card of `ViT-B-16_60.pth` is `ViT-B-16_60.json`, that of `model.safetensors` is `config.json`. `last.pt`,
which is written again and again, has its card inside.
"""

import functools
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    Strict,
    ValidationInfo,
    field_validator,
)

from model.names import REID, TEXT_SEARCH
from model.reid import SideInformation
from utils.files import sha256_of_file, write_atomically
from utils.hub import CARD, LIBRARY, WEIGHTS
from utils.text import printable
from utils.untrusted.forms import Form, parse_json
from utils.untrusted.plain import read_plain
from utils.untrusted.run_states import MAX_CARD
from utils.weights import read_entry, split_choice

_ENTRY = "card"  # of `last.pt`
_logger = logging.getLogger("transreid.model")


def _on_one_line(text: str) -> str:
    if printable(text) != text:
        raise ValueError("allowed: text on one line")
    return text


def _by_name(sides: object) -> object:
    if not isinstance(sides, dict | SideInformation):
        raise ValueError("allowed: null, or cameras, views and scale by name")
    return sides


def _with_rows(sides: SideInformation) -> SideInformation:
    if min(sides[:2]) < 0 or not sides.rows:
        raise ValueError("allowed: cameras and views from 0, one of them above")
    return sides


Text = Annotated[str, Field(max_length=200), AfterValidator(_on_one_line)]
Positive = Annotated[int, Field(ge=1)]
AboveZero = Annotated[float, Field(gt=0)]
Listed = Strict(False)  # a list will do for a tuple
Sides = Annotated[
    SideInformation,
    BeforeValidator(_by_name),
    AfterValidator(_with_rows),
    PlainSerializer(lambda sides: sides._asdict()),
]


class Card(Form):
    """Facts that cards of all kinds of models have; raises ValueError about a wrong one.

    `name` is open_clip's, or the label of a description file; `quick_gelu` and `head_width` (of the image
    tower's attention) are facts of its towers that shapes do not show. `method` trained it on `data`, with
    `versions` of packages. `size` (H, W), `stride`, `mean`, `std` and `resize` prepare images. `sha256` is
    the file's. `license` is that of the weights, `data_license` that of the data, '' where not stated.
    """

    name: Text
    method: Text
    size: Annotated[tuple[Positive, Positive], Listed]
    stride: Annotated[tuple[Positive, Positive], Listed]
    mean: Annotated[tuple[float, float, float], Listed]
    std: Annotated[tuple[AboveZero, AboveZero, AboveZero], Listed]
    resize: Literal["bilinear", "bicubic"]
    quick_gelu: bool
    head_width: Positive
    data: Text
    versions: Mapping[Text, Text]
    sha256: Text = ""
    license: Text = ""
    data_license: Text = ""

    def text(self) -> str:
        """The card as JSON on one line, without a SHA-256: it is in the file that it is about."""
        return json.dumps(self._content())

    def _content(self) -> dict[str, Any]:
        return {"library_name": LIBRARY, **self.model_dump()}

    def write(self, path: str | Path) -> None:
        """Write the card next to the weights in `path`, with their SHA-256. Raises OSError."""
        content = {**self._content(), "sha256": sha256_of_file(path)}
        text = json.dumps(content, indent=2) + "\n"
        write_atomically(card_path(path), lambda file: file.write_text(text, encoding="utf-8"))


class ModelCard(Card):
    """The card of a re-id model.

    `neck` is the test feature, `sie` the table of side information, in which the cameras of each data set in
    `cameras` follow those of the one before ({}: not known); `classes` are those of the classifiers.
    `tokenizer` is None without a text tower. `adapter_ratio` is the share of CLIP-Adapter, 0 without one.
    """

    neck: Literal["before", "after"]
    sie: Sides | None
    classes: int = Field(ge=0)
    tokenizer: Text | None
    cameras: Mapping[Text, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    adapter_ratio: float = Field(default=0.0, ge=0, le=1)

    @field_validator("cameras")
    @classmethod
    def _require_rows(cls, cameras: Mapping[str, int], info: ValidationInfo) -> Mapping[str, int]:
        sie = info.data.get("sie")
        if sie and sie.cameras and cameras and sum(cameras.values()) != sie.cameras:
            raise ValueError(f"allowed: {sie.cameras} cameras in all, as sie has")
        return cameras


class TextSearchCard(Card):
    """The card of a text search model; `text_length` counts the positions of its text tower.

    `text_heads` (of the text tower's attention) and `tokenizer` are not shown by shapes. The file of a
    multilingual tower's tokenizer, next to the weights, has the SHA-256 `tokenizer_sha256`, '' for CLIP's.
    """

    kind: Literal["text_search"] = "text_search"
    text_length: Positive
    text_heads: Positive
    tokenizer: Text
    tokenizer_sha256: Text = ""


AnyCard = TypeVar("AnyCard", bound=Card)
_Stamp = tuple[int, int, int]  # of a file: it is the same one while these stay


class _Seen(Form):
    """The entries by which cards and other JSON files of the same name are told apart."""

    kind: str = "reid"
    library_name: Any = None
    vision_cfg: Any = None
    model_cfg: Any = None


def card_path(path: str | Path) -> Path:
    """The place of the card of the weights in `path`; all weights in one file have one card."""
    file = split_choice(path)[0]
    return file.with_name(CARD) if file.name == WEIGHTS else file.with_suffix(".json")


def card_source(path: str | Path) -> str:
    """How messages name the card of the weights in `path`."""
    file = card_path(path)
    return str(file) if file.exists() else f"the card in {split_choice(path)[0]}"


def read_card(path: str | Path) -> ModelCard | None:
    """The card of the re-id model in `path`, next to the file or in it; None where there is none.

    Raises ValueError that names the card's file and the first mistake in it, or which programs read a card of
    another kind. A card of other weights is not used, with a warning: the weights may have been cut down or
    converted since, and can still be tested as files without a card are. open_clip's descriptions of models,
    also JSON, are not cards, nor is a config.json of another library.
    """
    return _find_card(path, ModelCard)


def read_text_search_card(path: str | Path) -> TextSearchCard | None:
    """The card of the text search model in `path`, as `read_card`."""
    return _find_card(path, TextSearchCard)


def _find_card(weights: str | Path, form: type[AnyCard]) -> AnyCard | None:
    file, path = card_path(weights), split_choice(weights)[0]
    if file.exists():
        return _read_card(file, path, form, _stamp(file), _stamp(path))
    return _read_card_inside(str(weights), form, _stamp(path)) if path.is_file() else None


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=64)
def _read_card_inside(path: str, form: type[AnyCard], stamp: _Stamp) -> AnyCard | None:
    """The card that the file itself holds; its tensors are not loaded."""
    text = read_entry(path, _ENTRY)
    if not isinstance(text, str) or not text:
        return None
    if len(text) > MAX_CARD:
        raise ValueError(f"the card in {path} has {len(text):,} characters; allowed: {MAX_CARD:,}")
    where = f"the card in {path} is no model card"
    _require_kind(parse_json(text, _Seen, where), form, path)
    return parse_json(text, form, where)


def _require_kind(seen: _Seen, form: type[Card], path: str | Path) -> None:
    if (seen.kind == "text_search") != (form is TextSearchCard):
        what = TEXT_SEARCH if form is ModelCard else REID
        raise ValueError(f"{path} is {what}, says {card_source(path)}")


@functools.lru_cache(maxsize=64)
def _read_card(file: Path, path: Path, form: type[AnyCard], *stamps: _Stamp) -> AnyCard | None:
    """`_find_card`; while the files keep their `stamps`, large weights are hashed once and warned of once."""
    where = f"{file} is no model card"
    text = read_plain(file, MAX_CARD)
    seen = parse_json(text, _Seen, where)
    # config.json is the name of other libraries' files, too.
    others = file.name == CARD and seen.library_name != LIBRARY
    if others or seen.model_fields_set & {"vision_cfg", "model_cfg"}:
        return None
    _require_kind(seen, form, path)
    card = parse_json(text, form, where)
    if card.sha256 != sha256_of_file(path):
        _logger.warning("%s is the card of another file than %s: not used", file, path)
        return None
    return card
