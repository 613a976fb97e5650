"""Matches and removed images of each rule, against a loop over all pairs."""

from collections import Counter

import numpy as np
import pytest
import torch

from retrieval import RULES, FeatureSet, have_match, match_shares
from retrieval.rules import CrossCameraRule, find_rule


def labelled(pids, camids, paths):
    return FeatureSet(torch.zeros(len(pids), 1), pids, camids, paths)


def naive(query, gallery, rule):
    matches, removed = set(), set()
    for i in range(len(query)):
        for j in range(len(gallery)):
            same_pid = query.pids[i] == gallery.pids[j] and query.pids[i] != -1
            cameras = int(query.camids[i]), int(gallery.camids[j])
            own = -1 in cameras and query.paths[i] == gallery.paths[j]
            if rule == "cross_camera" and (own or (same_pid and cameras[0] == cameras[1] != -1)):
                removed.add((i, j))
            elif same_pid:
                matches.add((i, j))
    return matches, removed


def pairs_of(rule, parts, size):
    found = [set(), set()]
    for rows in parts:
        for pairs, into in zip(rule.pairs(rows), found, strict=True):
            query = (pairs.query + rows.start).tolist()
            assert all(rows.start <= i < min(rows.stop, size) for i in query)
            into.update(zip(query, pairs.gallery.tolist(), strict=True))
    return found


@pytest.mark.parametrize("step", [1, 4, 50])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rule", RULES)
def test_equals_a_loop_over_all_pairs(rule, seed, step):
    generator = np.random.default_rng(seed)
    query, gallery = (
        labelled(
            generator.integers(-1, 5, size=size),
            generator.integers(-1, 3, size=size),
            [f"{generator.integers(0, 12)}.jpg" for _ in range(size)],
        )
        for size in (11, 30)
    )
    parts = [slice(start, min(start + step, 11)) for start in range(0, 11, step)]
    matches, removed = naive(query, gallery, rule)
    assert pairs_of(RULES[rule](query, gallery), parts, 11) == [matches, removed]
    assert have_match(query, gallery, rule).nonzero().flatten().tolist() == sorted({i for i, _ in matches})
    counts, gone = (Counter(i for i, _ in pairs) for pairs in (matches, removed))
    shares = [counts[i] / (30 - gone[i]) for i in range(11)]
    assert match_shares(query, gallery, rule).tolist() == pytest.approx(shares)


def test_matches_come_query_by_query_in_gallery_order():
    query = labelled([4, 2, 4], [0, 0, 0], ["a", "b", "c"])
    gallery = labelled([4, 2, 4, 4], [1, 1, 1, 0], ["d", "e", "f", "g"])
    matches, removed = CrossCameraRule(query, gallery).pairs(slice(0, 3))
    assert list(zip(*(part.tolist() for part in matches), strict=True)) == [
        (0, 0),
        (0, 2),
        (1, 1),
        (2, 0),
        (2, 2),
    ]
    assert list(zip(*(part.tolist() for part in removed), strict=True)) == [(0, 3), (2, 3)]


def test_unknown_identities_match_nothing_but_lose_their_own_image():
    images = labelled([-1, -1], [-1, -1], ["a", "b"])
    matches, removed = CrossCameraRule(images, images).pairs(slice(0, 2))
    assert len(matches.query) == 0
    assert sorted(zip(*(part.tolist() for part in removed), strict=True)) == [(0, 0), (1, 1)]


def test_identities_below_minus_one_are_identities():
    query, gallery = labelled([-1, -7], [0, 0], ["a", "b"]), labelled([-7, -8], [1, 1], ["c", "d"])
    matches, _ = CrossCameraRule(query, gallery).pairs(slice(0, 2))
    assert (matches.query.tolist(), matches.gallery.tolist()) == ([1], [0])


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="rule is 'al'; allowed: cross_camera, all"):
        find_rule("al")
