"""Image towers: grids, positions, where features are taken, and which towers are refused."""

import copy
import re

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model.towers.image import ResNetBackbone, ViTBackbone, grid_size, make_backbone, resize_positions


@pytest.mark.parametrize(
    ("size", "patch", "stride", "grid"),
    [
        ((256, 128), (16, 16), (16, 16), (16, 8)),
        ((256, 128), (16, 16), (12, 12), (21, 10)),
        ((256, 256), (16, 16), (16, 16), (16, 16)),
        ((256, 256), (16, 16), (12, 12), (21, 21)),
        ((256, 128), (16, 16), (12, 16), (21, 8)),
        ((256, 128), (16, 16), (16, 12), (16, 10)),
        ((224, 224), (32, 32), (32, 32), (7, 7)),
        ((100, 50), (16, 16), (16, 16), (6, 3)),
        ((16, 16), (16, 16), (1, 1), (1, 1)),
    ],
)
def test_grid_size(size, patch, stride, grid):
    assert grid_size(size, patch, stride) == grid


@pytest.mark.parametrize("size", [(15, 128), (256, 15)])
def test_grid_of_a_too_small_image(size):
    with pytest.raises(ValueError, match=rf"an image of {size[0]}x{size[1]} pixels is smaller .* \(16, 16\)"):
        grid_size(size, (16, 16), (16, 16))


def interpolate(values, grid):
    """Bilinear interpolation (g, g, D) -> (h·w, D) with pixel centres at halves, one value at a time."""
    side, rows = values.shape[0], []
    for i in range(grid[0]):
        for j in range(grid[1]):
            y, x = (
                min(max((k + 0.5) * side / n - 0.5, 0), side - 1) for k, n in zip((i, j), grid, strict=True)
            )
            top, left = int(y), int(x)
            below, right = min(top + 1, side - 1), min(left + 1, side - 1)
            dy, dx = y - top, x - left
            upper = values[top, left] * (1 - dx) + values[top, right] * dx
            lower = values[below, left] * (1 - dx) + values[below, right] * dx
            rows.append(upper * (1 - dy) + lower * dy)
    return np.array(rows)


@pytest.mark.parametrize("grid", [(8, 4), (2, 3), (4, 4), (9, 7), (1, 1)])
def test_resized_positions_are_bilinear_and_keep_the_first_row(grid):
    positions = torch.randn(17, 5)
    resized = resize_positions(positions, grid)
    assert resized.shape == (1 + grid[0] * grid[1], 5)
    assert torch.equal(resized[0], positions[0])
    wanted = interpolate(positions[1:].reshape(4, 4, 5).double().numpy(), grid)
    assert np.allclose(resized[1:], wanted, atol=1e-6)


def test_positions_of_the_same_grid_are_kept():
    positions = torch.randn(50, 3)
    assert torch.equal(resize_positions(positions, (7, 7)), positions)


def test_positions_without_a_square_grid():
    with pytest.raises(ValueError, match=r"position embedding of 13 rows is not 1 \+ a square grid"):
        resize_positions(torch.zeros(13, 4), (2, 2))


def vit_by_hand(tower, images, stride):
    """The published forward pass through open_clip's own modules; positions by F.interpolate."""
    x = F.conv2d(images, tower.conv1.weight, stride=stride)
    grid = x.shape[2:]
    x = x.flatten(2).transpose(1, 2)
    first, rest = tower.positional_embedding[:1], tower.positional_embedding[1:]
    side = round(len(rest) ** 0.5)
    rest = rest.T.reshape(1, -1, side, side)
    rest = F.interpolate(rest, size=grid, mode="bilinear", align_corners=False)
    positions = torch.cat([first, rest.flatten(2)[0].T])
    x = torch.cat([tower.class_embedding.expand(len(images), 1, -1), x], dim=1) + positions
    tokens = [tower.ln_pre(x)]
    for block in tower.transformer.resblocks:
        tokens.append(block(tokens[-1]))
    feat = tower.ln_post(tokens[-1])[:, 0]
    return tokens, feat, feat @ tower.proj


@pytest.mark.parametrize(
    ("size", "stride", "grid"),
    [
        ((32, 32), (8, 8), (4, 4)),
        ((64, 32), (8, 8), (8, 4)),
        ((64, 32), (6, 6), (10, 5)),
        ((64, 32), (6, 8), (10, 4)),
        ((64, 32), (8, 3), (8, 9)),
    ],
)
@torch.no_grad()
def test_vit_is_the_published_forward_pass(toy_clip, toy_images, size, stride, grid):
    tower = toy_clip().visual
    images = toy_images(2, size)
    tokens, feat, projected = vit_by_hand(tower, images, stride)
    backbone = make_backbone(tower, size, stride)
    assert isinstance(backbone, ViTBackbone) and backbone.grid == grid
    output = backbone(images)
    # Three blocks: 'last' is read after the second, all but the last.
    assert len(tokens) == 4
    for got, wanted in zip(output, (tokens[2][:, 0], feat, projected), strict=True):
        assert torch.allclose(got, wanted, atol=2e-6)
    assert (backbone.last_width, backbone.width, backbone.projected_width) == (64, 64, 16)


@torch.no_grad()
def test_vit_at_its_own_size_is_clip(toy_clip, toy_images):
    tower = toy_clip().visual
    wanted = tower(toy_images(2, (32, 32)))
    got = make_backbone(tower, (32, 32), (8, 8))(toy_images(2, (32, 32))).feat_proj
    assert torch.allclose(got, wanted, atol=1e-6)


@torch.no_grad()
def test_side_information_is_added_to_the_class_token_alone(toy_clip, toy_images):
    backbone = make_backbone(toy_clip().visual, (64, 32), (8, 8))
    side = torch.randn(2, 64)
    got = backbone(toy_images(), side)
    for row in range(2):
        other = copy.deepcopy(backbone)
        other.class_embedding += side[row]
        wanted = other(toy_images()[row : row + 1])
        assert all(torch.allclose(g[row], w[0], atol=1e-5) for g, w in zip(got, wanted, strict=True))
    assert not torch.allclose(got.feat, backbone(toy_images()).feat, atol=1e-3)


@pytest.mark.parametrize(("name", "size"), [("toy-vit", (64, 40)), ("toy-resnet", (64, 48))])
def test_images_of_another_size_are_refused(toy_clip, toy_images, name, size):
    backbone = make_backbone(toy_clip(name).visual, (64, 32), (8, 8))
    message = rf"images of \(64, {size[1]}\) give a grid .*, not {re.escape(str(backbone.grid))}"
    with pytest.raises(ValueError, match=message):
        backbone(toy_images(1, size))


@pytest.mark.parametrize("stride", [(9, 8), (8, 9), (0, 8), (8, -1)])
def test_strides_beyond_the_patch_are_refused(toy_clip, stride):
    with pytest.raises(ValueError, match=r"stride is \[.*\]; allowed: 1 to the patch size \[8, 8\]"):
        make_backbone(toy_clip().visual, (64, 32), stride)


def resnet_by_hand(tower, images):
    """Stem and layers of open_clip's tower, layer 4 without its pools, attention pooling written out."""
    x = tower.stem(images)
    x = tower.layer3(tower.layer2(tower.layer1(x)))
    last = x.mean((2, 3))
    block, rest = tower.layer4[0], tower.layer4[1:]
    _, conv, norm = block.downsample
    identity = norm(conv(x))
    y = F.relu(block.bn1(block.conv1(x)))
    y = F.relu(block.bn2(block.conv2(y)))
    x = rest(F.relu(block.bn3(block.conv3(y)) + identity))
    pool, grid = tower.attnpool, x.shape[2:]
    tokens = x.flatten(2).transpose(1, 2)  # (B, h·w, D)
    side = round((len(pool.positional_embedding) - 1) ** 0.5)
    positions = pool.positional_embedding[1:].T.reshape(1, -1, side, side)
    positions = F.interpolate(positions, size=grid, mode="bilinear", align_corners=False)
    positions = torch.cat([pool.positional_embedding[:1], positions.flatten(2)[0].T])
    tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1) + positions
    split = [
        layer(part).unflatten(2, (pool.num_heads, -1)).transpose(1, 2)
        for layer, part in ((pool.q_proj, tokens[:, :1]), (pool.k_proj, tokens), (pool.v_proj, tokens))
    ]
    weights = (split[0] @ split[1].transpose(2, 3) / split[0].shape[-1] ** 0.5).softmax(-1)
    pooled = (weights @ split[2]).transpose(1, 2).flatten(2)[:, 0]
    return last, x.mean((2, 3)), pool.c_proj(pooled)


@pytest.mark.parametrize(("size", "grid"), [((64, 32), (4, 2)), ((64, 64), (4, 4)), ((96, 40), (6, 2))])
@torch.no_grad()
def test_resnet_has_its_map_at_a_sixteenth(toy_clip, toy_images, size, grid):
    tower = toy_clip("toy-resnet").visual
    wanted = resnet_by_hand(tower, toy_images(2, size))
    names = list(tower.state_dict())
    backbone = make_backbone(tower, size, (16, 16)).eval()
    assert isinstance(backbone, ResNetBackbone) and backbone.grid == grid
    output = backbone(toy_images(2, size))
    assert [value.shape[1] for value in output] == [128, 256, 16]
    assert (backbone.last_width, backbone.width, backbone.projected_width) == (128, 256, 16)
    for got, value in zip(output, wanted, strict=True):
        assert torch.allclose(got, value, atol=1e-5)
    assert list(backbone.state_dict()) == names
    assert len(backbone.attnpool.positional_embedding) == 1 + grid[0] * grid[1]


@torch.no_grad()
def test_resnet_has_no_place_for_side_information(toy_clip, toy_images):
    backbone = make_backbone(toy_clip("toy-resnet").visual, (64, 32), (16, 16)).eval()
    assert not backbone.supports_side_information and ViTBackbone.supports_side_information
    plain, with_side = backbone(toy_images()), backbone(toy_images(), torch.randn(2, 256))
    assert all(torch.equal(a, b) for a, b in zip(plain, with_side, strict=True))


@pytest.mark.parametrize("name", ["toy-vit", "toy-resnet"])
def test_names_are_clips_and_every_parameter_learns(toy_clip, toy_images, name):
    tower = toy_clip(name).visual
    names = sorted(tower.state_dict())
    backbone = make_backbone(tower, (64, 32), (8, 8)).train()
    assert sorted(backbone.state_dict()) == names
    output = backbone(toy_images(3))
    sum(value.square().sum() for value in output).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in backbone.parameters())


def vit_tower(**vision):
    config = open_clip.get_model_config("toy-vit")
    return open_clip.CLIP(**{**config, "vision_cfg": {**config["vision_cfg"], **vision}}).visual


@pytest.mark.parametrize("vision", [{"pool_type": "avg"}, {"attentional_pool": True}])
def test_vits_without_class_token_are_refused(toy_towers, vision):
    with pytest.raises(ValueError, match="this ViT pools its tokens; CLIP-ReID needs one with a class token"):
        make_backbone(vit_tower(**vision), (64, 32), (8, 8))


def test_other_towers_are_refused():
    with pytest.raises(ValueError, match="image tower of kind Linear; allowed: CLIP's ViT and ResNet towers"):
        make_backbone(nn.Linear(2, 2), (64, 32), (8, 8))
