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

from config.arguments import Parser, end_in_one_line, say

FORMATS = (".md", ".html")


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
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"write the page there, too: {' or '.join(FORMATS)}"
    )
    args = parser.parse_args(argv)
    with end_in_one_line():
        from tools.comparing.sheet import as_page, as_text
        from tools.explaining.page import explained
        from tools.explaining.reading import read_known
        from utils.files import require_writable, write_atomically
        from utils.logger import setup_logger
        from utils.package import require_extra
        from utils.text import Lines

        setup_logger(None, "")
        if args.out:
            if args.out.suffix.lower() not in FORMATS:
                raise ValueError(
                    f"--out is {args.out}; allowed: a file name that ends in {', '.join(FORMATS)}"
                )
            require_writable(args.out, "--out")
            if args.out.suffix.lower() == ".html":
                require_extra("plots", "jinja2")
        tables = explained(read_known(args.run), args.recipe)
        text = as_text(tables)
        say("%s", Lines(text))
        if args.out:
            is_page = args.out.suffix.lower() == ".html"
            content = as_page(f"Explanation of {args.run}", tables) if is_page else f"{text}\n"
            write_atomically(args.out, lambda path: path.write_text(content, encoding="utf-8"))
            say("\nWritten: %s", args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
