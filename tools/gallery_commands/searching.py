"""gallery.py search: who looks like a picture, a sentence or an entry; printed, as a page and as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from config.arguments import Parser, one_or_more, say
from config.shared import PRECISIONS
from tools.gallery_commands.options import (
    Command,
    accept_all,
    add_model_options,
    add_span_options,
    load_models,
    log_beside,
    shown_time,
)
from utils.files import require_writable, write_atomically
from utils.package import require_extra
from utils.text import aligned, quoted

if TYPE_CHECKING:
    from torch import Tensor

    from clipreid import Model, TextModel
    from retrieval import Entry, Gallery, Hit


@dataclass(frozen=True)
class Answer:
    """A question, an image's path, a sentence or a key, and the nearest entries, nearest first.

    `hits` has those beyond the threshold, too. `entry` is that of a key.
    """

    kind: str
    question: str
    space: str
    hits: tuple[Hit, ...]
    threshold: float | None
    entry: Entry | None = None

    @property
    def within(self) -> int:
        """How many hits are within the threshold: all where there is none."""
        return sum(self.threshold is None or hit.distance <= self.threshold for hit in self.hits)

    @property
    def is_nobody(self) -> bool:
        """Whether no entry is near enough."""
        return not self.within

    def record(self) -> dict[str, Any]:
        """The answer as JSON says it: without entries beyond the threshold, but with the nearest distance."""
        nearest = self.hits[0].distance if self.hits else None
        return {
            self.kind: self.question,
            "space": self.space,
            "threshold": self.threshold,
            "nobody": self.is_nobody,
            "nearest_distance": nearest,
            "hits": [
                {"rank": rank, "key": hit.key, "distance": hit.distance, "similarity": hit.similarity}
                | hit.metadata.model_dump(mode="json")
                for rank, hit in enumerate(self.hits[: self.within], start=1)
            ],
        }


def add_options(parser: Parser) -> None:
    """Add the options of questions, filters, models and output."""
    add = parser.add_argument
    add("--image", nargs="+", default=[], metavar="FILE", help="who is this? needs the model of the gallery")
    add("--key", nargs="+", default=[], metavar="KEY", help="who looks like this entry? needs no model")
    add("--top", type=one_or_more, default=10, metavar="K", help="entries per question (default: 10)")
    add("--threshold", metavar="WHAT", help="largest distance of somebody: a number, or a threshold.json")
    add("--text-threshold", metavar="WHAT", help="the same for sentences, which lie farther from pictures")
    add("--far", type=float, metavar="RATE", help="false accept rate in those files (default: the lowest)")
    add("--camera", nargs="+", metavar="NAME", help="search these cameras only; '' is an unknown one")
    add("--exclude-camera", default="", metavar="NAME", help="search all cameras but this one")
    add_span_options(parser)
    add("--html", type=Path, metavar="DIR", help="write a page with the pictures, ranking.html, there")
    add("--json", metavar="FILE", help="write the answers as JSON; - prints nothing else")
    add_model_options(parser)
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cuda (default): the GPU if there is one")
    add("--amp", choices=PRECISIONS, default="off", help="precision, TEST.AMP (default: off, float32)")


def search(args: argparse.Namespace) -> None:
    """Print who was found, and write what the options ask for.

    Raises ValueError or OSError for options, models, questions and galleries that cannot be used, KeyError
    for a key that is not there.
    """
    from retrieval import Gallery

    _check(args)
    if args.json == "-":
        log_beside()
    thresholds = _thresholds(args)
    if args.html:
        require_extra("plots")
        args.html.mkdir(parents=True, exist_ok=True)
        require_writable(args.html / "ranking.html", "--html")
    if args.json not in (None, "-"):
        require_writable(args.json, "--json")
    with Gallery.open(args.gallery) as gallery:  # that it is not there is said before a model is read
        models = load_models(args, args.device)
        accept_all(gallery, models)
        answers = [
            _ask(gallery, args, thresholds[asked.kind], asked) for asked in _questions(gallery, models, args)
        ]
    if args.json != "-":
        for answer in answers:
            _print(answer)
    if args.html:
        from tools.gallery_commands.page import write_answers

        page = write_answers(answers, args.gallery, args.html)
        if args.json != "-":
            say("%s", page)
    if args.json is not None:
        _write_json(args.gallery, answers, args.json)


def _check(args: argparse.Namespace) -> None:
    """Raise ValueError for options that do not go together."""
    if not (args.words or args.image or args.key):
        raise ValueError("nothing is asked; needed: sentences, --image FILE or --key KEY")
    if args.image and args.weight is None and args.text_weight is None:
        raise ValueError("--image is given without a model; needed: --weight or --text-weight")
    if args.words and args.text_weight is None:
        raise ValueError(f"{quoted(args.words[0])} is a sentence, which needs --text-weight")
    if args.far is not None and args.threshold is None and args.text_threshold is None:
        raise ValueError(f"--far is {args.far}; needed with it: --threshold")
    if args.text_threshold is not None and not args.words:
        raise ValueError("--text-threshold is given without a sentence; allowed: --threshold for pictures")
    if args.threshold is not None and not (args.image or args.key):
        raise ValueError("--threshold is given with sentences only; allowed: --text-threshold for them")


def _thresholds(args: argparse.Namespace) -> dict[str, float | None]:
    """The largest distance of somebody, by kind of question."""
    from service import read_threshold

    given = {
        name: None if text is None else read_threshold(text, args.far)
        for name, text in (("picture", args.threshold), ("sentence", args.text_threshold))
    }
    return {"image": given["picture"], "key": given["picture"], "sentence": given["sentence"]}


class _Asked(NamedTuple):
    """A question with its feature (D,) in a space; `entry` is that of a key."""

    kind: str
    text: str
    feature: Tensor
    space: str
    entry: Entry | None = None


def _questions(
    gallery: Gallery, models: Mapping[str, Model | TextModel], args: argparse.Namespace
) -> list[_Asked]:
    """All questions, images first, then sentences and keys."""
    asked: list[_Asked] = []
    if args.image:
        space = next(iter(models))  # the re-id model's, where there is one
        images = models[space].encode_image(args.image, amp=args.amp).features.cpu()
        asked += [_Asked("image", path, row, space) for path, row in zip(args.image, images, strict=True)]
    if args.words:
        texts = cast("TextModel", models["text"]).encode_text(args.words, amp=args.amp).features.cpu()
        asked += [_Asked("sentence", text, row, "text") for text, row in zip(args.words, texts, strict=True)]
    for key in args.key:
        (entry,) = gallery.get([key])
        space = next(space for space in gallery.spaces if gallery.known([key], space))
        asked.append(_Asked("key", key, gallery.features([key], space)[0], space, entry))
    return asked


def _ask(gallery: Gallery, args: argparse.Namespace, threshold: float | None, asked: _Asked) -> Answer:
    """The nearest entries; that of a key is not among its own."""
    from retrieval import MOST_HITS

    (hits,) = gallery.search(
        asked.feature,
        args.top + (asked.entry is not None and args.top < MOST_HITS),
        exclude_camera=args.exclude_camera,
        cameras=args.camera,
        since=args.since,
        until=args.until,
        space=asked.space,
    )
    if asked.entry is not None:
        hits = [hit for hit in hits if hit.key != asked.entry.key]
    return Answer(asked.kind, asked.text, asked.space, tuple(hits[: args.top]), threshold, asked.entry)


def _print(answer: Answer) -> None:
    """Rank, name, camera, time, distance and path of each entry."""
    say("%s %s", answer.kind, answer.question)
    if answer.is_nobody and not answer.hits:
        say("  nobody: no entry meets the conditions")
    elif answer.is_nobody:
        say("  nobody within %.4g; the nearest entry is at %.4g", answer.threshold, answer.hits[0].distance)
    near = answer.hits[: answer.within]
    cells = [
        (hit.metadata.identity or "?", hit.metadata.camera or "?", shown_time(hit.metadata.time) or "?")
        for hit in near
    ]
    for rank, (hit, row) in enumerate(zip(near, aligned(cells), strict=True), start=1):
        say("%4d  %s  %s  %s  %6.4f  %s", rank, *row, max(hit.distance, 0.0), hit.metadata.path or hit.key)


def _write_json(address: str, answers: Sequence[Answer], file: str) -> None:
    content = {"gallery": address, "answers": [answer.record() for answer in answers]}
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    if file == "-":
        sys.stdout.write(text)
    else:
        write_atomically(file, lambda beside: beside.write_text(text, encoding="utf-8"))
        say("%s", file)


COMMAND = Command(
    "Say who looks like images, sentences or entries of the gallery; 'nobody' beyond a threshold.",
    "[SENTENCE]...",
    add_options,
    search,
)
