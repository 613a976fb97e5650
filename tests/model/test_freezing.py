"""A frozen text tower: what learns, what is logged, and which losses go on."""

import logging

import pytest
import torch

from model import make_text_search_model
from tests.model.text_search import HEADS, told_by

FROZEN = ("MODEL.FREEZE_TEXT", True)


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


@pytest.mark.parametrize("name", ["toy-vit", "toy-resnet"])
def test_the_text_tower_does_not_learn(text_search_config, caplog, name):
    heads = () if "resnet" in name else HEADS
    with caplog.at_level(logging.INFO):
        model = make_text_search_model(text_search_config("MODEL.NAME", name, *FROZEN, *heads), 3)
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith("encode_text") for name in learns)
    plain = make_text_search_model(text_search_config("MODEL.NAME", name, *heads), 3)
    before = {name for name, parameter in plain.named_parameters() if parameter.requires_grad}
    assert learns == {name for name in before if not name.startswith("encode_text")}
    (line,) = [line for line in told_by(caplog) if "frozen" in line]
    frozen = count(plain.encode_text.parameters())
    trained = count(p for p in model.parameters() if p.requires_grad)
    assert f"its {frozen:,} parameters do not learn, {trained:,} others do" in line
    assert line.endswith("; its dropout of 0.05 is not used")


def test_its_features_are_those_of_an_evaluation(text_search_config, caplog):
    with caplog.at_level(logging.INFO):
        model = make_text_search_model(text_search_config(*FROZEN, "MODEL.TEXT_DROPOUT", 0.5)).train()
    assert "its dropout of 0.5 is not used" in caplog.text
    tokens, _ = model.encode_text.tokenizer(["a man in red", "a hat"])
    features = model.encode_text(tokens, torch.tensor([1, 2]))
    assert not features.requires_grad and torch.equal(features, model.eval().encode_text(tokens))


def test_nothing_is_said_of_a_dropout_of_zero(text_search_config, caplog):
    with caplog.at_level(logging.INFO):
        make_text_search_model(text_search_config(*FROZEN, "MODEL.TEXT_DROPOUT", 0.0))
    (line,) = [line for line in told_by(caplog) if "frozen" in line]
    assert line.endswith("others do")
