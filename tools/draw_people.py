"""Draw a data set of people in the form of Market-1501.

python tools/draw_people.py --out data

Train on it with DATASETS.NAMES market1501 DATASETS.ROOT_DIR data.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, say
from datasets.drawn import draw_market1501

_NUMBERS = {
    "train_ids": "identities for training",
    "test_ids": "other identities, for testing",
    "images_per_camera": "pictures of each identity by each camera; of test identities the first is a query",
    "cameras": "cameras, 2 to 6",
    "distractors": "gallery pictures per camera of nobody known (pid 0), and as many of junk (pid -1)",
    "seed": "equal seeds give equal pictures",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Draw what the command line asks for; 0, or 2 after one line on stderr when that cannot be."""
    defaults = draw_market1501.__kwdefaults__
    parser = Parser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder that will hold the data set's folder"
    )
    for name, text in _NUMBERS.items():
        parser.add_argument(
            f"--{name}", type=int, default=defaults[name], metavar="N", help=f"{text} (default: %(default)s)"
        )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=defaults["size"],
        metavar=("H", "W"),
        help="height and width of a picture in pixels (default: {} {})".format(*defaults["size"]),
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that was drawn before")
    args = parser.parse_args(argv)
    try:
        with end_in_one_line():
            folder = draw_market1501(
                args.out,
                **{name: getattr(args, name) for name in _NUMBERS},
                size=tuple(args.size),
                overwrite=args.overwrite,
            )
    except SystemExit as ended:
        return ended.code
    count = sum(1 for _ in folder.rglob("*.jpg"))
    people = args.train_ids + args.test_ids
    say("%d pictures of %d people by %d cameras in %s", count, people, args.cameras, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
