"""Tokenizers turn texts into token ids; each text tower owns the one that it was trained with."""

import functools
import hashlib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import open_clip
import torch
from torch import Tensor

from utils.files import write_atomically
from utils.hub import SLOW_TOKENIZER
from utils.hub import TOKENIZER as TOKENIZER_FILE
from utils.package import require_extra
from utils.scripts import clusters
from utils.text import one_line
from utils.untrusted.plain import MEBIBYTE, read_plain

if TYPE_CHECKING:
    import tokenizers

_MAX_BYTES = 256 * MEBIBYTE  # XLM-R's has 9 to 17
_SPECIAL = ("<s>", "<pad>", "</s>")  # with ids 0, 1, 2


class Tokenizer(Protocol):
    """Texts to token ids of a fixed length; `name` identifies the vocabulary."""

    name: str
    context_length: int

    @property
    def sha256(self) -> str:
        """SHA-256 of its file in hex, '' without one."""
        ...

    def save(self, folder: Path) -> None:
        """Write its file, if there is one, to a folder that has weights."""
        ...

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids (B, L), and a mask (B, L) that is True from the first token to the end of text."""
        ...

    def are_cut(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is too long, so that its end has no token."""
        ...

    def pieces(self, text: str) -> list[str]:
        """The parts of a text that its tokens stand for; joined they are the text, up to white space."""
        ...


class ClipTokenizer:
    """CLIP's byte pair encoding. Texts that are too long are cut and still end with the end of text."""

    name = "clip_bpe"
    sha256 = ""  # open_clip has its vocabulary

    def __init__(self, context_length: int = 77) -> None:
        self.context_length = context_length

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As `Tokenizer`: ids are int64, 0 after the end of text."""
        tokens = tokenize_captions(texts, self.context_length)
        # The end of text has the highest id.
        return tokens, torch.arange(self.context_length) <= tokens.argmax(dim=1, keepdim=True)

    def are_cut(self, texts: Sequence[str]) -> list[bool]:
        """As `Tokenizer`."""
        longer = tokenize_captions(texts, self.context_length + 1)  # what is cut has one token more
        return (longer[:, -1] != 0).tolist()

    def pieces(self, text: str) -> list[str]:
        """As `Tokenizer`: single letters, because most tokens of letters beyond ASCII are parts of one."""
        return clusters(text)

    def save(self, folder: Path) -> None:
        """As `Tokenizer`: there is no file."""


class SentencePieceTokenizer:
    """XLM-R's tokenizer from a `tokenizer.json`, which is read at the first use.

    Args:
        path: the file.
        words: rows of the text tower's table, which the vocabulary must have; None without a tower.
        context_length: tokens of a text, `<s>` and `</s>` included; longer texts are cut before `</s>`.
        sha256: the file's, as a model card states it; '' if it is not known.

    Using it raises FileNotFoundError where there is no file, ValueError for another file or one of another
    vocabulary, MissingExtra without the package tokenizers.
    """

    name = "xlm_roberta"

    def __init__(
        self, path: str | Path, words: int | None, context_length: int = 77, *, sha256: str = ""
    ) -> None:
        self.path, self.words, self.context_length = Path(path), words, context_length
        self._stated = sha256

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As `Tokenizer`: ids are int64, 1 after the end of text."""
        found = self._cut.encode_batch(list(texts))
        tokens, mask = (
            torch.tensor(rows, dtype=torch.int64).reshape(-1, self.context_length)
            for rows in ([each.ids for each in found], [each.attention_mask for each in found])
        )
        return tokens, mask.bool()

    def are_cut(self, texts: Sequence[str]) -> list[bool]:
        """As `Tokenizer`."""
        return [len(each.ids) > self.context_length for each in self._whole.encode_batch(list(texts))]

    def pieces(self, text: str) -> list[str]:
        """As `Tokenizer`."""
        ends = [end for _, end in self._whole.encode(text, add_special_tokens=False).offsets]
        return [text[start:end] for start, end in itertools.pairwise([0, *ends]) if start < end]

    @functools.cached_property
    def content(self) -> bytes:
        """The file's bytes."""
        if not self.path.is_file():
            slow = self.path.with_name(SLOW_TOKENIZER)
            instead = ""
            if slow.is_file():
                instead = f"; {slow} is the slow tokenizer's file, which transformers' AutoTokenizer converts"
            raise FileNotFoundError(
                f"no tokenizer at {self.path}: copy {TOKENIZER_FILE} there from the folder of the training, "
                f"or of the released model{instead}"
            )
        content = read_plain(self.path, _MAX_BYTES)
        found = hashlib.sha256(content).hexdigest()
        if self._stated not in ("", found):
            raise ValueError(
                f"{self.path} is another tokenizer than that of the model: its SHA-256 is {found}, the model "
                f"card has {self._stated}"
            )
        return content

    @property
    def sha256(self) -> str:
        """SHA-256 of the file in hex."""
        return hashlib.sha256(self.content).hexdigest()

    def save(self, folder: Path) -> None:
        """Write the file to a folder, unless it is there."""
        target = folder / TOKENIZER_FILE
        if not (target.is_file() and target.read_bytes() == self.content):
            write_atomically(target, lambda file: file.write_bytes(self.content))

    @functools.cached_property
    def _whole(self) -> "tokenizers.Tokenizer":
        return self._read()

    @functools.cached_property
    def _cut(self) -> "tokenizers.Tokenizer":
        cut = self._read()
        cut.enable_truncation(self.context_length)
        cut.enable_padding(length=self.context_length, pad_id=1, pad_token=_SPECIAL[1])
        return cut

    def _read(self) -> "tokenizers.Tokenizer":
        require_extra("text", "tokenizers")
        from tokenizers import Tokenizer

        # Its threads would not live on in workers of loaders.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        content = self.content
        try:
            found = Tokenizer.from_str(content.decode())
        except Exception as error:  # tokenizers raises Exception itself
            raise ValueError(f"{self.path} is no tokenizer: {one_line(error, 160)}") from error
        found.no_truncation()
        found.no_padding()
        words = found.get_vocab_size()
        if self.words is not None and words != self.words:
            raise ValueError(
                f"{self.path} has {words} words; allowed with this text tower: {self.words}, the rows of its "
                "table"
            )
        ids = [found.token_to_id(word) for word in _SPECIAL]
        ends = found.encode("a").ids
        if ids != [0, 1, 2] or (ends[0], ends[-1]) != (0, 2):
            raise ValueError(f"{self.path} is no tokenizer of XLM-R: {', '.join(_SPECIAL)} are not 0, 1, 2")
        return found


def tokenize_captions(texts: Sequence[str], length: int = 77) -> Tensor:
    """CLIP's token ids (B, length) int64 of B texts: start, byte pairs, end of text, then zeros.

    A longer text keeps its first `length` - 1 tokens and still ends with the end of text.
    """
    return open_clip.tokenize(list(texts), length)


def cut_to_longest(tokens: Tensor, mask: Tensor) -> Tensor:
    """Tokens (B, n) without the positions after the last end of text; `mask` is the tokenizer's.

    No feature depends on them: CLIP's attention is causal, and XLM-R looks at no padding.
    """
    return tokens[:, : int(mask.sum(dim=1).max())]
