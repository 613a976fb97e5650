"""Exported models beside torch: parity, size and speed of onnxruntime and OpenVINO on the CPU.

`make bench-export`, or: python -m benchmarks.export [--models NAME ...] [--repeats N]

The models have the shipped configurations, full size and random weights, and each is measured in a process of
its own. An image takes the processor for as long as all threads of the process say together; runners take
turns, and their medians are compared with torch's in the same process. OpenVINO is left out where it is not
installed.

With weights and a data set it is cosine and mAP of all images of its test split instead:

python -m benchmarks.export --weight logs/demo/run/small_clip_40.pth --data market1501=logs/demo/data
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from yacs.config import CfgNode

from benchmarks.export.runners import RUNNERS, TORCH, Run, make_runners, write_forms
from benchmarks.measure import ROOT, run_alone
from config import cfg, cfg_pcl, cfg_tbps
from config.arguments import Parser, one_or_more
from config.load import load_config
from model import (
    Graph,
    image_graph,
    is_text_search_file,
    load_reid_model,
    load_text_search_model,
    make_card,
    make_model,
    make_text_search_card,
    make_text_search_model,
    measure_parity,
    model_label,
    text_graph,
)
from tools.exporting.ranking import map_by, read_split
from utils.seed import seed_everything

CAMERAS = 6  # of Market-1501
Record = dict[str, Any]


class Case(NamedTuple):
    """A model: what the tables call it, its configuration, and the side that is measured."""

    title: str
    tree: CfgNode
    file: str
    kind: str = "image"


CASES = {
    "vit": Case("CLIP-ReID", cfg, "person/vit_clipreid.yml"),
    "rn50": Case("CLIP-ReID", cfg, "person/cnn_clipreid.yml"),
    "sie": Case("CLIP-ReID, SIE", cfg, "person/vit_clipreid_sie_olp.yml"),
    "pcl": Case("PCL", cfg_pcl, "pcl/vit_pcl.yml"),
    "search": Case("text search, images", cfg_tbps, "tbps/vit_tbps.yml"),
    "search-texts": Case("text search, texts", cfg_tbps, "tbps/vit_tbps.yml", "text"),
}


def make_graph(case: Case, folder: Path, keys: Sequence[str]) -> tuple[Graph, str]:
    """The graph of a case with random weights, by way of a file with a model card, and a title for it."""
    pairs = ["MODEL.PRETRAIN_CHOICE", "none"]
    pairs += ["MODEL.SS_LOSS_WEIGHT", 0.0] if case.tree is cfg_tbps else []  # of training
    config = load_config(case.tree, ROOT / "configs" / case.file, [*pairs, *keys])
    seed_everything(config.SOLVER.SEED)
    path = folder / "weights.pth"
    about = {"data": "noise", "versions": {}}
    if case.tree is cfg_tbps:
        model = make_text_search_model(config)
        card = make_text_search_card(config, model, "tbps", **about)
    else:
        model = make_model(config, 1, CAMERAS, 1)
        card = make_card(config, model, "clipreid", **about)
    torch.save(model.state_dict(), path)
    card.write(path)
    graphs, _, info = load_graphs(path, config.MODEL.NAME)
    shape = f"{info.text_length} tokens" if case.kind == "text" else "{} × {}".format(*info.size)
    stride = f", stride {info.stride[0]}" if info.stride != info.patch else ""
    return graphs[case.kind], f"{case.title}, {model_label(config.MODEL.NAME)}{stride}, {shape}"


def load_graphs(path: str | Path, name: str | None = None) -> tuple[dict[str, Graph], Any, Any]:
    """The graphs of a file by side, the model, and the facts about it."""
    if is_text_search_file(path):
        model, info = load_text_search_model(path, name=name)
        return {"image": image_graph(model, info), "text": text_graph(model, info)}, model, info
    model, info = load_reid_model(path, name=name, sie=(1, 0))
    return {"image": image_graph(model, info)}, model, info


def measure_here(name: str, args: argparse.Namespace) -> Record:
    """Parity, sizes and CPU seconds of one batch of a model."""
    with tempfile.TemporaryDirectory() as folder:
        graph, title = make_graph(CASES[name], Path(folder), args.keys)
        paths, parity = write_forms(graph, Path(folder))
        runners = make_runners(graph, paths, args.threads)
        cosines = {name: parity[form].cosine for name, (form, hints) in RUNNERS.items() if hints is None}
        for name in runners.keys() - cosines.keys() - {TORCH}:  # the export has not compared them
            cosines[name] = measure_parity(graph, runners[name]).cosine
        torch.set_num_threads(args.threads)
        seconds = time_in_turns(runners, graph.draw(args.batch), args.repeats)
        sizes = {form: path.stat().st_size / 1e6 for form, path in paths.items()}
    return {
        "model": title,
        "batch": args.batch,
        "threads": args.threads,
        "runs": args.repeats,
        "seconds": seconds,
        "cosine": cosines,
        "difference": parity["fp32"].difference,
        "megabytes": sizes,
    }


def time_in_turns(runners: dict[str, Run], inputs: Sequence[Tensor], repeats: int) -> dict[str, float]:
    """Median CPU seconds of a batch by each runner, of all threads together, after one run to warm up."""
    spent: dict[str, list[float]] = {name: [] for name in runners}
    for repeat in range(repeats + 1):
        for name, run in runners.items():
            started = time.process_time()
            run(inputs)
            if repeat:
                spent[name].append(time.process_time() - started)
    return {name: statistics.median(each) for name, each in spent.items()}


def measure_features(weight: str, data: str) -> list[Record]:
    """mAP, and cosines with torch's features of the test split, of each side of a model and each runner."""
    graphs, model, info = load_graphs(weight)
    dataset = read_split(data, text_search="text" in graphs)
    records = []
    for kind, graph in graphs.items():
        measure = map_by(graph, model, info, dataset)
        with tempfile.TemporaryDirectory() as folder:
            paths, _ = write_forms(graph, Path(folder))
            wanted: list[np.ndarray] = []
            for name, run in make_runners(graph, paths, 0).items():
                features: list[np.ndarray] = []

                def keep(inputs: Sequence[Tensor], run: Run = run, kept: list[np.ndarray] = features) -> Any:
                    kept.append(run(inputs))
                    return kept[-1]

                mean_precision = measure(keep)
                wanted = wanted or features
                cosines = (np.concatenate(features) * np.concatenate(wanted)).sum(axis=1)  # of norm 1
                size = None if name == TORCH else paths[RUNNERS[name][0]].stat().st_size / 1e6
                record = {"side": kind, "runner": name, "megabytes": size, "mAP": mean_precision}
                records.append(record | {"least_cosine": cosines.min().item(), "items": len(cosines)})
                print(json.dumps(records[-1]), flush=True)
    return records


def parity_table(records: Sequence[Record]) -> str:
    """Markdown: least cosines with torch, the largest difference of float32 over the largest value, sizes."""
    lines = [
        "| model | fp32: cosine | difference | MB | fp16: cosine | MB | int8: cosine | MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        cells = [record["model"]]
        for name in ("onnxruntime", "onnxruntime, fp16", "onnxruntime, int8"):
            form = RUNNERS[name][0]
            cells.append(f"{record['cosine'][name]:.6f}")
            cells += [f"{record['difference']:.1e}"] if form == "fp32" else []
            cells.append(f"{record['megabytes'][form]:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def speed_table(records: Sequence[Record]) -> str:
    """Markdown: images per CPU second, and in how many times torch's; OpenVINO's default with its cosine."""
    lines = [f"| images per CPU second | torch | {' | '.join(RUNNERS)} |", "|---" * (len(RUNNERS) + 2) + "|"]
    for record in records:
        seconds, cells = record["seconds"], [record["model"]]
        cells.append(f"{record['batch'] / seconds[TORCH]:.1f}")
        for name in RUNNERS:
            if name not in seconds:
                cells.append("–")
                continue
            rate, ratio = record["batch"] / seconds[name], seconds[TORCH] / seconds[name]
            # The other cosines are in the table of files.
            cosine = f", cosine {record['cosine'][name]:.6f}" if name == "OpenVINO, its default" else ""
            cells.append(f"{rate:.1f} ({ratio:.2f}×{cosine})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def features_table(records: Sequence[Record]) -> str:
    """Markdown: a line for each side and runner."""
    lines = ["| side | runner | MB | least cosine | mAP |", "|---|---|---|---|---|"]
    for each in records:
        size = "–" if each["megabytes"] is None else f"{each['megabytes']:.1f}"
        numbers = f"{each['least_cosine']:.6f} | {100 * each['mAP']:.2f}"
        lines.append(f"| {each['side']} | {each['runner']} | {size} | {numbers} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON line for each model and the tables at the end."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--models", nargs="+", choices=CASES, default=list(CASES), help="(default: all)")
    add("--batch", type=one_or_more, default=4, help="images at once (default: %(default)s)")
    add("--repeats", type=one_or_more, default=5, help="timings of each (default: %(default)s)")
    add("--threads", type=one_or_more, default=1, help="of each runner (default: %(default)s)")
    add("--weight", metavar="FILE", help="measure the features of these weights instead")
    add("--data", metavar="NAME[=ROOT_DIR]", help="with --weight: the data set")
    add("--here", choices=CASES, help="measure this model in this process")
    add("--keys", nargs="+", default=[], metavar="KEY VALUE", help="settings that override the files'")
    args = parser.parse_args(argv)
    if bool(args.weight) != bool(args.data):
        parser.error("--weight and --data go together")
    if args.weight:
        print(f"\n{features_table(measure_features(args.weight, args.data))}")
        return
    if args.here:
        print(json.dumps(measure_here(args.here, args)))
        return
    records = []
    numbers = [f"--{name}={getattr(args, name)}" for name in ("batch", "repeats", "threads")]
    keys = ["--keys", *args.keys] if args.keys else []
    for name in args.models:
        records.append(run_alone("benchmarks.export", ["--here", name, *numbers, *keys]))
        print(json.dumps(records[-1]), flush=True)
    print(f"\n{parity_table(records)}\n\n{speed_table(records)}")


if __name__ == "__main__":
    main()
