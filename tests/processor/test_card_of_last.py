"""`last.pt` brings its model card along; files of stage 1 are named as such wherever features are wanted."""

import logging

import pytest
import torch

from model import load_reid_model, read_card, read_text_search_card
from model.files.card import card_source
from tests.processor.running import last, run_test
from tests.processor.test_make_receipt import ARGS
from utils.files import save_torch
from utils.untrusted.receipts import describe_weights, read_receipt

PIXELS = ("INPUT.PIXEL_MEAN", [0.1, 0.2, 0.3], "INPUT.PIXEL_STD", [0.5, 0.6, 0.7], "TEST.NECK_FEAT", "after")
SIE = ("MODEL.SIE_CAMERA", True, "MODEL.SIE_COE", 2.5)
OTHERS = (*PIXELS, *SIE, "INPUT.TEST_RESIZE", "bicubic", "MODEL.STRIDE_SIZE", [6, 6])


@pytest.fixture
def folder_of(trained, monkeypatch):
    """folder_of('clipreid', KEY, VALUE) -> the folder of a run, after which caplog sees our lines again."""

    def run(*words):
        folder = trained(*words)[1]
        monkeypatch.setattr(logging.getLogger("transreid"), "propagate", True)
        return folder

    return run


@pytest.mark.parametrize("recipe", ["baseline", "clipreid", "pcl"])
def test_last_has_the_card_of_the_last_checkpoint(folder_of, recipe, caplog):
    folder = folder_of(recipe, *OTHERS)
    path = folder / "last.pt"
    inside, beside = read_card(path), read_card(folder / "toy-vit_2.pth")
    assert inside == beside.model_copy(update={"sha256": ""})
    assert (inside.stride, inside.neck, inside.sie.scale, inside.cameras) == (
        *((6, 6), "after", 2.5),
        {"market1501": 2},
    )
    model, info = load_reid_model(path)
    wanted, facts = load_reid_model(folder / "toy-vit_2.pth")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (info.size, info.stride, info.mean, info.std) == (facts.size, facts.stride, facts.mean, facts.std)
    assert (info.resize, info.neck, info.sie_scale, info.card.cameras) == (
        *("bicubic", "after", 2.5),
        facts.card.cameras,
    )
    images = torch.randn(2, 3, 32, 16)
    sides = torch.tensor([0, 1]), torch.tensor([0, 0])
    assert torch.equal(model(images, *sides), wanted(images, *sides))


def test_a_test_of_last_adopts_its_card(folder_of, toy_config, tmp_path):
    folder = folder_of("baseline", *OTHERS)
    plain = toy_config("TEST.WEIGHT", str(folder / "last.pt"), "OUTPUT_DIR", str(tmp_path / "test"))
    run_test(plain, ARGS)
    log = (tmp_path / "test" / "test_log.txt").read_text("utf-8")
    assert "MODEL.STRIDE_SIZE [8, 8] is replaced by [6, 6] of the model card" in log
    assert "has no model card" not in log and "a guess" not in log
    section = read_receipt(tmp_path / "test" / "receipt.json").test
    assert section.weights["test"].card["neck"] == "after"
    assert section.facts["pixel_mean"] == [0.1, 0.2, 0.3]


def test_last_of_an_earlier_version_has_no_card(folder_of, caplog):
    folder = folder_of("baseline", *PIXELS)
    content = last(folder)
    del content["card"]
    save_torch(content, folder / "old.pt")
    assert read_card(folder / "old.pt") is None
    assert describe_weights(str(folder / "old.pt")).card is None
    _, info = load_reid_model(folder / "old.pt", (32, 16), stride=(8, 8))
    assert info.card is None and "has no model card: assumed are" in caplog.text


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ("{}", r"the card in .*bad\.pt is no model card: name"),
        ("no JSON", r"the card in .*bad\.pt is no model card: "),
        ("x" * 2**17, r"the card in .*bad\.pt has 131,072 characters; allowed: 65,536"),
        ('{"kind": "text_search"}', r"bad\.pt is a text search model.*says the card in .*bad\.pt"),
    ],
)
def test_a_wrong_card_in_a_file_is_named(folder_of, card, told):
    folder = folder_of("baseline")
    save_torch(last(folder) | {"card": card}, folder / "bad.pt")
    with pytest.raises(ValueError, match=told):
        read_card(folder / "bad.pt")


def test_only_the_model_in_the_file_has_the_card(folder_of):
    folder = folder_of("baseline")
    path = folder / "last.pt"
    assert read_card(f"{path}#model") == read_card(path) is not None
    assert read_card(f"{path}#beside") is None
    assert card_source(path) == f"the card in {path}"
    assert card_source(folder / "toy-vit_2.pth") == str(folder / "toy-vit_2.json")
    with pytest.raises(ValueError, match="a re-id checkpoint"):
        read_text_search_card(path)


def test_a_file_of_stage1_is_named_with_the_one_to_test(folder_of, toy_config, caplog, tmp_path):
    folder = folder_of("clipreid")
    early = folder / "toy-vit_stage1_2.pth"
    load_reid_model(early)
    told = [line for line in caplog.messages if "is a file of stage 1, which learns prompts" in line]
    assert len(told) == 1 and str(folder / "toy-vit_2.pth") in told[0]
    caplog.clear()
    (folder / "toy-vit_2.pth").unlink()
    load_reid_model(early)
    assert "such as toy-vit_60.pth, is what finds" in caplog.text
    caplog.clear()
    load_reid_model(folder / "last.pt")
    assert "file of stage 1" not in caplog.text
    run_test(toy_config("TEST.WEIGHT", str(early), "OUTPUT_DIR", str(tmp_path / "test")), ARGS)
    log = (tmp_path / "test" / "test_log.txt").read_text("utf-8")
    assert log.count("is a file of stage 1, which learns prompts") == 1
