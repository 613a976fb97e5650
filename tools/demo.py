"""Draw people, train CLIP-ReID on them from random weights, and tell what it learned.

Nothing is downloaded. Identities differ in clothes, hair and bag, cameras in light, scale and background; the
people that are tested are never seen in training.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, say
from datasets.drawn import draw_market1501
from train_clipreid import main as train
from utils.files import make_output_dir
from utils.lock import locked
from utils.text import Lines
from utils.untrusted.metrics_files import read_epochs

CONFIG = "configs/demo/clipreid.yml"
SEED = 1


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with the status of the training program."""
    parser = Parser(description=__doc__)
    parser.add_argument("--out", type=Path, default="logs/demo", help="folder for pictures and results")
    args = parser.parse_args(argv)
    out = Path(os.path.realpath(args.out))
    data, run = out / "data", out / "run"
    with end_in_one_line(), locked(make_output_dir(out) / ".demo.lock"):
        say("Drawing people in %s …", data)
        draw_market1501(data, seed=SEED, overwrite=True)
        (run / "metrics.jsonl").unlink(missing_ok=True)  # of an earlier demo; a run appends
        words = ["--config_file", CONFIG, "DATASETS.ROOT_DIR", str(data), "OUTPUT_DIR", str(run)]
        say("$ python train_clipreid.py %s\n", " ".join(words))
        train(argv=words)
    say("%s", Lines(table(run / "metrics.jsonl")))
    say("\nCheckpoints, log and metrics: %s", run)
    return 0


def table(file: Path) -> str:
    """Rank-1 and mAP on people never seen, before and after training, from a run's metrics."""
    tested = [epoch for epoch in read_epochs(file) if "mAP" in epoch.model_fields_set]
    rows = [("before training", tested[0]), (f"after {tested[-1].epoch} epochs", tested[-1])]
    lines = [f"\n{'people never seen in training':<32}  Rank-1     mAP"]
    lines += [f"{name:<32}{100 * row.rank1:7.1f}%{100 * row.mAP:7.1f}%" for name, row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
