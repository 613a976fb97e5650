"""Identity prompts: "A photo of a X X X X person.", where the X are learned for each identity.

CLIP-ReID (Li, Sun, Li, AAAI 2023), section 3.2; CoOp (Zhou et al. 2022), section 3.2.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from model.tokenizers import Tokenizer

FIXED_WORDS, NUM_TOKENS = "A photo of a", 4


def prompt_template(subject: str, fixed_words: str = FIXED_WORDS, num_tokens: int = NUM_TOKENS) -> str:
    """The prompt for a noun such as 'person' or 'vehicle', with X for each learned token."""
    return f"{fixed_words} {' '.join(['X'] * num_tokens)} {subject}."


class PromptLearner(nn.Module):
    """Prompts of `num_classes` identities as word embeddings.

    Args:
        num_classes: identities C.
        token_embedding: CLIP's table (vocabulary, W); only the template's rows are kept, frozen.
        tokenizer: the text tower's.
        subjects: the noun that ends all prompts, or the noun phrase of each of the C identities.
        fixed_words: words before the learned tokens.
        num_tokens: learned tokens of an identity.

    Raises ValueError for another number of phrases, or prompts that are longer than the text tower.
    """

    token_prefix: Tensor
    token_suffix: Tensor
    ends: Tensor
    tokens: Tensor

    def __init__(
        self,
        num_classes: int,
        token_embedding: nn.Embedding,
        tokenizer: Tokenizer,
        subjects: str | Sequence[str],
        *,
        fixed_words: str = FIXED_WORDS,
        num_tokens: int = NUM_TOKENS,
    ) -> None:
        super().__init__()
        each = [subjects] if isinstance(subjects, str) else subjects
        if len(each) != num_classes and not isinstance(subjects, str):
            raise ValueError(f"subjects are {len(each)}; allowed: {num_classes}, one of each identity")
        texts = [prompt_template(subject, fixed_words, num_tokens) for subject in each]
        tokens, mask = tokenizer(texts)  # (1 or C, L)
        lengths = mask.sum(dim=1)
        self.length = int(lengths.max())
        if any(tokenizer.are_cut(texts)):
            cut = texts[tokenizer.are_cut(texts).index(True)]
            raise ValueError(f"the prompt {cut!r} has too many tokens; allowed: {tokens.shape[1]}")
        # Start of text and the fixed words.
        self.num_shared = int(tokenizer([fixed_words])[1].sum()) - 1
        self.num_tokens = num_tokens
        self.register_buffer("tokens", tokens, persistent=False)
        prefix, suffix = self._embed(token_embedding)
        self.register_buffer("token_prefix", prefix)
        self.register_buffer("token_suffix", suffix)
        self.register_buffer("ends", lengths - 1, persistent=False)
        self.cls_ctx = nn.Parameter(0.02 * torch.randn(num_classes, num_tokens, prefix.shape[2]))

    @torch.no_grad()
    def _embed(self, table: nn.Embedding) -> tuple[Tensor, Tensor]:
        """The words before and after the learned tokens, each (1 or C, n, W)."""
        embedded = table(self.tokens)  # (1 or C, L, W)
        after = self.num_shared + self.num_tokens
        return embedded[:, : self.num_shared].clone(), embedded[:, after:].clone()

    def refresh(self, table: nn.Embedding) -> None:
        """Read the words of the prompts anew from a table (vocabulary, W) that has learned."""
        for own, new in zip((self.token_prefix, self.token_suffix), self._embed(table), strict=True):
            own.copy_(new)

    def forward(self, pids: Tensor) -> Tensor:
        """Prompts (B, n, W) of identities (B,), from the first token to the last end of text.

        Attention is causal: positions after the end of text cannot change the feature and are left out.
        """
        learned = self.cls_ctx[pids]
        suffix = self.token_suffix[:, : self.length - self.num_shared - learned.shape[1]]
        return torch.cat([self._rows(self.token_prefix, pids), learned, self._rows(suffix, pids)], dim=1)

    def find_ends(self, pids: Tensor) -> Tensor | None:
        """Where the texts of identities (B,) end, (B,); None where all end at the last position."""
        return None if len(self.ends) == 1 else self.ends[pids]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Raise ValueError for weights whose texts end elsewhere: features would be read at wrong places."""
        suffix = state_dict.get(f"{prefix}token_suffix")
        if suffix is not None and suffix.shape == self.token_suffix.shape:
            own, theirs = (_last_before_padding(words) for words in (self.token_suffix, suffix))
            if not torch.equal(own.cpu(), theirs.cpu()):
                raise ValueError(
                    f"subjects give {int((own.cpu() != theirs.cpu()).sum())} of {len(own)} prompts another "
                    "length than they have in the weights; allowed: the nouns of the run that these are from"
                )
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _rows(self, words: Tensor, pids: Tensor) -> Tensor:
        return words.expand(len(pids), -1, -1) if len(words) == 1 else words[pids]


def _last_before_padding(words: Tensor) -> Tensor:
    """The last place (N,) of words (N, L, W) that differs from the last word, which fills what is left."""
    differs = (words != words[:, -1:]).any(dim=2)
    return differs.int().cumsum(dim=1).argmax(dim=1)
