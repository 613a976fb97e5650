"""CLIP's text tower over prompts that are word embeddings already, frozen."""

import open_clip
from torch import Tensor, nn


class TextEncoder(nn.Module):
    """Text tower of a CLIP model without its token table; no parameter learns.

    Raises ValueError when the tower is not CLIP's causal one, whose feature is read at the end of text.
    """

    def __init__(self, clip: open_clip.CLIP) -> None:
        super().__init__()
        if (
            clip.attn_mask is None
            or clip.text_pool_type != "argmax"
            or not isinstance(clip.text_projection, nn.Parameter)
        ):
            raise ValueError("this text tower is not causal or not read at the end of text, as CLIP's is")
        self.positional_embedding = clip.positional_embedding
        self.transformer = clip.transformer
        self.ln_final = clip.ln_final
        self.text_projection = clip.text_projection
        self.register_buffer("attn_mask", clip.attn_mask, persistent=False)
        self.requires_grad_(False)

    def forward(self, prompts: Tensor) -> Tensor:
        """Features (B, P) of prompts (B, n, W) whose last position is the end of text."""
        length = prompts.shape[1]
        x = prompts + self.positional_embedding[:length].to(prompts.dtype)
        x = self.transformer(x, attn_mask=self.attn_mask[:length, :length])
        return self.ln_final(x[:, -1]) @ self.text_projection
