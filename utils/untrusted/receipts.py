"""The form of `receipt.json`: how a run came about, and what it found."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue

from utils.files import sha256_of_file, write_atomically
from utils.hub import CARD, WEIGHTS, find_weights
from utils.lock import locked
from utils.untrusted.forms import Form, parse_json, read_json
from utils.untrusted.plain import MEBIBYTE

FILE = "receipt.json"
MAX_RECEIPT = 4 * MEBIBYTE
_MAX_CARD = 2**16
_PATIENCE = 5.0  # seconds
_LOCK = ".receipt.lock"

_Count = Annotated[int, Field(ge=0)]
_Range = Annotated[list[float], Field(min_length=2, max_length=2)]
Part = Literal["train", "test"]


class Split(Form):
    """Counts of a split; `sha256` is that of its file names, identities and cameras, whatever their order.

    Captions are counted where there are some. Unknown identities and cameras do not count.
    """

    images: _Count
    identities: _Count
    cameras: _Count
    sha256: str
    captions: _Count = 0


class Data(Form):
    """The data of a run. `splits` by name: train, query, gallery; of several trials the first one's counts.

    `tested` names the data set of query and gallery where it is another one than is trained on, else ''.
    `release` tells releases of a data set apart, '' where there is one. `left_out` are counts of what lies
    there and is not used, by reason.
    """

    name: str
    tested: str = ""
    release: str = ""
    trials: _Count = 1
    splits: dict[str, Split] = Field(default_factory=dict)
    left_out: dict[str, _Count] = Field(default_factory=dict)


class Weights(Form):
    """A file that was read: its path as it was named, SHA-256 ('' where that is not known), and its card."""

    path: str
    sha256: str = ""
    card: dict[str, JsonValue] | None = None


class _AnyCard(Form):
    model_config = ConfigDict(extra="allow")

    sha256: str = ""


def describe_weights(path: str) -> Weights:
    """The file that `path` names, with its SHA-256 and its card, which is next to it or in it."""
    from utils.weights import read_entry, split_choice  # torch

    with contextlib.suppress(OSError, ValueError):
        file = find_weights(split_choice(path)[0])
        sha256 = sha256_of_file(file)
        beside = file.with_name(CARD) if file.name == WEIGHTS else file.with_suffix(".json")
        with contextlib.suppress(OSError, ValueError):
            card = read_json(beside, _AnyCard, _MAX_CARD)
            if card.sha256 == sha256:
                return Weights(path=path, sha256=sha256, card=card.model_dump())
        with contextlib.suppress(OSError, ValueError):
            inside = read_entry(path, "card")
            if isinstance(inside, str) and len(inside) <= _MAX_CARD:
                card = parse_json(inside, _AnyCard, path)
                return Weights(path=path, sha256=sha256, card=card.model_dump())
        return Weights(path=path, sha256=sha256)
    return Weights(path=path)


class Section(Form):
    """A training or a test.

    `commits` are those of earlier parts of a run that went on, where they are not `commit`, that of the last.
    `weights` are files by what they were read for: 'clip', 'stage1', 'test', … `facts` are how a test
    prepared images and compared features, by the names in `metrics.json`. `started` is ISO 8601 in UTC,
    `seconds` counts all parts of a resumed run, `peak_memory` is in bytes: what torch allocated on a GPU, the
    resident memory of the process on the CPU, null where the system does not tell. `metrics` are fractions
    and counts, of a training those of its last evaluation, `intervals` their 95 % ranges from a bootstrap
    over queries. A run that was killed stays 'running'; `status` is '' where nothing tells it.
    """

    method: str
    command: str = ""
    commit: str = ""
    commits: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    seed: int | None = None
    config: dict[str, JsonValue] = Field(default_factory=dict)
    data: Data | None = None
    weights: dict[str, Weights] = Field(default_factory=dict)
    facts: dict[str, JsonValue] = Field(default_factory=dict)
    precision: str = ""
    processes: Annotated[int, Field(ge=1)] = 1
    device: str = ""
    started: str = ""
    seconds: Annotated[float, Field(ge=0)] | None = None
    peak_memory: _Count | None = None
    status: Literal["", "running", "finished", "stopped", "failed"] = "running"
    metrics: dict[str, float] = Field(default_factory=dict)
    intervals: dict[str, _Range] = Field(default_factory=dict)


class Receipt(Form):
    """The training and the test in a folder, null where there was none."""

    format: Literal[1] = 1
    train: Section | None = None
    test: Section | None = None


def read_receipt(path: str | os.PathLike[str]) -> Receipt:
    """The receipt in a file; raises FileNotFoundError or OSError, or ValueError that names file and field."""
    return read_json(path, Receipt, MAX_RECEIPT)


def write_section(folder: Path, part: Part, section: Section, *, anew: bool = False) -> None:
    """Replace a section of the folder's receipt; `anew` drops the other one, which is of a former run.

    A file that is no receipt is replaced. Raises OSError, or ValueError where no plain file is there.
    """
    with _held(folder):
        former = Receipt()
        if not anew:
            with contextlib.suppress(OSError, ValueError):
                former = read_receipt(folder / FILE)
        receipt = former.model_copy(update={part: section})
        text = json.dumps(receipt.model_dump(), indent=1) + "\n"  # which escapes paths that are no text
        write_atomically(folder / FILE, lambda beside: beside.write_text(text, encoding="utf-8"))


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """A training and a test may share the folder: each waits while the other one writes."""
    until = time.monotonic() + _PATIENCE
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(locked(folder / _LOCK))
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield
