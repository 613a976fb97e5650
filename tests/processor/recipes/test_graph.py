"""Batches from a graph: when it is built, of which features, and what a run keeps of it."""

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from config import cfg, cfg_base, cfg_pcl
from datasets import GraphSampler, nearest_classes
from processor import METHODS
from processor.engine import Objective, Step
from processor.engine.loop import fit
from processor.make_parts import Parts
from processor.recipes.clipreid import encode_identities
from processor.recipes.graph import GraphEpochs, GraphPlan, IdentityGraph, class_means, with_graph
from processor.recipes.prompt_stage import CachedFeatures, PromptObjective
from processor.recipes.refresh import Refreshed
from retrieval import FeatureSet

TREES = {"baseline": cfg_base, "clipreid": cfg, "pcl": cfg_pcl}
GRAPH = ("DATALOADER.SAMPLER", "graph")
PIDS = [pid for pid in range(6) for _ in range(3)]


class Inner(Objective):
    """An objective without weights."""

    def forward(self, batch):
        return Step({"loss": torch.ones(())}, {}, len(batch.pids))


class Epochs:
    """The sampler of a stage."""

    def __init__(self, order):
        self.order, self.start = order, None

    def set_epoch(self, epoch, start):
        self.order.set_epoch(epoch)
        self.start = start


class Features:
    """Other features of six classes and of their 18 images each time, with the number of times."""

    def __init__(self):
        self.texts_asked = self.images_asked = 0

    def texts(self, epoch):
        self.texts_asked += 1
        return self.text_features(self.texts_asked)

    def images(self):
        self.images_asked += 1
        features = self.image_features(self.images_asked)
        return FeatureSet(features, PIDS, [-1] * 18, [f"{index}.jpg" for index in range(18)])

    @staticmethod
    def text_features(number):
        return torch.randn(6, 5, generator=torch.Generator().manual_seed(number))

    @staticmethod
    def image_features(number):
        return torch.randn(18, 4, generator=torch.Generator().manual_seed(100 + number))


def graph_of(source, features="text", fixed="", **plan):
    """A stage's objective and graph, in batches of three classes with two images."""
    plan = GraphPlan(GraphSampler(PIDS, 6, 2, seed=3), features, **plan)
    graph = IdentityGraph(plan, source.texts, fixed=fixed)
    return Refreshed(Inner(), source.images, [graph]), graph


def neighbours_by_epoch(objective, graph, epochs):
    found = []
    for epoch in range(1, epochs + 1):
        objective.begin_epoch(epoch)
        found.append(graph.neighbours.clone())
    return found


def test_a_graph_is_built_after_some_epochs_and_then_every_few(caplog):
    source = Features()
    objective, graph = graph_of(source, after=2, every=2)
    with caplog.at_level(logging.INFO):
        first, second, third, fourth, fifth = neighbours_by_epoch(objective, graph, 5)
    assert (first == -1).all() and (second == -1).all()
    assert torch.equal(third, nearest_classes(source.text_features(1), 2)) and torch.equal(fourth, third)
    assert torch.equal(fifth, nearest_classes(source.text_features(2), 2)) and source.images_asked == 0
    assert [line.split(":")[0] for line in caplog.messages] == ["Epoch 3", "Epoch 5"]
    assert "6 identities by text" in caplog.messages[0] and "new" not in caplog.messages[0]
    new = np.mean([b not in fourth[i].tolist() for i, row in enumerate(fifth.tolist()) for b in row])
    assert f"; {new:.1%} of the neighbours are new" in caplog.messages[1] and 0 < new < 1


def test_features_of_identities():
    source = Features()
    means = class_means(source.image_features(1), torch.tensor(PIDS), 6)
    unit = F.normalize(source.image_features(1))
    assert torch.allclose(means, torch.stack([unit[3 * pid : 3 * pid + 3].mean(dim=0) for pid in range(6)]))
    both = torch.cat([F.normalize(source.text_features(1)), F.normalize(means)], dim=1)
    for features, wanted in {"image": means, "both": both, "text": source.text_features(1)}.items():
        for distance in ("cosine", "dot"):
            objective, graph = graph_of(Features(), features, distance=distance)
            objective.begin_epoch(1)
            assert torch.equal(graph.neighbours, nearest_classes(wanted, 2, distance))


def test_identities_without_a_name_are_no_part_of_the_means():
    features = torch.randn(5, 3)
    assert torch.equal(
        class_means(features, torch.tensor([0, -1, 1, 1, -1]), 2),
        class_means(features[[0, 2, 3]], torch.tensor([0, 1, 1]), 2),
    )


@pytest.mark.parametrize(("features", "times"), [("text", 1), ("image", 3), ("both", 3)])
def test_features_that_do_not_change_are_asked_for_once(features, times, caplog):
    source = Features()
    objective, graph = graph_of(source, features, fixed="text")
    with caplog.at_level(logging.INFO):
        neighbours_by_epoch(objective, graph, 3)
    assert max(source.texts_asked, source.images_asked) == len(caplog.messages) == times
    assert ("these features do not change" in caplog.text) == (times == 1)


def test_one_extraction_serves_all_who_ask():
    source, seen = Features(), []
    other = IdentityGraph(GraphPlan(GraphSampler(PIDS, 6, 2, seed=3), "image"))
    other.renew = lambda epoch, images: seen.append(images()) or images
    objective, _ = graph_of(source, "image")
    Refreshed(Inner(), source.images, [*objective.parts, other]).begin_epoch(1)
    assert source.images_asked == 1 and len(seen) == 1


def test_buffers_are_the_state_of_an_epoch():
    """A run that goes on from them draws what it would have drawn, within an epoch and at its end."""
    objective, graph = graph_of(Features(), after=1, every=2)
    states, orders = [], []
    for epoch in range(1, 6):
        objective.begin_epoch(epoch)
        states.append({name: buffer.clone() for name, buffer in objective.state_dict().items()})
        GraphEpochs(graph, Epochs(graph.sampler)).set_epoch(epoch)
        orders.append(list(graph.sampler))
    assert len({tuple(order) for order in orders}) == 5
    used = np.bincount(np.concatenate(orders[1:]), minlength=18).reshape(6, 3)  # the images of each class
    assert (used.max(axis=1) - used.min(axis=1) <= 1).all()
    for epoch in range(1, 5):
        source = Features()
        source.texts_asked = [0, 0, 1, 1, 2][epoch]
        again, resumed = graph_of(source, after=1, every=2)
        again.load_state_dict(states[epoch - 1])
        epochs = Epochs(resumed.sampler)
        GraphEpochs(resumed, epochs).set_epoch(epoch, 4)
        assert epochs.start == 4
        assert list(resumed.sampler) == orders[epoch - 1]
        again.begin_epoch(epoch + 1)
        assert all(torch.equal(again.state_dict()[name], it) for name, it in states[epoch].items())
        resumed.sampler.set_epoch(epoch + 1)
        assert list(resumed.sampler) == orders[epoch]


def test_without_a_plan_a_stage_stays_as_it_is():
    sampler = object()
    assert with_graph(None, sampler) == ([], sampler)


# ---- stage 1


def cache(graph=None, count=18):
    features, paths = torch.arange(count).float()[:, None], [f"{index}.jpg" for index in range(count)]
    return CachedFeatures(features, torch.tensor(PIDS), 6, 7, paths, graph)


def test_cached_features_come_in_the_rows_of_a_graph():
    sampler = GraphSampler(PIDS, 6, 2, seed=3)
    batches, random = cache(sampler), cache()
    batches.set_epoch(1)
    random.set_epoch(1)
    assert [batch.paths for batch in batches] == [batch.paths for batch in random]
    sampler.set_features(Features.text_features(1))
    batches.set_epoch(2, 1)
    order = list(sampler)
    rows = [batch.features[:, 0].long().tolist() for batch in batches]
    assert len(batches) == 3 and rows == [order[6:12], order[12:]]
    for batch in batches:
        assert len(batch.labels) == 3 and torch.equal(batch.labels[batch.place], batch.pids)
        assert batch.paths == [f"{index}.jpg" for index in batch.features[:, 0].long().tolist()]


def test_cached_features_as_a_set():
    images = cache().as_feature_set()
    assert images.pids.tolist() == PIDS and images.features[:, 0].tolist() == list(range(18))


@pytest.mark.parametrize(("after", "wanted"), [(0, [2]), (1, [2, 4])])
def test_texts_of_equal_shapes_are_captured(setting, after, wanted):
    pairs = ("SOLVER.STAGE1.SAMPLER", "graph", "SOLVER.STAGE1.IMS_PER_BATCH", 4)
    config, model, loaders, run = setting("toy-vit", cfg, *pairs, "DATALOADER.GRAPH_AFTER", after)
    stage = next(METHODS["clipreid"].stages(config, Parts(None, model, loaders, None), run))
    assert isinstance(stage.objective.objective, PromptObjective)
    assert stage.objective.objective.capture == wanted
    sizes = set()
    for epoch in range(1, 3):
        stage.objective.begin_epoch(epoch)
        stage.sampler.set_epoch(epoch)
        sizes |= {len(batch.labels) for batch in stage.loader}
    assert sizes == {*wanted}


# ---- runs


@pytest.mark.parametrize("features", ["text", "image", "both"])
def test_stage_1_draws_by_its_prompts(setting, features):
    pairs = ("SOLVER.STAGE1.SAMPLER", "graph", "SOLVER.STAGE1.IMS_PER_BATCH", 4)
    config, model, loaders, run = setting("toy-vit", cfg, *pairs, "DATALOADER.GRAPH_FEATURES", features)
    stage = next(METHODS["clipreid"].stages(config, Parts(None, model, loaders, None), run))
    before = encode_identities(model.eval())
    model.train()
    fit(stage, run)
    assert model.training
    (graph,) = stage.objective.parts
    moved = encode_identities(model)
    assert not torch.equal(moved, before)
    stage.objective.begin_epoch(3)
    kinds = {"text": moved, "image": class_means(stage.loader.features, stage.loader.pids, 4)}
    kinds["both"] = torch.cat([F.normalize(kinds["text"]), F.normalize(kinds["image"])], dim=1)
    assert torch.equal(graph.neighbours, nearest_classes(kinds[features], 1))


@pytest.mark.parametrize("recipe", TREES)
def test_every_method_draws_its_main_stage_from_a_graph(setting, recipe):
    config, model, loaders, run = setting("toy-vit", TREES[recipe], *GRAPH, "DATALOADER.GRAPH_AFTER", 1)
    *_, stage = METHODS[recipe].stages(config, Parts(None, model, loaders, None), run)
    pids = {record.path: record.pid for record in loaders.plain.dataset.records}
    for epoch in (1, 2):
        stage.objective.train()
        stage.objective.begin_epoch(epoch)
        stage.sampler.set_epoch(epoch)
        graph = stage.objective.parts[0]
        assert (graph.neighbours[0, 0] >= 0) == (epoch == 2)
        batches = [[pids[path] for path in batch.paths] for batch in stage.loader]
        assert len(batches) == len(stage.loader) == (3 if recipe == "pcl" else 2)
    for near, same, anchor, alike in batches:
        assert near == same == graph.neighbours[anchor] and anchor == alike


def test_stage_2_builds_once_from_its_texts(setting, caplog):
    config, model, loaders, run = setting("toy-vit", cfg, *GRAPH)
    *_, stage = METHODS["clipreid"].stages(config, Parts(None, model, loaders, None), run)
    with caplog.at_level(logging.INFO):
        for epoch in (1, 2, 3):
            stage.objective.begin_epoch(epoch)
    assert caplog.text.count("graph of 4 identities by text") == 1
    texts = stage.objective.objective.texts
    assert torch.equal(stage.objective.parts[0].neighbours, nearest_classes(texts, 1))


def test_a_graph_of_images_shares_the_extraction_of_prototypes(setting, monkeypatch):
    config, model, loaders, run = setting("toy-vit", cfg_pcl, *GRAPH)
    (stage,) = METHODS["pcl"].stages(config, Parts(None, model, loaders, None), run)
    passes, images = [], stage.objective.extract_train
    monkeypatch.setattr(stage.objective, "extract_train", lambda: passes.append(1) or images())
    stage.objective.begin_epoch(1)
    assert len(passes) == 1
    found = images()
    wanted = nearest_classes(class_means(found.features, found.pids, 4), 1)
    assert torch.equal(stage.objective.parts[0].neighbours, wanted)
    assert len(stage.objective.objective.loss.memory.prototypes) == 4


@pytest.mark.parametrize(("size", "allowed"), [(2, "from 4"), (10, "to 8")])
def test_batches_that_no_graph_fills_are_refused_with_their_keys(setting, size, allowed):
    pairs = ("SOLVER.STAGE1.SAMPLER", "graph", "SOLVER.STAGE1.IMS_PER_BATCH", size)
    config, model, loaders, run = setting("toy-vit", cfg, *pairs)
    with pytest.raises(ValueError) as error:
        METHODS["clipreid"].stages(config, Parts(None, model, loaders, None), run).__next__()
    words = (f"SOLVER.STAGE1.IMS_PER_BATCH is {size}", "DATALOADER.NUM_INSTANCE 2", allowed)
    assert all(word in str(error.value) for word in words)
    with pytest.raises(ValueError) as error:
        setting("toy-vit", cfg_base, *GRAPH, "MAIN.IMS_PER_BATCH", size)
    assert str(error.value).startswith(f"IMS_PER_BATCH is {size}") and allowed in str(error.value)
    assert "DATALOADER.NUM_INSTANCE 2" in str(error.value)
