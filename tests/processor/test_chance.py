"""Evaluations next to rankings by chance."""

import torch

from processor.chance import ChanceFloor
from retrieval import FeatureSet, RetrievalTask, TrialRows

COUNT = 40  # sentences of 20 images


def task(features, rule="all", name=""):
    """Two sentences about each image; `features` are those of the sentences, then of the images."""
    pids = torch.cat([torch.arange(COUNT) // 2, torch.arange(COUNT // 2)])
    camids = torch.cat([torch.zeros(COUNT), torch.ones(COUNT // 2)]).long()
    names = [str(row) for row in range(len(pids))]
    rows = torch.arange(COUNT), torch.arange(COUNT, len(pids))
    trial = TrialRows(rows[0], camids[rows[0]], rows[1], camids[rows[1]], rule, name)
    return RetrievalTask(FeatureSet(features, pids, camids, names), (trial,))


def test_noise_is_chance_and_one_image_for_all_is():
    floor = ChanceFloor()
    assert floor() == ""  # nothing seen yet
    floor.see(task(torch.randn(60, 8, generator=torch.Generator().manual_seed(0))))
    assert floor().startswith("Rank-1 is ")
    assert floor().endswith("of 40 queries, no more than by chance (5.0%)")
    floor.see(task(torch.ones(60, 8)))
    assert floor() == "Rank-1 is 5.0% of 40 queries, no more than by chance (5.0%)"


def test_what_is_found_more_often_is_not():
    floor = ChanceFloor()
    found = torch.arange(COUNT) // 2
    found[6:] = (found[6:] + 1) % (COUNT // 2)  # six of 40 are right: chance and three deviations are 15.3 %
    floor.see(task(torch.eye(COUNT // 2)[torch.cat([found, torch.arange(COUNT // 2)])]))
    assert floor().startswith("Rank-1 is 15.0%")
    found[6] = 3
    floor.see(task(torch.eye(COUNT // 2)[torch.cat([found, torch.arange(COUNT // 2)])]))
    assert floor() == ""


def test_removed_images_and_queries_without_a_match_do_not_count():
    given = task(torch.ones(60, 8), "cross_camera")
    (trial,) = given.trials
    camids = trial.gallery_camids.clone()
    camids[:10] = 0  # the first ten images are of the camera of their sentences
    floor = ChanceFloor()
    floor.see(RetrievalTask(given.images, (trial._replace(gallery_camids=camids),)))
    # The other ten have one match among 20 images.
    assert floor() == "Rank-1 is 0.0% of 20 queries, no more than by chance (5.0%)"
