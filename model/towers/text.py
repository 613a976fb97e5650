"""CLIP's text tower over prompts that are word embeddings already, frozen."""

import open_clip
from torch import Tensor, nn

from model.towers.blocks import keys_values, require_plain_blocks, run_block


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
        require_plain_blocks(clip.transformer.resblocks)
        self.register_buffer("may_look", clip.attn_mask == 0, persistent=False)
        self.requires_grad_(False)

    def forward(self, prompts: Tensor, *, shared: int = 0) -> Tensor:
        """Features (B, P) of prompts (B, n, W) whose last position is the end of text.

        The first `shared` positions, below n, are the same in all prompts. Attention is causal, so what they
        become is the same too: it is computed once.
        """
        length = prompts.shape[1]
        x = prompts + self.positional_embedding[:length].to(prompts.dtype)
        start, x = x[:1, :shared], x[:, shared:]
        may_look = self.may_look[:length, :length]
        end = slice(length - shared - 1, None)
        *blocks, final = self.transformer.resblocks
        for block in blocks:
            x = run_block(block, x, earlier=keys_values(block, start), mask=may_look[shared:])
            start = run_block(block, start, mask=may_look[:shared, :shared])
        # Only the feature at the end of text is read.
        x = run_block(final, x, queries=end, earlier=keys_values(final, start), mask=may_look[-1:])
        return self.ln_final(x[:, 0]) @ self.text_projection
