"""The trees, lists and tables of captions that docs/data.md shows are read, and its commands for them run."""

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from config import cfg_tbps
from config.load import load_config
from datasets import CaptionFindings, make_caption_dataset
from tests.docs.reading import BLOCKS, ROOT, VISION, block_of, commands, save_image, settings_of, tree
from tests.toys import words, write_tower

PAGE = "docs/data.md"
FILES = {
    "cuhk_pedes": ("CUHK-PEDES/", "reid_raw.json"),
    "icfg_pedes": ("ICFG-PEDES/", "ICFG-PEDES.json"),
    "rstpreid": ("RSTPReid/", "data_captions.json"),
}
OFFICIAL, PREPARED = (
    json.loads(block.text) for block in BLOCKS if block.where.startswith(PAGE) and block.language == "json"
)


def read(name, root, *pairs):
    settings = ["DATASETS.NAMES", name, "DATASETS.ROOT_DIR", str(root), *map(str, pairs)]
    dataset = make_caption_dataset(load_config(cfg_tbps, "", settings))
    assert all(Path(record.path).is_file() for record in (*dataset.train, *dataset.test_records()))
    return dataset


@pytest.mark.parametrize("name", FILES)
def test_the_tree_and_the_list_are_read(name, tmp_path):
    folder, file = FILES[name]
    (listed,) = (path for path in tree(block_of(PAGE, "text", "data/")) if path.endswith(folder + file))
    images = [
        path for path in tree(block_of(PAGE, "text", "data/")) if re.search(rf"{folder}imgs/.*\.", path)
    ]
    for path in images:
        save_image(tmp_path / path)
    key = "img_path" if name == "rstpreid" else "file_path"
    assert f"`{key}`" in (ROOT / PAGE).read_text() or name != "rstpreid"
    rows = []
    for row, path in zip(OFFICIAL, images, strict=True):
        inside = path.partition("/imgs/")[2]
        assert name != "cuhk_pedes" or row["file_path"] == inside
        rows.append({key: inside} | {name: value for name, value in row.items() if name != "file_path"})
    (tmp_path / listed).write_text(json.dumps(rows))
    dataset = read(name, tmp_path / "data")
    captions = sum(len(row["captions"]) for row in OFFICIAL)
    assert len(dataset.train) + len(dataset.queries) == captions and len(dataset.gallery) == 1


@pytest.mark.parametrize("name", ["captions", "cuhk_pedes"])
def test_the_prepared_form_is_read(name, tmp_path):
    root = tmp_path if name == "captions" else tmp_path / "CUHK-PEDES"
    for row in PREPARED:
        save_image(root / "imgs" / row["file_path"])
    for split in ("train", "test"):
        (tmp_path / f"{split}_reid.json").write_text(json.dumps(PREPARED))
    pairs = [] if name == "captions" else ["DATASETS.ANNOTATION_DIR", tmp_path]
    assert read(name, tmp_path, *pairs).train[0].back_translation == "a man wearing a dark coat"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A working directory with the page's own captions as `folder`, and as `csv` in my_crops."""
    for path, note in tree(block_of(PAGE, "text", "my_captions/")).items():
        if path.endswith(".jpg"):
            save_image(tmp_path / path)
        elif path.endswith(".txt"):
            (tmp_path / path).write_text("\n".join(re.findall(r"`(.*?)`", note)))
    table = block_of(PAGE, "csv", "path,pid,split,caption\n")
    for line in table.splitlines()[1:]:
        save_image(tmp_path / "my_crops" / line.split(",")[0])
    (tmp_path / "my_crops" / "dataset.csv").write_text(table)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)


def test_both_forms_of_own_captions_say_the_same(own):
    folder, table = (read(*place) for place in (("folder", "my_captions"), ("csv", "my_crops")))
    assert [record[1:3] for record in folder.train] == [record[1:3] for record in table.train]
    assert folder.num_train_pids == 2 and len(folder.train) == 5 and len(folder.gallery) == 3
    texts = [{(caption.replace(",", ""), pid) for caption, pid in data.queries} for data in (folder, table)]
    assert texts[0] == texts[1] and len(texts[0]) == 2


def test_the_table_of_two_languages_is_read(tmp_path):
    table = block_of(PAGE, "csv", "path,pid,split,caption,caption_zh\n")
    for line in table.splitlines()[1:]:
        save_image(tmp_path / line.split(",")[0])
    (tmp_path / "dataset.csv").write_text(table, "utf-8")
    (setting,) = re.findall(r"`(DATASETS\.LANGUAGES \S.*)`", (ROOT / PAGE).read_text())
    words = shlex.split(setting.replace(", 'ru'", "").replace("['']", "['zh', '']"))
    dataset = read("csv", tmp_path, *words)
    assert [record.language for record in dataset.train] == ["zh", "", "zh", "zh", ""]
    assert dataset.trial_names == ("caption", "caption_zh")


COMMANDS = {
    command[1]: command
    for block in BLOCKS
    if block.where.startswith(PAGE) and "my_captions" in block.text and block.language == "bash"
    for _, command in commands(block)
}


def test_own_captions_pass_the_check(own, monkeypatch, capsys):
    command = COMMANDS["tools/check_dataset.py"]
    monkeypatch.setattr(sys, "argv", [*command[1:], "DATALOADER.NUM_WORKERS", "0"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / command[1]), run_name="__main__")
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    rows = re.findall(r"^\| (.*?) \| (.*?) \|$", (ROOT / PAGE).read_text(), re.MULTILINE)
    told = [title for row in rows for title in row]
    for title in (*CaptionFindings.ERRORS.values(), *CaptionFindings.NOTES.values()):
        assert any(title in line for line in lines), title
    assert {"captions of which cleaning leaves nothing", "images without caption"} <= {*told}


@pytest.mark.slow
def test_own_captions_train(own, monkeypatch):
    write_tower(Path("tiny.json"), vision_cfg=VISION)
    quick = {
        "MODEL.NAME": "tiny.json",
        "MODEL.PRETRAIN_CHOICE": "none",
        "INPUT.SIZE_TRAIN": "[32, 32]",
        "INPUT.SIZE_TEST": "[32, 32]",
        "DATALOADER.NUM_WORKERS": "0",
        "SOLVER.MAX_EPOCHS": "1",
        "SOLVER.WARMUP_EPOCHS": "0",
    }
    config, args, main = settings_of(COMMANDS["train_tbps.py"], words(quick))
    main(config, args)
    (epoch,) = map(json.loads, Path(config.OUTPUT_DIR, "metrics.jsonl").read_text().splitlines())
    assert epoch["loss_nitc"] > 0
