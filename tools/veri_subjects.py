"""Write the types of the vehicles of VeRi-776 as noun phrases for MODEL.PROMPT.SUBJECTS.

python tools/veri_subjects.py --root data/VeRi --out veri_subjects.json

The folder has train_label.xml and list_type.txt, as the data set is published.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, say
from utils.files import write_atomically
from utils.logger import setup_logger


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or file."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("data/VeRi"),
        metavar="DIR",
        help="folder of VeRi-776 with train_label.xml (default: %(default)s)",
    )
    parser.add_argument(
        "--types", type=Path, metavar="FILE", help="names of the types (default: list_type.txt in --root)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="write the phrases there, as JSON"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace --out if it exists")
    args = parser.parse_args(argv)
    setup_logger(None, "")
    with end_in_one_line():
        if not args.overwrite and args.out.exists():
            raise FileExistsError(f"--out {args.out} exists already; allowed: a new file, or --overwrite")
        from datasets import read_type_phrases

        phrases = read_type_phrases(args.root / "train_label.xml", args.types or args.root / "list_type.txt")
        text = json.dumps(phrases, indent=1, ensure_ascii=False) + "\n"
        write_atomically(args.out, lambda path: path.write_text(text, encoding="utf-8"))
    say("Written: %s, phrases of %d identities", args.out, len(phrases))
    return 0


if __name__ == "__main__":
    sys.exit(main())
