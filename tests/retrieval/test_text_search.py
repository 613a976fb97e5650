"""Search of images by texts: golden numbers of the published system, a plain loop, every refusal."""

import numpy as np
import pytest
import torch

from retrieval import evaluate_text_search

NAMES = ("text", "image", "text_pids", "image_pids")


def stored_arrays(golden, prefix):
    stored = golden("tbps/metrics.npz")
    return [torch.from_numpy(stored[prefix + name]) for name in NAMES], stored[f"{prefix}scores"]


def scores(metrics):
    return [metrics.rank(1), metrics.rank(5), metrics.rank(10), metrics.mAP, metrics.mINP]


@pytest.mark.parametrize("prefix", ["", "tie_"])
def test_golden(golden, prefix):
    arrays, wanted = stored_arrays(golden, prefix)
    metrics = evaluate_text_search(*arrays)
    assert scores(metrics) == pytest.approx(list(wanted), rel=1e-5)
    assert metrics.num_valid == len(arrays[0])


def test_texts_without_a_match_are_left_out(golden):
    (text, image, text_pids, image_pids), wanted = stored_arrays(golden, "")
    more = torch.cat([text, text[:3]]), image, torch.cat([text_pids, torch.full((3,), 10**6)]), image_pids
    metrics = evaluate_text_search(*more)
    assert scores(metrics) == pytest.approx(list(wanted), rel=1e-5) and metrics.num_valid == len(text)


def test_lengths_of_features_make_no_difference(golden):
    arrays, wanted = stored_arrays(golden, "")
    generator = torch.Generator().manual_seed(0)
    arrays[:2] = [each * (0.1 + torch.rand(len(each), 1, generator=generator)) for each in arrays[:2]]
    assert scores(evaluate_text_search(*arrays)) == pytest.approx(list(wanted), rel=1e-5)


def test_written_out():
    """Cosines 0.9 0.8 0.7 0.1 and 0.2 0.9 0.3 0.4 of four images with identities 1 2 1 3."""
    cosines = torch.tensor([[0.9, 0.8, 0.7, 0.1], [0.2, 0.9, 0.3, 0.4]], dtype=torch.float64)
    # Images that have these cosines with two texts at right angles: the rest of their length is elsewhere.
    image = torch.cat([cosines.T, (1.5 - cosines.square().sum(dim=0)).sqrt().diag()], dim=1)
    text = torch.eye(6, dtype=torch.float64)[:2]
    metrics = evaluate_text_search(text, image, torch.tensor([1, 3]), torch.tensor([1, 2, 1, 3]))
    # The first text finds its images at 1 and 3, the second one its image at 2.
    assert scores(metrics)[0] == 0.5 and metrics.cmc.tolist() == [0.5, 1, 1, 1]
    assert metrics.mAP == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2) == pytest.approx(0.666667, abs=1e-6)
    assert metrics.mINP == pytest.approx((2 / 3 + 1 / 2) / 2)


@pytest.mark.parametrize("seed", range(4))
def test_naive(seed):
    """Whole numbers of few values, so that exact ties are frequent."""
    generator = np.random.default_rng(seed)
    units = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    text, image = (units[generator.integers(0, 5, size)] for size in (12, 20))
    text_pids, image_pids = generator.integers(0, 6, 12), generator.integers(0, 5, 20)
    firsts, precisions, penalties = [], [], []
    for feature, pid in zip(text, text_pids, strict=True):
        order = sorted(range(20), key=lambda j, feature=feature: (-int(feature @ image[j]), j))
        places = [place for place, j in enumerate(order, start=1) if image_pids[j] == pid]
        if places:
            firsts.append(places[0])
            precisions.append(sum(n / place for n, place in enumerate(places, start=1)) / len(places))
            penalties.append(len(places) / places[-1])
    metrics = evaluate_text_search(
        *(torch.from_numpy(a) for a in (text * 1.0, image * 2.0, text_pids, image_pids))
    )
    assert metrics.num_valid == len(firsts)
    assert metrics.cmc.tolist() == pytest.approx([np.mean([f <= k for f in firsts]) for k in range(1, 21)])
    assert (metrics.mAP, metrics.mINP) == pytest.approx((np.mean(precisions), np.mean(penalties)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": torch.zeros(0, 2), "text_pids": torch.zeros(0, dtype=torch.int64)}, "query is empty"),
        ({"image": torch.ones(2, 3)}, "2 wide and gallery features 3"),
        ({"text": torch.tensor([[1.0, float("nan")]])}, "text 0.*norm is nan"),
        ({"image": torch.zeros(2, 2)}, "image 0.*norm is 0"),
        ({"text_pids": torch.tensor([9])}, "none of the 1 queries"),
    ],
)
def test_refuses(change, message):
    given = {
        "text": torch.ones(1, 2),
        "image": torch.ones(2, 2),
        "text_pids": torch.tensor([1]),
        "image_pids": torch.tensor([1, 2]),
    }
    with pytest.raises(ValueError, match=message):
        evaluate_text_search(*(given | change).values())
