r"""Test weights on other data sets and print a table in Markdown.

The last checkpoint of each run on the data set that the run was to be tested on, Rank-1, 5, 10 and mAP:

python tools/cross_domain.py --run logs/m2d --run logs/d2m --run 'CoOp, MSMT17 -> Market=logs/ms2m'

A set of weights on a set of data sets, mAP / Rank-1:

python tools/cross_domain.py --config_file configs/person/vit_clipreid.yml \
    --weight market=logs/market/ViT-B-16_60.pth --weight msmt=logs/msmt/ViT-B-16_60.pth \
    --data market1501 --data msmt17 --data csv=my_crops DATASETS.ROOT_DIR data TEST.SIE mean
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from yacs.config import CfgNode

from config import cfg as defaults
from config.arguments import Parser, run_program, say
from config.check import check_config
from config.errors import as_keys
from config.load import load_config
from config.nodes import single_name
from utils.files import make_output_dir, write_atomically
from utils.logger import setup_logger
from utils.package import find_shipped
from utils.text import Lines, printable, quoted

if TYPE_CHECKING:
    from datasets import ReIDDataset
    from retrieval import Interval

CONFIG = "configs/person/vit_clipreid.yml"
TITLES = {
    "market1501": "Market-1501",
    "dukemtmc": "DukeMTMC-reID",
    "occ_duke": "Occluded-Duke",
    "msmt17": "MSMT17",
    "veri": "VeRi-776",
}
COLUMNS = {"rank1": "Rank-1", "rank5": "Rank-5", "rank10": "Rank-10", "mAP": "mAP"}
METHOD = "clipreid"  # of tests only the image side matters
Result = dict[str, Any]


class Named(NamedTuple):
    """A row or column: what the table calls it, and the settings that it stands for."""

    label: str
    settings: dict[str, str]


class Run(NamedTuple):
    """The folder of a run, and what the table calls it; '' stands for its data sets."""

    label: str
    folder: Path


class Test(NamedTuple):
    """A test to be done: what names it in a result and in the log, settings, data, features if there are."""

    names: Result
    title: str
    cfg: CfgNode
    dataset: ReIDDataset
    features: Path | None = None


def weight(text: str) -> Named:
    """`FILE` or `LABEL=FILE`."""
    label, path = _labelled(text)
    return Named(label or text, {"TEST.WEIGHT": path})


def data_set(text: str) -> Named:
    """`NAME`, or `NAME=ROOT_DIR` for one that lies elsewhere than the others."""
    name, _, root = text.partition("=")
    tested = {"DATASETS.NAMES": name, "DATASETS.TRAIN_ALSO": "", "DATASETS.TEST": ""}
    return Named(text, tested | ({"DATASETS.ROOT_DIR": root} if root else {}))


def run_folder(text: str) -> Run:
    """`FOLDER` or `LABEL=FOLDER`."""
    label, path = _labelled(text)
    return Run(label, Path(path))


def _labelled(text: str) -> tuple[str, str]:
    """Label, '' if there is none, and path."""
    label, equals, path = text.partition("=")
    if not equals or Path(text).exists():  # a path may hold the sign too
        return "", text
    return label, path


def compare(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Do all tests; all of them are looked at before the first extraction."""
    _check_options(args)
    check_config(cfg)
    folder = cfg.OUTPUT_DIR
    if args.run and "OUTPUT_DIR" not in args.opts[::2]:
        folder = "logs/cross_domain"  # and not that of a run's own file
    if not folder:
        raise ValueError("OUTPUT_DIR is empty; allowed: a folder for the table and the log")
    with as_keys({"path": "OUTPUT_DIR"}):
        output_dir = make_output_dir(folder)
    setup_logger(output_dir, "cross_domain_log.txt")
    tests = run_tests(args.run, args.opts) if args.run else weight_tests(args)
    results = [_result(test, args.bootstrap, args.seed) for test in _checking_images_once(tests)]
    shown = run_table(results) if args.run else table(results)
    for suffix, text in ((".json", json.dumps(results, indent=1)), (".md", shown)):
        write = functools.partial(Path.write_text, data=f"{text}\n", encoding="utf-8")
        write_atomically(output_dir / f"cross_domain{suffix}", write)
    say("\n%s", Lines(shown))


def _check_options(args: argparse.Namespace) -> None:
    """Raise ValueError for options that do not go together, labels given twice, numbers out of range."""
    from retrieval import check_rounds

    if args.run:
        if args.weight or args.data:
            raise ValueError("--run goes without --weight and --data; allowed: --run, or both others")
        if args.config_file != str(find_shipped(CONFIG)):
            raise ValueError("--config_file goes with --weight: a run has a config.yml of its own")
        fixed = {"TEST.WEIGHT", "DATASETS.NAMES", "DATASETS.TRAIN_ALSO"} & {*args.opts[::2]}
        if fixed:
            raise ValueError(f"{min(fixed)} is that of each run; allowed with --run: other keys")
    elif not (args.weight and args.data):
        raise ValueError("a table needs --weight and --data, or --run; allowed: each several times")
    for option, named in (("--weight", args.weight), ("--data", args.data)):
        labels = [each.label for each in named]
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise ValueError(f"{option} {twice!r} is given twice; allowed: labels that differ, LABEL=FILE")
    check_rounds(args.bootstrap, args.seed)


def weight_tests(args: argparse.Namespace) -> list[Test]:
    """Every weight on every data set."""
    from model import adopt_card
    from processor import METHODS, read_test_data

    method = METHODS[METHOD]

    def settings(*parts: Named) -> CfgNode:
        more = [word for part in parts for pair in part.settings.items() for word in pair]
        return load_config(defaults, args.config_file, [*args.opts, *more])

    sets = [read_test_data(settings(column), method) for column in args.data]
    tests = []
    for row in args.weight:
        for column, dataset in zip(args.data, sets, strict=True):
            config = adopt_card(settings(row, column), args.opts[::2])
            method.test(config, dataset)
            names = {"weight": row.label, "data": column.label}
            tests.append(Test(names, f"{row.label} on {column.label}", config, cast("ReIDDataset", dataset)))
    return tests


def run_tests(runs: Sequence[Run], opts: Sequence[str]) -> list[Test]:
    """The last checkpoint of every run on its test set, or the features that a test of it has left.

    Raises ValueError for runs of one label, and as `read_run` and a test do.
    """
    from tools.features.runs import read_run

    configs = [read_run(run.folder, opts) for run in runs]
    folders: dict[str, Path] = {}
    for run, config in zip(runs, configs, strict=True):
        label = run.label or " -> ".join(map("+".join, _domains(config)))
        if label in folders:
            both = f"{folders[label]} and {run.folder}"
            raise ValueError(f"{both} are both {quoted(label)}; allowed: labels that differ, LABEL=FOLDER")
        folders[label] = run.folder
    return [_run_test(label, config, opts) for label, config in zip(folders, configs, strict=True)]


def _domains(cfg: CfgNode) -> tuple[list[str], list[str]]:
    """The data sets that are trained on, and the one that is tested, as papers write them."""
    also = cfg.DATASETS.TRAIN_ALSO
    trained = [single_name(cfg.DATASETS.NAMES), *(also.split(",") if also else ())]
    tested = [cfg.DATASETS.TEST.strip() or trained[0]]
    trained, tested = (
        [TITLES.get(name.strip(), name.strip()) for name in names] for names in (trained, tested)
    )
    return trained, tested


def _run_test(label: str, config: CfgNode, opts: Sequence[str]) -> Test:
    from model import adopt_card
    from processor import METHODS, read_test_data, start_process
    from tools.features.runs import find_features
    from utils.precision import inference_precision

    check_config(config)
    config = adopt_card(config, opts[::2])
    dataset = cast("ReIDDataset", read_test_data(config, METHODS[METHOD]))
    _, evaluation = METHODS[METHOD].test(config, dataset)
    precision = inference_precision(config.TEST.AMP, start_process(config))
    features = find_features(config, dataset.trials, {**evaluation.info, "precision": precision.name})
    trained, tested = _domains(config)
    names = {"run": label, "trained_on": trained, "tested_on": tested[0], "weight": config.TEST.WEIGHT}
    return Test(names | {"features": features and str(features)}, label, config, dataset, features)


def _checking_images_once(tests: Sequence[Test]) -> Iterator[Test]:
    """The tests; images that were whole for one are not decoded again for the next."""
    checked: set[str] = set()
    for test in tests:
        if test.features is None:
            paths = {record.path for record in test.dataset.test_records()}
            config = test.cfg.clone()
            config.defrost()
            config.DATASETS.CHECK_IMAGES &= not paths <= checked
            config.freeze()
            checked |= paths
            test = test._replace(cfg=config)
        yield test


def _result(test: Test, rounds: int, seed: int) -> Result:
    """The metrics of a test, and their intervals where there are rounds."""
    from processor import METHODS, evaluate_as_configured, extract_task, start_process
    from retrieval import RetrievalTask, log_metrics, metric_intervals, metrics_record

    if test.features:
        task = RetrievalTask.load(test.features)
    else:
        task = extract_task(test.cfg, METHODS[METHOD], test.dataset, start_process(test.cfg))
    metrics = evaluate_as_configured(test.cfg, task)
    log_metrics(metrics, f"Validation Results of {test.title}")
    result = {**test.names, **metrics_record(metrics), "bootstrap_rounds": rounds, "seed": seed}
    if rounds:
        result["intervals"] = metric_intervals(metrics.scores, rounds=rounds, seed=seed)
    return result


def run_table(results: Sequence[Result]) -> str:
    """Runs as rows, Rank-1, 5, 10 and mAP as columns, in percent, with their intervals."""
    lines = [["trained on -> tested on, in %", *COLUMNS.values()], ["---"] * (len(COLUMNS) + 1)]
    for result in results:
        intervals: dict[str, Interval] = result.get("intervals", {})
        cells = [f"{100 * result[name]:.1f}" for name in COLUMNS]
        if intervals:
            ranges = ("[{:.1f}, {:.1f}]".format(*(100 * end for end in intervals[name])) for name in COLUMNS)
            cells = [" ".join(pair) for pair in zip(cells, ranges, strict=True)]
        lines.append([printable(result["run"]), *cells])
    return _markdown(lines)


def table(results: Sequence[Result]) -> str:
    """Weights as rows, data sets as columns, in each cell mAP / Rank-1 in percent."""
    rows, columns = (list(dict.fromkeys(result[name] for result in results)) for name in ("weight", "data"))
    cells = {
        (result["weight"], result["data"]): f"{100 * result['mAP']:.1f} / {100 * result['rank1']:.1f}"
        for result in results
    }
    lines = [["mAP / Rank-1 in %", *map(printable, columns)], ["---"] * (len(columns) + 1)]
    lines += [[printable(row), *(cells[row, column] for column in columns)] for row in rows]
    return _markdown(lines)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _add_options(parser: Parser) -> None:
    add = parser.add_argument
    add(
        "--run",
        type=run_folder,
        action="append",
        default=[],
        metavar="[LABEL=]FOLDER",
        help="the OUTPUT_DIR of a training run, a row of the table; may be given several times. Its last "
        "checkpoint is tested on its DATASETS.TEST, or features.npz in the folder is used, if it is of that "
        "checkpoint, data set and these settings. The table goes to OUTPUT_DIR (default: logs/cross_domain)",
    )
    add(
        "--weight",
        type=weight,
        action="append",
        default=[],
        metavar="[LABEL=]FILE",
        help="a checkpoint, a row of the table; may be given several times",
    )
    add(
        "--data",
        type=data_set,
        action="append",
        default=[],
        metavar="NAME[=ROOT_DIR]",
        help="a data set, a column of the table; may be given several times",
    )
    add(
        "--bootstrap",
        type=int,
        default=1000,
        metavar="N",
        help="rounds behind the intervals, in which queries are drawn again; 0 = none (default: 1000)",
    )
    add("--seed", type=int, default=0, metavar="N", help="equal seeds give equal intervals (default: 0)")


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong setting or file."""
    return run_program(
        compare,
        defaults,
        description=__doc__,
        default_config=CONFIG,
        argv=argv,
        add_options=_add_options,
    )


if __name__ == "__main__":
    sys.exit(main())
