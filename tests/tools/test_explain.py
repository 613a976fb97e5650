"""Explanations: runs that were broken on purpose, of which the page names the cause, and one that was not."""

import argparse
import json
import os
import re
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from config import cfg
from config.load import load_config
from processor import METHODS, train
from processor import test as run_program_of_tests
from tests.toys import SETTINGS, draw_market, words
from tools import explain
from tools.explaining.published import COUNTS

ARGS = argparse.Namespace(config_file="", local_rank=0, traceback=False, opts=[], resume=False)
RECIPE = SETTINGS | {
    "DATALOADER.NUM_INSTANCE": "2",
    "SOLVER.STAGE1.IMS_PER_BATCH": "4",
    "SOLVER.STAGE1.MAX_EPOCHS": "1",
    "SOLVER.STAGE2.IMS_PER_BATCH": "4",
    "SOLVER.STAGE2.MAX_EPOCHS": "2",
    "SOLVER.STAGE2.EVAL_PERIOD": "2",
    "TEST.NECK_FEAT": "before",
}
# Images of the toy data set below, as docs/data.md has those of public ones.
TOY_COUNTS = {"train": (8, 4), "query": (4, None), "gallery": (4, None)}


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    return draw_market(tmp_path_factory.mktemp("explained"), range(1, 5), (11, 12))


@pytest.fixture
def as_published(monkeypatch):
    """The toy run is what was published, with an mAP of 100 % on the toy data sets."""
    for name in ("market1501", "msmt17"):
        monkeypatch.setitem(COUNTS, name, TOY_COUNTS)


@pytest.fixture
def run(toy_towers, market, tmp_path, as_published):
    """run({KEY: VALUE}, test={KEY: VALUE}) -> OUTPUT_DIR of a training and a test."""
    _write_recipe(tmp_path / "recipe.yml")

    def make(changes=None, test=None, weight="toy-vit_2.pth"):
        folder = tmp_path / "run"
        settings = RECIPE | {"DATASETS.ROOT_DIR": str(market), "OUTPUT_DIR": str(folder)} | (changes or {})
        train(load_config(cfg, "", words(settings)), ARGS, method=METHODS["clipreid"])
        settings |= {"TEST.WEIGHT": str(folder / weight)} | (test or {})
        args = argparse.Namespace(**vars(ARGS) | {"opts": words(test or {})})
        run_program_of_tests(load_config(cfg, "", words(settings)), args, method=METHODS["clipreid"])
        return folder

    return make


def _write_recipe(path):
    lines: dict = {}
    for key, value in RECIPE.items():
        *groups, name = key.split(".")
        node = lines
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value
    path.write_text(json.dumps(lines))  # which is YAML


@pytest.fixture
def page(tmp_path, capsys):
    """page(folder) -> what tools/explain.py prints of it, next to the toy recipe, on one line a row."""

    def show(folder, *options):
        capsys.readouterr()
        assert explain.main([str(folder), "--recipe", str(tmp_path / "recipe.yml"), *options]) == 0
        return capsys.readouterr().out

    return show


def causes(text):
    """The rows of the table of causes, without the padding of their cells."""
    part = text.partition("What explains a difference")[2].partition("\n\n")
    assert part[1], text
    table = part[2].partition("\n\n")[0] if "nothing found" not in part[0] else ""
    rows = [re.sub(r" +\|", " |", line) for line in table.splitlines() if line.startswith("| ")]
    return rows[1:]


# ---- five broken runs, and a sound one


def test_a_sound_run_has_no_cause(run, page):
    text = page(run())
    assert not causes(text) and "nothing found" in text and "No further setting differs" in text
    assert re.search(r"\| mAP +\| [\d.]+ +\| [\d.]+ to [\d.]+ +\| 89\.6", text)


def test_a_file_of_stage_1_was_tested(run, page):
    (row,) = causes(page(run(weight="toy-vit_stage1_1.pth")))
    assert row.startswith(
        "| tested weights | toy-vit_stage1_1.pth, of stage 1 | toy-vit_2.pth, after stage 2 |"
    )
    assert "is still random, and its neck has seen no image" in row  # the toy recipe starts so, too


def test_a_file_of_stage_1_is_known_under_another_name(run, page, tmp_path):
    folder = run()
    shutil.copy(folder / "toy-vit_stage1_1.pth", folder / "best.pth")
    settings = RECIPE | {"DATASETS.ROOT_DIR": load_root(folder), "OUTPUT_DIR": str(tmp_path / "other")}
    config = load_config(cfg, "", words(settings | {"TEST.WEIGHT": str(folder / "best.pth")}))
    run_program_of_tests(config, ARGS, method=METHODS["clipreid"])
    text = page(tmp_path / "other")
    assert "| tested weights | best.pth, of stage 1 |" in causes(text)[0]
    assert f"the training is that in {folder}" in text


def test_a_test_of_another_trainings_file_is_not_of_the_training_in_its_folder(run, page, tmp_path):
    """Its settings and how it ended are those of the folder where the file is."""
    folder = run()
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    text = page(other)  # a copy is the same training
    assert not causes(text) and "is not that of the tested file" not in text
    content = json.loads((other / "receipt.json").read_text())
    content["train"] |= {"status": "stopped"}
    (other / "receipt.json").write_text(json.dumps(content))
    (other / "toy-vit_2.pth").write_bytes(b"trained otherwise")
    text = page(other)
    assert not causes(text) and f"in {other} is not that of the tested file, which is in {folder};" in text


def load_root(folder):
    return json.loads((folder / "receipt.json").read_text())["train"]["config"]["DATASETS.ROOT_DIR"]


def test_another_mean(run, page):
    rows = causes(page(run(test={"INPUT.PIXEL_MEAN": "[0.3, 0.3, 0.3]"})))
    assert len(rows) == 1 and "INPUT.PIXEL_MEAN of the test | [0.3, 0.3, 0.3] | as trained: [0.485" in rows[0]


def test_another_mean_in_training(run, page):
    rows = causes(page(run({"INPUT.PIXEL_MEAN": "[0.3, 0.3, 0.3]"})))
    assert len(rows) == 1 and rows[0].startswith("| INPUT.PIXEL_MEAN | [0.3, 0.3, 0.3] | [0.485")


@pytest.fixture
def draw_msmt17(market, tmp_path):
    """draw_msmt17('mask_train_v2', 'mask_test_v2') -> ROOT_DIR of the toy images as MSMT17."""

    def draw(train_folder, test_folder):
        folder = tmp_path / "data" / "MSMT17"
        for split, images, lists in (
            ("bounding_box_train", train_folder, ("list_train.txt", "list_val.txt")),
            ("query", test_folder, ("list_query.txt",)),
            ("bounding_box_test", test_folder, ("list_gallery.txt",)),
        ):
            lines = []
            for path in sorted((market / "Market-1501-v15.09.15" / split).glob("*.jpg")):
                pid, camera = path.name[:4], int(path.name[6])
                name = f"{pid}/{pid}_000_{camera:02d}_{path.stem}.jpg"
                (folder / images / pid).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder / images / name)
                lines.append(f"{name} {int(pid)}")
            for number, each in enumerate(lists):
                (folder / each).write_text("\n".join(lines[number :: len(lists)]))
        return tmp_path / "data"

    return draw


@pytest.mark.parametrize(
    ("folders", "found"),
    [(("mask_train_v2", "mask_test_v2"), ["release of msmt17 | V2 | V1 |"]), (("train", "test"), [])],
)
def test_the_other_release_of_msmt17(run, page, draw_msmt17, folders, found):
    data = {"DATASETS.NAMES": "msmt17", "DATASETS.ROOT_DIR": str(draw_msmt17(*folders))}
    rows = causes(page(run(data)))
    assert len(rows) == len(found) and all(text in row for text, row in zip(found, rows, strict=True))


def test_half_of_the_data(run, page, market, tmp_path):
    root = Path(shutil.copytree(market, tmp_path / "half"))
    for path in (root / "Market-1501-v15.09.15/bounding_box_train").glob("000[34]_*.jpg"):
        path.unlink()
    rows = causes(page(run({"DATASETS.ROOT_DIR": str(root)})))
    assert len(rows) == 1
    assert (
        "| train split | 4 images, 2 identities | 8 images, 4 identities | 50.0% of the published split"
        in rows[0]
    )


@pytest.mark.parametrize(
    ("changes", "test", "found"),
    [
        ({}, {"TEST.AMP": "bf16"}, "| precision of the test | bf16 | float32 |"),
        ({"SOLVER.AMP": "bf16"}, {}, "| precision of the training | bf16 | fp16 |"),
    ],
)
def test_bf16(run, page, changes, test, found):
    (row,) = causes(page(run(changes, test)))
    assert row.startswith(found)


# ---- other causes


def test_further_causes(run, page):
    """One page names them all, what breaks a number before what moves it."""
    folder = run({"SOLVER.STAGE2.BASE_LR": "0.1"}, {"TEST.RE_RANKING": "True", "TEST.NECK_FEAT": "after"})
    content = json.loads((folder / "receipt.json").read_text())
    content["train"]["status"] = "stopped"
    for part in ("train", "test"):  # both meet the same test images
        content[part]["data"]["left_out"] = {"images of identity -1": 3, "damaged images": 2}
    content["train"]["weights"]["reid"] = {"path": "other.pth", "sha256": "", "card": None}
    (folder / "receipt.json").write_text(json.dumps(content))
    text = page(folder)
    whats = [row.split(" | ")[0] for row in causes(text)]
    assert sorted(whats) == sorted(
        ["| training", "| start of training", "| TEST.NECK_FEAT", "| left out", "| re-ranking"]
    )
    assert whats[-2:] == ["| left out", "| re-ranking"]
    assert "2 damaged images" in text and "identity -1" not in text
    assert re.search(r"SOLVER\.STAGE2\.BASE_LR +\| 0\.1 +\| ", text) and "1 further settings differ" in text


@pytest.mark.parametrize(("right", "named"), [(True, False), (False, True)])
def test_clips_weights_are_known_by_their_hash(run, page, tmp_path, right, named):
    folder = run()
    content = json.loads((folder / "receipt.json").read_text())
    sha256 = "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f" if right else "0" * 64
    content["train"]["config"]["MODEL.NAME"] = "ViT-B-16"
    content["train"]["weights"]["clip"] = {"path": "ViT-B-16.pt", "sha256": sha256, "card": None}
    (folder / "receipt.json").write_text(json.dumps(content))
    assert (
        "| CLIP's weights | ViT-B-16.pt, SHA-256 000000000000… | OpenAI's, 5806e77cd80f…"
        in "\n".join(causes(page(folder)))
    ) == named


def test_random_weights_and_an_early_file(run, tmp_path, capsys):
    """Next to the published recipe itself, from which a toy differs in nearly all."""
    folder = run()
    assert explain.main([str(folder)]) == 0
    text = capsys.readouterr().out
    assert "Metrics next to ViT CLIP-ReID (configs/person/vit_clipreid.yml)" in text
    found = "\n".join(causes(text))
    assert "| start of training | random weights | CLIP's weights |" in found
    assert "| model | toy-vit | ViT-B-16 | another number of layers" in found
    assert "| tested weights | toy-vit_2.pth, epoch 2 | epoch 60 |" in found
    assert "MODEL.SIE_COE" not in text and "TEST.EVAL " not in text  # which nothing reads


def test_settings_that_only_the_test_had_are_listed(run, page):
    """VehicleID's published numbers are of 800 vehicles; a test of more is another one."""
    text = page(run(test={"DATASETS.VEHICLEID_TEST_SIZE": "1600", "INPUT.ORIENTATION": "exif"}))
    assert "2 further settings differ" in text
    assert re.search(r"\| DATASETS\.VEHICLEID_TEST_SIZE +\| 1600 +\| 800 ", text)


@pytest.mark.parametrize("in_data", [True, False])
def test_an_evaluation_on_another_data_set_is_that_data_sets(run, page, draw_msmt17, in_data):
    """Its metrics stand next to the numbers published for it, not for the set that was trained on."""
    root = draw_msmt17("train", "test")
    folder = run({"DATASETS.ROOT_DIR": str(root), "DATASETS.NAMES": "msmt17"})
    content = json.loads((folder / "receipt.json").read_text())
    if in_data:
        content["train"]["data"]["tested"] = "market1501"
    else:  # a receipt of an earlier release
        content["train"]["config"]["DATASETS.TEST"] = "market1501"
    (folder / "receipt.json").write_text(json.dumps(content | {"test": None}))
    (folder / "metrics.json").unlink()
    text = page(folder)
    (row,) = causes(text)
    assert row.startswith("| trained on | msmt17 | market1501 |")
    assert re.search(r"\| mAP +\| [\d.]+ +\| [\d.]+ to [\d.]+ +\| 89\.6", text)


def test_a_test_of_a_former_run_is_left_out(run, page):
    """A new training in the folder has no test yet, but the files of one lie there."""
    folder = run({"SOLVER.STAGE2.EVAL_PERIOD": "2"})
    content = json.loads((folder / "receipt.json").read_text())
    (folder / "receipt.json").write_text(json.dumps(content | {"test": None}))
    assert "has no receipt of the test" in page(folder)
    began = datetime.fromisoformat(content["train"]["started"]).timestamp()
    for name in ("metrics.json", "features.npz"):
        os.utime(folder / name, (began - 60, began - 60))
    text = page(folder)
    assert f"metrics.json in {folder} is older than the training" in text
    assert "those of the last evaluation of the training" in text


def test_fused_features_do_not_stand_next_to_published_numbers(run, page):
    """Those without fusion do; a zero-shot test without a card is one of CLIP-ReID."""
    folder = run()
    content = json.loads((folder / "receipt.json").read_text())
    test = content["test"]
    test["method"], test["weights"]["test"]["card"] = "zero_shot", None
    test["facts"] |= {
        "attributes": {"people": 2, "weight": 0.5},
        "without_fusion": {"mAP": 0.5, "rank1": 0.25},
    }
    (folder / "receipt.json").write_text(json.dumps({"format": 1, "train": None, "test": test}))
    for name in ("config.yml", "metrics.jsonl"):
        (folder / name).unlink()
    text = page(folder)
    assert re.search(r"\| mAP, fused +\| [\d.]+ +\| [\d.]+ to [\d.]+ +\| – +\| – ", text)
    assert re.search(r"\| mAP +\| 50\.0 +\| – +\| 89\.6 +\| -39\.6 ", text)
    assert "of features that are not fused" in text
    (folder / "receipt.json").unlink()  # the facts are in metrics.json, too
    facts = json.loads((folder / "metrics.json").read_text()) | test["facts"]
    (folder / "metrics.json").write_text(json.dumps(facts))
    assert re.search(r"\| mAP +\| 50\.0 +\| – +\| 89\.6 +\| -39\.6 ", page(folder))


def test_meanings_are_whole_sentences(run, page):
    text = page(run({"DATASETS.SUBJECT": "cow"}))
    assert re.search(r"\| DATASETS\.SUBJECT +\| cow +\| '' +\| Noun of the prompt, e\.g\. 'person' ", text)


def test_commits_of_all_parts_are_shown(run, page):
    folder = run()
    content = json.loads((folder / "receipt.json").read_text())
    content["train"] |= {"commit": "3c", "commits": ["1a", "2b"]}
    (folder / "receipt.json").write_text(json.dumps(content))
    assert re.search(r"\| commits of earlier parts +\| 1a, 2b +\| – ", page(folder))


# ---- without a receipt


def test_without_receipts_logs_and_settings_are_read(run, page, tmp_path, market):
    root = Path(shutil.copytree(market, tmp_path / "half"))
    for path in (root / "Market-1501-v15.09.15/bounding_box_train").glob("000[34]_*.jpg"):
        path.unlink()
    folder = run(
        {"DATASETS.ROOT_DIR": str(root), "SOLVER.AMP": "bf16"}, {"INPUT.PIXEL_STD": "[0.1, 0.1, 0.1]"}
    )
    whole = causes(page(folder))
    (folder / "receipt.json").unlink()
    text = page(folder)
    assert causes(text) == whole and len(whole) == 3
    assert "has no receipt of the training" in text and "has no receipt of the test" in text
    assert re.search(r"\| mAP +\| [\d.]+ +\| [\d.]+ to [\d.]+ +\|", text)  # of features.npz


def test_a_folder_of_a_test_alone(run, page, tmp_path):
    folder = run(test={"OUTPUT_DIR": str(tmp_path / "alone"), "TEST.AMP": "bf16"})
    for name in ("receipt.json", "config.yml", "metrics.jsonl", "train_log.txt"):
        (folder / name).unlink()
    text = page(tmp_path / "alone")
    assert [row.split(" | ")[0] for row in causes(text)] == ["| precision of the test"]
    assert "nothing is known of the training" in text


def test_a_training_alone(run, page):
    folder = run()
    for name in ("metrics.json", "features.npz"):
        (folder / name).unlink()
    content = json.loads((folder / "receipt.json").read_text())
    (folder / "receipt.json").write_text(json.dumps(content | {"test": None}))
    text = page(folder)
    assert not causes(text) and "those of the last evaluation of the training" in text


def test_other_statistics_of_a_training_alone(run, page):
    folder = run({"INPUT.PIXEL_STD": "[0.3, 0.3, 0.3]"})
    content = json.loads((folder / "receipt.json").read_text())
    (folder / "metrics.json").unlink()
    (folder / "receipt.json").write_text(json.dumps(content | {"test": None}))
    (row,) = causes(page(folder))
    assert row.startswith("| INPUT.PIXEL_STD | [0.3, 0.3, 0.3] | [0.229, 0.224, 0.225] |")


# ---- the program


def test_page_and_errors(run, page, tmp_path, capsys):
    folder = run(test={"TEST.AMP": "bf16"})
    out = tmp_path / "why.html"
    assert f"Written: {out}" in page(folder, "--out", str(out))
    html = out.read_text()
    assert "precision of the test" in html and "<script" not in html
    for words_given, told in (
        ([str(tmp_path)], "has no receipt.json, config.yml, metrics.jsonl or metrics.json; allowed"),
        ([str(folder), "--out", "a.txt"], "--out is a.txt; allowed: a file name that ends in .md, .html"),
        ([str(folder), "--recipe", "no.yml"], "no.yml does not exist"),
    ):
        with pytest.raises(SystemExit) as end:
            explain.main(words_given)
        error = capsys.readouterr().err
        assert end.value.code == 2 and told in error and error.count("\n") == 1
