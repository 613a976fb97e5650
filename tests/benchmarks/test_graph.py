"""The benchmark of renewing a graph, at a tiny size."""

import json
import sys

import pytest
import torch

from benchmarks.graph.__main__ import main, mean_distance, prepared, require_equal


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_timings_and_table(capfd):
    main(["--jobs", "tiny", "--repeats", "1"])
    lines = capfd.readouterr().out.splitlines()
    theirs, ours = map(json.loads, lines[:2])
    assert (theirs["textbook"], ours["textbook"]) == (True, False)
    assert ours["distance"] == pytest.approx(theirs["distance"])
    assert lines[-1].startswith("| tiny | ") and lines[-1].endswith(
        f" {theirs['seconds'] / ours['seconds']:.1f}× |"
    )


def test_ours_and_the_textbook_agree():
    (ours, near), (theirs, also) = (prepared("tiny", way, seed=0)() for way in (False, True))
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert torch.equal(near, also)


def test_graphs_that_differ_end_the_run():
    features = torch.eye(3)[:, :2] + 0.1
    wrong, right = (torch.tensor(rows) for rows in ([[1], [0], [0]], [[2], [2], [1]]))
    ours, theirs = ({"distance": mean_distance(features, rows)} for rows in (wrong, right))
    with pytest.raises(ValueError, match="than the textbook's, allowed is"):
        require_equal(ours, theirs)
    require_equal(theirs, theirs)
