"""What a reader can copy from README.md and docs/ is parsed, run or loaded."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from config import cfg
from config.check import check_config
from config.load import load_config
from datasets import make_dataloader, make_dataset
from tests.docs.reading import (
    AFTERWARDS,
    BLOCKS,
    CAPTION_SETS,
    COMMANDS,
    DATA_SETS,
    OPTION_FILES,
    OWN,
    ROOT,
    block_of,
    is_program,
    is_tool,
    save_image,
    settings_of,
    tree,
)


@pytest.mark.parametrize(("line", "words"), [pytest.param(*command, id=command[0]) for command in COMMANDS])
def test_every_command_can_be_typed(line, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    if is_program(words):
        config, _, _ = settings_of(words)
        check_config(config)
        names = CAPTION_SETS if "_tbps" in words[1] else DATA_SETS
        assert config.DATASETS.NAMES in (*names, "csv", "folder") and config.OUTPUT_DIR
        assert bool(config.TEST.WEIGHT) == words[1].startswith(("test", "zero_shot"))
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[0] == "pip":
        assert words[1:3] == ["install", "-r"] and (ROOT / words[3]).is_file()
    elif is_tool(words):
        options = [word for word in words[2:] if word.startswith("--")]
        source = "".join((ROOT / name).read_text() for name in (words[1], *OPTION_FILES))
        assert all(f'"{option}"' in source for option in options)
    else:
        assert words in (["python3", "-m", "venv", ".venv"], ["source", ".venv/bin/activate"]), line


def test_the_five_variants_are_trained_on_all_data_sets(monkeypatch):
    monkeypatch.chdir(ROOT)
    seen = set()
    for _, words in COMMANDS:
        if is_program(words) and words[1].startswith("train"):
            config, _, _ = settings_of(words)
            sie = config.MODEL.get("SIE_CAMERA", False)
            variant = (config.MODEL.NAME, words[1], sie, tuple(config.MODEL.STRIDE_SIZE))
            seen.add((config.DATASETS.NAMES, *variant))
    variants = [("RN50", f"train{kind}.py", False, (16, 16)) for kind in ("", "_clipreid")]
    variants += [("ViT-B-16", f"train{kind}.py", False, (16, 16)) for kind in ("", "_clipreid")]
    variants += [("ViT-B-16", "train_clipreid.py", True, (12, 12))]
    assert seen >= {(name, *v) for name in ("market1501", "veri", "VehicleID") for v in variants}


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_data_tree_is_read(name, tmp_path):
    for path, note in tree(block_of("docs/data.md", "text", "data/")).items():
        if path.endswith(".jpg"):
            save_image(tmp_path / path)
        elif path.endswith(".txt") and note != "(optional)":
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text("\n".join(re.findall(r"`(.*?)`", note)) + "\n")
    pairs = ["DATASETS.NAMES", name, "DATASETS.ROOT_DIR", str(tmp_path / "data")]
    dataset = make_dataset(load_config(cfg, "", pairs))
    assert dataset.train and dataset.query and dataset.gallery
    assert dataset.query[0].pid == dataset.gallery[0].pid
    assert all(Path(record.path).is_file() for record in dataset.train + dataset.test_records())


@pytest.mark.parametrize(("name", "words"), list(zip(("folder", "csv"), OWN[:2], strict=True)))
def test_the_own_data_example_is_read(name, words, own_data, monkeypatch):
    monkeypatch.chdir(own_data)
    config, _, _ = settings_of(words)
    dataset = make_dataset(config)
    assert dataset.name == name and len(make_dataloader(config, dataset).train.batch_sampler.draws) == 8
    form = [[record[1:3] for record in split] for split in (dataset.train, dataset.query, dataset.gallery)]
    assert [sorted(pid for pid, _ in split) for split in form] == [[0, 0, 1, 1], [0, 1], [0, 1]]
    query_cameras, gallery_cameras = ({camid for _, camid in split} for split in form[1:])
    assert len(query_cameras) == len(gallery_cameras) == 1 and query_cameras != gallery_cameras


@pytest.mark.slow
def test_a_run_leaves_what_the_docs_list(reader):
    folder = reader / "logs" / "my_people"
    rows = dict(re.findall(r"^\| (`\S.*?) \| (.*?) \|$", (ROOT / "docs/runs.md").read_text(), re.MULTILINE))
    names = set(re.findall(r"`(.*?)`", " ".join(rows)))
    for name in ("ViT-B-16_60.pth", "ViT-B-16_60.json", "train_log.txt", "metrics.jsonl", "config.yml"):
        assert name in names and (folder / name).is_file()
    assert (folder / "ViT-B-16_stage1_2.pth").is_file()
    for name in ("test_log.txt", "features.npz", "metrics.json"):
        assert f"`{name}`" in "".join(rows) and (folder / name).is_file()
    told = set(re.findall(r"`(\w+)`", rows["`metrics.json`"]))
    assert told <= set(json.loads((folder / "metrics.json").read_text()))
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    told = re.findall(r"`(\w+)`", rows["`metrics.jsonl`"])
    assert {name for name in told if name != "loss_"} | {"loss_id", "loss_triplet", "loss_i2t"} == set(last)
    assert load_config(cfg, folder / "config.yml").DATASETS.NAMES == "folder"


@pytest.mark.slow
def test_the_log_lines_have_the_form_that_the_docs_show(reader):
    def form(text):
        lines = (line.partition("INFO: ")[2] for line in text.splitlines())
        return {re.sub(r"[\d.]+(e-\d+)?", "0", line) for line in lines}

    shown = form(block_of("docs/runs.md", "text", "2026-"))
    assert len(shown) == 5 and shown <= form((reader / "logs/my_people/train_log.txt").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({line.partition(":")[0] for line, _ in AFTERWARDS}))
def test_tools_go_on_with_what_a_run_left(page, reader, monkeypatch, capsys):
    """In the order of the page, since some go on with what another one has left."""
    monkeypatch.chdir(reader)
    for line, words in AFTERWARDS:
        if not line.startswith(f"{page}:"):
            continue
        if words[1] == "tools/export.py" and torch.__version__ < "2.7":
            pytest.skip("torch is too old")
        if words[1] == "tools/cross_domain.py":
            words = [*words, "MODEL.PRETRAIN_CHOICE", "none", "DATALOADER.NUM_WORKERS", "0"]
        if words[1] in ("tools/extract.py", "tools/search.py") or words[1:3] == ["tools/gallery.py", "add"]:
            words = [*words, "--workers", "0"]
        monkeypatch.setattr(sys, "argv", words[1:])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / words[1]), run_name="__main__")
        assert end.value.code == 0, (line, capsys.readouterr().err)
        for option in ("--out", "OUTPUT_DIR"):
            if option in words:
                out = reader / words[words.index(option) + 1]
                assert any(out.iterdir()) if out.is_dir() else out.stat().st_size > 0


PYTHON = [block for block in BLOCKS if block.language == "python"]


@pytest.mark.slow
@pytest.mark.parametrize("block", [pytest.param(block, id=block.where) for block in PYTHON])
def test_python_examples_run(block, reader, monkeypatch):
    monkeypatch.chdir(reader)
    if ".export(" in block.text and torch.__version__ < "2.7":
        pytest.skip("torch is too old")
    exec(compile(block.text, block.where, "exec"), {})
