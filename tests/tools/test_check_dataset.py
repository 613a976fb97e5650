"""tools/check_dataset.py: what it prints and writes, and how it ends."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from datasets import FileFacts, ImageRecord, ReIDDataset, Trial
from tests.tools.checking import draw, run
from tools.check_dataset import main, unmatched_identities

TOOL = Path(__file__).parents[2] / "tools" / "check_dataset.py"
NAMES = [f"{split}/{pid}/{pid}_c{camera}.jpg" for split, pids, cameras in (
    ("train", "ab", (1, 2)), ("query", "de", (1,)), ("gallery", "de", (2,))
) for pid in pids for camera in cameras]  # fmt: skip


@pytest.fixture
def tree(tmp_path):
    """A good data set of the kind `folder`."""
    root = tmp_path / "people"
    for seed, name in enumerate(NAMES):
        draw(root / name, seed)
    return root


def words(root, *options, workers=0):
    pairs = [
        "DATASETS.NAMES",
        "folder",
        "DATASETS.ROOT_DIR",
        str(root),
        "DATALOADER.NUM_WORKERS",
        str(workers),
    ]
    return [*map(str, options), *pairs]


@pytest.mark.parametrize("workers", [0, -1])
def test_a_good_data_set(tree, capsys, workers):
    status, lines = run(words(tree, workers=workers), capsys)
    assert status == 0
    assert lines[0] == "Data set folder: 8 image files"
    assert lines[3] == "train   |      2 |        4 |         2"
    assert len(lines) == 6 + 12 and all(line.endswith(": 0") for line in lines[6:])


def test_what_should_be_put_right(tree, tmp_path, capsys):
    train, gallery = tree / "train", tree / "gallery"
    (train / "a" / "a_c2.jpg").write_bytes(b"")
    (train / "b" / "cut.jpg").write_bytes((train / "b" / "b_c1.jpg").read_bytes()[:300])
    (train / "b" / "gone.jpg").symlink_to(tree / "nowhere")
    (train / "a" / "copy.jpg").write_bytes((train / "b" / "b_c1.jpg").read_bytes())
    (gallery / "d" / "copy.jpg").write_bytes((train / "a" / "a_c1.jpg").read_bytes())
    report = tmp_path / "report.json"
    status, lines = run(words(tree, "--report", report), capsys)
    assert status == 1
    text = "\n".join(lines)
    assert (
        f"files that cannot be read as images: 1\n  {train}/b/cut.jpg: cannot be read as an image: " in text
    )
    assert f"files of zero bytes: 1\n  {train}/a/a_c2.jpg\n" in text
    assert f"listed files that are absent: 1\n  {train}/b/gone.jpg\n" in text
    line = f"{train}/a/copy.jpg (identity a) = {train}/b/b_c1.jpg (identity b)"
    assert f"images under several identities: 1\n  {line}\n" in text
    line = f"{train}/a/a_c1.jpg = {gallery}/d/copy.jpg"
    assert f"training images in the test splits: 1\n  {line}\n" in text
    told = json.loads(report.read_text())
    assert (told["dataset"], told["files"], told["clean"]) == ("folder", 12, False)
    counts = {name: len(found) for name, found in told["errors"].items()}
    assert counts == dict.fromkeys(told["errors"], 1) | {"not_there": 0}
    assert told["errors"]["train_in_test"] == [line] and not any(told["notes"].values())


def test_notes_are_no_failure(tree, tmp_path, capsys):
    (tree / "train" / "a" / "copy.jpg").write_bytes((tree / "train" / "a" / "a_c1.jpg").read_bytes())
    (tree / "train" / "b" / "b_c1.jpg").unlink()
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (20, 40)).save(tree / "query" / "e" / "e_c1.jpg", exif=exif)
    Image.new("LA", (20, 40)).save(tree / "gallery" / "e" / "e_c2.jpg", "PNG")
    (tree / "gallery" / "d" / "d_c2.jpg").rename(tree / "gallery" / "d" / "d_c1.jpg")
    status, lines = run(words(tree, "--report", tmp_path / "report.json"), capsys)
    assert status == 0
    text = "\n".join(lines)
    assert "note: images of one identity in several files: 1\n" in text
    assert f"note: images with an EXIF orientation: 1\n  {tree}/query/e/e_c1.jpg: 6" in text
    line = f"{tree}/gallery/e/e_c2.jpg: transparency, which is left out"
    assert f"note: images that reading as RGB of 8 bits changes: 1\n  {line}" in text
    assert f"note: training identities of one image: 1\n  identity b, {tree}/train/b/b_c2.jpg" in text
    line = f"identity d, {tree}/query/d/d_c1.jpg"
    assert f"note: query identities without a gallery image from another camera: 1\n  {line}" in text
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["clean"] and told["notes"]["unmatched"] == [line]


@pytest.mark.parametrize(
    ("trials", "found"),
    [
        ([([("q1", 0, 0), ("q2", 1, 0)], [("g1", 0, 1), ("g2", 1, 1), ("g3", 7, 0)])], []),
        ([([("q1", 0, 0), ("q2", 1, 0)], [("g1", 0, 0), ("g2", 1, 1)])], ["identity 0, q1"]),
        (
            [([("q1", 0, -1), ("q2", 1, 2)], [("q1", 0, -1), ("g2", 1, -1)])],
            ["identity 0, q1"],
        ),
        ([([("q1", 0, -1), ("q2", 1, -1)], [("copy of q1", 0, -1), ("g2", 1, -1)])], ["identity 0, q1"]),
        ([([("q4", 9, 0), ("q2", 1, 0)], [("g2", 1, 0)])] * 2, ["identity 9, q4", "identity 1, q2"]),
    ],
)
def test_queries_that_a_test_leaves_out(trials, found):
    as_records = [Trial(*([ImageRecord(*row, 0) for row in part] for part in trial)) for trial in trials]
    dataset = ReIDDataset("toy", [], as_records, "person")
    files = {record.path: FileFacts(record.path[-2:]) for record in dataset.test_records()}
    assert unmatched_identities(dataset, files) == found


def test_identities_are_named_as_written(tree, tmp_path, capsys):
    """Also where a name has bytes that are no UTF-8."""
    person, odd = tree / "train" / "машина35", tree / "query" / os.fsdecode(b"\xff")
    (tree / "train" / "b").rename(person)
    (tree / "query" / "d").rename(odd)
    (person / "b_c1.jpg").unlink()
    status, lines = run(words(tree, "--report", tmp_path / "report.json"), capsys)
    text = (tmp_path / "report.json").read_text("utf-8")
    assert status == 0 and f"  identity машина35, {person}/b_c2.jpg" in lines and "identity машина35" in text
    unmatched = [f"identity {odd.name}, {path}" for path in sorted(map(str, odd.iterdir()))][:1]
    assert json.loads(text)["notes"]["unmatched"] == unmatched
    assert f"  identity \\udcff, {tree}/query/\\udcff/" in "\n".join(lines)


@pytest.mark.parametrize(("options", "shown"), [((), 5), (("--show", 2), 2), (("--show", 0), 7)])
def test_the_first_of_each_kind_are_shown(tree, capsys, options, shown):
    for number in range(7):
        (tree / "train" / "a" / f"{number}.jpg").touch()
    _, lines = run(words(tree, *options), capsys)
    start = lines.index("files of zero bytes: 7") + 1
    assert lines[start : start + shown] == [f"  {tree}/train/a/{number}.jpg" for number in range(shown)]
    assert lines[start + shown] == (
        f"  and {7 - shown} more" if shown < 7 else "listed files that are absent: 0"
    )


def test_the_test_split_alone(tree, capsys):
    (tree / "train" / "a" / "a_c1.jpg").write_text("no image")
    assert run(words(tree, "--test_only"), capsys)[0] == 0
    (tree / "query" / "d" / "d_c1.jpg").write_text("no image")
    status, lines = run(words(tree, "--test_only"), capsys)
    assert status == 1 and lines[0] == "Data set folder: 4 image files"


@pytest.mark.parametrize(
    ("gone", "files", "rows"), [("train", 4, ["query", "gallery"]), ("gallery", 4, ["train"])]
)
def test_it_goes_on_with_the_splits_that_are_there(tree, tmp_path, capsys, gone, files, rows):
    shutil.rmtree(tree / gone)
    (tree / "train" if gone != "train" else tree / "query").joinpath("broken").mkdir()
    status, lines = run(words(tree, "--report", tmp_path / "report.json"), capsys)
    assert status == 1 and lines[0] == f"Data set folder: {files} image files"
    assert [line.split()[0] for line in lines[3 : 3 + len(rows)]] == rows
    told = f"{tree}/{gone}: no such folder, expected there: <identity>/<image> (tools/split.py makes splits"
    start = lines.index("splits that are not there: 1")
    assert lines[start + 1].startswith(f"  {told}")
    (line,) = json.loads((tmp_path / "report.json").read_text())["errors"]["not_there"]
    assert line.startswith(told)


def test_a_list_without_training_rows(tree, capsys):
    (tree / "dataset.csv").write_text(
        "path,pid,split\nquery/d/d_c1.jpg,d,query\ngallery/d/d_c2.jpg,d,gallery\n"
    )
    pairs = ["DATASETS.NAMES", "csv", "DATASETS.ROOT_DIR", str(tree), "DATALOADER.NUM_WORKERS", "0"]
    status, lines = run(pairs, capsys)
    assert status == 1
    assert f"  {tree}/dataset.csv: 0 images in the train split, at least 1 is needed" in lines
    assert run(["--test_only", *pairs], capsys)[0] == 0


def test_a_folder_that_is_not_there(tmp_path, capsys):
    """Also one without any split: the error is that of the first one."""
    for root, told in ((tmp_path / "gone", "gone: no such folder"), (tmp_path, "train: no such folder")):
        with pytest.raises(SystemExit) as end:
            main(words(root))
        out, err = capsys.readouterr()
        assert end.value.code == 2 and told in err and err.count("\n") == 1 and not out


def test_a_file_name_that_cannot_be_printed(tree, capsys):
    (tree / "train" / "a" / "x\n\udcff.jpg").touch()
    _, lines = run(words(tree), capsys)
    assert f"  {tree}/train/a/x\\n\\udcff.jpg" in lines


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--show", "-1"), "--show is -1; allowed: 0 (all) or more"),
        (("--report", "nowhere/report.json"), "--report nowhere/report.json: no file can be written"),
        (("--config_file", "nowhere.yml"), "nowhere.yml"),
    ],
)
def test_wrong_options(tree, capsys, options, told):
    with pytest.raises(SystemExit) as end:
        main(words(tree, *options))
    out, err = capsys.readouterr()
    assert end.value.code == 2 and told in err and err.count("\n") == 1 and not out


@pytest.mark.slow
def test_it_runs_as_a_program_from_another_folder(tree):
    (tree / "query" / "d" / "d_c1.jpg").write_text("no image")
    command = [sys.executable, TOOL, *words(".", "--test_only", workers=-1)]
    result = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    assert result.returncode == 1 and not result.stderr
    assert "files that cannot be read as images: 1\n  query/d/d_c1.jpg: cannot be read" in result.stdout
