"""Identity prompts: "A photo of a X X X X person.", where the four X are learned for each identity.

CLIP-ReID (Li, Sun, Li, AAAI 2023), section 3.2.
"""

import torch
from torch import Tensor, nn

from model.tokenizers import Tokenizer

NUM_TOKENS = 4  # learned tokens of an identity
NUM_SHARED = 5  # tokens before them, the same for all identities: start of text and "a photo of a"


def prompt_template(subject: str) -> str:
    """The prompt for a noun such as 'person' or 'vehicle', with X for each learned token."""
    return f"A photo of a {' '.join(['X'] * NUM_TOKENS)} {subject}."


class PromptLearner(nn.Module):
    """Prompts of `num_classes` identities as word embeddings.

    Args:
        num_classes: identities C.
        token_embedding: CLIP's table (vocabulary, W); only the template's rows are kept, frozen.
        tokenizer: the text tower's.
        subject: the noun that ends the prompt.
    """

    token_prefix: Tensor
    token_suffix: Tensor

    def __init__(
        self, num_classes: int, token_embedding: nn.Embedding, tokenizer: Tokenizer, subject: str
    ) -> None:
        super().__init__()
        tokens, mask = tokenizer([prompt_template(subject)])  # (1, L)
        self.length = int(mask.sum())
        with torch.no_grad():
            embedded = token_embedding(tokens)  # (1, L, W)
        self.register_buffer("token_prefix", embedded[:, :NUM_SHARED].clone())
        self.register_buffer("token_suffix", embedded[:, NUM_SHARED + NUM_TOKENS :].clone())
        self.cls_ctx = nn.Parameter(0.02 * torch.randn(num_classes, NUM_TOKENS, embedded.shape[2]))

    def forward(self, pids: Tensor) -> Tensor:
        """Prompts (B, n, W) of identities (B,), from the first token to the end of text.

        Attention is causal: positions after the end of text cannot change the feature and are left out.
        """
        count = pids.shape[0]
        prefix = self.token_prefix.expand(count, -1, -1)
        suffix = self.token_suffix[:, : self.length - NUM_SHARED - NUM_TOKENS].expand(count, -1, -1)
        return torch.cat([prefix, self.cls_ctx[pids], suffix], dim=1)
