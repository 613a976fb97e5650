"""The benchmark of foretold memory: its log, its table, and one small run."""

import json

import pytest

from benchmarks.training import estimate
from tests.toys import write_tower


def test_the_highest_stage_counts():
    log = """2026-01-31 12:00:00,000 transreid INFO: Before the run (memory in GB, about):
 stage  epochs  steps/epoch  steps  images/step  weights  optimizer  rest  in all
stage1     120          203  24,360           64     0.50       0.01  0.66    2.30
stage2      60          155   9,300           64     0.50       0.69  3.72   16.30
2026-01-31 12:00:00,000 transreid INFO: this machine has 21.7 GB for it"""
    assert estimate.estimate_in(log) == 16.3


def test_the_table_and_the_tolerance():
    record = {"run": "one", "estimate": 1.1, "peak": 1.0}
    assert estimate.table([record]).splitlines()[-1] == "| one | 1.10 | 1.00 | 1.10 |"
    estimate.require_close([record, record | {"estimate": 0.81}])
    with pytest.raises(ValueError, match=r"the estimate of one is \+21% of the peak off; allowed: 20%"):
        estimate.require_close([record | {"estimate": 1.21}])


@pytest.mark.slow
def test_a_run_of_a_toy(tmp_path, monkeypatch, capfd):
    tower = write_tower(tmp_path / "toy.json")
    toy = {"MODEL.NAME": tower, "MODEL.STRIDE_SIZE": [8, 8]} | estimate._ONE
    monkeypatch.setattr(estimate, "TOLERANCE", 0.5)  # of a toy most is what Python and torch hold
    monkeypatch.setitem(estimate.RUNS, "toy", ("train.py", "person/vit_base.yml", toy))
    estimate.main(["--runs", "toy"])
    first, *_, last = capfd.readouterr().out.splitlines()
    record = json.loads(first)
    assert 0.2 < record["peak"] < 3 and abs(record["estimate"] / record["peak"] - 1) < 0.5
    assert last.startswith("| toy | ")
