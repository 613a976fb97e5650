"""The benchmark of prototypes and clusters at tiny sizes."""

import json
import sys

import pytest
import torch

from benchmarks.prototypes.__main__ import JOBS, check, draw, main, require_equal, table


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_timings_and_table(capfd):
    main(["--jobs", "tiny update", "--repeats", "1"])
    lines = capfd.readouterr().out.splitlines()
    theirs, ours = map(json.loads, lines[:2])
    assert (theirs["textbook"], ours["textbook"]) == (True, False)
    assert ours["seconds"] > 0 and lines[-1].startswith("| tiny update | ")
    assert lines[-1].endswith(f" {theirs['seconds'] / ours['seconds']:.1f}× |")


@pytest.mark.parametrize("name", ["tiny update", "tiny clusters"])
def test_ours_and_the_textbook_agree(name):
    check(name, seed=0)


def test_results_that_differ_end_the_run():
    with pytest.raises(ValueError, match=r"prototypes differ from the textbook's by 0\.5"):
        require_equal(JOBS["tiny update"], torch.ones(2, 3), torch.full((2, 3), 0.5))
    labels = torch.tensor([0, 0, 1, 1])
    with pytest.raises(ValueError, match="clusters agree with the textbook's to"):
        require_equal(JOBS["tiny clusters"], labels, labels.flip(0) * torch.tensor([1, 0, 1, 0]))
    require_equal(JOBS["tiny clusters"], labels, 1 - labels)  # numbers of clusters mean nothing


def test_a_batch_has_eight_images_of_each_identity():
    features, pids = draw(JOBS["tiny update"], seed=1)
    assert features.shape == (256, 1280) and torch.equal(
        pids.unique(return_counts=True)[1], torch.full((32,), 8)
    )


def test_without_a_textbook():
    row = table([({"job": "clusters", "seconds": 12.34, "megabytes": 500.0}, None)]).splitlines()[-1]
    assert row == "| clusters | 12.3 | 500 | – | – |"
