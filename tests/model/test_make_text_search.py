"""From the configuration to text search models: where training starts, and the model of a test."""

import logging

import pytest
import torch

from model import (
    adopt_text_search_card,
    make_text_search_test_model,
)
from tests.model.text_search import HEADS, WIDE, features, told_by
from tests.toys import words

pytestmark = pytest.mark.usefixtures("no_download")


# ---- where training starts


@pytest.mark.parametrize(("name", "heads"), [("toy-vit", HEADS), ("toy-vit", ()), ("toy-resnet", HEADS[:2])])
@pytest.mark.parametrize("card", [True, False])
def test_towers_and_temperature_are_taken_over(save_text_search, start, caplog, name, heads, card):
    trained, path = save_text_search("MODEL.NAME", name, *heads, card=card)
    trained_heads = {key: value for key, value in trained.state_dict().items() if key.startswith("simclr")}
    with caplog.at_level(logging.INFO):
        model = start(path, "MODEL.NAME", name, *HEADS[:2])
    assert torch.equal(features(model), features(trained))
    assert torch.equal(model.logit_scale, trained.logit_scale)
    assert not any(torch.equal(model.state_dict()[key], value) for key, value in trained_heads.items())
    (line,) = [line for line in told_by(caplog) if "left out" in line]
    assert "simclr_mlp" in line and ("classifier" in line) == bool(heads)
    for head in ("cross_attn", "cross_modal_transformer", "ln_pre_t", "mlm_head"):
        assert (head in line) == (heads == HEADS)
    assert any("starts from the text search model" in line and str(path) in line for line in told_by(caplog))


def test_other_sizes_and_lengths_interpolate(save_text_search, start, caplog):
    trained, path = save_text_search(*WIDE, "MODEL.TEXT_LENGTH", 6)
    with caplog.at_level(logging.INFO):
        model = start(path, "MODEL.TEXT_LENGTH", 5)
    images, texts = model.visual.positional_embedding, model.encode_text.positional_embedding
    grid = trained.visual.positional_embedding[1:].unflatten(0, (8, 3)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(grid, (4, 2), mode="bilinear")[0].flatten(1).T
    torch.testing.assert_close(images[1:], resized)
    assert torch.equal(images[0], trained.visual.positional_embedding[0])
    rows = trained.encode_text.positional_embedding
    # Four rows between the first and the last become three: at 1/6, 3/2 and 17/6 of them.
    between = [rows[1] * 5 / 6 + rows[2] / 6, (rows[2] + rows[3]) / 2, rows[3] / 6 + rows[4] * 5 / 6]
    torch.testing.assert_close(texts, torch.stack([rows[0], *between, rows[5]]))
    assert "resized from 8x3 to 4x2" in caplog.text and "resized from 6 to 5" in caplog.text


def test_a_grid_that_is_not_known_is_refused(save_text_search, start):
    _, path = save_text_search(*WIDE, card=False)
    with pytest.raises(ValueError, match="has 24 positions, which no stride gives") as error:
        start(path)
    assert str(path) in str(error.value)


def test_a_file_without_temperature_starts_at_clips(save_text_search, save_weights, start, caplog):
    trained, _ = save_text_search()
    weights = trained.state_dict()
    del weights["logit_scale"]
    with caplog.at_level(logging.INFO):
        model = start(save_weights(weights, "other.pth"))
    assert model.logit_scale.item() == pytest.approx(2.65926) and "has no logit_scale" in caplog.text
    assert torch.equal(features(model), features(trained))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (("MODEL.NAME", "toy-resnet"), r"\(MODEL.NAME toy-resnet\) does not fit this architecture"),
        (("MODEL.NAME", "toy-vit-deep"), r"\(MODEL.NAME toy-vit-deep\) does not fit this architecture"),
        (("MODEL.NAME", "toy-vit-quickgelu"), "MODEL.NAME toy-vit-quickgelu has quick_gelu True, but"),
    ],
)
def test_files_of_other_towers_are_refused(save_text_search, text_search_config, start, pairs, message):
    _, path = save_text_search()
    for load in (
        lambda: start(path, *pairs),
        lambda: make_text_search_test_model(text_search_config("TEST.WEIGHT", str(path), *pairs)),
    ):
        with pytest.raises(ValueError, match=message) as error:
            load()
        assert str(path) in str(error.value) and "\n" not in str(error.value)


# ---- the configuration of a test


def test_a_test_adopts_the_card(save_text_search, text_search_config, caplog):
    settings = {
        "INPUT.SIZE_TEST": [64, 24],
        "MODEL.STRIDE_SIZE": [4, 8],
        "MODEL.TEXT_LENGTH": 9,
        "INPUT.PIXEL_MEAN": [0.1, 0.2, 0.3],
        "INPUT.PIXEL_STD": [0.5, 0.6, 0.7],
        "INPUT.TEST_RESIZE": "bilinear",
    }
    trained, path = save_text_search(*words(settings | {"INPUT.SIZE_TRAIN": [64, 24]}))
    plain = text_search_config("TEST.WEIGHT", str(path))
    adopted = adopt_text_search_card(plain, given=["TEST.WEIGHT"])
    for key, value in settings.items():
        assert f"{key} " in caplog.text and f"is replaced by {value} of the model card" in caplog.text
    model, info = make_text_search_test_model(adopted)
    assert torch.equal(features(model, (64, 24), 9), features(trained, (64, 24), 9))
    assert (info.mean, info.resize) == ((0.1, 0.2, 0.3), "bilinear") and adopted.is_frozen()
    caplog.clear()
    assert adopt_text_search_card(plain, given=settings) == plain and not caplog.text
    assert adopt_text_search_card(text_search_config(), given=()) == text_search_config()


def test_a_test_without_a_file_is_refused(text_search_config):
    with pytest.raises(ValueError, match=r"^TEST\.WEIGHT is empty; allowed: .*CLIP"):
        make_text_search_test_model(text_search_config())


def test_a_test_says_what_it_takes_from_the_configuration(save_text_search, text_search_config, caplog):
    _, path = save_text_search(card=False)
    with caplog.at_level(logging.INFO):
        _, info = make_text_search_test_model(text_search_config("TEST.WEIGHT", str(path)))
    (line,) = [line for line in told_by(caplog) if "no model card" in line]
    assert str(path) in line and "0.485" in line and "bicubic" in line and info.name == "toy-vit"
