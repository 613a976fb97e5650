"""Rows of a graph: what they hold, how classes hand out their images, what the order depends on."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import GraphSampler, RandomIdentitySampler, nearest_classes

# 12 classes with 1 to 12 images, not in the order of classes.
PIDS = np.random.default_rng(3).permutation([pid for pid in range(12) for _ in range(pid + 1)]).tolist()


def features_of(classes, seed=0):
    return torch.randn(classes, 6, generator=torch.Generator().manual_seed(seed))


def sampler_of(pids=PIDS, batch_size=12, instances=4, seed=1, **options):
    sampler = GraphSampler(pids, batch_size, instances, seed, **options)
    sampler.set_features(features_of(sampler.num_classes))
    return sampler


def epoch_of(sampler, epoch):
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert len(order) == len(sampler)
    return order


def rows_of(order, pids=PIDS, batch_size=12, instances=4):
    """Classes (rows, P), after a look at the blocks of K."""
    blocks = np.asarray(pids)[np.array(order)].reshape(-1, batch_size // instances, instances)
    assert (blocks == blocks[:, :, :1]).all()
    return blocks[:, :, 0]


@st.composite
def cases(draw):
    """(pids, P, K): classes of 1 to 7 images, some images without a class."""
    sizes = draw(st.lists(st.integers(1, 7), min_size=2, max_size=9))
    pids = [pid for pid, size in enumerate(sizes) for _ in range(size)] + [-1] * draw(st.integers(0, 3))
    pids = draw(st.permutations(pids))
    return pids, draw(st.integers(2, len(sizes))), draw(st.integers(1, 5))


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(0, 99), st.lists(st.booleans(), min_size=1, max_size=4))
def test_the_contract(case, seed, renewed):
    """Every class is an anchor once, with its nearest; over all epochs a class's images come in turn."""
    pids, count, instances = case
    sampler = GraphSampler(pids, count * instances, instances, seed, anchors="all")
    features, used = features_of(sampler.num_classes, seed), np.zeros(len(pids), int)
    sampler.set_features(features)
    for epoch, again in enumerate(renewed, start=1):
        if again:
            features = features_of(sampler.num_classes, seed + epoch)
            sampler.set_features(features)
        order = epoch_of(sampler, epoch)
        used += np.bincount(order, minlength=len(pids))
        wanted = {i: [*near, i] for i, near in enumerate(nearest_classes(features, count - 1).tolist())}
        rows = rows_of(order, pids, count * instances, instances).tolist()
        assert len(rows) == len(wanted) and {row[-1]: row for row in rows} == wanted
        for pid in wanted:
            handed_out = used[np.array(pids) == pid]
            assert handed_out.max() - handed_out.min() <= 1
    assert not used[np.array(pids) < 0].any()


def test_an_image_comes_again_only_when_all_of_its_class_were_used():
    sampler, seen = sampler_of(anchors="all"), [[] for _ in range(12)]
    for epoch in range(1, 6):
        for index in epoch_of(sampler, epoch):
            seen[PIDS[index]].append(index)
    for pid, order in enumerate(seen):
        size = pid + 1
        rounds = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
        assert len(rounds) > 2 and all(len(set(part)) == size for part in rounds)
        assert size < 3 or len({tuple(part) for part in rounds}) > 1  # a new order every time


def test_orders_of_a_class_are_all_equally_likely():
    sampler = sampler_of([0] * 3 + [1] * 3, 6, 3, anchors="all")
    order = np.array([epoch_of(sampler, epoch) for epoch in range(600)]).reshape(-1, 3)
    kinds, counts = np.unique(order, axis=0, return_counts=True)
    # 2400 shuffles of either class or the other, in 6 orders each: 200 of a kind, standard deviation 13
    assert len(kinds) == 12 and abs(counts - 200).max() < 65


def test_the_order_depends_on_seed_and_epoch_alone():
    sampler = sampler_of(anchors="all")
    orders = [epoch_of(sampler, epoch) for epoch in (1, 2, 3)]
    assert len({tuple(order) for order in orders}) == 3
    assert list(sampler) == orders[2] == list(sampler)
    np.random.seed(7)
    again = sampler_of(anchors="all")
    assert [epoch_of(again, epoch) for epoch in (1, 2, 3)] == orders
    assert epoch_of(sampler_of(anchors="all", seed=2), 1) != orders[0]


def test_an_epoch_that_is_set_again_does_not_move_on():
    sampler = sampler_of()
    first = epoch_of(sampler, 1)
    assert epoch_of(sampler, 1) == first and not sampler.counts.any()
    second = epoch_of(sampler, 2)
    assert sampler.counts.sum() == len(first) and second != first


def test_counts_and_neighbours_are_the_whole_state():
    sampler, other = sampler_of(), GraphSampler(PIDS, 12, 4, seed=1)
    for epoch in (1, 2, 3):
        sampler.set_epoch(epoch)
    other.set_state(sampler.neighbours, sampler.counts)
    for epoch in (3, 4):
        assert epoch_of(other, epoch) == epoch_of(sampler, epoch)
    assert np.array_equal(other.counts, sampler.counts)


def test_an_epoch_is_as_long_as_the_images_with_other_anchors_each_time():
    sampler = sampler_of()
    anchors = [rows_of(epoch_of(sampler, epoch))[:, -1] for epoch in range(1, 30)]
    assert {len(part) for part in anchors} == {7}  # 78 images in batches of 12
    assert all(len(set(part)) == 7 for part in anchors)
    counts = np.bincount(np.concatenate(anchors))
    assert len(counts) == 12 and counts.min() > 7


def test_rows_are_never_more_than_the_classes():
    pids = [pid for pid in range(4) for _ in range(30)]
    assert rows_of(epoch_of(sampler_of(pids, 8, 4), 1), pids, 8, 4)[:, -1].tolist().count(0) == 1


@pytest.mark.parametrize("rows", [5, 30])
def test_a_number_of_rows_can_be_given(rows):
    sampler = sampler_of(rows=rows)
    counts = np.bincount(rows_of(epoch_of(sampler, 1))[:, -1], minlength=12)
    assert counts.sum() == rows and counts.max() - counts.min() == 1
    before = GraphSampler(PIDS, 12, 4, seed=1, rows=rows)
    assert len(epoch_of(before, 1)) == rows * 12


def test_before_there_is_a_graph_identities_are_drawn():
    sampler, plain = GraphSampler(PIDS, 12, 4, seed=1), RandomIdentitySampler(PIDS, 12, 4, seed=1)
    for epoch in (1, 2):
        sampler.set_epoch(epoch)
        plain.set_epoch(epoch)
        assert not sampler.has_graph and len(sampler) == len(plain) and list(sampler) == list(plain)
    sampler.set_features(features_of(12))
    sampler.set_epoch(3)
    assert sampler.has_graph and not sampler.counts.any()


def test_thirteen_thousand_classes_take_less_than_a_second():
    pids = np.random.default_rng(0).integers(0, 13_164, 113_000)
    pids[:13_164] = np.arange(13_164)
    sampler = GraphSampler(pids.tolist(), 64, 4, seed=0)
    neighbours = (np.arange(13_164)[:, None] + np.arange(1, 16)) % 13_164
    sampler.set_state(neighbours, np.full(13_164, 1000))
    start = time.perf_counter()
    assert len(epoch_of(sampler, 1)) == 1766 * 64
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((PIDS, 10, 4, 0), ["batch_size is 10", "`num_instances` 4", "12 identities", "8", "48"]),
        ((PIDS, 4, 4, 0), ["batch_size is 4", "from 8"]),
        ((PIDS, 0, 4, 0), ["batch_size is 0"]),
        ((PIDS, 8, 0, 0), ["batch_size is 8", "`num_instances` 0"]),
        ((PIDS, 52, 4, 0), ["batch_size is 52", "to 48"]),
        (([0, 2, 2], 4, 2, 0), ["pids", "class 1"]),
        ((PIDS, 12, 4, 0, "some"), ["anchors is 'some'", "'images', 'all'"]),
    ],
)
def test_errors(arguments, words):
    with pytest.raises(ValueError) as error:
        GraphSampler(*arguments)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


def test_features_of_other_classes_are_refused():
    with pytest.raises(ValueError, match="features has 3 rows; allowed: 12"):
        GraphSampler(PIDS, 12, 4, seed=0).set_features(features_of(3))
