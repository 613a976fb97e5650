"""Tokens inserted, replaced and removed between blocks, against a loop over open_clip's own blocks."""

import pytest
import torch

from model import attention_map
from model.towers.image import make_backbone

COUNT = 2  # deep prompts

NUM_SHARED = 5  # start of text and "A photo of a"


def deep_prompts(width, blocks=3):
    return torch.randn(blocks, COUNT, width, generator=torch.Generator().manual_seed(3)).requires_grad_()


def appended(prompts):
    """Behind the patches before block 0, in their place before block 1, gone before block 2."""

    def between(index, x):
        rows = prompts[index].expand(len(x), -1, -1)
        return torch.cat([x if index == 0 else x[:, :-COUNT], *([rows] if index < 2 else [])], dim=1)

    return between


def second(prompts):
    """After the first word: inserted before block 0, replaced before block 1."""

    def between(index, x):
        rows = prompts[index].expand(len(x), -1, -1)
        return torch.cat([x[:, :1], rows, x[:, 1 if index == 0 else 1 + COUNT :]], dim=1)

    return between


def gradients(features, *leaves):
    weights = torch.linspace(-1, 1, features.numel()).view_as(features)
    return torch.autograd.grad((features * weights).sum(), leaves, retain_graph=True)


def assert_same(got, wanted):
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("recompute_blocks", [False, True])
def test_image_tower(toy_clip, toy_images, recompute_blocks):
    tower, prompts = toy_clip().visual, deep_prompts(64)
    backbone = make_backbone(tower, (64, 32), (8, 8), recompute_blocks=recompute_blocks)
    between = appended(prompts)
    _, x = next(backbone.walk(toy_images()))
    for index, block in enumerate(tower.transformer.resblocks):
        x = between(index, x)
        last, x = x[:, 0], block(x)
    feat = tower.ln_post(x[:, 0])
    wanted = last, feat, feat @ tower.proj

    backbone.between = between
    got = backbone(toy_images())
    assert_same(got, wanted)
    leaves = prompts, backbone.conv1.weight
    assert_same(gradients(got.feat_proj, *leaves), gradients(wanted[2], *leaves))
    assert [x.shape[1] for _, x in backbone.walk(toy_images())] == [35, 35, 33]


@torch.no_grad()
def test_attention_map_covers_the_patches(toy_clip, toy_images):
    backbone, prompts = make_backbone(toy_clip().visual, (64, 32), (8, 8)).eval(), deep_prompts(64)
    backbone.between = lambda index, x: torch.cat([x, prompts[0].expand(2, -1, -1)], 1) if index == 0 else x
    for method in ("rollout", "last"):
        got = attention_map(backbone, toy_images(), method=method)
        assert got.shape == (2, 8, 4) and torch.allclose(got.sum(dim=(1, 2)), torch.ones(2))


@pytest.mark.parametrize("shared", [0, NUM_SHARED])
def test_text_tower(text_side, shared):
    clip, learner, tower = text_side()
    prompts = deep_prompts(32, blocks=2)
    between = second(prompts)
    words = learner(torch.tensor([2, 0, 2]))
    x = words + clip.positional_embedding[: words.shape[1]]
    for index, block in enumerate(clip.transformer.resblocks):
        x = between(index, x)
        x = block(x, attn_mask=clip.attn_mask[: x.shape[1], : x.shape[1]])
    wanted = clip.ln_final(x[:, -1]) @ clip.text_projection

    tower.between = between
    got = tower.encode_embedded(words, shared=shared)
    leaves = prompts, learner.cls_ctx
    assert_same((got, *gradients(got, *leaves)), (wanted, *gradients(wanted, *leaves)))


@torch.no_grad()
def test_a_text_may_grow_beyond_its_positions(text_side):
    _, _, tower = text_side()
    words = torch.randn(2, 77, 32, generator=torch.Generator().manual_seed(4))
    prompts = deep_prompts(32)
    tower.between = second(prompts)
    x = words + tower.positional_embedding
    for index, block in enumerate(tower.transformer.resblocks):
        x = tower.between(index, x)
        x = block(x, attn_mask=torch.full((79, 79), -torch.inf).triu(1))
    wanted = tower.ln_final(x[:, -1]) @ tower.text_projection
    torch.testing.assert_close(tower.encode_embedded(words), wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_tokens_move_the_ends_of_texts(text_side):
    """A text gives the same feature padded or cut at its end: attention is causal."""
    _, _, tower = text_side()
    words = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(4))
    tower.between = second(deep_prompts(32))
    got = tower.encode_embedded(words, torch.tensor([4, 7]))
    wanted = [tower.encode_embedded(words[:1, :5]), tower.encode_embedded(words[1:, :8])]
    torch.testing.assert_close(got, torch.cat(wanted), atol=1e-5, rtol=1e-5)
