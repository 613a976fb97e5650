"""Text search files: own, published and CLIP's become the models that were saved, or are refused."""

import logging
import re
import sys
from pathlib import Path

import pytest
import torch

from model import (
    TextSearchInfo,
    adopt_card,
    adopt_text_search_card,
    load_reid_model,
    load_text_search_model,
    make_card,
    make_test_model,
    make_text_search_test_model,
    tokenize_captions,
)
from model.files.geometry import fit_geometry
from tests.model.text_search import CAPTIONS, HEADS, SHIFTED, WIDE, features, told_by
from tests.untrusted.weight_files import write_published
from utils.untrusted.wrappers import find_state_dicts

pytestmark = pytest.mark.usefixtures("no_download")


@pytest.fixture
def save_published(tmp_path):
    """save_published(weights) -> `checkpoint_best.pth` as the published code writes it."""
    path = tmp_path / "checkpoint_best.pth"

    def save(weights, optimizer=None):
        write_published(path, weights, optimizer=optimizer or {"param_groups": [{"betas": (0.9, 0.98)}]})
        return path

    return save


# ---- files of our own


@pytest.mark.parametrize(
    ("pairs", "size", "length"),
    [
        ((), (32, 16), 16),
        (HEADS, (32, 16), 16),
        (WIDE, (64, 24), 16),
        (SHIFTED, (41, 26), 16),
        (("MODEL.TEXT_LENGTH", 9), (32, 16), 9),
        (("MODEL.NAME", "toy-resnet"), (32, 16), 16),
        (("MODEL.NAME", "toy-vit-quickgelu"), (32, 16), 16),
    ],
)
@pytest.mark.parametrize("file", ["toy-vit_3.pth", "checkpoint_best.pth"])
def test_the_model_is_the_one_that_was_saved(save_text_search, caplog, pairs, size, length, file):
    trained, path = save_text_search(*pairs, file=file)
    caplog.clear()
    model, info = load_text_search_model(path)
    assert not model.training and not caplog.text
    assert torch.equal(features(model, size, length), features(trained, size, length))
    assert torch.equal(model.logit_scale, trained.logit_scale)
    assert (info.size, info.text_length, info.is_clip) == (size, length, False)
    assert not any(hasattr(model, head) for head in ("classifier", "mlm_head", "simclr_mlp", "cross_attn"))


def test_facts_come_from_the_card_and_what_is_given_against_it_is_named(save_text_search, caplog):
    pixels = ("INPUT.PIXEL_MEAN", [0.1, 0.2, 0.3], "INPUT.PIXEL_STD", [0.5, 0.6, 0.7])
    _, path = save_text_search(*pixels, "INPUT.TEST_RESIZE", "bilinear")
    _, info = load_text_search_model(path)
    assert (info.mean, info.std, info.resize) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "bilinear")
    assert (info.name, info.kind, info.stride) == ("toy-vit", "ViT", (8, 8))
    assert not caplog.text
    _, info = load_text_search_model(path, mean=(0.5,) * 3, resize="bilinear")
    assert info.mean == (0.5,) * 3
    (line,) = told_by(caplog)
    assert "mean (0.5, 0.5, 0.5)" in line and "(0.1, 0.2, 0.3)" in line and str(path) in line


def test_without_a_card_assumptions_are_told_once(save_text_search, caplog):
    trained, path = save_text_search(*WIDE, card=False)
    caplog.clear()
    with pytest.raises(ValueError, match=r"has 24 positions, which no stride gives at any common size"):
        load_text_search_model(path)
    model, _ = load_text_search_model(path, (64, 24))
    assert torch.equal(features(model, (64, 24)), features(trained, (64, 24)))
    (line,) = told_by(caplog)
    for fact in (
        "mean (0.485, 0.456, 0.406)",
        "std (0.229, 0.224, 0.225)",
        "resize bicubic",
        "stride (8, 8)",
    ):
        assert fact in line
    assert str(path) in line and "size (" not in line


def test_size_stride_and_length_are_the_files(save_text_search, caplog):
    trained, path = save_text_search(card=False)
    model, info = load_text_search_model(path, (32, 16), stride=(8, 8), text_length=16)
    assert "adopted" not in caplog.text
    model, info = load_text_search_model(path, (32, 16), stride=(4, 4), text_length=77)
    assert (info.size, info.stride, info.text_length) == ((32, 16), (8, 8), 16)
    assert "stride (8, 8) adopted from the file instead of (4, 4)" in caplog.text
    assert "text_length 16 adopted from the file instead of 77" in caplog.text
    assert torch.equal(features(model), features(trained))


def info_of(positions, patch=(16, 16), kind="ViT"):
    return TextSearchInfo("f.pth", kind, 768, 512, (12,), patch, positions, 512, 12, 77)


@pytest.mark.parametrize(
    ("positions", "patch", "wanted", "size"),
    [
        (196, (16, 16), None, (224, 224)),
        (196, (16, 16), (256, 128), (224, 224)),
        (256, (14, 14), None, (224, 224)),
        (576, (14, 14), None, (336, 336)),
        (49, (32, 32), None, (224, 224)),
        (192, (16, 16), None, (384, 128)),
        (192, (16, 16), (192, 256), (192, 256)),
        (128, (16, 16), None, (256, 128)),
        (72, (16, 16), (288, 64), (288, 64)),
    ],
)
def test_the_size_follows_from_the_positions(caplog, positions, patch, wanted, size):
    """Published files have no overlapping patches, so nothing else is tried."""
    assert fit_geometry(info_of(positions, patch), wanted, None) == (size, patch)
    assert not caplog.text


@pytest.mark.parametrize(("positions", "wanted"), [(72, None), (72, (256, 128)), (210, (256, 128))])
def test_what_no_common_size_gives_is_refused(positions, wanted):
    with pytest.raises(ValueError, match=rf"^f\.pth has {positions} positions, .*give the `size`"):
        fit_geometry(info_of(positions), wanted, (16, 16))


# ---- the activation and heads, which shapes do not show


@pytest.mark.parametrize("label", ["mine", "toy-vit", "toy-vit-quickgelu"])
@pytest.mark.parametrize("name", ["toy-vit", "toy-vit-quickgelu"])
def test_the_card_knows_the_tower_of_a_description_file(save_text_search, describe, name, label):
    description = describe(label, name)
    trained, path = save_text_search("MODEL.NAME", str(description), file="best.pth")
    description.unlink()
    model, info = load_text_search_model(path)
    assert info.name == label and torch.equal(features(model), features(trained))


def test_without_name_and_card_heads_are_64_wide(text_search_model, save_weights, describe, caplog):
    text = {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2}
    wide = describe("wide", "toy-vit-quickgelu", text_cfg=text)
    trained = text_search_model("MODEL.NAME", str(wide))
    path = save_weights(trained.state_dict(), "checkpoint_best.pth")
    with caplog.at_level(logging.INFO):
        model, info = load_text_search_model(path, (32, 16))
    assert torch.equal(features(model), features(trained)) and info.name == ""
    assert "taken as a ViT with OpenAI's QuickGELU" in caplog.text
    narrow = save_weights(text_search_model().state_dict(), "checkpoint_best.pth")
    with pytest.raises(ValueError, match="features of 32 numbers; allowed: multiples of 64") as error:
        load_text_search_model(narrow, (32, 16))
    assert str(narrow) in str(error.value)


@pytest.mark.parametrize("fact", ["quick_gelu", "head_width", "text_heads"])
def test_a_name_that_contradicts_the_card_is_refused(save_text_search, describe, fact):
    _, path = save_text_search()
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
    vision = {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8, "head_width": 32}
    changes = {"quick_gelu": True} if fact == "quick_gelu" else {"vision_cfg": vision}
    other = describe("other", "toy-vit", **({"text_cfg": text} if fact == "text_heads" else changes))
    with pytest.raises(ValueError, match=rf"^name {re.escape(str(other))} has {fact} ") as error:
        load_text_search_model(path, name=str(other))
    assert str(path) in str(error.value) and str(path.with_suffix(".json")) in str(error.value)


# ---- CLIP's own weights


@pytest.mark.parametrize("name", ["toy-vit", "toy-resnet"])
def test_clip_is_tested_as_it_is(toy_clip, save_weights, text_search_config, caplog, name):
    clip = toy_clip(name)
    path = save_weights(clip.state_dict(), "clip.pt")
    size = (32, 32) if name == "toy-vit" else (64, 64)
    with caplog.at_level(logging.INFO):
        model, info = load_text_search_model(path, name=name)
    assert (info.size, info.text_length, info.is_clip) == (size, 77, True)
    assert info.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert any("zero-shot" in line and str(path) in line for line in told_by(caplog))
    assert torch.equal(model.logit_scale, clip.logit_scale)
    tokens = tokenize_captions(CAPTIONS)
    with torch.no_grad():
        torch.testing.assert_close(model.encode_text(tokens), clip.encode_text(tokens))
        if name == "toy-vit":  # ours goes on with a finer map of a ResNet
            images = torch.randn(2, 3, *size)
            torch.testing.assert_close(model.encode_image(images), clip.encode_image(images))


def test_positions_of_clip_are_interpolated_as_for_training(
    toy_clip, text_search_config, save_weights, start, caplog
):
    path = save_weights(toy_clip().half().state_dict(), "clip.pt")
    settings = (*WIDE, "MODEL.TEXT_LENGTH", 20)
    started = start(path, *settings)
    with caplog.at_level(logging.INFO):
        model, info = make_text_search_test_model(text_search_config("TEST.WEIGHT", str(path), *settings))
    assert torch.equal(features(model, (64, 24), 20), features(started, (64, 24), 20))
    assert (info.size, info.text_length) == ((64, 24), 20)
    assert "resized from 4x4 to 8x3" in caplog.text and "resized from 77 to 20" in caplog.text


def test_clip_needs_its_name(toy_clip, save_weights):
    path = save_weights(toy_clip().state_dict(), "clip.pt")
    with pytest.raises(ValueError, match="give the `name` of the model") as error:
        load_text_search_model(path)
    assert str(path) in str(error.value)


# ---- files of the other kind


def test_text_search_files_in_tests_of_re_id(save_text_search, toy_config):
    for card in (True, False):
        _, path = save_text_search(card=card, file=f"toy-vit_{int(card)}.pth")
        loads = [
            lambda path=path: load_reid_model(path),
            lambda path=path: make_test_model(toy_config("TEST.WEIGHT", str(path)), 1, 1),
            *([lambda path=path: adopt_card(toy_config("TEST.WEIGHT", str(path)), ())] if card else []),
        ]
        for load in loads:
            with pytest.raises(ValueError, match=r"a text search model, which test_tbps\.py reads") as error:
                load()
            assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_re_id_files_in_programs_of_text_search(
    toy_model, toy_config, save_weights, text_search_config, start
):
    model = toy_model()
    path = save_weights(model.state_dict())
    config = text_search_config("TEST.WEIGHT", str(path))
    loads = [
        lambda: load_text_search_model(path),
        lambda: make_text_search_test_model(config),
        lambda: start(path),
    ]
    for load in loads:
        with pytest.raises(ValueError, match=r"a re-id checkpoint, which test\.py, .* read") as error:
            load()
        assert str(path) in str(error.value)
    make_card(toy_config(), model, "base", data="dukemtmc", versions={}).write(path)
    with pytest.raises(ValueError, match=r"a re-id checkpoint, which test\.py, .*says .*toy-vit_3\.json"):
        adopt_text_search_card(config, given=())


# ---- published files


def published_layout(model):
    """The state dict as the published code writes it, with the heads of all its options."""
    extra = dict.fromkeys(("ln_pre_t.weight", "ln_pre_i.bias", "ln_post.weight"), torch.ones(16))
    extra |= {"classifier.weight": torch.ones(7, 16), "simclr_mlp.0.weight": torch.ones(8, 16)}
    extra |= {"mlm_head.fc.weight": torch.ones(9, 16), "cross_attn.in_proj_weight": torch.ones(48, 16)}
    extra |= {"cross_modal_transformer.resblocks.0.ln_1.weight": torch.ones(16)}
    return {**model.state_dict(), **extra}


def test_published_files(text_search_model, save_published, caplog):
    trained = text_search_model("INPUT.SIZE_TRAIN", [32, 32], "INPUT.SIZE_TEST", [32, 32])
    path = save_published(published_layout(trained))
    with caplog.at_level(logging.INFO):
        model, info = load_text_search_model(path, name="toy-vit")
    assert torch.equal(features(model, (32, 32)), features(trained, (32, 32))) and info.size == (32, 32)
    told = told_by(caplog)
    assert any("left out" in line and "optimizer" in line and "config" in line for line in told)
    assert any("simclr_mlp" in line and "mlm_head" in line for line in told)
    assert all(str(path) in line for line in told)


def test_nothing_else_is_left_out(text_search_model, save_published):
    weights = text_search_model().state_dict() | {"gallery.weight": torch.ones(3)}
    with pytest.raises(ValueError, match=r"gallery\.weight is not expected"):
        load_text_search_model(save_published(weights), (32, 16), name="toy-vit")


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is in memory")
def test_the_optimizer_is_not_read(text_search_model, save_published, monkeypatch):
    """The file is mapped, and pages of the optimizer, 64 MB, are not fetched."""
    weights = text_search_model().state_dict()
    state = {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2**24)}}
    path, resident = save_published(weights, optimizer={"state": state}), []

    def look(content, known):
        found = find_state_dicts(content, known)
        [each.clone() for each in found[0].state_dict().values()]  # what is read is the model
        maps = Path("/proc/self/smaps").read_text().split("VmFlags")
        (mine,) = [each for each in maps if str(path) in each]
        resident.extend(int(re.search(rf"{what}: +(\d+) kB", mine)[1]) for what in ("Size", "Rss"))
        return found

    monkeypatch.setattr("utils.weights.find_state_dicts", look)
    model, _ = load_text_search_model(path, (32, 16), name="toy-vit")
    size, rss = resident
    assert size > 2**16 and rss < 2**14
    assert str(path) not in Path("/proc/self/smaps").read_text()  # the file may be replaced in place
    assert torch.equal(model.logit_scale, weights["logit_scale"])
