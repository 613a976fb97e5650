"""CLIP models that a run starts from: also the towers of text search models."""

import logging

import pytest
import torch

from model import load_starting_clip, make_model
from model.names import HEADS as ALL_HEADS
from tests.model.text_search import HEADS, WIDE


@pytest.mark.parametrize(
    ("pairs", "grid"),
    [((), (4, 2)), (HEADS, (4, 2)), (WIDE, (8, 3)), (("MODEL.TEXT_LENGTH", 9), (4, 2))],
)
def test_a_text_search_model_is_a_clip_with_its_own_positions(save_text_search, caplog, pairs, grid):
    trained, path = save_text_search(*pairs)
    with caplog.at_level(logging.INFO):
        clip = load_starting_clip("toy-vit", "clip", str(path), "openai")
    assert clip.visual.grid_size == grid and "x".join(map(str, grid)) in caplog.text
    state = clip.state_dict()
    wanted = {name: value for name, value in trained.state_dict().items() if not name.startswith(ALL_HEADS)}
    assert state.keys() == {name.removeprefix("encode_text.") for name in wanted}
    for name, value in wanted.items():
        assert torch.equal(state[name.removeprefix("encode_text.")], value), name


def test_a_re_id_model_starts_with_the_positions_of_a_text_search_model(save_text_search, toy_config):
    trained, path = save_text_search(*WIDE)
    size = ("INPUT.SIZE_TRAIN", [64, 24], "INPUT.SIZE_TEST", [64, 24])
    cfg = toy_config(*size, "MODEL.PRETRAIN_CHOICE", "clip", "MODEL.PRETRAIN_PATH", str(path))
    model = make_model(cfg, 3, 1, 1).eval()
    images = torch.randn(2, 3, 64, 24)
    with torch.no_grad():
        ours, theirs = model.image_encoder(images).feat_proj, trained.encode_image(images)
    torch.testing.assert_close(ours, theirs)


def test_a_text_search_model_with_a_resnet_is_refused(save_text_search):
    _, path = save_text_search("MODEL.NAME", "toy-resnet")
    with pytest.raises(ValueError, match=r"a text search model with a ResNet; allowed: one with a ViT"):
        load_starting_clip("toy-resnet", "clip", str(path), "openai")
