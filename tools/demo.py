"""Draw people, train CLIP-ReID on them from random weights on the CPU, and tell what it learned.

The pictures need no download: identities differ in clothes, hair and bag, cameras in light, scale and background.
The identities that are tested are never seen in training.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from datasets.synthetic import FOLDER, draw_market1501  # noqa: E402

CONFIG = "configs/demo/clipreid.yml"


def main() -> None:
    """Run the demo; a second run uses the pictures that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "logs/demo", help="folder for pictures and results")
    args = parser.parse_args()
    data, run = args.out / "data", args.out / "run"
    if not (data / FOLDER).is_dir():
        print(f"Drawing people in {data} …", flush=True)
        draw_market1501(data, train_ids=100, test_ids=40, images_per_camera=3, cameras=4, seed=1)
    (run / "metrics.jsonl").unlink(missing_ok=True)
    command = [sys.executable, "train_clipreid.py", "--config_file", CONFIG]
    command += ["DATASETS.ROOT_DIR", str(data.resolve()), "OUTPUT_DIR", str(run.resolve())]
    print(f"$ {' '.join(['python', *command[1:]])}\n", flush=True)
    status = subprocess.run(command, cwd=ROOT).returncode
    if status:
        sys.exit(status)
    print(table(run / "metrics.jsonl"))
    print(f"\nCheckpoints, log and metrics: {run}")


def table(file: Path) -> str:
    """Rank-1 and mAP before and after training, from the run's metrics."""
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    tested = [record for record in records if "mAP" in record]
    rows = [("before training", tested[0]), (f"after {tested[-1]['epoch']} epochs", tested[-1])]
    lines = ["", "40 unseen people, 4 cameras       Rank-1     mAP"]
    lines += [f"{name:<32}{100 * row['rank1']:7.1f}%{100 * row['mAP']:7.1f}%" for name, row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
