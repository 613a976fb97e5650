"""CLIP's image towers as CLIP-ReID uses them: any input grid, any stride, and features from three places.

The parameters keep CLIP's own names (Radford et al. 2021), which are also the names in published re-id files.
Li, Sun, Li, "CLIP-ReID", AAAI 2023, section 3.
"""

import math
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from open_clip.model import ModifiedResNet, VisionTransformer
from open_clip.modified_resnet import AttentionPool2d
from open_clip.transformer import ResidualAttentionBlock, Transformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.towers.blocks import Between, require_plain_blocks, run_block, walk


class ImageFeatures(NamedTuple):
    """Features of an image tower: `last` (B, D_last), `feat` (B, D), `feat_proj` (B, P).

    ViT: class token after all blocks but the last; after the last block and its norm; that, projected.
    ResNet: mean of layer 3's map; mean of layer 4's map; the attention pool's output.
    """

    last: Tensor
    feat: Tensor
    feat_proj: Tensor


def grid_size(size: tuple[int, int], patch: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches of an image of `size` = (H, W) pixels.

    Raises ValueError when not even one patch fits.
    """
    grid = (size[0] - patch[0]) // stride[0] + 1, (size[1] - patch[1]) // stride[1] + 1
    if min(size[0] - patch[0], size[1] - patch[1]) < 0:
        raise ValueError(f"an image of {size[0]}x{size[1]} pixels is smaller than the tower's patch {patch}")
    return grid


def resize_positions(
    positions: Tensor,
    grid: tuple[int, int],
    former: tuple[int, int] | None = None,
    mode: str = "bilinear",
) -> Tensor:
    """Resize a position embedding to (1 + h·w, D): first row kept, the rest by `mode`.

    It is of the `former` grid, else of a square one. Raises ValueError where that is another number of rows.
    """
    side = math.isqrt(positions.shape[0] - 1)
    rows, columns = former or (side, side)
    if rows * columns != positions.shape[0] - 1:
        what = "a square grid" if former is None else f"a grid of {rows}x{columns}"
        raise ValueError(f"a position embedding of {positions.shape[0]} rows is not 1 + {what}")
    first, rest = positions[:1], positions[1:]
    rest = rest.reshape(1, rows, columns, -1).permute(0, 3, 1, 2)  # (1, D, rows, columns)
    rest = F.interpolate(rest, size=grid, mode=mode, align_corners=False)
    return torch.cat([first, rest.flatten(2)[0].T])  # (1 + h·w, D)


class ViTBackbone(nn.Module):
    """A CLIP vision transformer for images of one size, with overlapping patches where stride < patch.

    Args:
        tower: open_clip's tower; its modules are taken over, under their own names.
        size: (H, W) of the images in pixels.
        stride: vertical and horizontal step between patches in pixels.
        recompute_blocks: keep no activations inside blocks, except the last, which only the class token goes
            through; the backward pass computes them again.
        position_resize: how the position embedding gets to the grid, 'bilinear' or 'bicubic'.

    `between` is called before each block, see `blocks.walk`; the class token stays first. Raises ValueError
    for a tower without a class token, a stride beyond the patch, or blocks of another kind than CLIP's.
    """

    supports_side_information = True
    # In training, too, the features of an image depend only on that image.
    separates_images = True
    between: Between | None = None
    transformer: Transformer
    ln_pre: nn.Module
    ln_post: nn.Module
    proj: Any

    def __init__(
        self,
        tower: VisionTransformer,
        size: tuple[int, int],
        stride: tuple[int, int],
        *,
        recompute_blocks: bool = False,
        position_resize: str = "bilinear",
    ) -> None:
        super().__init__()
        if tower.attn_pool is not None or tower.pool_type != "tok":
            raise ValueError("this ViT pools its tokens; CLIP-ReID needs one with a class token")
        patch = (tower.conv1.kernel_size[0], tower.conv1.kernel_size[1])
        if not all(1 <= s <= p for s, p in zip(stride, patch, strict=True)):
            raise ValueError(f"stride is {list(stride)}; allowed: 1 to the patch size {list(patch)}")
        self.grid = grid_size(size, patch, stride)
        self.class_embedding = tower.class_embedding
        self.conv1 = tower.conv1
        self.conv1.stride = tuple(stride)
        self.positional_embedding = nn.Parameter(
            resize_positions(
                tower.positional_embedding.detach(), self.grid, tower.grid_size, mode=position_resize
            )
        )
        self.ln_pre, self.transformer, self.ln_post = tower.ln_pre, tower.transformer, tower.ln_post
        require_plain_blocks(tower.transformer.resblocks)
        self.proj = tower.proj
        self.recompute_blocks = recompute_blocks
        self.last_width = self.width = self.conv1.out_channels
        self.projected_width = self.proj.shape[1]

    @property
    def patch_projection(self) -> nn.Module | None:
        """The layer that projects patches to vectors."""
        return self.conv1

    def forward(self, images: Tensor, side_information: Tensor | None = None) -> ImageFeatures:
        """Encode images (B, 3, H, W); `side_information` (B, D) is added to the class token (SIE)."""
        final, x = deque(self.walk(images, side_information), maxlen=1).pop()
        last = x[:, 0]
        # Only the class token is read from the last block.
        feat = self.ln_post(run_block(final, x, queries=slice(0, 1))[:, 0])
        return ImageFeatures(last, feat, feat @ self.proj)

    def encode_tokens(self, images: Tensor) -> Tensor:
        """Projected features (B, 1 + h·w, P) of all tokens of images (B, 3, H, W), the class token first."""
        final, x = deque(self.walk(images), maxlen=1).pop()
        return self.ln_post(self._run(final, x)) @ self.proj

    def walk(
        self, images: Tensor, side_information: Tensor | None = None
    ) -> Iterator[tuple[ResidualAttentionBlock, Tensor]]:
        """Yield each block with the tokens (B, L, D) that enter it, the class token first.

        The last block is left to the caller; arguments as for forward.
        """
        x = self._embed(images, side_information)
        return walk(self.transformer.resblocks, x, self._run, self.between)

    def _run(self, block: ResidualAttentionBlock, x: Tensor) -> Tensor:
        if self.recompute_blocks and torch.is_grad_enabled():
            random = block.attn.dropout > 0
            return checkpoint(run_block, block, x, use_reentrant=False, preserve_rng_state=random)
        return run_block(block, x)

    def _embed(self, images: Tensor, side_information: Tensor | None) -> Tensor:
        """Class token and patches (B, 1 + h·w, D) that enter the first block."""
        x = self.conv1(images)
        if x.shape[2:] != self.grid:
            raise ValueError(
                f"images of {tuple(images.shape[2:])} give a grid {tuple(x.shape[2:])}, not {self.grid}"
            )
        x = x.flatten(2).transpose(1, 2)  # (B, h·w, D)
        token = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        if side_information is not None:
            token = token + side_information.to(x.dtype).unsqueeze(1)
        x = torch.cat([token, x], dim=1) + self.positional_embedding.to(x.dtype)
        return self.ln_pre(x)


class ResNetBackbone(nn.Module):
    """CLIP's ResNet with layer 4 at stride 1, so that the map is H/16 × W/16.

    Args:
        tower: open_clip's tower; its modules are taken over, under their own names.
        size: (H, W) of the images in pixels.
    """

    supports_side_information = False
    patch_projection: nn.Module | None = None
    separates_images = False  # batch norms
    avgpool: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: Any
    attnpool: AttentionPool2d

    def __init__(self, tower: ModifiedResNet, size: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid_size(size, (16, 16), (16, 16))
        for name, module in tower.named_children():
            setattr(self, name, module)
        # The stride of a CLIP bottleneck is an average pool in front of two of its convolutions.
        self.layer4[0].avgpool = nn.Identity()
        self.layer4[0].downsample[0] = nn.Identity()
        positions = self.attnpool.positional_embedding.detach()
        self.attnpool.positional_embedding = nn.Parameter(resize_positions(positions, self.grid))
        self.width = self.attnpool.c_proj.in_features
        self.last_width = self.width // 2
        self.projected_width = self.attnpool.c_proj.out_features

    def forward(self, images: Tensor, side_information: Tensor | None = None) -> ImageFeatures:
        """Encode images (B, 3, H, W). A ResNet has no class token: side information is not used."""
        x = images
        for stage in ("1", "2", "3"):
            conv, norm, act = (getattr(self, f"{part}{stage}") for part in ("conv", "bn", "act"))
            x = act(norm(conv(x)))
        x = self.layer3(self.layer2(self.layer1(self.avgpool(x))))  # (B, D/2, h, w)
        last = x.mean(dim=(2, 3))
        x = self.layer4(x)  # (B, D, h, w)
        if x.shape[2:] != self.grid:
            raise ValueError(
                f"images of {tuple(images.shape[2:])} give a grid {tuple(x.shape[2:])}, not {self.grid}"
            )
        return ImageFeatures(last, x.mean(dim=(2, 3)), self.attnpool(x))


Backbone = ViTBackbone | ResNetBackbone


def make_backbone(
    tower: nn.Module,
    size: tuple[int, int],
    stride: tuple[int, int],
    *,
    recompute_blocks: bool = False,
    position_resize: str = "bilinear",
) -> Backbone:
    """Wrap an open_clip image tower.

    Raises ValueError for one that is neither CLIP's ViT nor its ResNet, and for a ResNet whose blocks are to
    be recomputed: its batch norms would count each batch twice.
    """
    if isinstance(tower, VisionTransformer):
        return ViTBackbone(
            tower, size, stride, recompute_blocks=recompute_blocks, position_resize=position_resize
        )
    if not isinstance(tower, ModifiedResNet):
        raise ValueError(
            f"an image tower of kind {type(tower).__name__}; allowed: CLIP's ViT and ResNet towers"
        )
    if recompute_blocks:
        raise ValueError(
            "recompute_blocks is True; allowed with a ResNet: False, because its batch norms would "
            "count each batch twice"
        )
    return ResNetBackbone(tower, size)
