r"""Test a set of weights on a set of data sets and print a table of mAP / Rank-1 in Markdown.

python tools/cross_domain.py --config_file configs/person/vit_clipreid.yml \
    --weight market=logs/market/ViT-B-16_60.pth --weight msmt=logs/msmt/ViT-B-16_60.pth \
    --data market1501 --data msmt17 --data csv=my_crops DATASETS.ROOT_DIR data TEST.SIE mean
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from yacs.config import CfgNode

from config import cfg as defaults
from config.arguments import Parser, run_program, say
from config.check import check_config
from config.errors import as_keys
from config.load import load_config
from model import adopt_card
from processor import (
    METHODS,
    evaluate_as_configured,
    extract_task,
    read_test_data,
    start_process,
)
from retrieval import log_metrics, metrics_record
from utils.files import make_output_dir, write_atomically
from utils.logger import setup_logger
from utils.text import Lines, printable


class Named(NamedTuple):
    """A row or column: what the table calls it, and the settings that it stands for."""

    label: str
    settings: dict[str, str]


def weight(text: str) -> Named:
    """`FILE` or `LABEL=FILE`."""
    label, equals, path = text.partition("=")
    if not equals or Path(text).exists():  # a path may hold the sign too
        return Named(text, {"TEST.WEIGHT": text})
    return Named(label, {"TEST.WEIGHT": path})


def data_set(text: str) -> Named:
    """`NAME`, or `NAME=ROOT_DIR` for one that lies elsewhere than the others."""
    name, _, root = text.partition("=")
    tested = {"DATASETS.NAMES": name, "DATASETS.TRAIN_ALSO": "", "DATASETS.TEST": ""}
    return Named(text, tested | ({"DATASETS.ROOT_DIR": root} if root else {}))


def compare(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Test every weight on every data set; all of them are looked at before the first extraction."""

    def settings(*parts: Named, check_images: bool = cfg.DATASETS.CHECK_IMAGES) -> CfgNode:
        pairs = {"DATASETS.CHECK_IMAGES": check_images}
        for part in parts:
            pairs |= part.settings
        more = [word for pair in pairs.items() for word in pair]
        return load_config(defaults, args.config_file, [*args.opts, *more])

    for option, named in (("--weight", args.weight), ("--data", args.data)):
        labels = [each.label for each in named]
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise ValueError(f"{option} {twice!r} is given twice; allowed: labels that differ, LABEL=FILE")
    check_config(cfg)
    if not cfg.OUTPUT_DIR:
        raise ValueError("OUTPUT_DIR is empty; allowed: a folder for the table and the log")
    with as_keys({"path": "OUTPUT_DIR"}):
        output_dir = make_output_dir(cfg.OUTPUT_DIR)
    setup_logger(output_dir, "cross_domain_log.txt")
    method = METHODS["clipreid"]  # of tests only the image side matters
    sets = [read_test_data(settings(column), method) for column in args.data]
    tests = []
    for row in args.weight:
        # Images that were whole for the first weights are so for the next.
        check = cfg.DATASETS.CHECK_IMAGES and row is args.weight[0]
        for column, dataset in zip(args.data, sets, strict=True):
            config = adopt_card(settings(row, column, check_images=check), args.opts[::2])
            method.test(config, dataset)
            tests.append((row, column, dataset, config))
    results = []
    for row, column, dataset, config in tests:
        task = extract_task(config, method, dataset, start_process(config))
        metrics = evaluate_as_configured(config, task)
        log_metrics(metrics, f"Validation Results of {row.label} on {column.label}")
        results.append({"weight": row.label, "data": column.label, **metrics_record(metrics)})
    text = json.dumps(results, indent=1) + "\n"
    write_atomically(
        output_dir / "cross_domain.json", lambda beside: beside.write_text(text, encoding="utf-8")
    )
    say("\n%s", Lines(table(results)))


def table(results: Sequence[dict[str, str | float]]) -> str:
    """Weights as rows, data sets as columns, in each cell mAP / Rank-1 in percent."""
    rows, columns = (list(dict.fromkeys(result[name] for result in results)) for name in ("weight", "data"))
    cells = {
        (result["weight"], result["data"]): f"{100 * result['mAP']:.1f} / {100 * result['rank1']:.1f}"
        for result in results
    }
    lines = [["mAP / Rank-1 in %", *map(printable, columns)], ["---"] * (len(columns) + 1)]
    lines += [[printable(row), *(cells[row, column] for column in columns)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _add_options(parser: Parser) -> None:
    parser.add_argument(
        "--weight",
        type=weight,
        action="append",
        required=True,
        metavar="[LABEL=]FILE",
        help="a checkpoint, a row of the table; may be given several times",
    )
    parser.add_argument(
        "--data",
        type=data_set,
        action="append",
        required=True,
        metavar="NAME[=ROOT_DIR]",
        help="a data set, a column of the table; may be given several times",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong setting or file."""
    return run_program(
        compare,
        defaults,
        description=__doc__,
        default_config="configs/person/vit_clipreid.yml",
        argv=argv,
        add_options=_add_options,
    )


if __name__ == "__main__":
    sys.exit(main())
