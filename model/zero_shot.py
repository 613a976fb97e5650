"""Class features of sentences by CLIP's text tower (Radford et al. 2021, section 3.1.4).

Several sentences of a class are averaged, as there.
"""

import logging
from collections.abc import Sequence
from itertools import chain

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from model.clip import KNOWN_NAMES
from model.tokenizers import cut_to_longest
from model.towers.text import ClipText
from utils.text import quoted
from utils.weights import read_state_dict

_AT_ONCE = 256  # sentences

_logger = logging.getLogger("transreid.model")


@torch.no_grad()
def class_features(clip: open_clip.CLIP, sentences: Sequence[Sequence[str]]) -> Tensor:
    """Features (C, P) of C classes with equally many sentences each, rows of L2 norm 1, on CLIP's device.

    Each sentence is encoded and normalised; their mean is normalised. A warning counts sentences with more
    tokens than the tower has positions, whose ends are not read. Raises ValueError without a sentence, and
    for classes with different numbers of them.
    """
    counts = sorted({len(some) for some in sentences})
    if len(counts) != 1 or not counts[0]:
        raise ValueError(f"classes have {counts or 'no'} sentences; allowed: equally many, at least 1")
    tower = ClipText(clip).eval()
    texts = list(chain.from_iterable(sentences))
    device, tokenizer = tower.text_projection.device, tower.tokenizer
    features, cut = [], []
    for start in range(0, len(texts), _AT_ONCE):
        some = texts[start : start + _AT_ONCE]
        cut += [text for text, is_cut in zip(some, tokenizer.are_cut(some), strict=True) if is_cut]
        tokens = cut_to_longest(*tokenizer(some)).to(device)
        features.append(F.normalize(tower(tokens).float(), dim=1))
    if cut:
        _logger.warning(
            "%d of %d sentences have more than %d tokens, which are cut, such as %s",
            *(len(cut), len(texts), tokenizer.context_length, quoted(cut[0])),
        )
    means = torch.cat(features).unflatten(0, (len(sentences), counts[0])).mean(dim=1)  # (C, P)
    return F.normalize(means, dim=1)


def warn_of_other_text(clip: open_clip.CLIP, path: str) -> None:
    """Warn where re-id file `path` has a text tower that is not the one of `clip`."""
    theirs = read_state_dict(path, KNOWN_NAMES).get("text_encoder.text_projection")
    ours = ClipText(clip).text_projection.detach().cpu()
    if theirs is None or (
        theirs.shape == ours.shape and torch.allclose(theirs.to(ours), ours, rtol=1e-2, atol=1e-4)
    ):
        return
    _logger.warning(
        "%s was trained with another text tower than this CLIP has: probabilities have no meaning", path
    )
