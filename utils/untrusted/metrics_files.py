"""The forms of `metrics.json`, of a test, and of a line of `metrics.jsonl`, of an epoch."""

import logging
import os
from typing import Annotated

from pydantic import ConfigDict, Field, JsonValue, model_validator
from typing_extensions import Self

from utils.untrusted.forms import Form, parse_json
from utils.untrusted.plain import MEBIBYTE, read_plain_text

MAX_METRICS = 16 * MEBIBYTE  # 40,000 epochs
_Fraction = Annotated[float, Field(ge=0, le=1)]
_LARGEST = 1e100  # for which a picture's axis has room
_Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
_logger = logging.getLogger("transreid.metrics")


class TestMetrics(Form):
    """What is read of `metrics.json`; `cmc[k - 1]` is Rank-k."""

    cmc: Annotated[list[_Fraction], Field(min_length=1, max_length=100_000)]
    mAP: _Fraction
    dataset: str | None = None
    weight: str | None = None
    rerank: JsonValue = None
    attributes: JsonValue = None


class Epoch(Form):
    """What an epoch left; terms of its loss begin with `loss_`. 'untrained' is epoch 0."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]

    stage: Annotated[str, Field(min_length=1, max_length=100)]
    epoch: Annotated[int, Field(ge=0, le=1_000_000)]
    loss: _Number = 0.0
    lr: Annotated[_Number, Field(ge=0)] = 0.0
    acc: _Fraction = 0.0
    clusters: _Number = 0.0
    outliers: _Number = 0.0
    nmi: _Number = 0.0
    ari: _Number = 0.0
    mAP: _Fraction = 0.0
    rank1: _Fraction = 0.0

    @model_validator(mode="after")
    def _has_numbers(self) -> Self:
        if self.epoch == 0 and self.stage != "untrained":
            raise ValueError(f"epoch is 0 in {self.stage!r}; allowed: 1 or more")
        for name, value in (self.model_extra or {}).items():
            is_number = type(value) in (int, float) and abs(value) <= _LARGEST
            if name.startswith("loss_") and not is_number:
                raise ValueError(f"{name} is {value!r}; allowed: a number")
        return self


def read_epochs(path: str | os.PathLike[str]) -> list[Epoch]:
    """The lines of `metrics.jsonl`; one that a kill cut off at its end is left out with a warning.

    Raises FileNotFoundError, another OSError, or ValueError that names the file and the line.
    """
    *lines, rest = read_plain_text(path, MAX_METRICS).split("\n")
    epochs = [parse_json(line, Epoch, f"{path}, line {n}") for n, line in enumerate(lines, start=1)]
    if rest:
        try:
            epochs.append(parse_json(rest, Epoch, "the end"))
        except ValueError:
            _logger.warning("%s: the last line was cut off while it was written; it is left out", path)
    return epochs
