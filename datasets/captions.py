"""Captions: cleaning, and how training varies them (TBPS-CLIP; Cao, Bai, Zeng, Ye, Zhang, AAAI 2024).

Deletion is that of EDA (Wei, Zou, EMNLP 2019).
"""

import random
import re

from datasets.records import CaptionRecord

MAX_WORDS = 77
_AS_SPACES = str.maketrans(dict.fromkeys('.!"()*#:;~', " "))
_SPACES = re.compile(r"\s{2,}")


def clean_caption(caption: str, max_words: int = MAX_WORDS) -> str:
    """The caption in lower case without `. ! " ( ) * # : ; ~`, cut to its first `max_words` words.

    Training, tests and searches clean alike. Commas, question marks, apostrophes and hyphens stay.
    """
    return " ".join(_words(caption)[:max_words])


def count_words(caption: str) -> int:
    """How many words cleaning leaves of a caption before it cuts, 0 where nothing can be read."""
    words = _words(caption)
    return len(words) if "".join(words).strip() else 0


def delete_words(caption: str, probability: float, rng: random.Random) -> str:
    """The caption with each word left out with the given probability; one word, drawn, stays if all would go.

    The rest is joined by single spaces.
    """
    words = caption.split()
    kept = [word for word in words if rng.random() >= probability]
    if words and not kept:
        kept = [rng.choice(words)]
    return " ".join(kept)


def vary_caption(record: CaptionRecord, seed: int, *, back_translation: float, deletion: float) -> str:
    """A training caption as `seed` draws it: its back translation or itself, then without some words.

    `back_translation` is the probability of the first, for records that have one, `deletion` that of leaving
    out a word.
    """
    rng = random.Random(seed)
    is_translated = rng.random() < back_translation and record.back_translation
    return delete_words(record.back_translation if is_translated else record.caption, deletion, rng)


def _words(caption: str) -> list[str]:
    spaced = _SPACES.sub(" ", caption.lower().translate(_AS_SPACES))
    return spaced.rstrip("\n").strip(" ").split(" ")
