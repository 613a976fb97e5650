"""The folders of runs as they are compared: settings, metrics with intervals, scores of single queries."""

import contextlib
import functools
import logging
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from retrieval import (
    Difference,
    Interval,
    QueryScores,
    Rerank,
    RetrievalTask,
    evaluate_task,
    k_reciprocal_blocks,
    metric_intervals,
    metrics_record,
    paired_differences,
)
from tools.features.files import about_features, read_task
from utils.files import sha256_of_file
from utils.text import few, printable, shortened
from utils.untrusted.forms import Form, check_form, read_json
from utils.untrusted.metrics_files import MAX_METRICS, TestMetrics, read_epochs
from utils.untrusted.plain import read_plain_text
from utils.untrusted.receipts import FILE as RECEIPT
from utils.untrusted.receipts import Data, Receipt, Section, Weights, describe_weights, read_receipt
from utils.untrusted.settings import leaves, parse_settings

CONFIG, FEATURES, TEST, COURSE = "config.yml", "features.npz", "metrics.json", "metrics.jsonl"
FILES = (CONFIG, FEATURES, TEST, RECEIPT, COURSE)
METRICS = {"mAP": "mAP", "rank1": "Rank-1", "rank5": "Rank-5", "rank10": "Rank-10", "mINP": "mINP"}
# Settings of a test itself: all other ones are the training's.
OF_TESTS = ("TEST.", "INPUT.SIZE_TEST", "INPUT.TEST_RESIZE", "INPUT.ORIENTATION")
OF_TESTS += ("DATASETS.TEST", "DATASETS.EVAL_SPLIT", "DATASETS.VEHICLEID_TEST_SIZE")
_SHOWN = 60  # characters of a file's name
_DIGITS = 12  # of a hash, enough to tell two apart
_ROUNDING = 5e-4  # of mAP, between machines
_logger = logging.getLogger("transreid.tools")


class RerankSettings(Form):
    """How a test re-ranked, in its `metrics.json`."""

    k1: int
    k2: int
    lam: float


@dataclass(frozen=True)
class Result:
    """Metrics as fractions by name, and where they are from; intervals and scores where there are features.

    `queries` and `galleries` name the images of each trial, below the folder that all of them are in, which
    `folders` has for the queries.
    """

    source: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    scores: tuple[QueryScores, ...] = ()
    queries: tuple[tuple[str, ...], ...] = ()
    galleries: tuple[frozenset[str], ...] = ()
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A run: label, settings by full key, result (None where nothing was evaluated), facts of its receipt.

    `trained_in` is the folder of the training, which may be another one than the test's, None where none was
    found: then the settings are those that only a test has.
    """

    label: str
    folder: Path
    settings: Mapping[str, Any]
    result: Result | None
    training: Mapping[str, str]
    test: Mapping[str, str]
    trained_in: Path | None


def read_run(label: str, folder: Path, *, rounds: int, seed: int) -> Run:
    """What a run left in its OUTPUT_DIR.

    Metrics are those of `features.npz`, else of the test in `receipt.json` or `metrics.json`, else of the
    last evaluation of the training, in the receipt or, without one, `metrics.jsonl`. Files of a test that are
    older than the training are left out with a warning. The training of a test of weights from another folder
    is looked for there. Raises FileNotFoundError for a folder without any
    file of a run, other OSErrors, and ValueError that names a damaged file.
    """
    if not any((folder / name).exists() for name in FILES):
        files = f"{', '.join(FILES[:-1])} or {FILES[-1]}"
        raise FileNotFoundError(
            f"{folder} has no {files}; allowed: the OUTPUT_DIR of a training run or a test"
        )
    receipt = read_receipt(folder / RECEIPT) if (folder / RECEIPT).exists() else Receipt()
    result = _result(folder, receipt, rounds, seed)
    trained_in, train = _training(folder, receipt)
    settings: dict[str, Any] = dict(train.config) if train else {}
    if trained_in and (trained_in / CONFIG).exists():
        file = trained_in / CONFIG
        settings = leaves(parse_settings(read_plain_text(file), str(file)).tree)
    tested = receipt.test.config.items() if receipt.test else ()
    settings |= {key: value for key, value in tested if key.startswith(OF_TESTS)}
    return Run(label, folder, settings, result, facts_of(train), facts_of(receipt.test), trained_in)


def _training(folder: Path, receipt: Receipt) -> tuple[Path | None, Section | None]:
    """The folder of the training, and its section in the receipt there; None where there is none."""
    file = receipt.test.weights.get("test") if receipt.test else None
    has_test = (folder / TEST).exists() and not is_of_former_run(folder / TEST, receipt.train)
    if not receipt.test and has_test:
        file = Weights(path=read_json(folder / TEST, TestMetrics, MAX_METRICS).weight or "")
    beside = folder_of_weights(folder, file)
    if beside is None:
        own = receipt.train or any((folder / name).exists() for name in (CONFIG, COURSE))
        return (folder, receipt.train) if own else (None, None)
    train = read_receipt(beside / RECEIPT).train if (beside / RECEIPT).exists() else None
    there = train is not None or (beside / CONFIG).exists()
    return (beside, train) if there and not begun_since(train, receipt.test) else (None, None)


def folder_of_weights(folder: Path, file: Weights | None) -> Path | None:
    """The folder of the weights that a test in `folder` read, if it is there and another one.

    A training in `folder` itself is another one's then. Raises OSError for a file that cannot be read.
    """
    beside = Path(file.path).parent if file and file.path else None
    if file is None or beside is None or not beside.is_dir() or beside.resolve() == folder.resolve():
        return None
    own = folder / Path(file.path).name
    if own.is_file():  # the folder of the training has moved, perhaps
        tested = file.sha256 or describe_weights(file.path).sha256
        return None if sha256_of_file(own) == tested else beside
    return beside


def begun_since(train: Section | None, test: Section | None) -> bool:
    """Whether a training began after a test, whose weights it cannot have written."""
    with contextlib.suppress(ValueError):
        if train and test:
            return _begin(test) < _begin(train)
    return False


def _begin(section: Section) -> datetime:
    """When it began; raises ValueError where it does not say so."""
    moment = datetime.fromisoformat(section.started)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def is_of_former_run(file: Path, train: Section | None) -> bool:
    """Whether a file is older than the training that has begun in its folder since."""
    if train is None:
        return False
    with contextlib.suppress(ValueError):
        return file.stat().st_mtime < _begin(train).timestamp()
    return False


def _result(folder: Path, receipt: Receipt, rounds: int, seed: int) -> Result | None:
    there = {name for name in (TEST, FEATURES) if (folder / name).exists()}
    former = {name for name in there if is_of_former_run(folder / name, receipt.train)}
    if former:
        text = "%s: older than the training in it, of a former run, and left out: %s"
        _logger.warning(text, folder, ", ".join(sorted(former)))
    there -= former
    test = read_json(folder / TEST, TestMetrics, MAX_METRICS) if TEST in there else None
    if FEATURES in there:
        return _of_features(folder, test, rounds, seed)
    if receipt.test and receipt.test.metrics:
        tested = receipt.test.weights.get("test")
        return _of_section(receipt.test, f"{RECEIPT}, test{_of_file(tested.path if tested else None)}")
    if test:
        ranks = {f"rank{k}": test.cmc[min(k, len(test.cmc)) - 1] for k in (1, 5, 10)}
        return Result(_source(TEST, test), {"mAP": test.mAP, **ranks})
    if receipt.train:
        found = _of_section(receipt.train, f"{RECEIPT}, last evaluation")
        return found if found.metrics else None
    return last_evaluation(folder / COURSE)


def _of_section(section: Section, source: str) -> Result:
    intervals = {name: Interval(*ends) for name, ends in section.intervals.items()}
    return Result(source, section.metrics, intervals)


def facts_of(section: Section | None) -> dict[str, str]:
    """How a training or a test came about, by name, as its receipt has it; {} without one."""
    if section is None:
        return {}
    facts = {
        "program": section.method,
        "commit": ", ".join([*section.commits, section.commit]),
        **section.versions,
        **(_data_facts(section.data) if section.data else {}),
        **{f"weights, {role}": _name(file) for role, file in section.weights.items()},
        "precision": section.precision,
        "processes": str(section.processes),
        "device": section.device,
        "status": section.status,
        "seconds": "" if section.seconds is None else f"{section.seconds:.0f}",
        "peak memory, MB": "" if section.peak_memory is None else f"{section.peak_memory / 1e6:.0f}",
    }
    return {name: value for name, value in facts.items() if value}


def _data_facts(data: Data) -> dict[str, str]:
    found = {"data": f"{data.name} {data.release}".strip(), "data, tested": data.tested}
    for name, split in data.splits.items():
        counts = f"{split.images} images, {split.identities} identities, {split.cameras} cameras"
        found[f"data, {name}"] = f"{counts}, {split.sha256[:_DIGITS]}"
    left_out = ", ".join(f"{count} {reason}" for reason, count in data.left_out.items() if count)
    return found | {"data, left out": left_out}


def _name(file: Weights) -> str:
    return f"{Path(file.path).name} {file.sha256[:_DIGITS]}".strip()


def _of_features(folder: Path, test: TestMetrics | None, rounds: int, seed: int) -> Result:
    """The metrics of the features as the test compared them, which its `metrics.json` says."""
    options = Namespace(features=str(folder / FEATURES), gallery=None, swap=False, normalize=None)
    task = read_task(options)
    rerank = _reranker(test, str(folder / TEST))
    with about_features(options):
        metrics = evaluate_task(task, rerank=rerank)
        intervals = metric_intervals(metrics.scores, rounds=rounds, seed=seed) if rounds else {}
    if test and abs(test.mAP - metrics.mAP) > _ROUNDING:
        _logger.warning(
            "%s: mAP is %.1f %%, that of %s %.1f %%: they are of different tests, and the features count",
            folder / TEST,
            100 * test.mAP,
            FEATURES,
            100 * metrics.mAP,
        )
    queries = [_below_folder(names) for names in _names(task, "query")]
    return Result(
        _source(FEATURES, test),
        metrics_record(metrics),
        intervals,
        metrics.scores,
        tuple(tuple(names) for _, names in queries),
        tuple(frozenset(_below_folder(names)[1]) for names in _names(task, "gallery")),
        tuple(folder for folder, _ in queries),
    )


def _reranker(test: TestMetrics | None, where: str) -> Rerank | None:
    if test is None or test.rerank is None:
        return None
    settings = check_form(test.rerank, RerankSettings, f"{where}: rerank")
    return functools.partial(k_reciprocal_blocks, **settings.model_dump())


def _source(name: str, test: TestMetrics | None) -> str:
    if test is None:
        return name
    return f"{name}{_of_file(test.weight)}{', re-ranked' if test.rerank else ''}"


def _of_file(path: str | None) -> str:
    """The name of the tested file: a training that went on since then has other weights."""
    return f" of {shortened(Path(path).name, _SHOWN)}" if path else ""


def last_evaluation(path: Path) -> Result | None:
    """That of a training run in its `metrics.jsonl`, None where there was none; raises as `read_epochs`."""
    epochs = read_epochs(path) if path.exists() else []
    evaluated = [epoch for epoch in epochs if "mAP" in epoch.model_fields_set]
    if not evaluated:
        return None
    last = evaluated[-1]
    found = {**(last.model_extra or {}), "mAP": last.mAP, "rank1": last.rank1}
    values = {name: found[name] for name in METRICS if isinstance(found.get(name), float)}
    return Result(f"{path.name}, {last.stage} epoch {last.epoch}", values)


def _names(task: RetrievalTask, role: str) -> Iterable[list[str]]:
    for trial in task.trials:
        yield [task.images.keys[row] for row in getattr(trial, f"{role}_rows").tolist()]


def _below_folder(names: list[str]) -> tuple[str, list[str]]:
    """The folder that all are in, which may differ between two tests of a set, and the names below it."""
    parts = [name.replace("\\", "/").split("/") for name in names]
    folders = list(zip(*(each[:-1] for each in parts), strict=False))
    shared = next((place for place, column in enumerate(folders) if len({*column}) > 1), len(folders))
    return "/".join(parts[0][:shared]) if parts else "", ["/".join(each[shared:]) for each in parts]


def difference(first: Run, second: Run, *, rounds: int, seed: int) -> dict[str, Difference] | str:
    """What the metrics of the second run are above those of the first, on the same queries.

    A text says why it cannot be told.
    """
    one, other = first.result, second.result
    if not rounds:
        return "no rounds of the bootstrap"
    if one is None or other is None or not (one.scores and other.scores):
        without = [run.label for run in (first, second) if run.result is None or not run.result.scores]
        return f"{' and '.join(without)} without {FEATURES}, the scores of single queries"
    if len(one.queries) != len(other.queries):
        return f"{len(one.queries)} and {len(other.queries)} trials"
    scores = []
    for names, others, theirs in zip(one.queries, other.queries, other.scores, strict=True):
        places = {name: place for place, name in enumerate(others)}
        if names != others and (len(places) < len(others) or sorted(names) != sorted(others)):
            alone = [printable(name) for name in names if name not in places]
            return f"the queries differ: {len(names)} and {len(others)}, not in both {few(alone) or 'copies'}"
        order = range(len(names)) if names == others else [places[name] for name in names]
        scores.append(QueryScores(*(part[list(order)] for part in theirs)))
    try:
        return paired_differences(one.scores, scores, rounds=rounds, seed=seed)
    except ValueError as error:
        return str(error)


def doubts(first: Run, second: Run) -> list[str]:
    """What a reader of their difference has to know: other galleries, and queries that are equal by name."""
    one, other = first.result, second.result
    if one is None or other is None:
        return []
    found = []
    if one.galleries != other.galleries:
        found.append(f"{first.label} and {second.label} have different galleries.")
    for here, there in zip(one.folders, other.folders, strict=True):
        if Path(here).resolve() != Path(there).resolve():
            text = "Queries of {} are in {}, those of {} in {}: they count as the same by their names."
            ends = (shortened(there, _SHOWN), first.label, shortened(here, _SHOWN))
            found.append(text.format(second.label, *ends))
            break
    return found
