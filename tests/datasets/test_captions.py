import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    [
        ("一个男人，穿红色外套。", 1),  # full-width signs stay, and there is no space
        ("一个男人 穿红色外套", 2),
        ("。！", 1),
        ("", 0),
        (" \n", 0),
        ("\t", 0),
        ('.!"()*#:;~', 0),
        ("a", 1),
        ("...a", 1),
        ("w " * 1000, 1000),
    ],
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


# ---- deletion in scripts without spaces

CHINESE = "一个穿红色t恤的男人，背着黑色双肩包。 他在走路"


def test_english_draws_are_those_of_words():
    """One draw a word and one where all would go, whatever signs it has."""
    for seed in range(200):
        rng, other = random.Random(seed), random.Random(seed)
        text = "a man , in blue-jeans & an e-mail@x , isn't he? — café"
        words = text.split()
        kept = [word for word in words if other.random() >= 0.8] or [other.choice(words)]
        assert delete_words(text, 0.8, rng, pieces=refused) == " ".join(kept)
        assert rng.random() == other.random()


def refused(run):
    raise AssertionError(run)


def test_letters_of_a_chinese_caption_are_left_out():
    assert delete_words(CHINESE, 0.0, random.Random(0)) == CHINESE
    found = delete_words(CHINESE, 0.5, random.Random(1))
    assert 3 < len(found) < 20
    assert len({delete_words("红包", 1.0, random.Random(seed)) for seed in range(30)}) == 2


def test_pieces_are_left_out_whole_with_the_signs_behind_them():
    parts = {"一个穿红色": ["一个", "", "穿", "红色"], "恤的男人": ["恤的", "男人"], "背着包": ["背着", "包"]}
    units = ["（一个", "穿", "红色", "T", "恤的", "男人，", "背着", "包）。"]
    seen = Counter()
    for seed in range(DRAWS):
        text = delete_words("（一个穿红色T恤的男人，背着包）。", 0.25, random.Random(seed), parts.__getitem__)
        kept = []
        for unit in units:
            if text.startswith(unit):
                text = text.removeprefix(unit)
                kept.append(unit)
        assert not text and kept
        seen.update(kept)
    shares = np.array([seen[unit] for unit in units]) / DRAWS
    assert abs(shares - 0.75).max() < 6 * (0.25 * 0.75 / DRAWS) ** 0.5


MIXED = st.text(alphabet="红色外套เสื้อ赤いabc ,，。（-", max_size=30)


@given(MIXED, st.floats(0, 1), st.integers(0, 1000))
def test_what_is_left_is_in_order_and_never_nothing(text, probability, seed):
    left = delete_words(text, probability, random.Random(seed))
    letters = iter("".join(text.split()))
    assert all(letter in letters for letter in "".join(left.split()))  # in this order
    assert bool(left) == bool(text.split())
    assert left == " ".join(left.split())
    if not probability:
        assert left == " ".join(text.split())


def test_a_caption_is_varied_in_pieces():
    record = RECORD._replace(caption="红色外套", back_translation="")
    halves = {
        vary_caption(record, seed, back_translation=0.0, deletion=0.5, pieces=lambda run: [run[:2], run[2:]])
        for seed in range(50)
    }
    assert halves == {"红色", "外套", "红色外套"}
