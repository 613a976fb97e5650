"""The benchmark of prompt learning, with few people and one epoch of everything."""

import json

import pytest

from benchmarks.prompts.__main__ import Scale, main, table

SCALE = Scale(of_clip=16, train_ids=16, test_ids=2, epochs=(1, 1, 1))


@pytest.mark.slow
def test_records_and_table(capfd, tmp_path):
    main(["--seeds", "1", "--methods", "CLIP-ReID", "PromptSRC", "--out", str(tmp_path)], SCALE)
    lines = [line for line in capfd.readouterr().out.splitlines() if line[:1] in ("{", "|")]
    records = {record["method"]: record for record in map(json.loads, lines[:3])}
    assert list(records) == ["CLIP-ReID", "CLIP", "PromptSRC"]
    words, deep = 16 * 128, 2 * 192 * 4 + 2 * 128 * 3  # of a token of all identities, of both towers
    assert records["CLIP-ReID"]["learns"]["stage1"] == 4 * words
    assert records["PromptSRC"]["learns"]["stage1"] == 4 * words + deep
    assert all(seconds > 0 for seconds in records["PromptSRC"]["seconds"].values())
    rates = [[rate["mAP"] for rate in record["rates"]] for record in records.values()]
    assert all(0 < rate <= 1 for row in rates for rate in row)
    assert records["CLIP"]["rates"] != records["CLIP-ReID"]["rates"] and "learns" not in records["CLIP"]
    assert len(lines) == 3 + 2 + 3


def test_the_table_has_means_and_ranges():
    rates = ([{"rank1": one, "mAP": 0.5}, {"rank1": 0.25, "mAP": 0.125}] for one in (0.75, 0.5))
    records = [{"method": "CLIP", "seed": seed, "rates": rate} for seed, rate in enumerate(rates)]
    costs = {"learns": {"stage1": 4096, "stage2": 2e6}, "seconds": {"stage1": 0.25, "stage2": 3.0}}
    *_, clip, coop = table([*records, records[0] | costs | {"method": "CoOp"}]).splitlines()
    ranges = "62.5 (50.0–75.0) | 50.0 (50.0–50.0) | 25.0 (25.0–25.0) | 12.5 (12.5–12.5)"
    assert clip == f"| CLIP | – | – | – | – | {ranges} |"
    assert coop.startswith("| CoOp | 4,096 | 2,000,000 | 0.2 | 3.0 | 75.0 (75.0–75.0) |")
