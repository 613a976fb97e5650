"""tools/split.py: the file that it writes, what it says, and what it refuses."""

import csv
import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path, PurePosixPath

import pytest
from PIL import Image

from config import cfg
from config.load import load_config
from datasets import NamingRule, make_dataset
from tools.split import main

TOOL = Path(__file__).parents[2] / "tools" / "split.py"
PEOPLE = ("anna", "ben", "carla", "dora", "eve", "finn")


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 16)).save(path)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """my_photos/{identity}/{n}_c{camera}.jpg, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for pid in PEOPLE:
        for camera in (1, 2):
            for n in (1, 2, 3):
                draw(Path("my_photos", pid, f"{n}_c{camera}.jpg"))
    return Path("my_photos")


def run(*words):
    return main([str(word) for word in words])


def read(file):
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def by_split(rows):
    found = defaultdict(list)
    for row in rows:
        found[row["split"]].append(row)
    return found


def test_folders_become_a_data_set(folders, capsys):
    assert run("--images", folders, "--test_share", 0.5) == 0
    rows = by_split(read("my_photos/dataset.csv"))
    assert {split: len(own) for split, own in rows.items()} == {"train": 18, "query": 6, "gallery": 12}
    pids = {split: {row["pid"] for row in own} for split, own in rows.items()}
    assert pids["query"] == pids["gallery"] and {*pids["query"], *pids["train"]} == {*PEOPLE}
    assert all(
        row["path"].startswith(f"{row['pid']}/") and f"_c{row['camid']}." in row["path"]
        for own in rows.values()
        for row in own
    )
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert not err and lines[0] == "36 images in my_photos, split with seed 0"
    assert lines[3:6] == [
        "train   |      3 |       18 |         2",
        "query   |      3 |        6 |         2",
        "gallery |      3 |       12 |         2",
    ]
    assert lines[6] == "Written: my_photos/dataset.csv"
    assert "SOLVER.STAGE2.IMS_PER_BATCH 12" in lines[8]
    _, pairs = lines[7].split("Read it with ")
    dataset = make_dataset(load_config(cfg, "", shlex.split(pairs)))
    assert [len(records) for records in (dataset.train, dataset.query, dataset.gallery)] == [18, 6, 12]
    assert all(Path(record.path).is_file() for record in (*dataset.train, *dataset.test_records()))


def test_equal_seeds_give_equal_files(folders):
    texts = []
    for seed in (0, 0, 1):
        assert run("--images", folders, "--test_share", 0.5, "--seed", seed, "--overwrite") == 0
        texts.append(Path("my_photos/dataset.csv").read_text())
    assert texts[0] == texts[1] != texts[2]


def test_a_flat_folder_with_a_rule(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for pid in ("0007", "8", "9", "x"):
        for camera in ("hall", "gate"):
            draw(Path("my photos", f"{pid}-{camera}-1.png"))
    draw(Path("my photos", "IMG_1.png"))
    options = ("--images", "my photos", "--name", "{pid}-{camid}-*", "--test_share", "0.5")
    assert run(*options, "--out", "split.csv") == 0
    rows = read("split.csv")
    assert {(row["pid"], row["camid"]) for row in rows} >= {("0007", "hall"), ("x", "gate")}
    assert len(rows) == 8
    out = capsys.readouterr().out
    assert "not read: 1 (without identity by the rule of names), such as my photos/IMG_1.png" in out
    pairs = shlex.split(next(line for line in out.splitlines() if "Read it" in line).split("with ")[1])
    assert pairs[3:] == ["my photos", "DATASETS.CSV", str(tmp_path / "split.csv")]
    assert len(make_dataset(load_config(cfg, "", pairs)).train) == 4


@pytest.mark.parametrize(("share", "rows"), [("0", ["train"]), ("1", ["query", "gallery"])])
def test_only_training_or_only_tests(folders, capsys, share, rows):
    assert run("--images", folders, "--test_share", share) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("split "))
    assert [line.split()[0] for line in lines[start + 2 : start + 2 + len(rows)]] == rows
    assert lines[start + 2 + len(rows)].startswith("Written")
    assert {row["split"] for row in read("my_photos/dataset.csv")} == {*rows}


def test_one_camera_asks_and_the_other_is_the_gallery(folders, capsys):
    draw(folders / "gus" / "1_c2.jpg")
    options = ("--images", folders, "--test_share", 0.5, "--query_camera", 1)
    assert run(*options) == 0
    out = capsys.readouterr().out
    assert (
        "identities of the queries' or of other cameras only, whose queries would have no match: 1, " in out
    )
    assert "query   |      4 |       12 |         1\ngallery |      4 |       12 |         1\n" in out
    rows = by_split(read("my_photos/dataset.csv"))
    assert {row["camid"] for row in rows["query"]} == {"1"}
    assert {row["camid"] for row in rows["gallery"]} == {"2"}
    assert run(*options, "--queries", 1, "--overwrite") == 0
    told = "not read: 8 (of the queries' camera, which is not in the gallery), such as my_photos/"
    assert told in capsys.readouterr().out
    assert len(by_split(read("my_photos/dataset.csv"))["query"]) == 4


def test_without_cameras_there_is_no_column(folders):
    assert run("--images", folders, "--name", "{pid}/*") == 0
    assert read("my_photos/dataset.csv")[0].keys() == {"path", "pid", "split"}


def test_what_is_left_out_is_counted(folders, capsys):
    draw(folders / "top.jpg")
    draw(folders / "anna" / ".hidden.jpg")
    draw(folders / "ben" / "line\nbreak_c1.jpg")
    draw(folders / "-1" / "nobody_c1.jpg")
    draw(folders / "single" / "1_c1.jpg")
    assert run("--images", folders, "--test_share", 0.5) == 0
    out = capsys.readouterr().out
    told = (
        "1 (hidden or of a service), such as my_photos/anna/.hidden.jpg; "
        "1 (with a name that a CSV file cannot hold), such as my_photos/ben/line\\nbreak_c1.jpg; "
        "1 (without identity by the rule of names), such as my_photos/top.jpg"
    )
    assert f"my_photos: not read: {told}\n" in out
    assert "would have no match: 1, for training only: single\n" in out
    rows = {row["path"]: row["split"] for row in read("my_photos/dataset.csv")}
    assert rows["-1/nobody_c1.jpg"] == "gallery" and rows["single/1_c1.jpg"] == "train"
    assert run("--images", folders, "--test_share", 0, "--overwrite") == 0
    assert "1 (of the identity -1, which is only tested)" in capsys.readouterr().out


def test_spaces_around_a_name_are_not_part_of_it(folders):
    """A table is read without them, so that one person would be on both sides."""
    for n in (1, 2):
        draw(folders / "anna " / f"b{n}_c1.jpg")
    assert run("--images", folders, "--test_share", 0.5) == 0
    rows = read("my_photos/dataset.csv")
    sides = {row["split"] == "train" for row in rows if row["pid"] == "anna"}
    assert len(sides) == 1 and sum(row["pid"] == "anna" for row in rows) == 8


def test_one_identity_alone_says_nothing(folders, capsys):
    for share, is_told in ((0.2, True), (0.3, False), (0, False)):
        assert run("--images", folders, "--test_share", share, "--overwrite") == 0
        assert ("1 identity is in the gallery, which every query finds" in capsys.readouterr().out) == is_told


def test_the_rules_that_the_docs_show():
    page = (TOOL.parents[1] / "docs" / "data.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\{pid\S*)` \| `(\S+)`(?:: identity (\w+), camera (\w+))?", page, re.MULTILINE)
    assert len(rows) == 5
    for rule, path, *labels in rows:
        found = NamingRule(rule).read(PurePosixPath(path))
        assert found and (not any(labels) or [*found] == labels)


def test_a_former_file_is_kept(folders, capsys):
    (folders / "dataset.csv").write_text("mine")
    with pytest.raises(SystemExit) as end:
        run("--images", folders)
    err = capsys.readouterr().err
    assert end.value.code == 2 and "dataset.csv exists already; allowed: a new file, or --overwrite" in err
    assert (folders / "dataset.csv").read_text() == "mine"
    assert run("--images", folders, "--overwrite") == 0
    assert len(read(folders / "dataset.csv")) == 36


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--images", "gone"], "--images gone: no such folder"),
        (["--images", "empty"], "--images empty: 0 images there, at least 1 is needed"),
        (["--images", "flat"], "none of the 4 images in flat is in a folder of its identity, such as"),
        (["--images", "flat"], "--name '{pid}_c{camid:d}*' would fit"),
        (["--images", "flat", "--name", "{pid:d}_*"], "none of the 4 images in flat fits --name {pid:d}_*"),
        (["--images", "flat", "--name", "{pid}*"], "--name is '{pid}*'; allowed: a text between"),
        (["--images", "splits"], "the folders query, train in splits are no identities"),
        (
            ["--images", "read"],
            "the folders gallery, query in read are no identities; allowed: a --name that",
        ),
        (["--images", "nested"], "--name '{pid}/{camid}/*' would fit"),
        (
            ["--images", "in_splits"],
            "the folders test, train in in_splits are no identities; allowed: a --name",
        ),
        (["--images", "my_photos", "--query_camera", "3"], "--query_camera is '3'; allowed: 1, 2"),
        (["--images", "read"], "; DATASETS.NAMES folder reads them as they are"),
        (["--images", "none"], "pid is 'None', as tables write an empty cell"),
        (["--images", "my_photos", "--out", "gone/a.csv"], "no file can be written in"),
        (["--images", "my_photos", "--test_share", "0.05"], "--test_share 0.05 leaves 0 of 6 identities"),
    ],
)
def test_wrong_folders_and_rules_end_in_one_line(folders, capsys, options, told):
    Path("empty").mkdir()
    for name in ("anna_c1", "anna_c2", "ben_c1", "ben_c2"):
        draw(Path("flat", f"{name}.jpg"))
    for name in ("anna/hall/1.jpg", "anna/gate/1.jpg", "ben/hall/1.jpg"):
        draw(Path("nested", name))
        draw(Path("in_splits", "train" if "anna" in name else "test", name))
    for name in ("train/1.jpg", "query/2.jpg", "None/a.jpg"):
        draw(Path("none" if "None" in name else "splits", name))
    for name in ("gallery/0/a_c1.jpg", "gallery/1/a_c1.jpg", "query/1/a_c2.jpg"):
        draw(Path("read", name))
    with pytest.raises(SystemExit) as end:
        run(*options)
    out, err = capsys.readouterr()
    assert end.value.code == 2 and told in err and err.count("\n") == 1 and not out
    assert not Path(options[1], "dataset.csv").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--test_share", "2"], "argument --test_share: '2'; allowed: 0 to 1"),
        (["--test_share", "x"], "argument --test_share: 'x'; allowed: 0 to 1"),
        (["--queries", "0"], "argument --queries: '0'; allowed: 1 or more"),
        (["--test_share", "0", "--query_camera", "1"], "--query_camera needs a --test_share above 0"),
    ],
)
def test_wrong_options_end_with_the_usage(folders, capsys, options, told):
    with pytest.raises(SystemExit) as end:
        run("--images", folders, *options)
    err = capsys.readouterr().err
    assert end.value.code == 2 and err.startswith("usage: ") and told in err


def test_names_that_are_no_utf8(folders, capsys):
    (folders / "finn").rename(folders / os.fsdecode(b"\xff"))
    assert run("--images", folders, "--test_share", 0.4) == 0
    out = capsys.readouterr().out
    assert r"6 (with a name that a CSV file cannot hold), such as my_photos/\udcff/" in out
    assert {row["pid"] for row in read("my_photos/dataset.csv")} == {*PEOPLE} - {"finn"}


@pytest.mark.slow
def test_it_runs_as_a_program_from_another_folder(folders):
    command = [sys.executable, TOOL, "--images", "."]
    result = subprocess.run(command, cwd=folders, capture_output=True, text=True, check=True)
    assert "Written: dataset.csv\n" in result.stdout and not result.stderr
