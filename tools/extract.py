"""Features of any images from any re-id checkpoint or exported model, without data set or configuration.

python tools/extract.py --weight logs/run/ViT-B-16_60.pth --images crops --out features.npz
A model that tools/export.py wrote is run by onnxruntime, without torch: --weight reid.onnx.

The .npz holds features (as the model gives them: those of an .onnx file have norm 1, unless it was exported
with --raw), paths, keys, pictures (digests of the files), pids and camids (all -1: unknown), info (JSON: how
made).
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line
from tools.features.finding import add_image_options
from tools.features.weights import add_weight_options


def extract_to_file(args: argparse.Namespace) -> None:
    """Write a feature file with the model in `--weight`, by onnxruntime where its name ends with .onnx.

    Raises ValueError or OSError for wrong numbers, options that a model file cannot follow, files that are
    missing or of another kind, and an output folder that cannot be written to; a former file at `--out` then
    stays.
    """
    # Either one only when it is needed: the first works where torch is not installed.
    if args.weight.lower().endswith(".onnx"):
        from tools.features import by_onnx as way
    elif importlib.util.find_spec("torch") is None:
        raise ValueError(f"--weight is {args.weight}, and torch is not installed; allowed without it: .onnx")
    else:
        from tools.features import by_torch as way
    way.extract_to_file(args)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--weight", required=True, metavar="FILE", help="re-id checkpoint of any of the programs, or .onnx")
    add(
        "--images",
        required=True,
        nargs="+",
        metavar="WHAT",
        help="folders, .txt files with a path a line, patterns in quotes ('crops/**/*.jpg'), images",
    )
    add("--out", required=True, type=Path, metavar="FILE", help="feature file to write, e.g. features.npz")
    add_weight_options(parser)
    add_image_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or file."""
    args = _parse(argv)
    with end_in_one_line():
        extract_to_file(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
