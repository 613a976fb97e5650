"""Draw people, train CLIP-ReID on them from random weights, and tell what it learned.

Nothing is downloaded. Identities differ in clothes, hair and bag, cameras in light, scale and background; the
people that are tested are never seen in training.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import end_in_one_line
from datasets.drawn import draw_market1501
from train_clipreid import main as train

CONFIG = "configs/demo/clipreid.yml"
SEED = 1


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with the status of the training program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default="logs/demo", help="folder for pictures and results")
    args = parser.parse_args(argv)
    data, run = args.out.resolve() / "data", args.out.resolve() / "run"
    print(f"Drawing people in {data} …", flush=True)
    with end_in_one_line():
        draw_market1501(data, seed=SEED, overwrite=True)
    (run / "metrics.jsonl").unlink(missing_ok=True)  # of an earlier demo; a run appends
    words = ["--config_file", CONFIG, "DATASETS.ROOT_DIR", str(data), "OUTPUT_DIR", str(run)]
    print(f"$ python train_clipreid.py {' '.join(words)}\n", flush=True)
    train(argv=words)
    print(table(run / "metrics.jsonl"))
    print(f"\nCheckpoints, log and metrics: {run}")
    return 0


def table(file: Path) -> str:
    """Rank-1 and mAP on people never seen, before and after training, from a run's metrics."""
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    tested = [record for record in records if "mAP" in record]
    rows = [("before training", tested[0]), (f"after {tested[-1]['epoch']} epochs", tested[-1])]
    lines = [f"\n{'people never seen in training':<32}  Rank-1     mAP"]
    lines += [f"{name:<32}{100 * row['rank1']:7.1f}%{100 * row['mAP']:7.1f}%" for name, row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
