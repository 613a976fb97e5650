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
from datasets.drawn import DOMAINS, LANGUAGES, draw_captions, draw_market1501

_NUMBERS = {
    "--captions": "sentences about each picture, in place of the form of Market-1501",
    "--train_ids": "identities for training",
    "--test_ids": "other identities, for testing",
    "--images_per_camera": "pictures of each identity by each camera; without --captions the first of a test "
    "identity is a query",
    "--cameras": "cameras, up to 6",
    "--distractors": "gallery pictures per camera of nobody known (pid 0), and as many of junk (pid -1); not "
    "with --captions",
    "--seed": "equal seeds give equal pictures",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Draw what the command line asks for; 0, or 2 after one line on stderr when that cannot be."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder that will hold the data set's folder"
    )
    for name, text in _NUMBERS.items():
        parser.add_argument(name, type=int, metavar="N", help=f"{text} ({_default(name[2:])})")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help=f"height and width of a picture in pixels ({_default('size')})",
    )
    parser.add_argument(
        "--domain",
        choices=DOMAINS,
        help="cameras, places and clothes; a model trained in one finds fewer people in the other "
        f"({_default('domain')})",
    )
    parser.add_argument(
        "--languages",
        nargs="+",
        metavar="CODE",
        help="with --captions: sentences in these languages as well, with the facts of the English ones: "
        f"{', '.join(code for code in LANGUAGES if code)} (default: none)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that was drawn before")
    args = parser.parse_args(argv)
    given = {name: value for name, value in vars(args).items() if value is not None}
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


def _default(name: str) -> str:
    market, captions = (draw.__kwdefaults__.get(name) for draw in (draw_market1501, draw_captions))
    if market == captions or captions is None:
        return f"default: {market}"
    return f"default: {market}, with --captions {captions}" if market is not None else "default: none"


if __name__ == "__main__":
    sys.exit(main())
