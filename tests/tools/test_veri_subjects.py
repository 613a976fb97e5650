import json
import subprocess
import sys
from pathlib import Path

import pytest

from datasets.readers.veri import veri
from datasets.subjects import read_subjects
from tools.veri_subjects import main

ROOT = Path(__file__).parents[2]
LABELS = """<?xml version="1.0" encoding="gb2312"?>
<TrainingImages Version="1.0"><Items note="车辆">
<Item imageName="0002_c001_00016450_0.jpg" vehicleID="0002" cameraID="c001" colorID="5" typeID="1" />
<Item imageName="0012_c002_00016460_0.jpg" vehicleID="0012" cameraID="c002" colorID="1" typeID="2" />
<Item imageName="0041_c002_00016470_0.jpg" vehicleID="0041" cameraID="c002" colorID="1" typeID="0" />
</Items></TrainingImages>
"""
PHRASES = {"0002": "sedan, a type of vehicle", "0012": "pickup truck, a type of vehicle"}


@pytest.fixture
def folder(tmp_path):
    """VeRi with three training vehicles and the label files that come with it."""
    folder = tmp_path / "data/VeRi"
    names = ("0002_c001_00016450_0", "0012_c002_00016460_0", "0041_c002_00016470_0")
    images = [f"image_train/{name}.jpg" for name in names]
    for name in (*images, "image_query/0001_c001_1_0.jpg", "image_test/0001_c002_1_0.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "train_label.xml").write_bytes(LABELS.encode("gb2312"))
    (folder / "list_type.txt").write_text("1 sedan\n2 pickup truck\n")
    return folder


@pytest.mark.slow
def test_it_runs_as_a_program_from_another_folder(folder, tmp_path):
    command = [sys.executable, ROOT / "tools/veri_subjects.py", "--out", "types.json"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "2 identities with a type, 0 of them with several" in result.stdout
    assert "1 without a type are left out" in result.stdout
    assert result.stdout.endswith("\nWritten: types.json, phrases of 2 identities\n")
    assert json.loads((tmp_path / "types.json").read_text()) == PHRASES


def test_training_reads_what_it_writes(folder, tmp_path):
    out = tmp_path / "types.json"
    assert main(["--root", str(folder), "--out", str(out)]) == 0
    assert read_subjects(out, veri(folder.parent).train, "vehicle") == [*PHRASES.values(), "vehicle"]


def ends(capsys, *words):
    with pytest.raises(SystemExit) as end:
        main(list(map(str, words)))
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    return error


def test_a_file_is_replaced_only_when_asked(folder, tmp_path, capsys):
    out = tmp_path / "types.json"
    out.write_text("mine")
    words = ("--root", folder, "--out", out)
    assert f"--out {out} exists already; allowed: a new file, or --overwrite" in ends(capsys, *words)
    (folder / "list_type.txt").write_text("nothing")
    assert f"{folder / 'list_type.txt'}:1: the line is 'nothing'" in ends(capsys, *words, "--overwrite")
    assert out.read_text() == "mine"
    (folder / "other.txt").write_text("1 bus\n2 van\n")
    assert main([*map(str, words), "--types", str(folder / "other.txt"), "--overwrite"]) == 0
    assert json.loads(out.read_text())["0012"] == "van, a type of vehicle"


def test_labels_that_do_harm_end_in_one_line(folder, tmp_path, capsys):
    labels, words = folder / "train_label.xml", ("--root", folder, "--out", tmp_path / "new.json")
    labels.write_text('<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "&b;&b;">]><a>&c;</a>')
    assert f"{labels}:1: a document type; allowed: XML without DOCTYPE" in ends(capsys, *words)
    labels.write_text(LABELS.replace('typeID="1"', 'typeID="\x85[2J"').replace("gb2312", "utf-8"))
    assert r"xml:3: typeID is '\x85[2J'; allowed: 1, 2, or 0" in ends(capsys, *words)
    labels.write_text("<a>")
    assert f"{labels}:1: no valid XML" in ends(capsys, *words)
    labels.unlink()
    assert f"{labels}: no such file" in ends(capsys, *words)
    assert not (tmp_path / "new.json").exists()
