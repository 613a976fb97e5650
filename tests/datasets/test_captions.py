import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from datasets import CaptionRecord, clean_caption, delete_words, vary_caption
from datasets.captions import count_words

GOLDEN = Path(__file__).parents[1] / "golden" / "tbps"
CAPTIONS = json.loads((GOLDEN / "captions.json").read_text())
DELETION = json.loads((GOLDEN / "deletion.json").read_text())
DRAWS = 5000


@pytest.mark.parametrize(("wanted", "options"), [("clean", {}), ("clean_5", {"max_words": 5})])
def test_cleaning_is_the_published_one(wanted, options):
    assert [clean_caption(caption, **options) for caption in CAPTIONS["captions"]] == CAPTIONS[wanted]


def test_cleaning_of_each_kind_of_character():
    text = "A Man,  wearing \"red\" (shirt)...  and 'blue-jeans'; isn't\the? #7~ \n"
    assert clean_caption(text) == "a man, wearing red shirt and 'blue-jeans' isn't\the? 7"


@pytest.mark.parametrize(
    ("caption", "count"),
    [("", 0), (" \n", 0), ("\t", 0), ('.!"()*#:;~', 0), ("a", 1), ("...a", 1), ("w " * 1000, 1000)],
)
def test_words_are_counted_before_the_cut(caption, count):
    assert count_words(caption) == count
    assert len(clean_caption(caption).split()) == min(count, 77)


@pytest.mark.parametrize("case", DELETION["cases"], ids=lambda case: f"{case['words']} words, {case['p']}")
def test_deletion_has_the_published_shares(case):
    rng, words = random.Random(5), [f"w{number}" for number in range(case["words"])]
    kept = [delete_words(" ".join(words), case["p"], rng).split() for _ in range(DRAWS)]
    assert all(some == sorted(some, key=words.index) for some in kept)
    lengths = Counter(map(len, kept))
    found = np.array([lengths[length] for length in range(len(words) + 1)]) / DRAWS
    wanted = np.array(case["share_of_lengths"])
    # Six standard errors of both counts.
    variance = np.maximum(wanted * (1 - wanted), 2e-4) * (1 / DRAWS + 1 / DELETION["draws"])
    assert (abs(found - wanted) <= 6 * np.sqrt(variance)).all()
    first = sum(some[0] == "w0" for some in kept) / DRAWS
    assert abs(first - case["share_first_is_w0"]) < 6 * (0.25 * (1 / DRAWS + 1 / DELETION["draws"])) ** 0.5


def test_deletion_leaves_a_word():
    rng = random.Random(0)
    assert delete_words("walking", 1.0, rng) == "walking"
    assert {delete_words("a b", 1.0, rng) for _ in range(50)} == {"a", "b"}
    assert delete_words("a man  in\tred", 0.0, rng) == "a man in red"
    assert delete_words("", 0.5, rng) == ""


RECORD = CaptionRecord("a.jpg", 0, "a man in red", "a red man", "a.jpg#0")


def test_a_caption_is_varied_by_its_seed():
    def share(back_translation):
        texts = [
            vary_caption(RECORD, seed, back_translation=back_translation, deletion=0.0)
            for seed in range(DRAWS)
        ]
        assert set(texts) <= {RECORD.caption, RECORD.back_translation}
        return texts.count(RECORD.back_translation) / DRAWS

    assert share(0.0) == 0 and share(1.0) == 1 and abs(share(0.1) - 0.1) < 0.03
    some = [vary_caption(RECORD, seed, back_translation=0.5, deletion=0.5) for seed in range(50)]
    again = [vary_caption(RECORD, seed, back_translation=0.5, deletion=0.5) for seed in range(50)]
    assert some == again and len(set(some)) > 10


def test_a_caption_without_back_translation_keeps_itself():
    record = RECORD._replace(back_translation="")
    assert vary_caption(record, 3, back_translation=1.0, deletion=0.0) == record.caption
