"""Folders as a hub has them: the same features and numbers after a round trip, cards, and READMEs."""

import hashlib
import json
import logging

import pytest
import torch
from huggingface_hub import ModelCard as Readme
from safetensors.torch import load_file

import clipreid
from config import cfg, cfg_base, cfg_pcl
from model import make_card, make_test_model, read_card
from tests import toys

SIE = ("MODEL.SIE_CAMERA", True, "MODEL.SIE_VIEW", True, "MODEL.SIE_COE", 3.0)
OTHERS = ("INPUT.PIXEL_MEAN", [0.1, 0.2, 0.3], "INPUT.TEST_RESIZE", "bicubic", "TEST.NECK_FEAT", "after")
METRICS = {"cmc": [0.9, 0.95, 0.96, 0.97, 0.98], "mAP": 0.81236, "dataset": "market1501"}


@pytest.fixture
def saved(toy_config, toy_model, save_weights):
    """saved(*SIE) -> a file with a card."""

    def save(*pairs, tree=cfg_base):
        model = toy_model(*pairs, tree=tree, views=2)
        model.bottleneck.num_batches_tracked.fill_(3)  # 0 are a file of stage 1
        path = save_weights(model.state_dict(), "toy-vit_3.pth")
        card = make_card(
            toy_config(*pairs, tree=tree), model, "base", data="dukemtmc", versions={"torch": "2"}
        )
        card.write(path)
        return path

    return save


@pytest.fixture
def metrics(tmp_path):
    def write(**fields):
        (tmp_path / "metrics.json").write_text(json.dumps(METRICS | fields))
        return tmp_path / "metrics.json"

    return write


def load(path, **settings):
    return clipreid.load_model(path, device="cpu", **settings)


@torch.no_grad()
def features(model):
    return model.network(torch.rand(3, 3, 64, 32, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("pairs", "tree"),
    [
        ((), cfg_base),
        ((*SIE, *OTHERS), cfg_base),
        (SIE, cfg),
        (OTHERS, cfg_pcl),
        (("MODEL.NAME", "toy-resnet"), cfg_base),
    ],
)
def test_a_folder_is_the_model(saved, tmp_path, pairs, tree):
    path = saved(*pairs, tree=tree)
    model = load(path)
    folder = model.save_pretrained(tmp_path / "a/folder")
    assert {each.name for each in folder.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    weights, former = load_file(folder / "model.safetensors"), torch.load(path)
    assert weights.keys() == former.keys()  # rows of SIE, classifiers and text tower, too
    assert all(torch.equal(weights[name], former[name]) for name in former)
    again = load(folder)
    assert torch.equal(features(again), features(model))
    card, digest = read_card(folder), hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert card.sha256 == digest and json.loads((folder / "config.json").read_text())["sha256"] == digest
    assert card == read_card(path).model_copy(update={"sha256": digest, "stride": model.info.stride})
    assert card == read_card(folder / "model.safetensors") == read_card(f"local-dir:{folder}")
    assert torch.equal(features(load(f"local-dir:{folder}")), features(model))


def test_a_test_program_finds_the_rows_of_cameras(saved, toy_config, tmp_path):
    path = saved(*SIE)
    folder = load(path).save_pretrained(tmp_path / "folder")
    images = torch.rand(2, 3, 64, 32)
    found = []
    for weight in (path, folder):
        model, _ = make_test_model(toy_config("TEST.WEIGHT", str(weight)), 6, 2, data="dukemtmc")
        with torch.no_grad():
            found.append(model(images, torch.tensor([0, 5]), torch.tensor([1, 0])))
    assert torch.equal(*found)


def test_numbers_that_were_changed_are_saved(saved, tmp_path):
    model = load(saved(*SIE))
    with torch.no_grad():
        model.network.bottleneck_proj.weight.mul_(2)
        model.network.image_encoder.conv1.weight.mul_(2)
    assert torch.equal(features(load(model.save_pretrained(tmp_path / "folder"))), features(model))


def test_facts_given_by_hand_are_those_of_the_new_card(saved, tmp_path):
    model = load(saved(*SIE), neck_feature="after", mean=(0.3, 0.3, 0.3), sie_scale=2.0)
    card = read_card(model.save_pretrained(tmp_path / "folder"))
    assert (card.neck, card.mean, card.sie) == ("after", (0.3, 0.3, 0.3), (6, 2, 2.0))


@pytest.mark.parametrize("tree", [cfg_base, cfg])
def test_a_file_without_a_card_gets_one(saved, tree, tmp_path, caplog):
    path = saved(*SIE, tree=tree)
    path.with_suffix(".json").unlink()
    model = load(path, size=(64, 32), sie_scale=3.0)
    caplog.clear()
    folder = model.save_pretrained(tmp_path / "folder")
    # Nobody knows which row is whose.
    assert f"{path} has no model card" in caplog.text and "12 rows" in caplog.text
    assert len(load_file(folder / "model.safetensors")["cv_embed"]) == 1
    caplog.clear()
    again = load(folder)
    assert not caplog.records and torch.equal(features(again), features(model))
    card = again.info.card
    assert (card.name, card.sie, card.data, card.method) == ("toy-vit", (1, 0, 3.0), "", "")
    assert card.tokenizer == (None if tree is cfg_base else "clip_bpe")
    assert "| Trained on | not stated |" in (folder / "README.md").read_text()


@pytest.mark.parametrize("carded", [True, False])
def test_text_search_models(toy_towers, tmp_path, carded):
    path = toys.save_text_model(tmp_path / "toy-vit_1.pth")
    facts = {}
    if not carded:
        path.with_suffix(".json").unlink()
        facts = {"name": "toy-vit", "size": (32, 16)}
    model = clipreid.load_text_model(path, device="cpu", **facts)
    folder = model.save_pretrained(tmp_path / "folder", license="mit")
    again = clipreid.load_text_model(folder, device="cpu")
    picture = toys.save_noise(tmp_path / "a.png")
    for encode, what in (("encode_image", picture), ("encode_text", "a man in red")):
        found, expected = (getattr(each, encode)([what]).features for each in (again, model))
        assert torch.equal(found, expected)
    assert again.info.card.license == "mit" and again.info.size == (32, 16)
    readme = (folder / "README.md").read_text()
    assert 'clipreid.load_text_model("hf-hub:org/name")' in readme and "encode_text" in readme


def test_the_readme_has_results_and_licences(saved, metrics, tmp_path):
    model = load(saved())
    options = {"license": "cc-by-nc-4.0", "data_license": "research only | <b>"}
    folder = model.save_pretrained(tmp_path / "folder", metrics=metrics(), **options)
    readme = Readme.load(folder / "README.md")
    found = {result.metric_type: result.metric_value for result in readme.data.eval_results}
    assert found == {"mAP": 81.24, "Rank-1": 90.0, "Rank-5": 98.0, "Rank-10": 98.0}
    assert {result.dataset_name for result in readme.data.eval_results} == {"market1501"}
    assert (readme.data.license, readme.data.library_name) == ("cc-by-nc-4.0", "clipreid")
    assert "| Licence of the data | research only &#124; &lt;b&gt; |" in readme.text
    assert "| market1501 | Rank-1 | 90.0 |" in readme.text
    # The card keeps both, for the next folder.
    card = read_card(load(folder).save_pretrained(tmp_path / "next", license="mit"))
    assert (card.license, card.data_license) == ("mit", options["data_license"])


def test_what_nobody_stated_is_not_made_up(saved, tmp_path):
    readme = Readme.load(load(saved()).save_pretrained(tmp_path / "folder") / "README.md")
    assert readme.data.license is None and readme.data.eval_results is None
    for row in ("Licence of the weights", "Licence of the data"):
        assert f"| {row} | not stated |" in readme.text


def test_results_of_re_ranking_and_of_other_weights(saved, metrics, tmp_path, caplog):
    model = load(saved())
    folder = model.save_pretrained(tmp_path / "a", metrics=metrics(rerank=[20, 6, 0.3], weight="b/ViT_9.pth"))
    assert {each.levelno for each in caplog.records if "ViT_9.pth" in each.message} == {logging.WARNING}
    assert "| mAP, re-ranked | 81.24 |" in (folder / "README.md").read_text()
    caplog.clear()
    model.save_pretrained(tmp_path / "b", metrics=metrics(weight="logs/toy-vit_3.pth"))
    assert "results" not in caplog.text


def test_a_readme_of_ones_own_is_kept(saved, tmp_path, caplog):
    (tmp_path / "README.md").write_text("mine")
    with caplog.at_level(logging.INFO):
        load(saved()).save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine" and "README.md is kept" in caplog.text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"license": "a\nb"}, "license"),
        ({"data_license": "x" * 201}, "data_license"),
        ({"metrics": "gone.json"}, "gone.json"),
    ],
)
def test_wrong_words_leave_no_folder(saved, tmp_path, options, told):
    with pytest.raises((ValueError, FileNotFoundError), match=told) as error:
        load(saved()).save_pretrained(tmp_path / "folder", **options)
    assert "\n" not in str(error.value) and not (tmp_path / "folder").exists()


def test_files_of_others(saved, tmp_path, caplog):
    path = saved(*OTHERS)
    folder = load(path).save_pretrained(tmp_path / "folder")
    card, weights = folder / "config.json", folder / "model.safetensors"
    text = card.read_text()
    card.write_text('{"model_type": "clip", "vision_config": {}, "kind": "x"}')  # of another library
    assert read_card(folder) is None
    card.write_text(text[:50])
    with pytest.raises(ValueError, match=r"folder/config\.json"):
        load(folder)
    card.write_text(text.replace('"after"', '"sideways"'))
    with pytest.raises(ValueError, match=r"config\.json.*neck is 'sideways'.*before"):
        load(folder)
    card.write_text(text)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{weights} is no safetensors file"):
        load(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=f"local-dir:{folder} has no model.safetensors"):
        load(f"local-dir:{folder}")
    with pytest.raises(ValueError, match=f"{folder} is a folder"):
        load(folder)
