"""Fusion of features with attribute probabilities, against the published code."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from retrieval import FeatureSet, attribute_probabilities, evaluate, fuse


@pytest.mark.parametrize("kind", ["plain", "mm"])
def test_golden(golden, fill, kind):
    """Twelve people seen by two views each, with 30 drawn classes."""
    stored = golden("prompts/zero_shot.npz")
    classes = F.normalize(fill("zs_classes", (30, 512), 1.0), dim=1)
    centres, projected = fill("zs_center", (12, 768), 1.0), fill("zs_center_proj", (12, 512), 1.0)
    sets = {}
    for role in ("query", "gallery"):
        pids = torch.from_numpy(stored[f"{role}_pids"])

        def mean_of_views(middle, name, width, pids=pids, role=role):
            views = [
                middle[pids] + 14 * fill(f"zs_{role}{name}_{k}", (len(pids), width), 1.0) for k in (1, 2)
            ]
            return sum(views) / 2

        feature = mean_of_views(centres, "", 768)
        text_side = mean_of_views(projected, "_proj", 512)
        if kind == "plain":
            whole = torch.cat([feature, text_side], dim=1)
        else:
            probabilities = attribute_probabilities(text_side, classes)
            whole = fuse(feature, probabilities)
            torch.testing.assert_close(fuse(feature, probabilities, 2.0)[:, 768:], 2 * probabilities)
        want = torch.from_numpy(stored[f"{role}_{kind}"])
        torch.testing.assert_close(whole[: len(want)], want.float(), rtol=1e-4, atol=1e-4)
        camids, keys = torch.from_numpy(stored[f"{role}_camids"]), [str(i) for i in range(len(pids))]
        sets[role] = FeatureSet(F.normalize(whole, dim=1), pids, camids, keys)
    metrics = evaluate(sets["query"], sets["gallery"])
    np.testing.assert_allclose(metrics.cmc, stored[f"cmc_{kind}"], rtol=1e-6)
    assert metrics.mAP == pytest.approx(float(stored[f"mAP_{kind}"]), rel=1e-6)


def test_probabilities_by_hand():
    """Cosines 1 and 0.6, whatever the lengths of the image's features."""
    classes = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    got = attribute_probabilities(torch.tensor([[5.0, 0.0], [0.1, 0.0]]), classes, 0.5)
    first = np.exp(2) / (np.exp(2) + np.exp(1.2))
    torch.testing.assert_close(got, torch.tensor([[first, 1 - first]] * 2, dtype=torch.float32))
    assert fuse(torch.ones(2, 3), got, 0).tolist() == [[1, 1, 1, 0, 0]] * 2


def test_wrong_arguments():
    with pytest.raises(ValueError, match="4 wide and classes 3"):
        attribute_probabilities(torch.ones(2, 4), torch.ones(5, 3))
    for temperature in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature is"):
            attribute_probabilities(torch.ones(2, 3), torch.ones(5, 3), temperature)
    for weight in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="weight is"):
            fuse(torch.ones(2, 3), torch.ones(2, 4), weight)
