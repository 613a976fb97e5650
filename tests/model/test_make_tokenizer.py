"""The tokenizer of a configuration, without its model."""

import pytest

from config import cfg_tbps
from config.load import load_config
from model import ClipTokenizer, SentencePieceTokenizer, make_tokenizer
from tests.toys import words


def tokenizer_of(**settings):
    return make_tokenizer(load_config(cfg_tbps, "", words({f"MODEL.{k}": v for k, v in settings.items()})))


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("transformers")
    from tests.altclip import write_altclip

    write_altclip(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", ["", "clip"])
def test_clips_tokenizer(text):
    tokenizer = tokenizer_of(NAME="ViT-B-16", TEXT=text, TEXT_LENGTH=9)
    assert isinstance(tokenizer, ClipTokenizer) and tokenizer.context_length == 9
    assert tokenizer.pieces("红ก้") == ["红", "ก้"]


def test_the_tokenizer_lies_next_to_the_weights(folder):
    own = tokenizer_of(NAME="AltCLIP", PRETRAIN_PATH=str(folder), TEXT_LENGTH=9)
    joined = tokenizer_of(NAME="ViT-B-16", TEXT="altclip", TEXT_PATH=str(folder), TEXT_LENGTH=9)
    for tokenizer in (own, joined):
        assert isinstance(tokenizer, SentencePieceTokenizer) and tokenizer.context_length == 9
        assert tokenizer.are_cut(["红", "红色" * 50]) == [False, True]
        assert "".join(tokenizer.pieces("一个男人")) == "一个男人"


def test_missing_files_are_named(tmp_path):
    tokenizer = tokenizer_of(NAME="AltCLIP", PRETRAIN_PATH=str(tmp_path / "none.pth"))
    with pytest.raises(FileNotFoundError, match=f"^no tokenizer at {tmp_path}/tokenizer.json"):
        tokenizer.are_cut(["a"])
