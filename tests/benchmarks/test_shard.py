"""The benchmark of divided optimizers with a toy tower."""

import json

import pytest

from benchmarks.shard.__main__ import main, require_equal
from tests.toys import write_tower


@pytest.mark.slow
def test_records_and_table(capfd, tmp_path):
    main(["--model", str(write_tower(tmp_path / "toy.json")), "--processes", "1", "2"])
    *lines, last = [line for line in capfd.readouterr().out.splitlines() if line[:1] in ("{", "|")]
    alone, whole, divided = map(json.loads, lines[:3])
    assert alone["state"] * 2 == whole["state"]
    assert sum(divided["state"]) == whole["state"][0] and max(divided["state"]) < 0.7 * whole["state"][0]
    assert all(size > whole["state"][0] for size in whole["resident"])
    assert last.startswith(f"| 2 | `zero1` | {max(divided['state']) / 1e6:,.1f} | ")


def test_losses_that_differ_end_the_run():
    record = {"processes": 2, "losses": [1.0, 2.0]}
    require_equal([record, record | {"losses": [1.0, 2.00001]}])
    require_equal([record, record | {"processes": 4, "losses": [3.0, 3.0]}])
    with pytest.raises(ValueError, match=r"2 processes differ by 0\.5"):
        require_equal([record, record | {"losses": [1.0, 3.0]}])
