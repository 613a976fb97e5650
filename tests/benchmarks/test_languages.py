"""The benchmark of languages, with few people and one epoch of everything."""

import json

import numpy as np
import pytest

pytest.importorskip("transformers")

from benchmarks.languages.__main__ import LANGUAGES, MIXED, ROWS, Scale, chance, main, mix, table
from benchmarks.languages.tower import PIECES, write_altclip
from datasets.drawn import draw_captions
from datasets.drawn.people import draw_people
from datasets.drawn.sentences import write_sentences

SCALE = Scale(train_ids=12, test_ids=2, epochs=1, more_epochs=1)


@pytest.mark.slow
def test_records_and_table(capfd, tmp_path):
    frozen = list(ROWS)[-1]
    main(["--seeds", "1", "--rows", "Russian", MIXED, frozen, "--out", str(tmp_path)], SCALE)
    lines = [line for line in capfd.readouterr().out.splitlines() if line[:1] in ("{", "|")]
    records = {record["row"]: record for record in map(json.loads, lines[:3])}
    assert list(records) == ["Russian", MIXED, frozen]
    for record in records.values():
        assert list(record["rates"]) == list(record["before"]) == ["English", "Chinese", "Russian"]
        assert all(0 < rate <= 1 for rates in record["rates"].values() for rate in rates)
    assert len(lines) == 3 + 2 + 1 + 3
    logs = {
        name: (tmp_path / f"{folder}/train_log.txt").read_text()
        for name, folder in (("Russian", "seed1/run2"), (MIXED, "seed1/run3"), (frozen, "seed1/run5"))
    }
    assert "- caption_ru |     12 |       48 |        144" in logs["Russian"]
    assert all(
        f"- {column:<10} |     12 |       48 |         48" in logs[MIXED]
        for column in ("caption", "caption_zh", "caption_ru")
    )
    assert f"{tmp_path}/seed2/run3/AltCLIP_1.pth" in logs[frozen]


def test_mixed_captions_are_those_drawn_each_in_one_language(tmp_path):
    folder = draw_captions(
        tmp_path, train_ids=2, test_ids=1, cameras=1, captions=3, size=(32, 16), languages=("zh", "ru")
    )
    drawn = mix(folder, tmp_path / "mixed")
    mixed = json.loads((tmp_path / "mixed/train_reid.json").read_text())
    for row, own in zip(drawn, mixed, strict=True):
        assert own["file_path"] == row["file_path"] and own["id"] == row["id"]
        for place, suffix in enumerate(("", "_zh", "_ru")):
            for kind in ("captions", "captions_bt"):
                assert own[kind + suffix] == [row[kind + suffix][place]]
    assert (tmp_path / "mixed/test_reid.json").read_bytes() == (folder / "test_reid.json").read_bytes()


def test_chance_is_that_of_random_orders():
    rng = np.random.default_rng(0)
    ranks = np.sort([rng.permutation(40)[:4] for _ in range(20000)]) + 1
    expected = (ranks[:, 0] == 1).mean(), (np.arange(1, 5) / ranks).mean()
    assert chance(40, 4) == pytest.approx(expected, abs=0.005)
    assert chance(4, 4) == pytest.approx((1, 1))


def test_the_table_has_means_and_ranges():
    def record(row, seed, rank1, before=0.125):
        rates = dict.fromkeys(LANGUAGES.values(), (rank1, 0.5))
        old = dict.fromkeys(LANGUAGES.values(), (before, 0.25))
        return {"row": row, "seed": seed, "rates": rates, "before": old}

    names = list(ROWS)
    records = [record(names[0], 1, 0.25), record(names[0], 2, 0.75), record(names[4], 1, 0.5)]
    *_, by_chance, english, other, more = table(records, SCALE).splitlines()
    assert by_chance.startswith("| chance | 50.0 | ")
    assert english == "| English " + "| 50.0 (25.0–75.0) | 50.0 (50.0–50.0) " * 3 + "|"
    assert other == f"| {MIXED}, of other people " + "| 12.5 (12.5–12.5) | 25.0 (25.0–25.0) " * 3 + "|"
    assert more == f"| {names[4]} " + "| 50.0 (50.0–50.0) | 50.0 (50.0–50.0) " * 3 + "|"


def test_the_tokenizer_has_the_form_of_xlm_r(tmp_path):
    from tokenizers import Tokenizer

    people = draw_people(60, np.random.default_rng(0))
    texts = [
        text.lower()
        for index, person in enumerate(people)
        for name, texts in write_sentences(person, 2, (index,), ["zh", "ru"]).items()
        for text in texts
        if "_bt" not in name
    ]
    tokenizer = Tokenizer.from_file(str(write_altclip(tmp_path, texts, seed=0) / "tokenizer.json"))
    words = json.loads((tmp_path / "config.json").read_text())["text_config"]["vocab_size"]
    assert words == tokenizer.get_vocab_size() <= PIECES
    numbers = [tokenizer.token_to_id(word) for word in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")]
    assert numbers == [0, 1, 2, 3, words - 1]
    for text in texts:
        encoded = tokenizer.encode(text)
        assert (encoded.ids[0], encoded.ids[-1]) == (0, 2) and 3 not in encoded.ids
        assert len(encoded.ids) < 80
