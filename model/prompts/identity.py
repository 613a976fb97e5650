"""Identity prompts: "A photo of a X X X X person.", where the four X are learned for each identity.

CLIP-ReID (Li, Sun, Li, AAAI 2023), section 3.2.
"""

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn

NUM_TOKENS = 4  # learned tokens of an identity
NUM_SHARED = 5  # tokens before them, the same for all identities: SOT and "a photo of a"


def tokenize_template(subject: str, context_length: int = 77) -> Tensor:
    """Token ids (1, L) of the template for a noun such as 'person' or 'vehicle'."""
    template = f"A photo of a {' '.join(['X'] * NUM_TOKENS)} {subject}."
    return SimpleTokenizer(context_length=context_length)(template)


class PromptLearner(nn.Module):
    """Prompts of `num_classes` identities as word embeddings.

    Args:
        num_classes: identities C.
        token_embedding: CLIP's table (vocabulary, W); only the template's rows are kept, frozen.
        subject: the noun that ends the prompt.
        context_length: tokens L of CLIP's text tower.
    """

    def __init__(
        self, num_classes: int, token_embedding: nn.Embedding, subject: str, context_length: int
    ) -> None:
        super().__init__()
        tokens = tokenize_template(subject, context_length)
        # The end-of-text token has the highest id.
        self.length = int(tokens.argmax()) + 1
        with torch.no_grad():
            embedded = token_embedding(tokens)  # (1, L, W)
        self.register_buffer("token_prefix", embedded[:, :NUM_SHARED].clone())
        self.register_buffer("token_suffix", embedded[:, NUM_SHARED + NUM_TOKENS :].clone())
        self.cls_ctx = nn.Parameter(0.02 * torch.randn(num_classes, NUM_TOKENS, embedded.shape[2]))

    def forward(self, pids: Tensor) -> Tensor:
        """Prompts (B, n, W) of identities (B,), from the first token to the end of text.

        Attention is causal: what follows the end of text cannot change the feature, so it is left out.
        """
        count = pids.shape[0]
        prefix = self.token_prefix.expand(count, -1, -1)
        suffix = self.token_suffix[:, : self.length - NUM_SHARED - NUM_TOKENS].expand(count, -1, -1)
        return torch.cat([prefix, self.cls_ctx[pids], suffix], dim=1)
