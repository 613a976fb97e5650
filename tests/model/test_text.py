"""The frozen text tower: what learns through it, its names, and which towers are refused."""

import open_clip
import pytest
import torch

from model.text import TextEncoder


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
