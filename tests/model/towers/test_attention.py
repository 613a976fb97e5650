"""Attention maps against attention computed from the weights, one head and one row at a time."""

import copy

import pytest
import torch

from model import attention_map
from model.reid import ReIDModel
from model.towers.image import make_backbone

# Image, stride, grid: square, portrait, overlapping patches, and steps that differ.
SHAPES = [
    ((32, 32), (8, 8), (4, 4)),
    ((64, 32), (8, 8), (8, 4)),
    ((64, 32), (6, 6), (10, 5)),
    ((64, 32), (6, 8), (10, 4)),
]


@pytest.fixture
def vit(toy_clip):
    """vit((64, 32), (8, 8)) -> a tower in evaluation mode whose attention is far from uniform."""

    def build(size=(64, 32), stride=(8, 8)):
        backbone = make_backbone(toy_clip().visual, size, stride).eval()
        with torch.no_grad():
            for block in backbone.transformer.resblocks:
                block.attn.in_proj_weight.mul_(4)
                block.attn.in_proj_bias.normal_()
        return backbone

    return build


def attention_by_hand(block, x):
    """Mean over heads of softmax(q k' / sqrt(d)), (B, L, L), of a block's input (B, L, D)."""
    attn, x = block.attn, block.ln_1(x)
    width = attn.embed_dim // attn.num_heads
    q, k, _ = (x @ attn.in_proj_weight.T + attn.in_proj_bias).chunk(3, dim=2)
    heads = [slice(head * width, (head + 1) * width) for head in range(attn.num_heads)]
    weights = [(q[:, :, h] @ k[:, :, h].transpose(1, 2) / width**0.5).softmax(dim=2) for h in heads]
    return torch.stack(weights).mean(dim=0)


def map_by_hand(backbone, images, method, side=0.0):
    x = backbone.conv1(images).flatten(2).transpose(1, 2)
    token = (backbone.class_embedding + side) * torch.ones(len(images), 1)
    x = backbone.ln_pre(torch.cat([token[:, None], x], dim=1) + backbone.positional_embedding)
    rollout = torch.eye(x.shape[1])
    for block in backbone.transformer.resblocks:
        weights = attention_by_hand(block, x)
        mixed = 0.5 * weights + 0.5 * torch.eye(x.shape[1])
        rollout = (mixed / mixed.sum(dim=2, keepdim=True)) @ rollout
        x = block(x)
    maps = []
    for row in (rollout if method == "rollout" else weights)[:, 0, 1:]:
        maps.append((row / row.sum()).reshape(backbone.grid))
    return torch.stack(maps)


@pytest.mark.parametrize("method", ["rollout", "last"])
@pytest.mark.parametrize(("size", "stride", "grid"), SHAPES)
@torch.no_grad()
def test_map_is_the_one_computed_from_the_weights(vit, toy_images, size, stride, grid, method):
    backbone, images = vit(size, stride), toy_images(3, size)
    got = attention_map(backbone, images, method=method)
    assert got.shape == (3, *grid) and got.dtype == torch.float32
    assert torch.allclose(got, map_by_hand(backbone, images, method), rtol=1e-4, atol=1e-7)
    assert (got >= 0).all() and torch.allclose(got.sum(dim=(1, 2)), torch.ones(3))
    assert got.amax() > 3 * got.mean()  # else any map would do


@torch.no_grad()
def test_rollout_is_the_default_and_differs_from_the_last_block(vit, toy_images):
    backbone = vit()
    rollout, last = (attention_map(backbone, toy_images(), method=method) for method in ("rollout", "last"))
    assert torch.equal(attention_map(backbone, toy_images()), rollout)
    assert (rollout - last).abs().max() > 0.1 * last.mean()


@pytest.mark.parametrize("method", ["rollout", "last"])
@torch.no_grad()
def test_side_information_reaches_the_tower(vit, toy_images, method):
    backbone, side = vit(), 3 * torch.randn(2, 64, generator=torch.Generator().manual_seed(2))
    got = attention_map(backbone, toy_images(), side, method=method)
    assert torch.allclose(got, map_by_hand(backbone, toy_images(), method, side), rtol=1e-4, atol=1e-7)
    assert not torch.allclose(got, attention_map(backbone, toy_images(), method=method), rtol=1e-2)


def test_a_part_of_the_image_that_alone_matters_is_found(vit, toy_images):
    """Keys that point the class token's way at one patch, and nowhere else, in every block."""
    backbone = vit((32, 32))
    with torch.no_grad():
        backbone.positional_embedding.zero_()
        backbone.class_embedding.zero_()
        for block in backbone.transformer.resblocks:
            block.attn.out_proj.weight.zero_()  # tokens stay what they are
            block.mlp.c_proj.weight.zero_()
            block.attn.in_proj_bias.fill_(3)
            block.attn.in_proj_weight[:64] = 0  # all queries are equal
            block.attn.in_proj_weight[64:128] = 3
            block.ln_1.bias.zero_()
            block.ln_1.weight.zero_()
            block.ln_1.weight[0] = 1
        backbone.conv1.weight.zero_()
        backbone.conv1.weight[0] = 1
    images = torch.zeros(1, 3, 32, 32)
    images[:, :, 8:16, 16:24] = 1
    for method in ("rollout", "last"):
        assert attention_map(backbone, images, method=method).argmax() == 1 * 4 + 2


@pytest.mark.parametrize("method", ["rollout", "last"])
def test_tower_is_left_as_it_was(vit, toy_images, method):
    backbone = vit()
    with torch.no_grad():
        before = backbone(toy_images())
    weights = copy.deepcopy(backbone.state_dict())
    got = attention_map(backbone, toy_images(), method=method)
    assert not got.requires_grad
    assert not backbone.training
    assert all(torch.equal(value, weights[name]) for name, value in backbone.state_dict().items())
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(before, backbone(toy_images()), strict=True))


def test_images_of_another_size_are_named(vit, toy_images):
    with pytest.raises(ValueError, match=r"images of \(64, 40\) give a grid"):
        attention_map(vit(), toy_images(1, (64, 40)))


def test_towers_without_class_token_are_named(toy_clip, toy_images):
    backbone = make_backbone(toy_clip("toy-resnet").visual, (64, 32), (16, 16)).eval()
    with pytest.raises(
        ValueError, match="a ResNetBackbone, which has no class token; allowed: a ViTBackbone"
    ):
        attention_map(backbone, toy_images())
    with pytest.raises(ValueError, match="a ReIDModel, which has no class token; allowed: a ViTBackbone"):
        attention_map(ReIDModel(backbone, 0).eval(), toy_images())


def test_unknown_methods_are_named(vit, toy_images):
    with pytest.raises(ValueError, match="method is 'mean'; allowed: 'rollout', 'last'"):
        attention_map(vit(), toy_images(), method="mean")


def test_training_mode_is_refused(vit, toy_images):
    with pytest.raises(ValueError, match="the image tower is in training mode; allowed: evaluation mode"):
        attention_map(vit().train(), toy_images())
