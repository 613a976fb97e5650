"""What is known of a run: from its receipt, and for runs without one from settings, logs and metrics."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import JsonValue

from model import model_label
from processor import METHODS
from tools.comparing.runs import (
    CONFIG,
    COURSE,
    TEST,
    begun_since,
    folder_of_weights,
    is_of_former_run,
    last_evaluation,
    read_run,
)
from utils.untrusted.forms import Form, read_json
from utils.untrusted.metrics_files import MAX_METRICS, read_epochs
from utils.untrusted.plain import read_plain_text
from utils.untrusted.receipts import FILE, Data, Section, Split, describe_weights, read_receipt
from utils.untrusted.settings import leaves, parse_settings

_LOGS = {"train": "train_log.txt", "test": "test_log.txt"}
_MAX_LOG = 64 * 2**20
_FORMER = ("stage0", "stage1")  # stages behind which another one follows
_BEGINS = "Saving model in the path :"
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ \S+ [A-Z]+: ")
_ROW = re.compile(r"^ ?(train|query|gallery|test) +\| +(\d+) \| +(\d+) \| +(\d+)")
# What lines of a log say, by what it is.
_SAID = {
    "data": re.compile(r"Data set (\S+) at "),
    "release": re.compile(r"MSMT17, release (.+)"),
    "train precision": re.compile(r"Training in (\S+) \(SOLVER\.AMP"),
    "test precision": re.compile(r"Extracting features in (\S+) \(TEST\.AMP"),
    "clip": re.compile(r"CLIP \S+ starts from the weights in (.+)"),
    "stage1": re.compile(r"stage 1 is taken from (.+)"),
    "random": re.compile(r"CLIP (\S+) starts from random weights"),
    "device": re.compile(r"GPUs: (.+)"),
    "commit": re.compile(r"commit: (.+)"),
    "command": re.compile(r"command: (.+)"),
}
_LEFT_OUT = re.compile(r": (\d+) of \d+ images (have .+?) and are left out")
_NOT_READ = re.compile(r": not read: (.+)")
_COUNTED = re.compile(r"(\d+) \(([^()]+)\), such as")


class _Facts(Form):
    """What a test wrote about itself in `metrics.json`."""

    model: str = ""
    weight: str = ""
    dataset: str = ""
    precision: str = ""
    rerank: Any = None
    pixel_mean: list[float] | None = None
    pixel_std: list[float] | None = None
    size: list[int] | None = None
    stride: list[int] | None = None
    resize: str | None = None
    neck_feature: str | None = None
    normalize: bool | None = None
    augment: str | None = None
    direction: str | None = None
    attributes: JsonValue = None
    without_fusion: JsonValue = None


class Known(NamedTuple):
    """The training and the test of a run, None where nothing is known; `notes` say what was read."""

    train: Section | None
    test: Section | None
    notes: list[str]


def read_known(folder: Path) -> Known:
    """What a folder says; the training is looked for next to the tested weights where they are elsewhere.

    Raises FileNotFoundError for a folder without any file of a run, other OSErrors, and ValueError for a
    damaged file.
    """
    train, test, notes = _read_folder(folder)
    if train is None and test is None:
        files = f"{FILE}, {CONFIG}, {COURSE} or {TEST}"
        raise FileNotFoundError(f"{folder} has no {files}; allowed: the OUTPUT_DIR of a training or a test")
    beside = folder_of_weights(folder, test.weights.get("test") if test else None)
    if beside:
        if train is not None:
            notes.append(f"the training in {folder} is not that of the tested file, which is in {beside}")
        train, _, others = _read_folder(beside)
        if begun_since(train, test):
            notes.append(f"the training in {beside}, where the weights were, began after the test")
            train = None
        elif train is not None:
            notes.append(f"the training is that in {beside}, next to the weights")
            notes += others
    if train is None:
        notes.append("nothing is known of the training: its settings are not compared")
    if test is None:
        notes.append("there was no test: the numbers are those of the last evaluation of the training")
    return Known(train, test, notes)


def _read_folder(folder: Path) -> Known:
    notes: list[str] = []
    train = test = None
    if (folder / FILE).exists():
        train, test = (receipt := read_receipt(folder / FILE)).train, receipt.test
    if train is None and ((folder / CONFIG).exists() or (folder / COURSE).exists()):
        train = _training_without_receipt(folder)
        notes.append(f"{folder} has no receipt of the training: settings, log and course of it were read")
        if not train.status:
            notes.append(f"whether the training ended is not known: {_LOGS['train']} is missing")
    has_test = (folder / TEST).exists()
    if test is None and has_test and is_of_former_run(folder / TEST, train):
        notes.append(f"{TEST} in {folder} is older than the training, of a former run, and left out")
    elif test is None and has_test:
        test = _test_without_receipt(folder)
        notes.append(f"{folder} has no receipt of the test: {TEST}, log and features of it were read")
    return Known(train, test, notes)


def _training_without_receipt(folder: Path) -> Section:
    settings: dict[str, Any] = {}
    if (folder / CONFIG).exists():
        settings = leaves(parse_settings(read_plain_text(folder / CONFIG), str(folder / CONFIG)).tree)
    evaluation = last_evaluation(folder / COURSE)
    said = _read_log(folder, "train")
    roles = {role: said[role] for role in ("clip", "stage1") if role in said}
    return Section(
        method=_method_of(settings),
        config=settings,
        data=_data(said),
        weights={role: describe_weights(path) for role, path in roles.items()},
        precision=said.get("train precision", ""),
        seed=settings.get("SOLVER.SEED"),
        status=_status(folder, settings, said),
        metrics=dict(evaluation.metrics) if evaluation else {},
        **_circumstances(said),
    )


def _status(
    folder: Path, settings: Mapping[str, Any], said: Mapping[str, Any]
) -> Literal["", "running", "finished"]:
    """How far a training came by its log, else its course, else the file of the last epoch; '' without all.

    Logs of early releases do not say that a run ended, and one may end with a run that was refused.
    """
    ends = [settings.get(f"SOLVER.{key}") for key in ("STAGE2.MAX_EPOCHS", "MAX_EPOCHS")]
    epochs = read_epochs(folder / COURSE) if (folder / COURSE).exists() else []
    if said.get("finished") or (epochs and epochs[-1].stage not in _FORMER and epochs[-1].epoch in ends):
        return "finished"
    label = model_label(str(settings.get("MODEL.NAME", "")))
    if not epochs and any((folder / f"{label}_{end}.pth").exists() for end in ends if type(end) is int):
        return "finished"
    return "running" if said or epochs else ""


def _test_without_receipt(folder: Path) -> Section:
    facts = read_json(folder / TEST, _Facts, MAX_METRICS)
    run = read_run("", folder, rounds=1000, seed=0)
    said = _read_log(folder, "test")
    weights = {"test": describe_weights(facts.weight)} if facts.weight else {}
    card = weights["test"].card if weights else None
    result = run.result
    return Section(
        method=str((card or {}).get("method", "")),
        data=_data(said) or (Data(name=facts.dataset) if facts.dataset else None),
        weights=weights,
        facts=facts.model_dump(exclude_unset=True),
        precision=facts.precision or said.get("test precision", ""),
        status="finished",
        metrics=dict(result.metrics) if result else {},
        intervals={name: list(ends) for name, ends in result.intervals.items()} if result else {},
        **_circumstances(said),
    )


def _method_of(settings: Mapping[str, Any]) -> str:
    """The method with these keys and the nearest defaults, '' where none has them all."""
    if settings.get("CLUSTER.METHOD", "none") != "none":
        return "pcl_clusters"
    trees = {method.name: leaves(method.tree) for method in METHODS.values() if method.name != "pcl_clusters"}
    fitting = [name for name, tree in trees.items() if settings and settings.keys() <= tree.keys()]

    def distance(name: str) -> int:
        return sum(settings[key] != trees[name][key] for key in settings)

    return min(fitting, key=distance, default="")


def _read_log(folder: Path, part: str) -> dict[str, Any]:
    """What the last run in a log says, by the names of `_SAID`; 'splits' and 'left_out' are counts."""
    path = folder / _LOGS[part]
    if not path.exists():
        return {}
    text = read_plain_text(path, _MAX_LOG).rpartition(_BEGINS)[2]
    said: dict[str, Any] = {"splits": {}, "left_out": {}}
    for raw in text.splitlines():
        line = _STAMP.sub("", raw)
        for name, pattern in _SAID.items():
            found = pattern.match(line)
            if found:
                said[name] = found[1]
        row = _ROW.match(line)
        if row:
            pids, images, cameras = map(int, row.groups()[1:])
            said["splits"][row[1]] = Split(images=images, identities=pids, cameras=cameras, sha256="")
        said["finished"] = said.get("finished") or line.startswith("finished: ")
        for count, reason in _left_out(line):
            said["left_out"][reason] = said["left_out"].get(reason, 0) + count
    return said


def _left_out(line: str) -> list[tuple[int, str]]:
    found = _LEFT_OUT.search(line)
    if found:
        return [(int(found[1]), f"images that {found[2]}".replace("that have identity", "of identity"))]
    found = _NOT_READ.search(line)
    return [(int(count), kind) for count, kind in _COUNTED.findall(found[1])] if found else []


def _data(said: Mapping[str, Any]) -> Data | None:
    if "data" not in said:
        return None
    splits = {name: split for name, split in said["splits"].items() if split.images}
    return Data(name=said["data"], release=said.get("release", ""), splits=splits, left_out=said["left_out"])


def _circumstances(said: Mapping[str, Any]) -> dict[str, str]:
    device = said.get("device", "")
    found = {"device": "cpu" if device == "none" else device}
    return found | {name: said.get(name, "") for name in ("commit", "command")}
