"""Both recipes on toy towers: which weights move in which stage, and what the stages are made of."""

import contextlib
import math
from types import SimpleNamespace

import pytest
import torch

from config import cfg, cfg_base
from datasets import Batch, make_dataloader, make_dataset
from loss import make_loss, supcon_loss
from model import make_model
from processor.baseline import BaselineObjective, baseline
from processor.clipreid import (
    CachedFeatures,
    FeatureBatch,
    ImageObjective,
    PromptObjective,
    clipreid,
    encode_identities,
)
from processor.engine import Run, fit
from processor.make_processor import make_plan
from utils.precision import Precision
from utils.seed import seed_everything

CPU = torch.device("cpu")
TOWERS = ("toy-vit", "toy-resnet")
NECK_BIASES = {"bottleneck.bias", "bottleneck_proj.bias"}


@pytest.fixture
def setting(toy_config, tmp_path):
    """setting('toy-vit', cfg, ...) -> configuration, model, loaders, run; nothing is evaluated."""

    def build(tower, tree, *pairs):
        config = toy_config("MODEL.NAME", tower, *pairs, tree=tree)
        seed_everything(config.SOLVER.SEED)
        dataset = make_dataset(config)
        model = make_model(config, dataset.num_train_pids, 2, 1)
        loaders = make_dataloader(config, dataset)
        run = Run(model, tower, CPU, tmp_path, evaluate=None, precision=Precision("cpu"))
        return config, model, loaders, run

    return build


def without_evaluation(plan):
    return type(plan)(**{**vars(plan), "eval_period": None})


def two_stages(config, model, loaders, **options):
    return clipreid(
        model,
        make_loss(config, model.num_classes),
        loaders.train,
        loaders.cache,
        prompt_plan=make_plan(config, "stage1"),
        image_plan=without_evaluation(make_plan(config, "main")),
        device=CPU,
        precision=Precision("cpu"),
        seed=config.SOLVER.SEED,
        **options,
    )


def every_text(features, pids):
    """A batch for which the text of every image is computed, shared or not."""
    return FeatureBatch(features, pids, pids, torch.arange(len(pids)))


def snapshot(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def moved(model, before, names=None):
    now = model.state_dict()
    return {name for name in names or before if not torch.equal(now[name], before[name])}


def image_side(model):
    text = ("prompt_learner.", "text_encoder.")
    return {name for name, _ in model.named_parameters() if not name.startswith(text)} - NECK_BIASES


# ---- baseline


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("pairs", [(), ("MODEL.SIE_CAMERA", True)])
def test_baseline_moves_all_weights(setting, tower, pairs):
    config, model, loaders, run = setting(tower, cfg_base, *pairs)
    plan = without_evaluation(make_plan(config, "main"))
    (stage,) = baseline(model, make_loss(config, model.num_classes), loaders.train, plan)
    before = snapshot(model)
    assert (stage.name, stage.suffix, stage.sampler) == ("baseline", "", loaders.train.sampler)
    fit(stage, run)
    parameters = {name for name, _ in model.named_parameters()}
    assert moved(model, before, parameters) == image_side(model) == parameters - NECK_BIASES
    assert moved(model, before, ["bottleneck.running_mean", "bottleneck.num_batches_tracked"])
    assert model.bottleneck.num_batches_tracked == 4  # two batches, two epochs


def test_baseline_reports_the_first_classifier(setting):
    config, model, loaders, _ = setting("toy-vit", cfg_base)
    objective = BaselineObjective(model, make_loss(config, 4)).train()
    batch = next(iter(loaders.train)).to(CPU)
    losses, report = objective(batch)
    output = model(batch.images, batch.camids, batch.viewids)
    assert set(losses) == {"id", "triplet"} and set(report) == {"acc"}
    right = (output.logits[0].argmax(1) == batch.pids).float().mean()
    assert report["acc"] == right and all(loss.requires_grad for loss in losses.values())


@pytest.mark.parametrize("tree", [cfg, cfg_base])
def test_centre_loss_moves_its_centres(setting, tree):
    config, model, loaders, run = setting("toy-vit", tree, "MODEL.METRIC_LOSS_TYPE", "triplet_center")
    loss = make_loss(config, 4, model.image_encoder.width)
    plan = without_evaluation(make_plan(config, "main"))
    if tree is cfg:
        objective = ImageObjective(model, loss, torch.zeros(4, 16))
    else:
        objective = BaselineObjective(model, loss)
    before = loss.center.centers.clone()
    (stage,) = baseline(model, loss, loaders.train, plan)
    fit(type(stage)(**{**vars(stage), "objective": objective}), run)
    assert not torch.equal(loss.center.centers, before)


# ---- CLIP-ReID


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("pairs", [(), ("MODEL.SIE_CAMERA", True)])
def test_clipreid_moves_prompts_then_the_image_side(setting, tower, pairs):
    config, model, loaders, run = setting(tower, cfg, *pairs)
    start = snapshot(model)
    stages = two_stages(config, model, loaders)

    stage1 = next(stages)
    assert (stage1.name, stage1.suffix, stage1.plan.eval_period) == ("stage1", "_stage1", None)
    assert not moved(model, start)  # the cache is filled without leaving a trace in the statistics
    fit(stage1, run)
    assert moved(model, start) == {"prompt_learner.cls_ctx"}

    after1 = snapshot(model)
    stage2 = next(stages)
    assert (stage2.name, stage2.suffix) == ("stage2", "")
    texts = stage2.objective.text_features
    assert torch.equal(texts, encode_identities(model, 64)) and not texts.requires_grad
    fit(stage2, run)
    parameters = {name for name, _ in model.named_parameters()}
    assert moved(model, after1, parameters) == image_side(model)
    assert not any(name.startswith(("prompt_learner", "text_encoder")) for name in moved(model, after1))
    assert torch.equal(stage2.objective.text_features, texts)
    assert next(stages, None) is None
    assert {path.name for path in run.output_dir.glob("*.pth")} == {f"{tower}_stage1_2.pth", f"{tower}_2.pth"}


def test_stage_1_learns(setting):
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


def test_stage_2_learns(setting):
    config, model, loaders, run = setting("toy-vit", cfg, "MAIN.MAX_EPOCHS", 12, "INPUT.RE_PROB", 0.0)
    stages = two_stages(config, model, loaders)
    next(stages)
    stage = next(stages)
    fit(stage, run)
    losses = [line.split('"loss": ')[1].split(",")[0] for line in (run.output_dir / "metrics.jsonl").open()]
    assert len(losses) == 12 and float(losses[-1]) < 0.8 * float(losses[0])


def test_the_cache_holds_plain_projected_features_of_every_image(setting):
    config, model, loaders, _ = setting("toy-resnet", cfg, "MODEL.SIE_CAMERA", True)
    model.train()
    stage = next(two_stages(config, model, loaders))
    cached = stage.loader
    assert isinstance(cached, CachedFeatures) and cached.batch_size == 5
    images, pids = zip(*((batch.to(CPU).images, batch.pids) for batch in loaders.cache), strict=True)
    with torch.no_grad():
        wanted = torch.cat([model.eval().encode_image(part) for part in images])
    assert torch.equal(cached.features, wanted) and torch.equal(cached.pids, torch.cat(pids))
    assert not cached.features.requires_grad and cached.features.shape == (8, 16)


def test_prompt_objective(setting):
    _, model, _, _ = setting("toy-vit", cfg)
    features, pids = torch.randn(5, 16), torch.tensor([0, 3, 3, 1, 0])
    losses, report = PromptObjective(model)(every_text(features, pids))
    texts = model.encode_text(pids)
    assert set(losses) == {"i2t", "t2i"} and report == {}
    assert torch.equal(losses["i2t"], supcon_loss(features, texts, pids, pids))
    assert torch.equal(losses["t2i"], supcon_loss(texts, features, pids, pids))


def test_a_batch_computes_each_text_once(setting, monkeypatch):
    _, model, _, _ = setting("toy-vit", cfg)
    features, pids = torch.randn(9, 16), torch.tensor([2, 0, 2, 2, 1, 3, 1, 1, 1])
    objective, seen = PromptObjective(model), []
    encode = model.encode_text
    monkeypatch.setattr(model, "encode_text", lambda labels: seen.append(labels.tolist()) or encode(labels))
    batches = CachedFeatures(features, pids, 6, seed=0)
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

    GPU = SimpleNamespace(device_type="cuda", autocast=lambda keep_casts: contextlib.nullcontext())

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
        objective = PromptObjective(model, capture=3)
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
        PromptObjective(model, capture=3).prepare(Precision("cpu"))
        PromptObjective(model).prepare(self.GPU)
        assert not captured

    def test_a_capture_that_fails_is_told(self, setting, monkeypatch, caplog):
        def fail(module, arguments):
            raise RuntimeError("operation not permitted\nwhen stream is capturing")

        monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
        _, model, _, _ = setting("toy-vit", cfg)
        objective = PromptObjective(model, capture=3)
        objective.prepare(self.GPU)
        assert "without a CUDA graph" in caplog.text and "permitted when stream" in caplog.text
        objective(every_text(torch.randn(3, 16), torch.tensor([3, 1, 0])))


def test_features_are_kept_in_half_precision_on_request(setting):
    config, model, loaders, _ = setting("toy-vit", cfg)
    whole, half = (
        next(two_stages(config, model, loaders, half_features=half)).loader for half in (False, True)
    )
    assert (whole.features.dtype, half.features.dtype) == (torch.float32, torch.float16)
    assert {batch.features.dtype for batch in half} == {torch.float32}
    assert torch.allclose(whole.features, half.features.float(), rtol=1e-3, atol=1e-3)


def test_image_objective_reports_the_accuracy_of_the_texts(setting):
    config, model, loaders, _ = setting("toy-vit", cfg)
    texts = torch.randn(4, 16)
    objective = ImageObjective(model, make_loss(config, 4), texts).train()
    batch = next(iter(loaders.train)).to(CPU)
    losses, report = objective(batch)
    output = model(batch.images, batch.camids, batch.viewids)
    assert set(losses) == {"id", "triplet", "i2t"}
    assert report["acc"] == ((output.projected @ texts.T).argmax(1) == batch.pids).float().mean()
    assert "text_features" in dict(objective.named_buffers())  # it follows the model to its device


@pytest.mark.parametrize("batch_size", [1, 3, 4, 64])
def test_texts_of_all_identities_do_not_depend_on_the_batch(setting, batch_size):
    _, model, _, _ = setting("toy-vit", cfg)
    texts = encode_identities(model, batch_size)
    with torch.no_grad():
        assert torch.allclose(texts, model.encode_text(torch.arange(4)), atol=1e-6)
    assert texts.shape == (4, 16) and not texts.requires_grad


# ---- cached features


def cache(count=10, batch_size=4, seed=7):
    return CachedFeatures(torch.arange(count).float()[:, None], torch.arange(count), batch_size, seed)


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


def test_the_order_depends_on_seed_and_epoch_alone():
    orders = [order(cache(30), epoch) for epoch in range(1, 6)]
    assert len({tuple(each) for each in orders}) == 5
    torch.manual_seed(99)
    assert [order(cache(30), epoch) for epoch in range(1, 6)] == orders
    assert order(cache(30, seed=8), 1) not in orders
    again = cache(30)
    assert order(again, 3) == orders[2] and order(again, 1) == orders[0]  # in any order of asking


def test_batches_travel_to_a_device():
    batch = every_text(torch.zeros(2, 3), torch.zeros(2)).to(torch.device("meta"))
    assert {tensor.device.type for tensor in batch} == {"meta"}
    assert isinstance(batch, FeatureBatch) and not isinstance(batch, Batch)
