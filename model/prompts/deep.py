"""Deep prompts: learned tokens in the blocks of a tower, the same for all images or all texts.

VPT-deep (Jia et al., ECCV 2022, equation 5) in the image tower; in both towers it is IVLP (Rasheed et al.,
CVPR 2023; Khattak et al., "PromptSRC", ICCV 2023, section 3.1). Names are those of Multimodal-ReID: `VPT`
before the first block, `transformer.resblocks.{i}.VPT_shallow` before block i.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.towers.image import Backbone, ViTBackbone
from model.towers.text import ClipText, InPlace

FIRST, LATER = "VPT", "VPT_shallow"
MARK = "VPT"  # in the names of all deep prompts
_TOWER = "image_encoder."
KNOWN_NAMES = (f"{_TOWER}{FIRST}", FIRST)  # by which they are found in a file


@dataclass(frozen=True)
class ImagePrompts:
    """The hook `between` of an image tower with deep prompts: n tokens behind the patches (B, L + n, D).

    Block i replaces them by its own, where it has some; after the last of these they are what the block
    before made of them.
    """

    tower: ViTBackbone

    def __call__(self, index: int, x: Tensor) -> Tensor:
        """The tokens (B, L + n, D) that enter block `index`."""
        if index == 0:
            own = self.tower.ln_pre(self.tower.VPT)
            return torch.cat([x, own.to(x.dtype).expand(x.shape[0], -1, -1)], dim=1)
        own = getattr(self.tower.transformer.resblocks[index], LATER, None)
        if own is None:
            return x
        return torch.cat([x[:, : -len(own)], own.to(x.dtype).expand(x.shape[0], -1, -1)], dim=1)


@dataclass(frozen=True)
class TextPrompts(InPlace):
    """The hook `between` of a text tower with deep prompts: block i >= 1 replaces positions 1 to n."""

    tower: ClipText

    def __call__(self, index: int, x: Tensor, start: int = 0) -> Tensor:
        """The tokens that enter block `index` in place of x (B, L, W), which are those from `start` on."""
        own = getattr(self.tower.transformer.resblocks[index], LATER, None)
        first = max(1, start)  # position of the first token of x that may be replaced
        if own is None or len(own) < first:
            return x
        own = own[first - 1 : start + x.shape[1] - 1].to(x.dtype).expand(x.shape[0], -1, -1)
        place = first - start
        return torch.cat([x[:, :place], own, x[:, place + own.shape[1] :]], dim=1)


def add_image_prompts(tower: Backbone, count: int, depth: int) -> None:
    """Give a ViT `count` deep prompts in each of its first `depth` blocks, from N(0, 0.02).

    Raises ValueError for another tower.
    """
    if not isinstance(tower, ViTBackbone):
        raise ValueError(f"deep_vision is {count}; allowed with a ResNet: 0, because it has no tokens")
    tower.VPT = _prompts(count, tower.width)
    _add_later(tower.transformer.resblocks, count, depth, tower.width)
    tower.between = ImagePrompts(tower)


def add_text_prompts(tower: ClipText, count: int, depth: int, end: int) -> None:
    """Give a text tower `count` deep prompts in each of its first `depth` blocks but the first one.

    Raises ValueError where they would reach `end`, the position of the first end of text.
    """
    if count >= end:
        raise ValueError(f"deep_text is {count}; allowed: up to {end - 1}, before the end of the prompt")
    _add_later(tower.transformer.resblocks, count, depth, tower.width)
    tower.between = TextPrompts(tower)


def _add_later(blocks: nn.ModuleList, count: int, depth: int, width: int) -> None:
    for block in list(blocks)[1:depth]:
        setattr(block, LATER, _prompts(count, width))


def _prompts(count: int, width: int) -> nn.Parameter:
    return nn.Parameter(0.02 * torch.randn(count, width))


def start_deep_prompts(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> int:
    """Fill the deep prompts of a model from another file's; those of the image tower may be without its name.

    Returns how many are filled. Raises ValueError for other lengths, or when the file has none that fits.
    """
    own = {name: parameter for name, parameter in model.named_parameters() if MARK in name}
    found = {name: value for name, value in weights.items() if MARK in name}
    filled = 0
    for name, parameter in own.items():
        value = found.get(name, found.get(name.removeprefix(_TOWER)))
        if value is None:
            continue
        if value.shape != parameter.shape:
            raise ValueError(f"{source}: {name} is {list(value.shape)}; allowed: {list(parameter.shape)}")
        with torch.no_grad():
            parameter.copy_(value)
        filled += 1
    if not filled:
        raise ValueError(f"{source} has {len(found)} entries with {MARK} in their names, none for this model")
    return filled
