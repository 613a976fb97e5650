"""Features of sentences as a user types them."""

import logging

import pytest
import torch

from datasets import CaptionRecord
from model import load_text_search_model, tokenize_captions
from processor import extract_sentences
from tests.toys import save_text_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(toy_towers, tmp_path_factory):
    return load_text_search_model(save_text_model(tmp_path_factory.mktemp("model") / "toy_1.pth"))[0]


def test_they_are_cleaned_encoded_and_normalised(model):
    features = extract_sentences(model, ["A Man, (old)", "somebody in red!"], CPU)
    with torch.no_grad():
        expected = model.encode_text(tokenize_captions(["a man, old", "somebody in red"], 16))
    expected = torch.nn.functional.normalize(expected)
    torch.testing.assert_close(features.features, expected, atol=1e-6, rtol=0)


def test_batches_make_no_difference(model):
    texts = [f"somebody with {'a red bag ' * n}" for n in range(1, 4)]
    one, all_ = (extract_sentences(model, texts, CPU, batch_size=size).features for size in (1, 5))
    torch.testing.assert_close(one, all_, atol=1e-6, rtol=0)


def test_a_sentence_names_itself_and_a_record_keeps_its_labels(model):
    record = CaptionRecord("a.jpg", 7, "a dog", "", "a.jpg#1")
    features = extract_sentences(model, ["A man/woman.", record], CPU)
    assert features.keys == ("A man/woman.", "a.jpg#1") and features.paths == ("A man/woman.", "a.jpg")
    assert features.pids.tolist() == [-1, 7] and features.camids.tolist() == [-1, -1]
    assert features.names.items == {"A man/woman.": "A man/woman.", "a.jpg#1": "a dog"}
    assert len(set(features.pictures)) == 2 and all(features.pictures)


def test_a_sentence_that_is_cut_is_named(model, caplog):
    extract_sentences(model, ["a man", "word " * 14, "long " * 15, "x" * 1000], CPU)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "first 16 tokens of 'long long" in caplog.messages[0]


@pytest.mark.parametrize("sentence", ["", " \t", "...", "( ) *"])
def test_nothing_is_left(model, sentence):
    with pytest.raises(ValueError, match="no words") as error:
        extract_sentences(model, ["a man", sentence], CPU)
    assert "\n" not in str(error.value)


def test_what_is_no_unicode(model):
    with pytest.raises(ValueError, match=r"sentence 'a \\udcff' is not Unicode"):
        extract_sentences(model, ["a \udcff"], CPU)
