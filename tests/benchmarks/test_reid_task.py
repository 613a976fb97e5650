"""The benchmark of graphs and captions, on a few people and epochs."""

import json

import pytest

from benchmarks.prompts.__main__ import Scale
from benchmarks.reid_task.__main__ import main

pytestmark = pytest.mark.slow
# Batches of 16 identities need as many; those of a graph one more.
SMALL = Scale(of_clip=16, train_ids=17, test_ids=3, epochs=(1, 2, 1))
CHOSEN = ["CLIP-ReID", "graph in stage 2", "captions in stage 1, 23 %", "stage 0, 100 %"]


def test_records_and_table(tmp_path, capfd):
    main(["--seeds", "5", "--rows", *CHOSEN, "--out", str(tmp_path)], SMALL)
    lines = capfd.readouterr().out.splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert [record["row"] for record in records] == CHOSEN
    assert all(0 <= record["mAP"] <= 1 and record["seconds"]["stage2"] > 0 for record in records)
    assert "stage0" in records[-1]["seconds"]
    share = json.loads((tmp_path / "people5/captions_0.23.json").read_text())
    assert len(share) == round(0.23 * 17 * 16)
    assert lines[-len(CHOSEN)].startswith("| CLIP-ReID |") and "+0.0 (+0.0 to +0.0)" in lines[-len(CHOSEN)]
