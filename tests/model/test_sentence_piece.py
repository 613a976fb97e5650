"""XLM-R's tokenizer from tokenizer.json: as transformers has it, cut, padded; another one is refused."""

import json
import pickle

import pytest
import torch

pytest.importorskip("tokenizers")

from model.tokenizers import SentencePieceTokenizer, cut_to_longest
from tests.altclip import TEXTS, train_tokenizer

WORDS = 90


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    train_tokenizer(TEXTS, WORDS).save(str(path))
    return path


def test_tokens_are_those_of_transformers(path):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path), pad_token="<pad>")
    wanted = theirs(list(TEXTS), padding="max_length", truncation=True, max_length=16, return_tensors="pt")
    tokens, mask = SentencePieceTokenizer(path, WORDS, 16)(TEXTS)
    assert torch.equal(tokens, wanted["input_ids"])
    assert torch.equal(mask, wanted["attention_mask"].bool())


def test_no_texts_give_no_rows(path):
    tokenizer = SentencePieceTokenizer(path, WORDS, 30)
    assert [each.shape for each in tokenizer([])] == [(0, 30), (0, 30)]


def test_long_texts_are_cut_and_still_end(path):
    tokenizer = SentencePieceTokenizer(path, WORDS, 8)
    tokens, mask = tokenizer([TEXTS[0], "a"])
    assert tokens[:, 0].tolist() == [0, 0]
    assert tokens[0, -1] == 2 and mask[0].all()
    assert tokens[1, mask[1]].tolist()[-1] == 2 and set(tokens[1, ~mask[1]].tolist()) == {1}
    assert tokenizer.are_cut([TEXTS[0], "a"]) == [True, False]
    assert cut_to_longest(tokens[1:], mask[1:]).shape[1] == mask[1].sum()


@pytest.mark.parametrize("text", [*TEXTS, "  две   куртки ", "男", "", " ", "e\u0301 🙂"])
def test_pieces_are_the_text(path, text):
    pieces = SentencePieceTokenizer(path, WORDS, 8).pieces(text)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(pieces)


def test_chinese_has_several_pieces(path):
    pieces = SentencePieceTokenizer(path, WORDS, 8).pieces("一个穿着红色外套的男人")
    assert len(pieces) > 3


def test_it_travels_to_workers(path):
    tokenizer = SentencePieceTokenizer(path, WORDS, 12)
    wanted = tokenizer(TEXTS)[0]
    assert torch.equal(pickle.loads(pickle.dumps(tokenizer))(TEXTS)[0], wanted)


def test_the_file_is_read_when_it_is_needed(tmp_path):
    tokenizer = SentencePieceTokenizer(tmp_path / "tokenizer.json", WORDS)
    with pytest.raises(FileNotFoundError, match=r"no tokenizer at .*copy tokenizer\.json there"):
        tokenizer(["a"])
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"slow")
    with pytest.raises(FileNotFoundError, match=r"sentencepiece\.bpe\.model is the slow tokenizer's file"):
        tokenizer.are_cut(["a"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["model"]["vocab"].pop(5), "89 words; allowed with this text tower: 90"),
        (lambda content: content.update(post_processor=None), "no tokenizer of XLM-R"),
        (lambda content: content.pop("model"), "is no tokenizer"),
    ],
)
def test_another_tokenizer_is_refused(tmp_path, path, change, message):
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    other = tmp_path / "tokenizer.json"
    other.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        SentencePieceTokenizer(other, WORDS)(["a"])


def test_the_stated_sum_counts(tmp_path, path):
    tokenizer = SentencePieceTokenizer(path, WORDS)
    tokenizer.save(tmp_path)
    saved = tmp_path / "tokenizer.json"
    assert saved.read_bytes() == path.read_bytes()
    assert SentencePieceTokenizer(saved, WORDS, sha256=tokenizer.sha256)(["a"])[0][0, 0] == 0
    with pytest.raises(ValueError, match="is another tokenizer than that of the model"):
        SentencePieceTokenizer(saved, WORDS, sha256="0" * 64)(["a"])
