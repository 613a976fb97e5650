"""A data set: image records, the trials of its test protocol, and counts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from utils.labels import NO_CAMERA, NO_PID, NO_TEXTS, LabelTexts
from utils.languages import column_of


class _ImageFields(NamedTuple):
    path: str
    pid: int
    camid: int
    viewid: int
    key: str
    texts: LabelTexts


class ImageRecord(_ImageFields):
    """One image: file, identity, camera (from 0; -1: unknown), viewpoint (from 0) and key.

    Training pids are ranks 0..C-1, or -1 where the identity is unknown (training without identities); query
    and gallery pids are the data set's own. The `key` names the item in features, trials and files; it is the
    path unless one file holds several items, such as crops of one picture. `texts` are identity and
    camera as the data set writes them.
    """

    __slots__ = ()

    def __new__(
        cls,
        path: str,
        pid: int,
        camid: int,
        viewid: int,
        key: str | None = None,
        texts: LabelTexts = NO_TEXTS,
    ) -> "ImageRecord":
        """A record whose key defaults to its path."""
        return super().__new__(cls, path, pid, camid, viewid, path if key is None else key, texts)


class CaptionRecord(NamedTuple):
    """One sentence that describes an image of an identity.

    `path` is the image, `key` names the sentence, by convention `path#n` for caption n of an image and
    `path#zh{n}` for one in the `language` 'zh'; '' is a language that is not said.
    `back_translation` says the same in other words, '' if there is none; training may use it. Training pids
    are ranks 0..C-1, those of queries the data set's own, as those of images.
    """

    path: str
    pid: int
    caption: str
    back_translation: str
    key: str
    texts: LabelTexts = NO_TEXTS
    language: str = ""

    @property
    def camid(self) -> int:
        """-1: a sentence has no camera."""
        return NO_CAMERA


class EmptySplit(ValueError):
    """A split without images or captions, where some are needed."""


class Trial(NamedTuple):
    """One ranking task: every query is searched in the gallery, under a rule of `retrieval.RULES`."""

    query: Sequence[ImageRecord | CaptionRecord]
    gallery: Sequence[ImageRecord | CaptionRecord]
    rule: str = "cross_camera"


@dataclass(frozen=True)
class ReIDDataset:
    """Training records and one or more trials, whose results are averaged.

    `train` is empty if the training split was not asked for; `subject` is the noun of the prompts
    ("person", "vehicle"); with `upright` images are turned as their EXIF orientation says. `parts` are the
    data sets that are trained on together, if there are several. `split` is the name of the split that the
    trials are of; `release` tells releases of a data set apart, '' where there is one. `tested` names the
    data set of the trials where it is not the one of that name. Raises ValueError without a trial.
    """

    name: str
    train: list[ImageRecord]
    trials: list[Trial]
    subject: str
    upright: bool = False
    parts: tuple["ReIDDataset", ...] = ()
    split: str = "test"
    release: str = ""
    tested: str = ""
    trial_names: ClassVar[tuple[str, ...]] = ()  # as in CaptionDataset: trials have none

    def __post_init__(self) -> None:
        _require_trials(self.name, self.trials)

    @property
    def query(self) -> list[ImageRecord]:
        """Queries of the first trial."""
        return self.trials[0].query

    @property
    def gallery(self) -> list[ImageRecord]:
        """Gallery of the first trial."""
        return self.trials[0].gallery

    @property
    def num_train_pids(self) -> int:
        """Distinct known identities of the training split, 0 when it is empty."""
        return count_pids(self.train)

    @property
    def num_train_cams(self) -> int:
        """Distinct camids of the training split (-1 counts as one), 0 when it is empty."""
        return len({record.camid for record in self.train})

    @property
    def num_train_views(self) -> int:
        """Distinct viewids of the training split, 0 when it is empty."""
        return len({record.viewid for record in self.train})

    @property
    def camera_rows(self) -> dict[str, int]:
        """Camids of each data set in training, up to its highest, in the order in which they are numbered."""
        return {part.name: _next(record.camid for record in part.train) for part in self.parts or (self,)}

    def test_records(self) -> list[ImageRecord]:
        """Image records of all trials, one per key, by first appearance: one extraction serves every trial.

        If trials give one image different camids (VehicleID), this is the first one; the protocol is in
        `trials`.
        """
        distinct: dict[str, ImageRecord] = {}
        for trial in self.trials:
            for record in (*trial.query, *trial.gallery):
                distinct.setdefault(record.key, record)
        return list(distinct.values())

    def table(self) -> str:
        """Table of # ids, # images, # cameras (known ones each) for the splits that were read."""
        rows = [("train", self.train), *((f"- {part.name}", part.train) for part in self.parts)]
        rows += [("query", self.query), ("gallery", self.gallery)]
        width = max(len(name) for name, _ in rows)
        lines = [
            f"{'split':<{width}} |  # ids | # images | # cameras",
            f"{'-' * width}-|--------|----------|----------",
        ]
        for name, records in rows:
            if records:
                pids, cams = count_pids(records), _known_cameras(records)
                lines.append(f"{name:<{width}} | {pids:6d} | {len(records):8d} | {cams:9d}")
        if len(self.trials) > 1:
            lines.append(f"query and gallery: the first of {len(self.trials)} trials")
        return "\n".join(lines)


@dataclass(frozen=True)
class CaptionDataset:
    """Training captions with their images, and the trials of a search by sentence.

    One side of a trial is captions of one language, the other images, under the rule `all`; `train` is empty
    if the training split was not asked for. With `upright` images are turned as their EXIF orientation says.
    `split` is the name of the split that the trials are of. `left_out` are paths of training images without
    caption. Where each trial is reported by itself, `trial_names` are their names. Raises ValueError without
    a trial, and for another number of names.
    """

    name: str
    train: list[CaptionRecord]
    trials: list[Trial]
    upright: bool = False
    split: str = "test"
    left_out: tuple[str, ...] = ()
    trial_names: tuple[str, ...] = ()
    release: ClassVar[str] = ""
    tested: ClassVar[str] = ""

    def __post_init__(self) -> None:
        _require_trials(self.name, self.trials)
        if self.trial_names and len(self.trial_names) != len(self.trials):
            raise ValueError(
                f"data set {self.name!r}: {len(self.trial_names)} names of {len(self.trials)} trials"
            )

    @property
    def queries(self) -> list[tuple[str, int]]:
        """Caption and pid of each query of the first trial."""
        return [(record.caption, record.pid) for record in self.trials[0].query]

    @property
    def gallery(self) -> Sequence[ImageRecord]:
        """Images of the first trial."""
        return self.trials[0].gallery

    @property
    def num_train_pids(self) -> int:
        """Distinct identities of the training split, 0 when it is empty."""
        return count_pids(self.train)

    def test_records(self) -> list[ImageRecord]:
        """Images of all trials, one per key, by first appearance."""
        return [record for record in self._tested() if isinstance(record, ImageRecord)]

    def test_captions(self) -> list[CaptionRecord]:
        """Captions of all trials, one per key, by first appearance."""
        return [record for record in self._tested() if isinstance(record, CaptionRecord)]

    def _tested(self) -> Iterable[ImageRecord | CaptionRecord]:
        records = (record for trial in self.trials for record in (*trial.query, *trial.gallery))
        return {record.key: record for record in records}.values()

    def table(self) -> str:
        """Table of # ids, # images, # captions and the words of a caption, for the splits that were read.

        Words are counted in captions as they are read, so that none has more than cleaning leaves. With
        captions of several languages each has a line of its own below that of the split.
        """
        rows: list[tuple[str, Sequence[ImageRecord | CaptionRecord], Sequence[CaptionRecord]]] = []
        tested = self.test_captions()
        languages = dict.fromkeys(record.language for record in (*self.train, *tested))
        for split, images, captions in (
            ("train", self.train, self.train),
            (self.split, self.test_records(), tested),
        ):
            if not images:
                continue
            rows.append((split, images, captions))
            for language in languages if len(languages) > 1 else ():
                own = [record for record in captions if record.language == language]
                if own:
                    rows.append((f"- {column_of(language)}", own, own))
        width = max(5, *(len(name) for name, _, _ in rows))
        lines = [
            f"{'split':<{width}} |  # ids | # images | # captions | words: mean, most",
            f"{'-' * width}-|--------|----------|------------|------------------",
        ]
        for name, images, captions in rows:
            words = [len(record.caption.split()) for record in captions] or [0]
            length = f"{sum(words) / len(words):11.1f}, {max(words):4d}"
            counts = f"{count_pids(images):6d} | {len({record.path for record in images}):8d}"
            lines.append(f"{name:<{width}} | {counts} | {len(captions):10d} | {length}")
        return "\n".join(lines)


def join_training(parts: Sequence[ReIDDataset], test: ReIDDataset) -> ReIDDataset:
    """The training splits of all `parts` as one, and the trials of `test`, which may be one of them.

    Identities and cameras of a part follow those of the parts before it; -1 stays, and views keep their
    numbers. Cameras of query and gallery have the numbers that they have in training, or, where training does
    not have all of them, follow all others. Raises ValueError for an image in several parts.
    """
    train: list[ImageRecord] = []
    sources: dict[str, str] = {}
    pids = cameras = 0
    first_camera, own_cameras = 0, 0
    for part in parts:
        for record in part.train:
            other = sources.setdefault(record.key, part.name)
            if other != part.name:
                raise ValueError(f"{record.key} is in {other} and in {part.name}; allowed: in one of them")
        own = part.camera_rows[part.name]
        if part.name == test.name:
            first_camera, own_cameras = cameras, own
        train += _follow(part.train, pids, cameras)
        pids, cameras = pids + count_pids(part.train), cameras + own
    tested = (record.camid for trial in test.trials for record in (*trial.query, *trial.gallery))
    if _next(tested) > own_cameras:
        first_camera = cameras
    trials = [
        Trial(_follow(trial.query, 0, first_camera), _follow(trial.gallery, 0, first_camera), trial.rule)
        for trial in test.trials
    ]
    name = "+".join(part.name for part in parts)
    upright = any(part.upright for part in (*parts, test))
    releases = dict.fromkeys(f"{part.name} {part.release}" for part in (*parts, test) if part.release)
    return ReIDDataset(
        name,
        train,
        trials,
        parts[0].subject,
        upright,
        tuple(parts),
        release=", ".join(releases),
        tested=test.name,
    )


def _follow(records: Iterable[ImageRecord], pids: int, cameras: int) -> list[ImageRecord]:
    """The records with higher numbers of known identities and cameras."""
    return [
        record._replace(
            pid=record.pid if record.pid == NO_PID else record.pid + pids,
            camid=record.camid if record.camid == NO_CAMERA else record.camid + cameras,
        )
        for record in records
    ]


def _require_trials(name: str, trials: Sequence[Trial]) -> None:
    if not trials:
        raise ValueError(f"data set {name!r}: 0 trials given, at least 1 is needed")


def _next(numbers: Iterable[int]) -> int:
    """The number that follows all of them, 0 where none is known."""
    return max(numbers, default=-1) + 1


def count_pids(records: Iterable[ImageRecord | CaptionRecord]) -> int:
    """Distinct known identities."""
    return len({record.pid for record in records} - {NO_PID})


def _known_cameras(records: Sequence[ImageRecord]) -> int:
    return len({record.camid for record in records} - {NO_CAMERA})
