"""The text tower: tokens and prompts, what learns through it, its names, and which towers are refused."""

import copy

import open_clip
import pytest
import torch

from model.towers.image import make_backbone
from model.towers.text import ClipText

NUM_SHARED = 5  # start of text and "A photo of a"


def test_only_the_prompts_learn(text_side):
    clip, learner, encoder = text_side()
    encoder.encode_embedded(learner(torch.tensor([0, 2, 0]))).square().sum().backward()
    assert [name for name, p in learner.named_parameters()] == ["cls_ctx"]
    touched = learner.cls_ctx.grad.abs().sum((1, 2)) > 0
    assert touched.tolist() == [True, False, True]
    assert list(encoder.parameters()) and not any(p.requires_grad for p in encoder.parameters())
    assert all(p.grad is None for p in encoder.parameters()) and clip.token_embedding.weight.grad is None


def test_text_tower_has_the_published_names(text_side):
    _, _, encoder = text_side()
    names = set(encoder.state_dict())
    tops = {name.split(".")[0] for name in names}
    assert tops == {"positional_embedding", "transformer", "ln_final", "text_projection"}


@pytest.mark.parametrize("text", [{"no_causal_mask": True}, {"pool_type": "last"}, {"proj_bias": True}])
def test_other_text_towers_are_refused(toy_towers, text):
    config = open_clip.get_model_config("toy-vit")
    clip = open_clip.CLIP(**{**config, "text_cfg": {**config["text_cfg"], **text}})
    with pytest.raises(ValueError, match="not causal or not read at the end of text"):
        ClipText(clip)


@pytest.mark.parametrize("classes", [1, 3])
def test_shared_positions_change_nothing(text_side, classes):
    clip, learner, encoder = text_side(classes=classes)
    pids = torch.arange(classes).repeat(2)
    prompts = learner(pids)
    whole = torch.cat(
        [prompts, learner.token_suffix[:, learner.length - 9 :].expand(len(pids), -1, -1)], dim=1
    )
    assert whole.shape[1] == 77
    x = clip.transformer(whole + clip.positional_embedding, attn_mask=clip.attn_mask)
    wanted = (clip.ln_final(x) @ clip.text_projection)[:, learner.length - 1]
    weights = torch.linspace(-1, 1, wanted.numel()).view_as(wanted)
    (gradient,) = torch.autograd.grad((wanted * weights).sum(), learner.cls_ctx)
    for shared in (0, 1, NUM_SHARED):
        got = encoder.encode_embedded(learner(pids), shared=shared)
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
        (own,) = torch.autograd.grad((got * weights).sum(), learner.cls_ctx)
        assert (own - gradient).abs().max() <= 1e-5 * gradient.abs().max()


def test_prompts_share_that_many_positions(text_side):
    _, learner, _ = text_side(classes=3)
    prompts = learner(torch.arange(3))
    same = (prompts == prompts[:1]).all(dim=2).all(dim=0)
    assert same.tolist() == [True] * NUM_SHARED + [False] * 4 + [True] * 3


# ---- tokens

TEXTS = ["a man in a red coat", "person", "a woman " * 60]


def test_the_tokenizer_marks_the_text(toy_clip):
    tokens, mask = ClipText(toy_clip()).tokenizer(TEXTS)
    assert torch.equal(tokens, open_clip.get_tokenizer("toy-vit")(TEXTS))
    assert mask.sum(dim=1).tolist() == [8, 3, 77]  # start and end of text included
    assert torch.equal(mask, tokens > 0)


@pytest.mark.parametrize("masked", [True, False])
@torch.no_grad()
def test_tokens_are_encoded_as_by_open_clip(toy_clip, masked):
    clip = toy_clip()
    tower = ClipText(clip)
    tokens, mask = tower.tokenizer(TEXTS)
    got = tower.encode(tokens, mask if masked else None)
    torch.testing.assert_close(got, clip.encode_text(tokens), atol=1e-5, rtol=1e-5)
    assert tower.width == 32


def test_without_its_table_a_tower_takes_no_tokens(text_side):
    _, _, tower = text_side()
    with pytest.raises(ValueError, match="no token table; allowed: encode_embedded"):
        tower.encode(*tower.tokenizer(["person"]))


def test_a_text_tower_can_be_trained(toy_clip, toy_images):
    """A step moves every weight of the text tower, its token table too, and none of the image tower."""
    clip = toy_clip()
    images, texts = make_backbone(clip.visual, (64, 32), (8, 8)), ClipText(clip)
    before = copy.deepcopy((images.state_dict(), texts.state_dict()))
    optimizer = torch.optim.SGD([*images.parameters(), *texts.parameters()], lr=1.0)
    with torch.no_grad():
        features = images(toy_images(3)).feat_proj
    (features @ texts.encode(*texts.tokenizer(TEXTS)).T).square().sum().backward()
    optimizer.step()
    assert all(torch.equal(value, before[0][name]) for name, value in images.state_dict().items())
    assert not any(torch.equal(value, before[1][name]) for name, value in texts.state_dict().items())


def test_attention_dropout_acts_in_training(toy_clip):
    tower = ClipText(toy_clip()).train()
    tokens, mask = tower.tokenizer(TEXTS)
    plain = tower.encode(tokens, mask)
    for block in tower.transformer.resblocks:
        block.attn.dropout = 0.3
    assert not torch.allclose(tower.encode(tokens, mask), plain, atol=1e-3)
    assert torch.equal(tower.eval().encode(tokens, mask), plain)
