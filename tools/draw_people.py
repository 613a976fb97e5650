"""Draw a data set of people in the form of Market-1501, or with sentences about them.

python tools/draw_people.py --out data
python tools/draw_people.py --out data --captions 2
python tools/draw_people.py --out data --captions 2 --languages zh ru

Train on the first with DATASETS.NAMES market1501 DATASETS.ROOT_DIR data, on the second with DATASETS.NAMES
captions DATASETS.ROOT_DIR data/drawn_captions.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, say

# The defaults in them are those of the functions that draw.
_NUMBERS = {
    "--captions": "sentences about each picture, in place of the form of Market-1501 (default: none)",
    "--train_ids": "identities for training (default: 80, with --captions 900)",
    "--test_ids": "other identities, for testing (default: 40, with --captions 50)",
    "--images_per_camera": "pictures of each identity by each camera; without --captions the first of a test "
    "identity is a query (default: 4, with --captions 1)",
    "--cameras": "cameras, up to 6 (default: 4)",
    "--distractors": "gallery pictures per camera of nobody known (pid 0), and as many of junk (pid -1); not "
    "with --captions (default: 8)",
    "--seed": "equal seeds give equal pictures (default: 0)",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Draw what the command line asks for; 0, or 2 after one line on stderr when that cannot be."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder that will hold the data set's folder"
    )
    for name, text in _NUMBERS.items():
        parser.add_argument(name, type=int, metavar="N", help=text)
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="height and width of a picture in pixels (default: 128 64)",
    )
    parser.add_argument(
        "--domain",
        choices=("street", "station"),
        help="cameras, places and clothes; a model trained in one finds fewer people in the other "
        "(default: street)",
    )
    parser.add_argument(
        "--languages",
        nargs="+",
        metavar="CODE",
        help="with --captions: sentences in these languages as well, with the facts of the English ones: "
        "zh, ru (default: none)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that was drawn before")
    args = parser.parse_args(argv)
    given = {name: value for name, value in vars(args).items() if value is not None}
    from datasets.drawn import draw_captions, draw_market1501

    draw = draw_market1501 if args.captions is None else draw_captions
    try:
        with end_in_one_line():
            if args.captions is not None and args.distractors is not None:
                raise ValueError(f"--distractors is {args.distractors}; allowed: only without --captions")
            if args.captions is None and args.languages is not None:
                raise ValueError(f"--languages is {' '.join(args.languages)}; allowed: only with --captions")
            folder = draw(given.pop("out"), **given)
    except SystemExit as ended:
        return ended.code
    numbers = draw.__kwdefaults__ | given
    count = sum(1 for _ in folder.rglob("*.jpg"))
    people = numbers["train_ids"] + numbers["test_ids"]
    say("%d pictures of %d people by %d cameras in %s", count, people, numbers["cameras"], folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
