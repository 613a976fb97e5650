"""Stage 1 with deep prompts in both towers as research code writes it (Multimodal-ReID, ISVC 2024).

Images and prompts go through both towers in every step, all tokens and all 77 positions through every block,
and every weight of CLIP gets a gradient, although only prompts learn.
"""

import torch
from open_clip import CLIP
from torch import Tensor, nn

from benchmarks.training.textbook import ImageModel, TextModel, Weights

MARK = "VPT"  # in the names of deep prompts


class PromptModel(nn.Module):
    """Both towers with the weights and the deep prompts of a ReIDModel.

    Args:
        clip: any weights; its towers are taken over.
        weights: state dict of the ReIDModel.
        stride: between patches in pixels, vertical and horizontal.
        end: position of the end of text in a prompt.
    """

    def __init__(self, clip: CLIP, weights: Weights, stride: tuple[int, int], end: int) -> None:
        super().__init__()
        _add_prompts(clip.visual, weights, "image_encoder.")
        _add_prompts(clip, weights, "text_encoder.")
        self.images, self.texts = ImageModel(clip, weights, stride), TextModel(clip, weights, end)

    def prompts(self) -> list[tuple[str, nn.Parameter]]:
        """The named parameters that learn: words of identities and deep prompts."""
        return [(name, p) for name, p in self.named_parameters() if MARK in name or "cls_ctx" in name]

    def encode_images(self, images: Tensor) -> Tensor:
        """Projected features (B, P) of images (B, 3, H, W); prompts stand behind the patches."""
        tower = self.images.image_encoder
        x = self.images.embed(images)
        x = tower.ln_pre(torch.cat([x, tower.VPT.expand(len(x), -1, -1)], dim=1))
        for block in tower.transformer.resblocks:
            if hasattr(block, "VPT_shallow"):
                own = block.VPT_shallow
                x = torch.cat([x[:, : -len(own)], own.expand(len(x), -1, -1)], dim=1)
            x = block(x)
        return (tower.ln_post(x) @ tower.proj)[:, 0]

    def encode_texts(self, pids: Tensor) -> Tensor:
        """Text features (B, P) of identities (B,); prompts stand behind the start of text."""
        texts = self.texts
        x = texts.embed(pids)
        for block in texts.transformer.resblocks:
            if hasattr(block, "VPT_shallow"):
                own = block.VPT_shallow
                x = torch.cat([x[:, :1], own.expand(len(x), -1, -1), x[:, 1 + len(own) :]], dim=1)
            x = block(x, attn_mask=texts.attn_mask)
        return texts.ln_final(x)[:, texts.end] @ texts.text_projection


def _add_prompts(tower: nn.Module, weights: Weights, prefix: str) -> None:
    """Add parameters for the deep prompts under a prefix; their values are loaded later."""
    for name, value in weights.items():
        if name.startswith(prefix) and MARK in name:
            path, _, own = name.removeprefix(prefix).rpartition(".")
            tower.get_submodule(path).register_parameter(own, nn.Parameter(torch.empty_like(value)))
