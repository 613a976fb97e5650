"""The objective of text search on toy towers."""

import functools

import pytest
import torch
import torch.nn.functional as F

from config import cfg_tbps
from config.load import load_config
from datasets import PairBatch
from loss import citc_loss, nitc_loss, ritc_loss, simclr_loss
from model import make_text_search_model
from model.masked_words import MASK, NO_LABEL
from processor import make_text_search_objective
from tests.toys import TEXT_SETTINGS, words, write_tower

SIMPLE = {"MODEL.SS_LOSS_WEIGHT": 0.0, "MODEL.CITC_LOSS_WEIGHT": 0.0, "MODEL.MULTI_VIEW": False}
CAPTIONS = ["a man in red", "a woman with a blue bag and a hat", "a man in red", "nobody"]


@pytest.fixture
def make(tmp_path):
    """make(KEY=…) -> an objective in training mode, with equal weights each time."""
    tower = write_tower(tmp_path / "toy.json")

    def make(settings=(), iterations=4):
        torch.manual_seed(0)
        given = TEXT_SETTINGS | {"MODEL.NAME": str(tower), "MODEL.TEXT_DROPOUT": 0.0} | dict(settings)
        config = load_config(cfg_tbps, "", words(given))
        model = make_text_search_model(config, 3)
        return make_text_search_objective(config, model, iterations).train()

    return make


@pytest.fixture
def batch():
    draw = functools.partial(torch.randn, 4, 3, 32, 16, generator=torch.Generator().manual_seed(1))
    pids, seeds = torch.tensor([0, 1, 0, 2]), torch.tensor([11, 12, 13, 14])
    return PairBatch(draw(), CAPTIONS, pids, list("abcd"), list("abcd"), seeds, draw(), draw(), draw())


def gradients(objective, batch):
    objective.zero_grad()
    step = objective(batch)
    sum(step.losses.values()).backward()
    named = {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
    return {name: loss.item() for name, loss in step.losses.items()}, named


def assert_close(one, other, tolerance=1e-5):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(
            torch.as_tensor(one[name]), torch.as_tensor(other[name]), rtol=tolerance, atol=tolerance / 10
        )


def test_terms_are_the_losses_of_features(make, batch):
    objective = make()
    model = objective.model
    objective.steps.fill_(2)  # of four
    terms = objective(batch).losses
    image, second, *views = map(
        model.encode_image, (batch.images, batch.second_images, batch.first_views, batch.second_views)
    )
    tokens, _ = model.encode_text.tokenizer(batch.captions)
    text = F.normalize(model.encode_text(tokens))
    scale, pids = model.logit_scale.exp(), batch.pids
    nitc = [nitc_loss(F.normalize(each), text, pids, scale, soft_weight=0.25) for each in (image, second)]
    image = F.normalize(image)
    heads = [F.normalize(model.simclr_mlp(view)) for view in views]
    wanted = {
        "nitc": sum(nitc) / 2,
        "ss": 0.4 * simclr_loss(*heads),
        "citc": 0.1 * citc_loss(image, text),
        "ritc": ritc_loss(image, text, pids, scale),
    }
    assert_close(terms, wanted)


def test_soft_labels_grow_over_the_first_epoch(make, batch, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "processor.recipes.text_search.nitc_loss",
        lambda image, text, pids, scale, *, soft_weight, **more: seen.append(float(soft_weight)) or scale,
    )
    objective = make(SIMPLE, iterations=4)
    for _ in range(6):
        objective(batch)
        objective.after_step()
    assert seen == [0, 0.125, 0.25, 0.375, 0.5, 0.5]


def test_what_no_loss_wants_is_not_encoded(make, batch, monkeypatch):
    objective = make(SIMPLE)
    counts = []
    encode = objective.model.encode_image
    monkeypatch.setattr(objective.model, "encode_image", lambda x: counts.append(len(x)) or encode(x))
    assert list(objective(batch).losses) == ["nitc", "ritc"]
    assert counts == [4]
    alone = batch.replace(second_images=None, first_views=None, second_views=None)
    assert_close(objective(alone).losses, objective(batch).losses, 0)


def test_all_images_go_through_the_tower_together(make, batch, monkeypatch):
    objective = make()
    counts = []
    encode = objective.model.encode_image
    monkeypatch.setattr(objective.model, "encode_image", lambda x: counts.append(len(x)) or encode(x))
    objective(batch)
    assert counts == [16]


@pytest.mark.parametrize("size", [1, 3])
def test_micro_batches_give_the_same_losses_and_gradients(make, batch, size):
    settings = {"MODEL.TEXT_DROPOUT": 0.3}
    whole = gradients(make(settings), batch)
    parts = gradients(make(settings | {"SOLVER.MICRO_BATCH": size}), batch)
    recomputed = gradients(make(settings | {"SOLVER.GRAD_CHECKPOINT": True}), batch)
    for other in (parts, recomputed):
        assert_close(whole[0], other[0])
        assert_close(whole[1], other[1], 1e-4)


def test_dropout_follows_from_the_seeds(make, batch):
    objective = make(SIMPLE | {"MODEL.TEXT_DROPOUT": 0.3})
    one, same = objective(batch).losses, objective(batch).losses
    other = objective(batch.replace(seeds=batch.seeds + 1)).losses
    assert_close(one, same, 0)
    assert one["nitc"] != other["nitc"]
    order = [2, 0, 3, 1]
    turned = batch.replace(
        images=batch.images[order],
        captions=[batch.captions[row] for row in order],
        pids=batch.pids[order],
        seeds=batch.seeds[order],
    )
    assert_close(one, objective(turned).losses)
    objective.eval()
    assert_close(objective(batch).losses, make(SIMPLE).eval()(batch).losses, 0)


@pytest.mark.slow
def test_a_compiled_step_serves_captions_of_all_lengths(make, batch):
    settings, graphs, counts = SIMPLE | {"MODEL.TEXT_DROPOUT": 0.3}, [], []
    objective, other = make(settings), make(settings)
    torch.compiler.reset()
    objective.compile(backend=lambda graph, inputs: graphs.append(graph) or graph)
    for length in (6, 9, 4, 11, 5):
        given = batch.replace(captions=["a " * length, "red"] * 2)
        assert_close(objective(given).losses, other(given).losses)
        counts.append(len(graphs))
    assert counts == [1, 2, 2, 2, 2]  # the first length, then any


def test_soft_texts_have_a_dropout_of_their_own(make, batch):
    objective = make(SIMPLE | {"MODEL.TEXT_DROPOUT": 0.3})
    tokens, _ = objective.model.encode_text.tokenizer(batch.captions)
    soft = objective._soft_text(tokens, batch.seeds)
    first = F.normalize(objective.model.encode_text(tokens, batch.seeds))
    assert not soft.requires_grad and (soft - first).abs().max() > 1e-3
    assert make(SIMPLE)._soft_text(tokens, batch.seeds) is None


def test_the_scale_is_clamped_forward_only(make, batch):
    objective = make(SIMPLE)
    with torch.no_grad():
        objective.model.logit_scale.fill_(5.0)
    scale = objective.model.scale()
    scale.backward()
    assert scale.item() == pytest.approx(100) and objective.model.logit_scale.grad.item() == pytest.approx(
        148.413, rel=1e-4
    )
    assert objective(batch).report["scale"].item() == pytest.approx(100)


def test_identity_loss(make, batch):
    objective = make(SIMPLE | {"MODEL.ID_LOSS_WEIGHT": 2.0})
    model = objective.model
    tokens, _ = model.encode_text.tokenizer(batch.captions)
    logits = [
        model.classifier(each) for each in (model.encode_image(batch.images), model.encode_text(tokens))
    ]
    wanted = sum(F.cross_entropy(each, batch.pids) for each in logits)
    assert objective(batch).losses["id"].item() == pytest.approx(wanted.item(), rel=1e-5)


MLM = SIMPLE | {"SOLVER.MICRO_BATCH": 3} | {"MODEL.MLM_LOSS_WEIGHT": 1.0, "MODEL.MLM_DEPTH": 1}


@pytest.fixture
def make_wide(tmp_path, make):
    """Objectives of a tower whose features are wide enough for a head of attention."""
    tower = write_tower(tmp_path / "wide.json", embed_dim=64)
    return lambda settings: make({"MODEL.NAME": str(tower)} | MLM | settings)


def test_words_are_predicted_where_they_were_left_out(make_wide, batch, monkeypatch):
    seen = {}

    def watch(tokens, *given):
        seen["tokens"], seen["labels"] = mask(tokens, *given)
        return seen["tokens"], seen["labels"]

    from processor.recipes import text_search

    mask = text_search.mask_words
    monkeypatch.setattr(text_search, "mask_words", watch)
    long = batch.replace(captions=["a man with a red coat and a hat on a bike in the rain"] * 4)
    objective = make_wide({})
    losses, grads = gradients(objective, long)
    chosen = seen["labels"] != NO_LABEL
    assert 0 < chosen.sum() < chosen.numel() / 2
    assert (seen["tokens"][chosen] == MASK).any()
    # A random head knows nothing: about the logarithm of the vocabulary.
    assert losses["mlm"] == pytest.approx(torch.tensor(49408.0).log().item(), rel=0.2)
    assert {
        "model.cross_attn.in_proj_weight",
        "model.mlm_head.fc.weight",
        "model.ln_pre_i.weight",
    } <= grads.keys()
    assert_close({"nitc": losses["nitc"]}, {"nitc": objective(long).losses["nitc"].item()}, 1e-5)


def test_features_of_all_tokens_are_those_of_the_ends(make_wide, batch):
    model = make_wide({}).model.eval()
    tokens, _ = model.encode_text.tokenizer(batch.captions)
    everywhere = model.encode_text.encode_tokens(tokens)
    ends = everywhere[torch.arange(4), tokens.argmax(dim=1)]
    torch.testing.assert_close(ends, model.encode_text(tokens))
    torch.testing.assert_close(
        model.encode_image_tokens(batch.images)[:, 0], model.encode_image(batch.images)
    )


FREE = {"MODEL.ID_LOSS_WEIGHT": 1.0, "MODEL.MLM_LOSS_WEIGHT": 1.0, "MODEL.MLM_DEPTH": 1}


@pytest.mark.parametrize("more", [{}, {"SOLVER.MICRO_BATCH": 3}, {"SOLVER.GRAD_CHECKPOINT": True}])
@pytest.mark.parametrize("heads", [{}, FREE])
def test_a_frozen_text_tower_leaves_the_gradients_of_the_rest(make, batch, heads, more):
    plain, frozen = make(heads), make(heads | more | {"MODEL.FREEZE_TEXT": True})
    (losses, learning), (found, without) = (gradients(each, batch) for each in (plain, frozen))
    assert_close(losses, found)
    texts = {name for name in learning if name.startswith("model.encode_text.")}
    assert texts and without.keys() == learning.keys() - texts
    assert_close({name: learning[name] for name in without}, without, 1e-4)


def test_a_frozen_text_tower_is_asked_once(make, batch, monkeypatch):
    for frozen, wanted in ((True, 1), (False, 2)):
        objective = make({"MODEL.TEXT_DROPOUT": 0.3, "MODEL.FREEZE_TEXT": frozen})
        tower, calls = objective.model.encode_text, []
        encode = tower.forward
        monkeypatch.setattr(tower, "forward", lambda *given, e=encode, c=calls: c.append(1) or e(*given))
        objective(batch)
        assert len(calls) == wanted
