import json
import subprocess
import sys
from pathlib import Path

import pytest

from datasets.readers.market1501 import market1501
from tools import draw_people

ROOT = Path(__file__).parents[2]
SMALL = [
    "--train_ids",
    "2",
    "--test_ids",
    "1",
    "--images_per_camera",
    "2",
    "--cameras",
    "2",
    "--distractors",
    "1",
]
SMALL += ["--size", "48", "24"]


@pytest.mark.slow
def test_it_runs_as_a_program_from_another_folder(tmp_path):
    command = [sys.executable, ROOT / "tools" / "draw_people.py", "--out", "data", *SMALL]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    folder = Path("data", "Market-1501-v15.09.15")
    assert result.stdout == f"16 pictures of 3 people by 2 cameras in {folder}\n"
    assert len(market1501(tmp_path / "data").train) == 8


def test_an_existing_data_set_needs_overwrite(tmp_path, capsys):
    command = ["--out", str(tmp_path), *SMALL]
    assert draw_people.main(command) == 0
    assert draw_people.main([*command, "--seed", "1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'Market-1501-v15.09.15'} exists already")
    assert error.count("\n") == 1
    assert draw_people.main([*command, "--seed", "1", "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--cameras", "9"], "error: cameras is 9; allowed: 2 to 6\n"),
        (["--train_ids", "0"], "error: train_ids is 0; allowed: 1 to 1500\n"),
    ],
)
def test_wrong_numbers_end_in_one_line_and_status_2(tmp_path, capsys, option, message):
    assert draw_people.main(["--out", str(tmp_path), *SMALL, *option]) == 2
    assert capsys.readouterr().err == message


def test_a_file_in_the_way_ends_in_one_line_and_status_2(tmp_path, capsys):
    (tmp_path / "taken").touch()
    assert draw_people.main(["--out", str(tmp_path / "taken"), *SMALL]) == 2
    error = capsys.readouterr().err
    assert "taken" in error
    assert error.count("\n") == 1


def test_captions_are_drawn_in_their_prepared_form(tmp_path, capsys):
    sizes = [*SMALL[: SMALL.index("--distractors")], "--size", "48", "24"]
    assert draw_people.main(["--out", str(tmp_path), *sizes, "--captions", "3"]) == 0
    folder = tmp_path / "drawn_captions"
    assert capsys.readouterr().out == f"12 pictures of 3 people by 2 cameras in {folder}\n"
    rows = json.loads((folder / "train_reid.json").read_text())
    assert [len(row["captions"]) for row in rows] == [3] * 8


def test_captions_in_further_languages(tmp_path):
    sizes = [*SMALL[: SMALL.index("--distractors")], "--size", "48", "24"]
    words = ["--out", str(tmp_path), *sizes, "--captions", "2", "--languages", "zh", "ru"]
    assert draw_people.main(words) == 0
    (row, *_) = json.loads((tmp_path / "drawn_captions/test_reid.json").read_text())
    assert [len(row[name]) for name in ("captions", "captions_zh", "captions_ru", "captions_bt_ru")] == [
        2
    ] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--languages", "zh"], "error: --languages is zh; allowed: only with --captions\n"),
        (
            ["--captions", "1", "--languages", "zh", "xx"],
            "error: languages has 'xx'; allowed: zh, ru, next to English\n",
        ),
    ],
)
def test_languages_that_cannot_be_are_refused(tmp_path, capsys, options, message):
    sizes = SMALL[: SMALL.index("--distractors")]
    assert draw_people.main(["--out", str(tmp_path), *sizes, *options]) == 2
    assert capsys.readouterr().err == message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("captions", [[], ["--captions", "1"]])
def test_a_domain_is_drawn_and_recorded(tmp_path, captions):
    sizes = SMALL[: SMALL.index("--distractors")]
    assert draw_people.main(["--out", str(tmp_path), *sizes, *captions, "--domain", "station"]) == 0
    (record,) = tmp_path.glob("*/drawn.json")
    assert json.loads(record.read_text())["domain"] == "station"


def test_captions_have_no_distractors(tmp_path, capsys):
    assert draw_people.main(["--out", str(tmp_path), *SMALL, "--captions", "3"]) == 2
    error = capsys.readouterr().err
    assert "--distractors is 1" in error and "--captions" in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
