"""The frozen text tower: what learns through it, its names, and which towers are refused."""

import open_clip
import pytest
import torch

from model.prompts.identity import NUM_SHARED
from model.towers.text import TextEncoder


def test_only_the_prompts_learn(text_side):
    clip, learner, encoder = text_side()
    encoder(learner(torch.tensor([0, 2, 0]))).square().sum().backward()
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
        TextEncoder(clip)


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
        got = encoder(learner(pids), shared=shared)
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
        (own,) = torch.autograd.grad((got * weights).sum(), learner.cls_ctx)
        assert (own - gradient).abs().max() <= 1e-5 * gradient.abs().max()


def test_prompts_share_that_many_positions(text_side):
    _, learner, _ = text_side(classes=3)
    prompts = learner(torch.arange(3))
    same = (prompts == prompts[:1]).all(dim=2).all(dim=0)
    assert same.tolist() == [True] * NUM_SHARED + [False] * 4 + [True] * 3
