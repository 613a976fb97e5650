"""What makes the number of a run another one than the published: each check yields what it finds."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from model import model_label
from tools.explaining.published import COUNTS, USUALLY_LEFT_OUT, Recipe
from utils.hub import find_weights
from utils.text import shortened
from utils.untrusted.receipts import Section, Weights
from utils.weights import read_state_dict, split_choice

_COUNTER = "bottleneck.num_batches_tracked"
_EPOCH = re.compile(r"(.+)_(\d{1,9})\.pth")
_COARSE = {"float32": 0, "fp16": 1, "bf16": 2}
_TRAINED_IN, _TESTED_IN = "fp16", "float32"  # the published code
_SHOWN = 60
# Facts of a test, the settings they stand for, and those of training, if training has its own.
_PREPARED = {
    "pixel_mean": ("INPUT.PIXEL_MEAN", "other numbers reach the model"),
    "pixel_std": ("INPUT.PIXEL_STD", "other numbers reach the model"),
    "size": ("INPUT.SIZE_TEST", "images of another size, and positions resized for them"),
    "stride": ("MODEL.STRIDE_SIZE", "another number of patches"),
    "resize": ("INPUT.TEST_RESIZE", "images are resized in another way"),
    "neck_feature": ("TEST.NECK_FEAT", "another feature is compared"),
}


class Cause(NamedTuple):
    """Something that differs: what it is here and in the published run, and what follows from it.

    `weight` is 2 for what makes a number another one altogether, 1 for what moves it. `keys` are settings
    that need no line of their own any more.
    """

    weight: int
    what: str
    here: str
    published: str
    follows: str
    keys: tuple[str, ...] = ()


class Case(NamedTuple):
    """A run as it is known, and the recipe with its settings that it is compared with."""

    train: Section | None
    test: Section | None
    recipe: Recipe
    settings: Mapping[str, Any]

    @property
    def dataset(self) -> str:
        """The data set that the numbers are of, '' where it is not known."""
        return tested_set(self.train, self.test)

    @property
    def tested(self) -> Weights | None:
        """The file that was tested."""
        return self.test.weights.get("test") if self.test else None

    @property
    def card(self) -> Mapping[str, Any]:
        """The card of the file that was tested, as far as there is one."""
        return (self.tested and self.tested.card) or {}


def tested_set(train: Section | None, test: Section | None) -> str:
    """The data set of query and gallery, '' where it is not known; a training may have another."""
    if test and test.data:
        return test.data.name
    if train is None:
        return ""
    if train.data and train.data.tested:
        return train.data.tested
    trained = train.data.name.partition("+")[0] if train.data else ""  # the first of several
    return str(train.config.get("DATASETS.TEST") or "").strip() or trained


def find_causes(case: Case) -> list[Cause]:
    """All that is found, the weightiest first."""
    return sorted((cause for check in CHECKS for cause in check(case)), key=lambda cause: -cause.weight)


def tested_file(case: Case) -> Iterator[Cause]:
    """A file of stage 1 or of the middle of a training was tested."""
    if case.tested is None:
        if case.test is not None and "clip" in case.test.weights:
            yield Cause(2, "tested weights", "CLIP's own", "trained", "nothing was learnt from this data")
        return
    path = case.tested.path
    name = shortened(Path(path).name, _SHOWN)
    if "_stage1_" in Path(path).name or _has_seen_no_images(path):
        epoch = _last_epoch(case.settings)
        yield Cause(
            2,
            "tested weights",
            f"{name}, of stage 1",
            f"{_label(case)}_{epoch}.pth, after stage 2",
            f"stage 1 learns prompts only: the image side is still {_start_of(case.train)}",
        )
        return
    epoch, last = _epoch_of(case), _last_epoch(case.settings)
    if epoch is not None and epoch < last:
        text = "the file is from the middle of a training, or from one with fewer epochs"
        yield Cause(2, "tested weights", f"{name}, epoch {epoch}", f"epoch {last}", text)


def _epoch_of(case: Case) -> int | None:
    """The epoch in the name of the tested file, None for a number in a name of another form."""
    found = _EPOCH.fullmatch(Path(case.tested.path).name) if case.tested else None
    names = [case.settings.get("MODEL.NAME"), case.test and case.test.facts.get("model")]
    names += [case.train.config.get("MODEL.NAME")] if case.train else []
    labels = tuple(model_label(str(name)) for name in names if name)
    return int(found[2]) if found and found[1].endswith(labels) else None


def _start_of(train: Section | None) -> str:
    """Whose the image side is before stage 2."""
    if train is None:
        return "as before the training"
    if "reid" in train.weights:
        return "that of the re-id file"
    tower = "random" if train.config.get("MODEL.PRETRAIN_CHOICE") == "none" else "CLIP's"
    return f"{tower}, and its neck has seen no image"


def _has_seen_no_images(path: str) -> bool:
    """Whether the file is there and its batch norm has counted no batch."""
    with suppress(OSError, ValueError):
        file = find_weights(split_choice(path)[0])
        if file.is_file():
            counter = read_state_dict(path).get(_COUNTER)
            return counter is not None and not int(counter.sum())
    return False


def _last_epoch(settings: Mapping[str, Any]) -> int:
    return int(settings.get("SOLVER.STAGE2.MAX_EPOCHS", settings.get("SOLVER.MAX_EPOCHS", 0)))


def _label(case: Case) -> str:
    return model_label(str(case.settings.get("MODEL.NAME")))


def end(case: Case) -> Iterator[Cause]:
    """The training did not come to its end."""
    if case.train is not None and case.train.status not in ("finished", ""):
        how = {"running": "not ended, or killed"}.get(case.train.status, case.train.status)
        yield Cause(2, "training", how, "finished", "the epochs with small rates at the end are missing")


def tower(case: Case) -> Iterator[Cause]:
    """Another model than the published one."""
    config = case.train.config if case.train else {}
    here, published = str(config.get("MODEL.NAME", "")), str(case.settings["MODEL.NAME"])
    if here and here != published:
        text = "another number of layers, width or activation"
        yield Cause(2, "model", shortened(here, _SHOWN), published, text, ("MODEL.NAME",))


def start(case: Case) -> Iterator[Cause]:
    """The training did not start from the weights of CLIP that the published one did."""
    if case.train is None:
        return
    train, read = case.train, case.train.weights
    keys = ("MODEL.PRETRAIN_CHOICE", "MODEL.PRETRAIN_TAG")
    random = "none" == train.config.get("MODEL.PRETRAIN_CHOICE") != case.settings["MODEL.PRETRAIN_CHOICE"]
    others = [role for role in read if role not in ("clip", "stage1", "finished stages")]
    if random:
        text = "CLIP's knowledge of images and words is missing"
        yield Cause(2, "start of training", "random weights", "CLIP's weights", text, keys)
    elif others:
        here = ", ".join(f"{role}: {shortened(Path(read[role].path).name, _SHOWN)}" for role in others)
        yield Cause(2, "start of training", here, "CLIP's weights", "another start than CLIP's")
    elif "clip" in read and read["clip"].sha256:
        expected = _openai_sha256(str(train.config.get("MODEL.NAME", "")))
        if expected and read["clip"].sha256 != expected:
            name = shortened(Path(read["clip"].path).name, _SHOWN)
            yield Cause(
                2,
                "CLIP's weights",
                f"{name}, SHA-256 {read['clip'].sha256[:12]}…",
                f"OpenAI's, {expected[:12]}…",
                "another CLIP: of other training, in another form, or cut down",
                keys,
            )


def _openai_sha256(name: str) -> str:
    """The SHA-256 of OpenAI's file, which is in its address; '' for models that OpenAI has not released."""
    import open_clip

    found = open_clip.get_pretrained_cfg(name.removesuffix("-quickgelu"), "openai") or {}
    known = re.search(r"/([0-9a-f]{64})/", str(found.get("url", "")))
    return known[1] if known else ""


def data(case: Case) -> Iterator[Cause]:
    """Splits have other counts, the data are another release, or images were left out."""
    expected = COUNTS.get(case.dataset, {})
    seen: dict[str, Any] = {}
    left_out: dict[str, int] = {}
    for section in (case.train, case.test):
        if section is not None and section.data is not None:
            seen |= section.data.splits
            # Both have met the same test images.
            counts = section.data.left_out.items()
            left_out |= {reason: max(left_out.get(reason, 0), count) for reason, count in counts}
    for reason, count in left_out.items():
        if reason not in USUALLY_LEFT_OUT:
            yield Cause(1, "left out", f"{count:,} {reason}", "none", "what lies there is not used")
    trained = case.train.data.name if case.train and case.train.data else ""
    if trained and trained != case.dataset:
        expected = {split: counts for split, counts in expected.items() if split != "train"}
        text = "images and identities of other data, maybe of another domain"
        yield Cause(2, "trained on", trained, case.dataset, text)
    for split, (images, identities) in expected.items():
        found = seen.get(split)
        if found is None:
            continue
        own, wanted = (found.images, images) if images else (found.identities, identities)
        if not wanted or abs(own - wanted) <= _slack(case.dataset) * wanted:
            continue
        follows = f"{own / wanted:.1%} of the published split: {_effect(split, own < wanted)}"
        here = _counts(found.images if images else None, found.identities if identities else None)
        yield Cause(2, f"{split} split", here, _counts(images, identities), follows)
    wanted = case.recipe.releases.get(case.dataset)
    release = next((s.data.release for s in (case.test, case.train) if s and s.data and s.data.release), "")
    if wanted and release and not re.search(rf"\b{wanted}\b", release):
        follows = "faces are masked in V2; the published numbers are of " + wanted
        yield Cause(2, f"release of {case.dataset}", release, wanted, follows)


def _counts(images: int | None, identities: int | None) -> str:
    kinds = ((images, "images"), (identities, "identities"))
    return ", ".join(f"{count:,} {kind}" for count, kind in kinds if count is not None)


def _effect(split: str, fewer: bool) -> str:
    if split == "train":
        return "less to learn from" if fewer else "more to learn from"
    if split == "query":
        return "the mean is over other queries"
    return f"{'fewer' if fewer else 'more'} images that a query can be confused with"


def _slack(dataset: str) -> float:
    return 0.01 if dataset == "veri" else 0.0  # whose images without a label may be left out


def preparation(case: Case) -> Iterator[Cause]:
    """Test images are prepared otherwise than in training, or than in the published run."""
    trained: Mapping[str, Any] = case.train.config if case.train else {}
    for fact, (key, follows) in _PREPARED.items():
        here = case.test.facts.get(fact) if case.test else trained.get(key)
        if here is None:
            continue
        learnt = trained.get(key, case.card.get(_ON_CARD.get(fact, fact)))
        learnt = trained.get("INPUT.SIZE_TRAIN", learnt) if fact == "size" else learnt
        if case.test and fact in _ON_CARD and learnt is not None and _plain(learnt) != _plain(here):
            what = f"{key} of the test"
            text = f"{follows} than it was trained on" if fact.startswith("pixel") else follows
            yield Cause(2, what, str(here), f"as trained: {_plain(learnt)}", text, (key,))
        elif key in case.settings and _plain(case.settings[key]) != _plain(here):
            weight = 2 if fact in ("neck_feature", "size") else 1
            yield Cause(weight, key, str(here), str(case.settings[key]), follows, (key,))


_ON_CARD = {"pixel_mean": "mean", "pixel_std": "std", "size": "size"}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def precision(case: Case) -> Iterator[Cause]:
    """Matrix products are coarser than in the published code."""
    rows = (("training", case.train, _TRAINED_IN), ("test", case.test, _TESTED_IN))
    for what, section, published in rows:
        if section is not None and _COARSE.get(section.precision, 0) > _COARSE[published]:
            key = {"training": "SOLVER.AMP", "test": "TEST.AMP"}[what]
            yield Cause(
                1,
                f"precision of the {what}",
                section.precision,
                published,
                f"coarser numbers: near ties rank otherwise ({key})"
                if what == "test"
                else f"coarser steps than the published ({key})",
                (key,),
            )


def reranking(case: Case) -> Iterator[Cause]:
    """The published numbers are without re-ranking."""
    if case.test is not None and case.test.facts.get("rerank"):
        keys = ("TEST.RE_RANKING",)
        yield Cause(1, "re-ranking", "on", "off", "another ranking than that of the published numbers", keys)


CHECKS: tuple[Callable[[Case], Iterator[Cause]], ...] = (
    tested_file,
    end,
    tower,
    start,
    data,
    preparation,
    precision,
    reranking,
)
