"""Stage 1: what is cached, what a batch computes, and what is captured for a GPU."""

import contextlib
import math
import weakref
from types import SimpleNamespace

import pytest
import torch

from config import cfg
from datasets import ImageBatch
from loss import supcon_loss
from processor.engine.loop import fit
from processor.evaluation.extract import extract
from processor.recipes.prompt_stage import CachedFeatures, FeatureBatch, PromptObjective
from utils.precision import Precision

CPU = torch.device("cpu")
FORGETS = {False: contextlib.nullcontext()}  # a graph cannot be captured while casts are kept


def names(count):
    return [f"{index}.jpg" for index in range(count)]


def every_text(features, pids):
    """A batch for which the text of every image is computed, shared or not."""
    return FeatureBatch(features, pids, pids, torch.arange(len(pids)), names(len(pids)))


def test_stage_1_learns(setting, two_stages):
    pairs = ("SOLVER.STAGE1.MAX_EPOCHS", 12, "SOLVER.STAGE1.BASE_LR", 0.05)
    config, model, loaders, run = setting("toy-vit", cfg, *pairs)
    stage = next(two_stages(config, model, loaders))

    @torch.no_grad()
    def loss():
        batch = every_text(stage.loader.features, stage.loader.pids)
        return sum(stage.objective(batch).losses.values()).item()

    before = loss()
    fit(stage, run)
    assert loss() < before - 0.05


def test_the_cache_holds_plain_projected_features_of_every_image(setting, two_stages):
    config, model, loaders, _ = setting("toy-resnet", cfg, "MODEL.SIE_CAMERA", True)
    model.train()
    stage = next(two_stages(config, model, loaders))
    cached = stage.loader
    assert isinstance(cached, CachedFeatures) and cached.batch_size == 5
    images, pids = zip(*((batch.to(CPU).images, batch.pids) for batch in loaders.plain), strict=True)
    with torch.no_grad():
        wanted = torch.cat([model.eval().encode_image(part) for part in images])
    assert torch.equal(cached.features, wanted) and torch.equal(cached.pids, torch.cat(pids))
    assert not cached.features.requires_grad and cached.features.shape == (8, 16)
    assert list(cached.paths) == [path for batch in loaders.plain for path in batch.paths]


def test_prompt_objective(setting):
    _, model, _, _ = setting("toy-vit", cfg)
    features, pids = torch.randn(5, 16), torch.tensor([0, 3, 3, 1, 0])
    losses, report, samples = PromptObjective(model)(every_text(features, pids))
    texts = model.encode_prompts(pids)
    assert set(losses) == {"i2t", "t2i"} and report == {} and samples == 5
    assert torch.equal(losses["i2t"], supcon_loss(features, texts, pids, pids))
    assert torch.equal(losses["t2i"], supcon_loss(texts, features, pids, pids))


def test_a_batch_computes_each_text_once(setting, monkeypatch):
    _, model, _, _ = setting("toy-vit", cfg)
    features, pids = torch.randn(9, 16), torch.tensor([2, 0, 2, 2, 1, 3, 1, 1, 1])
    objective, seen = PromptObjective(model), []
    encode = model.encode_prompts
    monkeypatch.setattr(
        model, "encode_prompts", lambda labels: seen.append(labels.tolist()) or encode(labels)
    )
    batches = CachedFeatures(features, pids, 6, seed=0, paths=names(9))
    assert batches.num_labels == 4
    for batch in batches:
        assert torch.equal(batch.labels[batch.place], batch.pids)
        losses = objective(batch).losses
        wanted = PromptObjective(model)(every_text(batch.features, batch.pids)).losses
        assert all(torch.allclose(losses[name], wanted[name], atol=1e-6) for name in wanted)
    first, _, second, _ = seen
    # Steps of equal shape: a label is repeated where a batch has fewer than it could.
    assert len(first) == 4 and len(second) == 3
    assert set(first) <= {0, 1, 2, 3}


class TestCapture:
    """What is captured; the capture itself takes a GPU and is replaced here."""

    GPU = SimpleNamespace(device_type="cuda", autocast=lambda keep_casts: FORGETS[keep_casts])

    @pytest.fixture
    def captured(self, monkeypatch):
        calls = []

        def capture(module, arguments):
            assert [name for name, _ in module.named_parameters()] == ["prompt_learner.cls_ctx"]
            calls.append(arguments)
            return lambda labels: calls.append(labels) or module(labels)

        monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
        return calls

    def test_full_batches_go_through_the_graph(self, setting, captured):
        _, model, _, _ = setting("toy-vit", cfg)
        objective = PromptObjective(model, capture=[3])
        objective.prepare(self.GPU)
        assert [labels.tolist() for labels in captured[0]] == [[0, 1, 2]]
        features, pids = torch.randn(3, 16), torch.tensor([3, 1, 0])
        losses = objective(every_text(features, pids)).losses
        assert len(captured) == 2 and torch.equal(captured[1], pids)
        wanted = PromptObjective(model)(every_text(features, pids)).losses
        assert all(torch.equal(losses[name], wanted[name]) for name in wanted)
        objective(every_text(features[:2], pids[:2]))  # a smaller last batch
        assert len(captured) == 2

    def test_nothing_is_captured_elsewhere(self, setting, captured):
        _, model, _, _ = setting("toy-vit", cfg)
        PromptObjective(model, capture=[3]).prepare(Precision("cpu"))
        PromptObjective(model).prepare(self.GPU)
        assert not captured

    def test_a_capture_that_fails_is_told(self, setting, monkeypatch, caplog):
        def fail(module, arguments):
            raise RuntimeError("operation not permitted\nwhen stream is capturing")

        monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
        _, model, _, _ = setting("toy-vit", cfg)
        objective = PromptObjective(model, capture=[3])
        objective.prepare(self.GPU)
        assert "without a CUDA graph" in caplog.text and "permitted when stream" in caplog.text
        objective(every_text(torch.randn(3, 16), torch.tensor([3, 1, 0])))


def test_no_other_copy_of_half_features_is_kept(setting, two_stages, monkeypatch):
    config, model, loaders, _ = setting("toy-vit", cfg)
    kept = []

    def extracted(*args, **options):
        features = extract(*args, **options)
        kept.append(weakref.ref(features.features))
        return features

    monkeypatch.setattr("processor.recipes.clipreid.extract", extracted)
    stages = two_stages(config, model, loaders, half_features=True)
    stage = next(stages)
    assert stage.loader.features.dtype == torch.float16 and [features() for features in kept] == [None]
    kept = [weakref.ref(stage.loader.features)]
    del stage
    next(stages)
    assert kept[0]() is None


def test_features_are_kept_in_half_precision_on_request(setting, two_stages):
    config, model, loaders, _ = setting("toy-vit", cfg)
    whole, half = (
        next(two_stages(config, model, loaders, half_features=half)).loader for half in (False, True)
    )
    assert (whole.features.dtype, half.features.dtype) == (torch.float32, torch.float16)
    assert {batch.features.dtype for batch in half} == {torch.float32}
    assert torch.allclose(whole.features, half.features.float(), rtol=1e-3, atol=1e-3)


# ---- cached features


def cache(count=10, batch_size=4, seed=7):
    features, pids = torch.arange(count).float()[:, None], torch.arange(count)
    return CachedFeatures(features, pids, batch_size, seed, names(count))


def order(batches, epoch):
    batches.set_epoch(epoch)
    return torch.cat([batch.pids for batch in batches]).tolist()


@pytest.mark.parametrize(("count", "size"), [(10, 4), (8, 4), (3, 4), (4, 4), (1, 1)])
def test_an_epoch_holds_everything_once(count, size):
    batches = cache(count, size)
    batches.set_epoch(1)
    sizes = [len(batch.pids) for batch in batches]
    full, rest = divmod(count, size)
    assert sizes == [size] * full + ([rest] if rest else []) and 0 not in sizes
    assert len(batches) == len(sizes) == math.ceil(count / size)
    assert sorted(order(batches, 1)) == list(range(count))
    assert all(torch.equal(batch.features[:, 0].long(), batch.pids) for batch in batches)
    assert all(batch.paths == [f"{pid}.jpg" for pid in batch.pids.tolist()] for batch in batches)


def test_the_order_depends_on_seed_and_epoch_alone():
    orders = [order(cache(30), epoch) for epoch in range(1, 6)]
    assert len({tuple(each) for each in orders}) == 5
    torch.manual_seed(99)
    assert [order(cache(30), epoch) for epoch in range(1, 6)] == orders
    assert order(cache(30, seed=8), 1) not in orders
    again = cache(30)
    assert order(again, 3) == orders[2] and order(again, 1) == orders[0]  # in any order of asking


def test_an_epoch_can_begin_later():
    batches = cache(10, 4)
    whole = order(batches, 3)
    for start, left in ((1, whole[4:]), (2, whole[8:]), (0, whole)):
        batches.set_epoch(3, start)
        assert [pid for batch in batches for pid in batch.pids.tolist()] == left
        assert [path for batch in batches for path in batch.paths] == [f"{pid}.jpg" for pid in left]
        assert len(batches) == 3  # as the log counts
    batches.set_epoch(3, 3)
    assert not list(batches)


def test_batches_travel_to_a_device():
    batch = every_text(torch.zeros(2, 3), torch.zeros(2)).to(torch.device("meta"))
    assert {tensor.device.type for tensor in vars(batch).values() if isinstance(tensor, torch.Tensor)} == {
        "meta"
    } and batch.paths == ["0.jpg", "1.jpg"]
    assert isinstance(batch, FeatureBatch) and not isinstance(batch, ImageBatch)
