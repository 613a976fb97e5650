"""Draw people, train on them from random weights, and show what was learned about people never seen.

Nothing is downloaded. Identities differ in clothes, hair and bag, cameras in light, scale and background; the
people that are tested are never seen in training. CLIP-ReID finds them by their pictures; with --text,
TBPS-CLIP finds them by sentences.
"""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, say
from tools.search import main as search
from train_clipreid import main as train_clipreid
from train_tbps import main as train_by_text
from utils.files import make_output_dir
from utils.lock import locked
from utils.text import Lines
from utils.untrusted.metrics_files import read_epochs

CONFIG = "configs/demo/clipreid.yml"
TEXT_CONFIG = "configs/demo/tbps.yml"
SEED = 1
SHOWN = 4  # sentences that are searched at the end


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with the status of the program that failed."""
    parser = Parser(description=__doc__)
    parser.add_argument("--text", action="store_true", help="search by sentence")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for pictures and results (default: logs/demo, with --text logs/demo/text)",
    )
    args = parser.parse_args(argv)
    out = Path(os.path.realpath(args.out or ("logs/demo/text" if args.text else "logs/demo")))
    with end_in_one_line(), locked(make_output_dir(out) / ".demo.lock"):
        say("Drawing people in %s …", out / "data")
        (out / "run" / "metrics.jsonl").unlink(missing_ok=True)  # of an earlier demo; a run appends
        (search_by_text if args.text else search_by_picture)(out / "data", out / "run")
    say("\nCheckpoints, log and metrics: %s", out / "run")
    return 0


def search_by_picture(data: Path, run: Path) -> None:
    """CLIP-ReID on drawn people, and its table."""
    from datasets.drawn import draw_market1501

    draw_market1501(data, seed=SEED, overwrite=True)
    words = ["--config_file", CONFIG, "DATASETS.ROOT_DIR", str(data), "OUTPUT_DIR", str(run)]
    say("$ python train_clipreid.py %s\n", " ".join(words))
    train_clipreid(argv=words)
    say("%s", Lines(table(run / "metrics.jsonl")))


def search_by_text(data: Path, run: Path) -> None:
    """TBPS-CLIP on drawn people, its table, and a search for some of those never seen."""
    from datasets.drawn import draw_captions

    folder = draw_captions(data, seed=SEED, overwrite=True)
    words = ["--config_file", TEXT_CONFIG, "DATASETS.ROOT_DIR", str(folder), "OUTPUT_DIR", str(run)]
    say("$ python train_tbps.py %s\n", " ".join(words))
    train_by_text(argv=words)
    say("%s", Lines(table(run / "metrics.jsonl")))
    rows = json.loads((folder / "test_reid.json").read_text(encoding="utf-8"))
    sentences = [row["captions"][0] for row in rows[:: len(rows) // SHOWN]][:SHOWN]
    weight = max(run.glob("*.pth"), key=os.path.getmtime)
    words = ["--weight", str(weight), "--images", str(folder / "imgs/test"), "--out", str(run / "search")]
    say("\n$ python tools/search.py %s\n", shlex.join([*words, "--top", "6", *sentences]))
    search([*words, "--top", "6", *sentences])


def table(file: Path) -> str:
    """Rank-1 and mAP on people never seen, before and after training, from a run's metrics."""
    tested = [epoch for epoch in read_epochs(file) if "mAP" in epoch.model_fields_set]
    rows = [("before training", tested[0]), (f"after {tested[-1].epoch} epochs", tested[-1])]
    lines = [f"\n{'people never seen in training':<32}  Rank-1     mAP"]
    lines += [f"{name:<32}{100 * row.rank1:7.1f}%{100 * row.mAP:7.1f}%" for name, row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
