"""Cards of text search models: written next to weights, read as untrusted files."""

import json

import pytest
import torch

from model import load_text_search_model, make_card, read_card, read_text_search_card


@pytest.fixture
def changed(save_text_search):
    """changed(size=[1]) -> a file whose card has other fields."""

    def change(**fields):
        path = save_text_search()[1]
        card = path.with_suffix(".json")
        card.write_text(json.dumps(json.loads(card.read_text()) | fields))
        return path

    return change


def test_a_card_is_read_as_it_was_written(save_text_search):
    _, path = save_text_search("MODEL.TEXT_LENGTH", 9, "INPUT.SIZE_TEST", [32, 32])
    card = read_text_search_card(path)
    assert (card.kind, card.name, card.method, card.data) == (
        "text_search",
        "toy-vit",
        "tbps",
        "cuhk_pedes",
    )
    assert (card.size, card.stride, card.resize, card.text_length) == ((32, 32), (8, 8), "bicubic", 9)
    assert card.mean == (0.485, 0.456, 0.406) and card.std == (0.229, 0.224, 0.225)
    assert (card.quick_gelu, card.head_width, card.text_heads) == (False, 64, 2)
    assert (card.tokenizer, card.versions, len(card.sha256)) == ("clip_bpe", {"torch": "2"}, 64)


def test_files_without_a_card(save_text_search, save_weights):
    path = save_weights({"a": torch.ones(1)}, "other.pth")
    assert read_text_search_card(path) is None
    path.with_suffix(".json").write_text('{"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}')
    assert read_text_search_card(path) is None  # open_clip's description of a model


def test_a_card_of_other_weights_is_not_used(save_text_search, text_search_model, save_weights, caplog):
    _, path = save_text_search()
    other = text_search_model()
    other.visual.proj.data.mul_(2)
    save_weights(other.state_dict())
    _, info = load_text_search_model(path, (32, 16))
    assert f"{path.with_suffix('.json')} is the card of another file than {path}" in caplog.text
    assert info.card is None and info.name == "toy-vit"


@pytest.mark.parametrize(
    "fields",
    [
        *({"text_length": value} for value in (0, -1, 7.0, "77", None, True)),
        *({"text_heads": value} for value in (0, "2", [2])),
        *({"tokenizer": value} for value in (None, 1, "a\nb")),
        {"kind": 3},
        {"size": [0, 8]},
        {"mean": [float("nan")] * 3},
        {"std": [0.5, 0, 0.5]},
        {"resize": "nearest"},
        {"quick_gelu": 1},
        {"head_width": 0},
        {"versions": []},
    ],
)
def test_wrong_fields_are_named(changed, fields):
    path = changed(**fields)
    with pytest.raises(ValueError, match=rf"is no model card: {next(iter(fields))}[\w.]*( is |: )") as error:
        load_text_search_model(path)
    assert str(error.value).startswith(str(path.with_suffix(".json"))) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text_length": 77}, "has text_length 77, but .* 16"),
        ({"tokenizer": "bert"}, "tokenizer is bert; allowed: clip_bpe"),
        ({"text_heads": 3, "name": "mine"}, "has 3 text_heads; allowed: divisors of 32"),
        ({"text_heads": 10**9}, "text_heads; allowed: divisors of 32"),
        ({"head_width": 48}, "features of 64 numbers; allowed: multiples of 48"),
        ({"kind": "reid"}, r"is a re-id checkpoint, which test\.py, .* read, says .*toy-vit_3\.json"),
    ],
)
def test_cards_that_contradict_the_weights(changed, fields, message):
    path = changed(**fields)
    with pytest.raises(ValueError, match=message) as error:
        load_text_search_model(path)
    assert str(path.with_suffix(".json")) in str(error.value) or str(path) in str(error.value)


def test_each_reader_refuses_the_other_kind(save_text_search, toy_model, toy_config, save_weights):
    _, path = save_text_search()
    with pytest.raises(ValueError, match=r"is a text search model, which test_tbps\.py reads") as error:
        read_card(path)
    assert str(path.with_suffix(".json")) in str(error.value)
    model = toy_model()
    other = save_weights(model.state_dict(), "reid.pth")
    make_card(toy_config(), model, "base", data="dukemtmc", versions={}).write(other)
    assert "kind" not in json.loads(other.with_suffix(".json").read_text())
    with pytest.raises(ValueError, match=r"is a re-id checkpoint, which test\.py, "):
        read_text_search_card(other)
