"""The benchmarks of training on few images, with few people and one epoch of everything."""

import json

import pytest
import torch

from benchmarks.finetune.__main__ import FROM_FILE, RANDOM, Scale, epochs_to, main, table
from benchmarks.small.__main__ import HISTOGRAM, ROWS
from benchmarks.small.__main__ import main as run_small
from benchmarks.small.__main__ import table as small_table
from config import cfg_base
from config.load import load_config
from model import make_model

SCALE = Scale(
    others=16, others_tested=2, others_epochs=1, train_ids=8, test_ids=2, epochs=1, fine_epochs=1, iters=2
)


def records_in(out):
    lines = [line for line in out.splitlines() if line[:1] in ("{", "|")]
    return [json.loads(line) for line in lines if line[0] == "{"], [line for line in lines if line[0] == "|"]


@pytest.mark.slow
def test_pairs_of_runs_and_the_table(capfd, tmp_path):
    main(["--seeds", "1", "--domains", "street", "--out", str(tmp_path)], SCALE)
    (scratch, fine), rows = records_in(capfd.readouterr().out)
    assert (scratch["start"], fine["start"]) == (RANDOM, FROM_FILE)
    assert len(scratch["mAP"]) == len(fine["mAP"]) == 2
    assert scratch["mAP"][0] != fine["mAP"][0] and len(rows) == 4
    log = (tmp_path / "street1_file/train_log.txt").read_text()
    assert f"{tmp_path}/others_run/small_clip_1.pth: taken over: bottleneck 5" in log


@pytest.mark.slow
def test_rows_of_small_data(capfd, tmp_path, repository):
    rows = [HISTOGRAM, "scratch_base.yml", "vit_base.yml from drawn people"]
    words = ["SOLVER.ITERS", "1", "SOLVER.MAX_EPOCHS", "1", "SOLVER.STEPS", "[1]"]
    config = load_config(cfg_base, repository / "configs/small/scratch_base.yml")
    torch.save(make_model(config, 2, 4, 1).state_dict(), tmp_path / "small_clip_1.pth")
    files = ["--weight", str(tmp_path / "small_clip_1.pth"), "--out", str(tmp_path)]
    run_small(["--seeds", "1", "--rows", *rows, *files, *words], SCALE)
    (histogram, scratch, fine), lines = records_in(capfd.readouterr().out)
    assert [each["row"] for each in (histogram, scratch, fine)] == rows and len(lines) == 5
    assert "before" not in histogram and scratch["before"] != fine["before"]
    assert all(0 < each[rate] <= 1 for each in (histogram, scratch, fine) for rate in ("rank1", "mAP"))


def test_epochs_to_a_rate():
    assert epochs_to([0.1, 0.5, 0.4, 0.6], 0.5) == 1
    assert epochs_to([0.6, 0.5], 0.55) == 0
    assert epochs_to([0.1], 0.5) is None


def test_the_table_compares_runs_of_one_seed():
    def record(seed, start, *rates):
        return {"domain": "street", "seed": seed, "start": start, "mAP": rates, "rank1": rates}

    rates = {RANDOM: ((0.1, 0.3, 0.5), (0.1, 0.2, 0.25)), FROM_FILE: ((0.4, 0.6, 0.6), (0.1, 0.1, 0.2))}
    records = [record(seed, start, *each[seed]) for start, each in rates.items() for seed in (0, 1)]
    scratch, fine = table(records).splitlines()[2:]
    ends = "37.5 (25.0–50.0) | 37.5 (25.0–50.0) | 2, 2 |"
    assert scratch == f"| street | {RANDOM} | 10.0 (10.0–10.0) | 10.0 (10.0–10.0) | {ends}"
    assert fine.endswith("| 40.0 (20.0–60.0) | 40.0 (20.0–60.0) | 1, never |")


def test_the_table_of_small_data_has_no_start_of_what_learns_nothing():
    after = {"rank1": 0.5, "mAP": 0.25}
    records = [
        {"row": HISTOGRAM, **after},
        {"row": "scratch_base.yml", **after, "before": {"rank1": 0.125, "mAP": 0}},
    ]
    histogram, scratch = small_table(records).splitlines()[2:]
    assert histogram == f"| {HISTOGRAM} | – | – | 50.0 (50.0–50.0) | 25.0 (25.0–25.0) |"
    assert scratch.startswith("| scratch_base.yml | 12.5 (12.5–12.5) | 0.0 (0.0–0.0) |")


def test_every_file_of_the_folder_has_a_row(repository):
    files = {path.name for path in (repository / "configs/small").iterdir()}
    assert files == {row.config.partition("/")[2] for row in ROWS.values() if row.config.startswith("small/")}
