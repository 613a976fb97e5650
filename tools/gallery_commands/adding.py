"""gallery.py add: pictures become entries, of which those that are there already are not encoded again."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from config.arguments import Parser
from tools.features.finding import NoneReadableError, add_image_options, check_image_options
from tools.gallery_commands.options import Command, accept_all, add_model_options, load_models
from tools.gallery_commands.sources import Found, add_source_options, find_pictures
from utils.files import sha256_of_file
from utils.signals import StopRequest
from utils.text import Tally
from utils.untrusted.pictures import MAX_BYTES

if TYPE_CHECKING:
    import torch

    from clipreid import Model, TextModel
    from datasets import LoadedBatch
    from retrieval import FeatureSet, Gallery, Metadata
    from tools.features.images import ReadableBatches
    from utils.precision import Precision

_PORTION = 5.0  # seconds of work, after which it is stored
_AT_ONCE = 1000  # entries that are compared
_logger = logging.getLogger("transreid.tools")


@dataclass
class _Counts:
    """Files by what was done with them."""

    new: int = 0
    there: int = 0
    completed: int = 0
    updated: int = 0
    unreadable: int = 0
    twice: int = 0
    differing: int = 0
    renamed: Tally = field(default_factory=Tally)


def add_options(parser: Parser) -> None:
    """Add the options of models, pictures and loading."""
    add_model_options(parser)
    add_source_options(parser)
    add_image_options(parser)


def add(args: argparse.Namespace) -> None:
    """Add the pictures that the options name, and log what became of them; SIGINT and SIGTERM end it soon.

    Raises ValueError or OSError for options, models, pictures and galleries that cannot be used.
    """
    from retrieval import Gallery
    from utils.device import select_device
    from utils.precision import inference_precision

    check_image_options(args)
    if args.weight is None and args.text_weight is None:
        raise ValueError("no model is given; needed: --weight, --text-weight or both, as in `create`")
    pictures = find_pictures(args)
    counts = _Counts()
    with Gallery.open(args.gallery) as gallery, StopRequest().listening() as stop:
        models = load_models(args, args.device)
        for space, option in (("reid", "--weight"), ("text", "--text-weight")):
            if space in models and space not in gallery.spaces:
                raise ValueError(
                    f"{option} is given, but gallery {args.gallery} has no space for it; `create` adds one"
                )
        accept_all(gallery, models)
        device = select_device(args.device)
        precision = inference_precision(args.amp, device)
        found = _by_key(pictures, counts, strict=args.strict)
        there = _update(gallery, found, counts)
        encoding = _Encoding(gallery, args, device, precision, stop)
        with stop.deferred():
            for space, model in models.items():
                encoding.run(space, model, found)
        counts.there, counts.new = len(there), len(encoding.stored - there)
        counts.completed = len(encoding.stored & there)
        counts.unreadable += len(encoding.unreadable)
        _report(counts, len(pictures), encoding.waiting)
        for space in gallery.spaces:
            if space not in models:
                _logger.info("space %s has none of the new ones: its model was not given", space)
    if stop.signal:
        sys.exit(stop.status)
    if counts.unreadable == len(pictures):
        raise ValueError(f"none of the {len(pictures)} pictures could be read")


def _by_key(pictures: Sequence[Found], counts: _Counts, *, strict: bool) -> dict[str, Found]:
    """The pictures by the SHA-256 of their files, of equal files the first; unreadable ones are logged."""

    def digest(picture: Found) -> str | Exception:
        try:
            return sha256_of_file(picture.path, MAX_BYTES)
        except (OSError, ValueError) as error:
            return error

    found: dict[str, Found] = {}
    with ThreadPoolExecutor() as pool:
        digests = tqdm(pool.map(digest, pictures), "read", len(pictures), leave=False, disable=None)
        for picture, key in zip(pictures, digests, strict=True):
            if isinstance(key, Exception):
                if strict:
                    raise key
                _logger.warning("%s", key)
                counts.unreadable += 1
                continue
            named = picture._replace(metadata=picture.metadata.model_copy(update={"picture": key}))
            first = found.setdefault(key, named)
            if first is not named:
                counts.twice += 1
                counts.differing += _said(first) != _said(named)
    return found


def _said(picture: Found) -> tuple[Any, ...]:
    facts = picture.metadata
    return facts.identity, facts.camera, facts.time


def _update(gallery: Gallery, found: dict[str, Found], counts: _Counts) -> set[str]:
    """Give entries that are there what is said of them now; returns their keys."""
    there: set[str] = set()
    for keys in _portions(list(found)):
        known = {space: gallery.known(keys, space) for space in gallery.spaces}
        old = gallery.get([key for key in keys if any(key in some for some in known.values())])
        there.update(entry.key for entry in old)
        changed = {}
        for entry in old:
            facts = _joined(entry.metadata, found[entry.key])
            found[entry.key] = found[entry.key]._replace(metadata=facts)  # for a space where it is missing
            if facts.model_dump() != entry.metadata.model_dump():
                changed[entry.key] = facts
            if entry.metadata.identity not in ("", facts.identity):
                counts.renamed.add(f"{entry.metadata.identity} to {facts.identity}", facts.path)
        for space, some in known.items():
            rewritten = [key for key in changed if key in some]
            if rewritten:
                features = gallery.features(rewritten, space)
                gallery.add(features, rewritten, [changed[key] for key in rewritten], space)
        counts.updated += len(changed)
    return there


def _joined(old: Metadata, picture: Found) -> Metadata:
    """The facts about an entry with those of its picture now; facts that are not given now stay."""
    new = picture.metadata
    # Its place was the same before: another name is one that it was given since.
    if picture.by_place and old.identity and old.path == new.path:
        new = new.model_copy(update={"identity": old.identity})
    return new.completed(old)


@dataclass
class _Encoding:
    """Encodes pictures and stores them in a gallery, a portion after the other.

    `stored` are keys of what it has stored, `unreadable` of what is no picture; a stop leaves some `waiting`.
    """

    gallery: Gallery
    args: argparse.Namespace
    device: torch.device
    precision: Precision
    stop: StopRequest
    stored: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)
    waiting: int = 0

    def run(self, space: str, model: Model | TextModel, found: Mapping[str, Found]) -> None:
        """Store what is missing in a space."""
        from datasets import log_oddities
        from tools.features.images import readable_batches

        known = {key for keys in _portions(list(found)) for key in self.gallery.known(keys, space)}
        left = {found[key].path: key for key in found if key not in known and key not in self.unreadable}
        if not left or self.stop.signal:
            self.waiting = max(self.waiting, len(left))
            return
        total = len(left)
        batches = readable_batches(list(left), model.info, self.args, self.device)
        with tqdm(total=total, desc=f"add ({space})", unit="image", leave=False, disable=None) as bar:
            stream = self._until_stopped(batches, bar)
            for first in stream:
                features = self._features(space, model, _timed(first, stream))
                keys = [left.pop(path) for path in features.paths]
                self.gallery.add(features.features, keys, [found[key].metadata for key in keys], space)
                self.stored.update(keys)
        log_oddities(batches.oddities, total)
        if self.stop.signal:
            self.waiting = max(self.waiting, len(left) - batches.unreadable)
        else:
            self.unreadable.update(left.values())

    def _until_stopped(self, batches: ReadableBatches, bar: tqdm[Any]) -> Iterator[LoadedBatch]:
        # Their warnings say which; whether there are others is seen at the end.
        with contextlib.suppress(NoneReadableError):
            for batch in batches:
                yield batch
                bar.update(len(batch.paths))
                if self.stop.signal:
                    return

    def _features(self, space: str, model: Model | TextModel, batches: Iterator[LoadedBatch]) -> FeatureSet:
        from processor import extract

        network: Any = model.network
        encode = (lambda batch: network.encode_image(batch.images)) if space == "text" else None
        return extract(network, batches, self.device, encode, precision=self.precision, progress=False)


def _timed(first: LoadedBatch, stream: Iterator[LoadedBatch]) -> Iterator[LoadedBatch]:
    """The batches of a portion."""
    until = time.monotonic() + _PORTION
    yield first
    while time.monotonic() < until and (batch := next(stream, None)) is not None:
        yield batch


def _report(counts: _Counts, total: int, waiting: int) -> None:
    parts = [f"{counts.new} new", f"{counts.there} already there"]
    if counts.completed:
        parts[-1] += f" ({counts.completed} encoded by a further model)"
    parts += [f"{counts.updated} updated", f"{counts.unreadable} unreadable", f"{counts.twice} named twice"]
    if counts.differing:
        parts[-1] += f" ({counts.differing} with another name, camera or time: the first one counts)"
    _logger.info("%d pictures: %s", total, ", ".join(parts))
    if counts.renamed:
        _logger.warning("entries have another name now, by their new place or table: %s", str(counts.renamed))
    if waiting:
        _logger.warning("stopped with %d of them to come: the same command goes on from here", waiting)


def _portions(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), _AT_ONCE):
        yield keys[start : start + _AT_ONCE]


COMMAND = Command(
    "Add pictures; those that are there are not encoded again, and what is said of them is updated.",
    "SOURCE...",
    add_options,
    add,
)
