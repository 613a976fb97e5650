"""Explain a number that is not the published one: what a run did otherwise than the published recipe.

python tools/explain.py logs/market
python tools/explain.py logs/test --out why.html

Reads the receipt in the OUTPUT_DIR of a training or a test; without one its settings, logs and metrics.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line
from tools.comparing.sheet import add_out_option, publish, require_out


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or file."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, metavar="FOLDER", help="OUTPUT_DIR of a training or a test")
    parser.add_argument(
        "--recipe",
        default="",
        metavar="FILE",
        help="settings to compare with, a YAML file (default: the published ones nearest to the run)",
    )
    add_out_option(parser)
    args = parser.parse_args(argv)
    with end_in_one_line():
        from tools.explaining.page import explained
        from tools.explaining.reading import read_known
        from utils.logger import setup_logger

        setup_logger(None, "")
        require_out(args.out)
        publish(f"Explanation of {args.run}", explained(read_known(args.run), args.recipe), args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
