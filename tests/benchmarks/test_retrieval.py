"""The benchmark at a tiny size, and the bound on memory that it shows at full size."""

import functools
import json
import sys

import pytest
import torch

from benchmarks.measure import measure, median_of
from benchmarks.ranking.__main__ import SIZES, WORK, draw, evaluate_ours, main, require_equal, table
from retrieval import FeatureSet, distance, evaluate

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


@pytest.mark.slow
@linux_only
def test_timings_and_table(capfd):
    main(["--data", "tiny", "--repeats", "1"])
    lines = capfd.readouterr().out.splitlines()
    timings = [json.loads(line) for line in lines[:4]]
    assert [timing["work"] for timing in timings] == [
        "evaluate",
        "evaluate-textbook",
        "rerank",
        "rerank-textbook",
    ]
    assert all(timing["seconds"] > 0 and 0.5 < timing["mAP"] < 1 for timing in timings)
    ratio = timings[3]["seconds"] / timings[2]["seconds"]
    assert lines[-2].startswith("| evaluate tiny, 60 × 300 | CPU |")
    assert lines[-1].startswith("| rerank tiny, 60 × 300 | CPU |") and f"| {ratio:.1f}× |" in lines[-1]


def test_search_is_the_textbooks(monkeypatch, capsys):
    """At a tiny size, without processes of their own."""
    size = SIZES["cuhk_pedes"]._replace(queries=60, gallery=300, identities=12, width=16)
    monkeypatch.setitem(SIZES, "cuhk_pedes", size)

    def run_here(module, options):
        given = dict(zip(options[::2], options[1::2], strict=True))
        query, gallery = draw(SIZES[given["--data"]], int(given["--seed"]))
        cmc, mean_precision = WORK[given["--here"]](query, gallery)
        record = {"data": given["--data"], "work": given["--here"], "device": "CPU", "seconds": 1.0}
        return record | {"megabytes": 1.0, "mAP": mean_precision, "cmc": list(map(float, cmc))}

    monkeypatch.setattr("benchmarks.ranking.__main__.run_alone", run_here)
    main(["--data", "cuhk_pedes", "--repeats", "1"])  # ends where they differ
    *timings, _, _, _, row = capsys.readouterr().out.splitlines()
    assert [json.loads(timing)["work"] for timing in timings] == ["search", "search-textbook"]
    assert 0.3 < json.loads(timings[0])["mAP"] < 1
    assert row.startswith("| search cuhk_pedes, 60 × 300 | CPU |")


def test_drawn_features_depend_on_the_seed_alone():
    (query, gallery), (again, _), (other, _) = (draw(SIZES["tiny"], seed) for seed in (3, 3, 4))
    assert torch.equal(query.features, again.features) and not torch.equal(query.features, other.features)
    assert (len(query), len(gallery), int((gallery.pids == 0).sum())) == (60, 300, 50)
    torch.testing.assert_close(gallery.features.norm(dim=1), torch.ones(300))


def test_results_that_differ_end_the_run():
    result = {"data": "tiny", "work": "rerank", "mAP": 0.5, "cmc": [0.5, 1.0]}
    require_equal(result, result | {"mAP": 0.500001})
    with pytest.raises(ValueError, match=r"tiny, rerank: mAP differs from the textbook's by 0\.1"):
        require_equal(result, result | {"mAP": 0.6})
    with pytest.raises(ValueError, match="cmc differs"):
        require_equal(result, result | {"cmc": [0.5, 0.9]})


def test_median_and_missing_textbook():
    runs = [{"seconds": seconds, "megabytes": 1.0} for seconds in (3.0, 1.0, 2.0)]
    assert median_of(runs) == {"seconds": 2.0, "megabytes": 1.0, "runs": 3}
    ours = {"data": "msmt17", "work": "rerank", "device": "CPU", "seconds": 2.0, "megabytes": 1.0}
    row = "| rerank msmt17, 11,659 × 82,161 | CPU | 2.0 | 1 | – | – | ≤ 600 s, ≤ 6000 MB |"
    assert table([(ours, None)]).splitlines()[-1] == row


@linux_only
def test_evaluation_never_holds_the_matrix(monkeypatch):
    """3000 × 12000 distances are 144 MB; blocks of 2 MB must do with a fraction."""
    monkeypatch.setattr(distance, "CHUNK_ELEMENTS", 1 << 19)
    generator = torch.Generator().manual_seed(0)
    query, gallery = (
        FeatureSet(
            torch.randn(count, 8, generator=generator),
            torch.arange(count) % 500,
            torch.full((count,), camera),
            [str(i) for i in range(count)],
        )
        for camera, count in enumerate((3000, 12000))
    )
    evaluate_ours(query, gallery)  # threads and libraries take what they need
    metrics, measured = measure(functools.partial(evaluate, query, gallery))
    assert metrics.num_valid == 3000 and measured.megabytes < 48
