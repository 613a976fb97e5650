"""The examples of docs/extend.md, put into a copy of the repository and run there together."""

import itertools
import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.docs.reading import LIBRARY, ROOT, VISION, block_of, blocks, commands, save_image
from tests.toys import words, write_tower

PAGE = "docs/extend.md"


@pytest.fixture
def copy(tmp_path):
    """The programs and rooms with the page's files and differences, and the images that its labels name."""
    for name in (*LIBRARY, "configs", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", tmp_path)
    for block in blocks(ROOT / PAGE):
        name, _, text = block.text.partition("\n")
        path = tmp_path / name.removeprefix("# ")
        if block.language == "diff":
            before, after = ("".join(line[1:] for line in lines(text, but)) for but in ("+", "-"))
            assert path.read_text().count(before) == 1, block.where
            path.write_text(path.read_text().replace(before, after))
        elif name.startswith("# "):
            assert not path.exists()
            path.write_text(text)
    labels = block_of(PAGE, "json", "{")
    for row in itertools.chain(*json.loads(labels).values()):
        save_image(tmp_path / "data/json_people" / row["file"])
    (tmp_path / "data/json_people/labels.json").write_text(labels)
    return tmp_path


def lines(text, but):
    return [line for line in text.splitlines(keepends=True) if not line.startswith(but)]


@pytest.mark.slow
def test_the_examples_work_together(copy):
    tower = str(write_tower(copy / "tiny.json", vision_cfg=VISION))
    quick = {"MODEL.NAME": tower, "MODEL.PRETRAIN_CHOICE": "none", "DATALOADER.NUM_WORKERS": "0"}
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    shown = ""
    for block in blocks(ROOT / PAGE):
        for line, command in commands(block) if block.language == "bash" else ():
            more = words(quick | ({"SOLVER.MAX_EPOCHS": "1"} if command[1] == "train.py" else {}))
            program = [sys.executable, *command[1:], *more]
            done = subprocess.run(program, cwd=copy, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, (line, done.stderr)
            shown += done.stdout
    assert "train   |      2 |        4 |         2" in shown
    (record,) = map(json.loads, (copy / "logs/spread/metrics.jsonl").read_text().splitlines())
    assert record["loss_spread"] > 0 and record["median_rank"] >= 1
    assert (copy / "logs/tracked/mine_baseline.csv").read_text().startswith("1,")
