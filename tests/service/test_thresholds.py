"""Thresholds by number and by file."""

import json

import numpy as np
import pytest
import torch

from retrieval import FeatureSet
from service.thresholds import read_threshold
from tools import threshold


def test_a_number_is_a_distance():
    assert read_threshold("0.5") == 0.5 and read_threshold("0") == 0
    for value in ("-1", "nan", "inf", "0,5", "half"):
        with pytest.raises(ValueError, match="allowed: a distance from 0 on, or a threshold"):
            read_threshold(value)
    with pytest.raises(ValueError, match="allowed: with a threshold"):
        read_threshold("0.5", 0.01)


def write_report(path, *points, unit_norm=True):
    accept = [{"far": far, "threshold": distance, "reason": reason} for far, distance, reason in points]
    path.write_text(json.dumps({"unit_norm": unit_norm, "accept": accept, "auc": 1.0}))
    return str(path)


def test_the_rate_chooses(tmp_path):
    rare = (0.0001, None, "not measurable with 90 pairs")
    path = write_report(tmp_path / "threshold.json", (0.01, 0.4, None), (0.001, 0.3, None), rare)
    assert read_threshold(path) == read_threshold(path, 0.001) == 0.3 and read_threshold(path, 0.01) == 0.4
    for far in (0.0001, 0.5):
        with pytest.raises(ValueError, match=r"threshold\.json has no .* rate 0.*; it has: 0\.001, 0\.01"):
            read_threshold(path, far)


def test_files_without_a_threshold(tmp_path):
    path = write_report(tmp_path / "a.json", (0.01, None, "not measurable with 9 pairs"))
    with pytest.raises(ValueError, match="has no threshold: not measurable with 9 pairs"):
        read_threshold(path)
    with pytest.raises(ValueError, match="not of norm 1"):
        read_threshold(write_report(tmp_path / "b.json", (0.01, 0.4, None), unit_norm=False))
    (tmp_path / "c.json").write_text('{"accept": []}')
    with pytest.raises(ValueError, match=r"c\.json: unit_norm"):
        read_threshold(str(tmp_path / "c.json"))
    with pytest.raises(FileNotFoundError, match=r"no\.json: no such file"):
        read_threshold(str(tmp_path / "no.json"))


def test_files_of_the_tool_are_read(tmp_path):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(8, 16, generator=generator).repeat_interleave(4, 0)
    rows = centres + 0.5 * torch.randn(32, 16, generator=generator)
    pids, camids = torch.arange(8).repeat_interleave(4), torch.tensor([0, 0, 1, 1] * 8)
    paths = [f"{i}.png" for i in range(32)]
    whole = FeatureSet(rows, pids, camids, paths).normalized()
    for name, camera in (("query", 0), ("gallery", 1)):
        whole.select((camids == camera).nonzero().flatten().tolist()).save(tmp_path / f"{name}.npz")
    files = ["--features", str(tmp_path / "query.npz"), "--gallery", str(tmp_path / "gallery.npz")]
    out = ["--out", str(tmp_path / "out"), "--far", "0.1", "0.05", "--bootstrap", "0"]
    assert threshold.main([*files, *out]) == 0
    low, high = (read_threshold(str(tmp_path / "out/threshold.json"), far) for far in (0.05, 0.1))
    distances = np.asarray(2 - 2 * whole.features[camids == 0] @ whole.features[camids == 1].T)
    different = pids[camids == 0][:, None].numpy() != pids[camids == 1][None].numpy()
    assert low < high and read_threshold(str(tmp_path / "out/threshold.json")) == low
    low_share, high_share = (np.mean(distances[different] <= each - 1e-5) for each in (low, high))
    assert 0.04 < low_share <= 0.05 and 0.09 < high_share <= 0.1
