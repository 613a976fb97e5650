"""A gallery with its models: questions of many threads at once, and pictures that are added and removed."""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from retrieval import MOST_HITS, Entry, FeatureSet, Gallery, Hit, Metadata
from service.batching import Batcher
from service.searching import Conditions, Searches
from utils.files import write_atomically
from utils.limits import available_processors
from utils.text import quoted
from utils.untrusted.pictures import open_picture, read_picture

if TYPE_CHECKING:
    from torch import Tensor

    from clipreid import Model, TextModel

IMAGES, SENTENCES = "reid", "text"  # the spaces of a gallery
_SUFFIXES = {
    **{"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "BMP": ".bmp", "GIF": ".gif", "WEBP": ".webp"},
    **{"TIFF": ".tif", "PPM": ".ppm", "JPEG2000": ".jp2", "AVIF": ".avif"},
}


class Picture(NamedTuple):
    """A question: who is this? `data` are the bytes of an image file."""

    data: bytes


class Sentence(NamedTuple):
    """A question: who looks like this?"""

    text: str


class Key(NamedTuple):
    """A question: who looks like this entry of the gallery?"""

    key: str


@dataclass(frozen=True)
class SearchOptions:
    """How many entries are ranked, which of them, and the largest distance of somebody.

    None as `threshold` takes the finder's own for that kind of question. A time without a zone is in the
    system's.
    """

    k: int = 10
    exclude_camera: str = ""
    cameras: tuple[str, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Answer:
    """The `k` nearest entries, nearest first, also those beyond the threshold.

    `nobody`: none of them is within the threshold, or there is none. A threshold of None has no end. `cut`:
    the question is a sentence of which the model reads the beginning only.
    """

    hits: list[Hit]
    threshold: float | None
    space: str
    nobody: bool
    cut: bool = False

    def accepts(self, hit: Hit) -> bool:
        """Whether a hit is within the threshold."""
        return self.threshold is None or hit.distance <= self.threshold


@dataclass(frozen=True)
class Settings:
    """A finder's threshold for sentences, and how much it takes on at once.

    `text_threshold` is the largest squared distance between a sentence and a picture of somebody. `batch`
    pictures or sentences share a pass of a model, for which the first waits at most `patience` seconds;
    `waiting` of them may wait. `decoders` pictures, of `pixels` each, are decoded at the same time: their
    pixels are the memory that hostile pictures can take.
    """

    text_threshold: float | None = None
    batch: int = 32
    patience: float = 0.002
    waiting: int = 256
    decoders: int = field(default_factory=lambda: min(available_processors(), 4))
    pixels: int = 25_000_000


class Finder:
    """Searches a gallery by pictures, sentences and keys, and adds and removes pictures.

    Threads may share it. `model` encodes pictures for the space 'reid', `text_model` pictures and sentences
    for 'text'; without a `model` pictures are compared in the space 'text'. Added pictures are stored in the
    folder `pictures`; None allows no adding. `threshold` is the largest squared distance between two pictures
    of somebody.
    """

    def __init__(
        self,
        gallery: Gallery,
        model: Model | None = None,
        text_model: TextModel | None = None,
        pictures: Path | None = None,
        threshold: float | None = None,
        settings: Settings = Settings(),
    ) -> None:
        """Raises ValueError where no model is given, or one for a space that the gallery does not have."""
        given = {IMAGES: model, SENTENCES: text_model}
        models = {space: each for space, each in given.items() if each is not None}
        for space in models:
            if space not in gallery.spaces:
                raise ValueError(
                    f"gallery {gallery.address} has no space {space!r}; it has {', '.join(gallery.spaces)}"
                )
        if not models:
            raise ValueError("neither model nor text_model is given; allowed: one or both")
        self.gallery = gallery
        self.pictures = None if pictures is None else Path(os.path.abspath(pictures))
        self.threshold, self.text_threshold = threshold, settings.text_threshold
        self.image_space = next(iter(models))
        self.settings = settings
        self._models, self._text_model = models, text_model
        self._seen: Callable[[str, int], object] = lambda what, size: None
        self._decoding = threading.Semaphore(self.settings.decoders)
        self._writing = threading.Lock()
        self._encoders = {space: self._batcher(space, each.encode_image) for space, each in models.items()}
        self._searches = Searches(gallery, most=settings.batch, waiting=settings.waiting)
        # What is asked stays out of the log.
        self._sentences = text_model and self._batcher(
            "sentence", partial(text_model.encode_text, private=True)
        )

    def _batcher(self, name: str, encode: Callable[..., FeatureSet]) -> Batcher:
        settings = self.settings
        return Batcher(
            lambda items: list(encode(items, batch_size=len(items)).features.cpu()),
            most=settings.batch,
            patience=settings.patience,
            waiting=settings.waiting,
            seen=lambda size: self._seen(name, size),
        )

    def watch(self, seen: Callable[[str, int], object]) -> None:
        """Call `seen` with 'reid', 'text' or 'sentence' and the size of each batch from now on."""
        self._seen = seen

    @property
    def takes_sentences(self) -> bool:
        """Whether there is a model for sentences."""
        return self._sentences is not None

    @property
    def takes_many_languages(self) -> bool:
        """Whether the model for sentences is multilingual."""
        return self._text_model is not None and self._text_model.is_multilingual

    def search(self, question: Picture | Sentence | Key, options: SearchOptions = SearchOptions()) -> Answer:
        """The ranking for a question; the entry of a `Key` is not in its own.

        Raises ValueError for a picture, sentence or option that cannot be used, KeyError for a key that is
        not in the gallery, Busy where too much is waiting, OSError where the gallery cannot be reached.
        """
        _check(options)
        space = SENTENCES if isinstance(question, Sentence) else self.image_space
        own = self.text_threshold if isinstance(question, Sentence) else self.threshold
        threshold = own if options.threshold is None else options.threshold
        name = question.key if isinstance(question, Key) else None
        conditions = Conditions(
            space=space,
            k=options.k if name is None else min(options.k + 1, MOST_HITS),
            exclude_camera=options.exclude_camera,
            cameras=None if options.cameras is None else tuple(options.cameras),
            since=options.since,
            until=options.until,
        )
        hits = self._searches(self._features(question), conditions)
        hits = [hit for hit in hits if hit.key != name][: options.k]
        answer = Answer(hits, threshold, space, nobody=True, cut=self._is_cut(question))
        return replace(answer, nobody=not any(map(answer.accepts, hits)))

    def _is_cut(self, question: Picture | Sentence | Key) -> bool:
        is_sentence = isinstance(question, Sentence) and self._text_model is not None
        return is_sentence and self._text_model.are_cut([question.text])[0]

    def _features(self, question: Picture | Sentence | Key) -> Tensor:
        """Features (D,) of a question."""
        if isinstance(question, Key):
            return self.gallery.features([question.key], self.image_space)[0]
        if isinstance(question, Picture):
            (_, (image,)) = self._decode(question.data, [self.image_space])
            return self._encoders[self.image_space](image)
        if self._sentences is None:
            raise ValueError("sentences cannot be searched; needed: a text search model")
        return self._sentences(question.text)

    def _decode(self, data: bytes, spaces: list[str]) -> tuple[str, list[Image.Image]]:
        """The suffix of a file with that picture, and the picture at the size of each space's model.

        Only small pictures wait for a model. Raises ValueError.
        """
        from datasets import from_pil, resize_like_pil, to_rgb

        with self._decoding, open_picture("picture", data) as image:
            if image.width * image.height > self.settings.pixels:
                raise ValueError(
                    f"its header says {image.width} x {image.height} pixels; "
                    f"allowed: at most {self.settings.pixels:,} in all"
                )
            suffix = _SUFFIXES.get(image.format or "", ".bin")
            pixels = from_pil(to_rgb(image, upright=True))
            sizes = [self._models[space].info for space in spaces]
            small = [resize_like_pil(pixels, info.size, interpolation=info.resize) for info in sizes]
            return suffix, [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in small]

    def add(self, data: bytes, metadata: Metadata) -> Entry:
        """Store a picture, encode it for every space that has a model, and add it; its key is its SHA-256.

        A picture that is there keeps what is not known now; its `path` and `picture` are this store's. Raises
        as `search` does, and OSError where the picture cannot be stored.
        """
        if self.pictures is None:
            raise ValueError("no picture can be added; needed: a folder for pictures")
        spaces = list(self._models)
        suffix, images = self._decode(data, spaces)
        features = [self._encoders[space](image) for space, image in zip(spaces, images, strict=True)]
        key = hashlib.sha256(data).hexdigest()
        path = self.pictures / f"{key}{suffix}"
        time = metadata.time and metadata.time.astimezone()  # as it comes back
        metadata = metadata.model_copy(update={"path": str(path), "picture": key, "time": time})
        with self._writing:
            if self.gallery.known([key], spaces[0]):
                metadata = metadata.completed(self.entry(key).metadata)
            self.pictures.mkdir(mode=0o700, parents=True, exist_ok=True)
            is_for_nothing = not path.exists()
            write_atomically(path, lambda beside: beside.write_bytes(data))
            try:
                for space, each in zip(spaces, features, strict=True):
                    self.gallery.add(each[None], [key], [metadata], space=space)
                    is_for_nothing = False
            finally:
                if is_for_nothing:
                    path.unlink(missing_ok=True)
        return Entry(key, metadata)

    def rename(self, key: str, identity: str) -> None:
        """Give an entry the name of an identity, '' for none. Raises KeyError, ValueError and OSError."""
        with self._writing:  # else a picture that is added again would bring the former name back
            self.gallery.assign([key], identity)

    def remove(self, key: str, *, erase: bool = False) -> bool:
        """Remove an entry, and its picture if that is in the folder `pictures`; False if there is none.

        Pictures that lie elsewhere stay. With `erase`, nothing of it stays on the gallery's disk, where it
        would for a while: all other entries are written afresh, which takes long in large galleries. Raises
        OSError.
        """
        with self._writing:
            try:
                metadata = self.entry(key).metadata
            except KeyError:
                return False
            # First the picture: after an interruption in between the entry is there, to be removed again.
            path = Path(metadata.path)
            if self.pictures is not None and path.parent == self.pictures and path.stem == metadata.picture:
                path.unlink(missing_ok=True)
            was_there = self.gallery.remove([key]) > 0
            if erase:
                self.gallery.compact()
            return was_there

    def entry(self, key: str) -> Entry:
        """The entry of that key. Raises KeyError, also for a text that is no key of any gallery."""
        try:
            return self.gallery.get([key])[0]
        except ValueError as error:
            raise KeyError(str(error)) from error

    def picture(self, key: str) -> bytes:
        """The bytes of an entry's picture.

        Raises KeyError where there is no such entry, FileNotFoundError where its file is gone, ValueError
        where the file has other bytes than those that were added, or they are not known.
        """
        metadata = self.entry(key).metadata
        if not metadata.path or not metadata.picture:
            raise ValueError(f"the picture of {quoted(key)} is not known")
        try:
            data = read_picture(metadata.path)
        except FileNotFoundError:
            raise FileNotFoundError(f"the picture of {quoted(key)} is not there any more") from None
        except ValueError as error:
            raise ValueError(f"the picture of {quoted(key)} cannot be read") from error
        if hashlib.sha256(data).hexdigest() != metadata.picture:
            raise ValueError(f"the picture of {quoted(key)} has changed since it was added")
        return data

    def cameras(self) -> dict[str, int]:
        """The cameras of the gallery, and how many entries each has."""
        return self.gallery.cameras()

    def identities(self) -> dict[str, int]:
        """The names in the gallery, and how many entries each has."""
        return self.gallery.identities()

    def timeline(self, identity: str) -> list[Entry]:
        """The entries of a name by time; those without one come last."""
        return sorted(self.gallery.entries(identities=[identity]), key=_time)

    def close(self) -> None:
        """Answer what is waiting, and end the threads; the gallery stays open."""
        for batcher in (*self._encoders.values(), self._sentences, self._searches):
            if batcher is not None:
                batcher.close()


def _time(entry: Entry) -> tuple[float, str]:
    time = entry.metadata.time
    return (math.inf if time is None else time.timestamp(), entry.key)


def _check(options: SearchOptions) -> None:
    if options.k < 1:
        raise ValueError(f"k is {options.k}; allowed: 1 or more")
    if options.threshold is not None and not 0 <= options.threshold < math.inf:
        raise ValueError(f"threshold is {options.threshold}; allowed: a distance from 0 on")
    for name, time in (("since", options.since), ("until", options.until)):
        try:
            if time is not None:
                time.astimezone(timezone.utc)
        except (OverflowError, ValueError, OSError):  # the first and last day of the calendar
            raise ValueError(f"{name} is {time}; allowed: a time that all zones have") from None
