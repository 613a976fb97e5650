"""File names with escape sequences, a forged line of the log and a byte that is no text, in all programs."""

import json
import logging
import os
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import yaml

import test_clipreid
import train_clipreid
from retrieval import RetrievalTask
from tests.processes import ENVIRONMENT, ROOT
from tests.toys import SETTINGS, save_noise, words
from tools import (
    check_dataset,
    colour_histogram,
    compare,
    cross_domain,
    evaluate,
    explain,
    extract,
    plots,
    rank,
    threshold,
)

FORGED = "2026-01-01 00:00:00,000 transreid INFO: mAP: 99.9%"
NAME = f"a\x1b[2Jb\n{FORGED}\r\u202e\udcff"
SHOWN = rf"a\x1b[2Jb\n{FORGED}\r\u202e\udcff"
SMALL = {
    "DATASETS.NAMES": "folder",
    "SOLVER.STAGE1.MAX_EPOCHS": "1",
    "SOLVER.STAGE2.MAX_EPOCHS": "1",
    "SOLVER.STAGE2.IMS_PER_BATCH": "4",
}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")


@pytest.fixture(scope="module")
def place(tmp_path_factory, toy_towers):
    """A folder of that name: two people of that name in ROOT_DIR `data`, and in `run` the run on them."""
    folder = tmp_path_factory.mktemp("names") / NAME
    for number, split in enumerate(("train", "query", "gallery")):
        for person in (1, 2):
            for camera in (1, 2):
                path = folder / "data" / split / f"{person}{NAME}" / f"{NAME}_c{camera}.jpg"
                save_noise(path, seed=10 * number + 2 * person + camera)
    settings = settings_of(folder) | {"OUTPUT_DIR": str(folder / "run"), "TEST.IMS_PER_BATCH": "4"}
    assert train_clipreid.main(argv=["--config_file", "", *words(settings)]) == 0
    pairs = words(settings | {"TEST.WEIGHT": str(next(folder.glob("run/toy-vit*.pth")))})
    assert test_clipreid.main(argv=["--config_file", "", *pairs]) == 0
    logging.getLogger("transreid").handlers.clear()
    return folder


def run(tool, options):
    """A tool as a program of its own: pytest's reports take no raw records of such names to other workers."""
    logger = logging.getLogger("transreid")
    logger.propagate, logger.handlers = False, []
    return tool.main([str(word) for word in options])


def settings_of(folder):
    return SETTINGS | SMALL | {"DATASETS.ROOT_DIR": str(folder / "data")}


def require_harmless(text):
    """Nothing in the output of a program but letters and line breaks, and no line begins in a name."""
    assert [line for line in text.split("\n") if not line.isprintable() or line.startswith(FORGED)] == []


@pytest.mark.parametrize("name", ["train_log.txt", "test_log.txt"])
def test_logs(place, name):
    text = (place / "run" / name).read_text(encoding="utf-8")
    require_harmless(text)
    assert SHOWN in text and "mAP: " in text


def weights(place):
    return str(next(place.glob("run/toy-vit*.pth")))


PROGRAMS = {
    "check": (check_dataset, lambda at: ["--report", at / "report.json", *words(settings_of(at))]),
    "colours": (colour_histogram, lambda at: words(settings_of(at))),
    "compare": (
        compare,
        lambda at: [at / "run", f"{NAME}={at / 'run'}", "--out", at / "comparison.md"],
    ),
    "cross": (
        cross_domain,
        lambda at: [
            *("--config_file", "", "--weight", f"{NAME}={weights(at)}", "--data", f"folder={at / 'data'}"),
            *words(settings_of(at) | {"OUTPUT_DIR": at / "cross"}),
        ],
    ),
    "evaluate": (
        evaluate,
        lambda at: ["--features", at / "run" / "features.npz", "--out", at / "metrics.json"],
    ),
    "explain": (explain, lambda at: [at / "run", "--out", at / "why.md"]),
    "extract": (
        extract,
        lambda at: [
            *("--weight", weights(at), "--images", at / "data", "--out", at / "new.npz"),
            *("--device", "cpu", "--workers", "0"),
        ],
    ),
    "plots": (plots, lambda at: ["training", "--out", at / "training.svg", at / "run"]),
    "rank": (
        rank,
        lambda at: ["--features", at / "run" / "features.npz", "--out", at / "rank", "--weight", weights(at)],
    ),
    "threshold": (
        threshold,
        lambda at: ["--features", at / "run" / "features.npz", "--out", at / "threshold"],
    ),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("broken", [False, True])
def test_programs(place, tmp_path, capsys, program, broken):
    """Of whole images, and of damaged ones, whose names are shown in warnings and errors."""
    at = shutil.copytree(place, tmp_path / NAME)
    for path in at.glob("data/*/*/*_c1.jpg") if broken else ():
        path.write_bytes(b"no image")
    if broken and program in ("compare", "evaluate", "explain", "plots", "threshold"):
        for path in at.glob("run/*.[nj]*"):
            path.write_bytes(b"{")
    tool, options = PROGRAMS[program]
    try:
        status = run(tool, options(at))
    except SystemExit as ended:
        status = ended.code
    out, err = capsys.readouterr()
    require_harmless(out + err)
    assert status in ((1, 2) if broken and program not in ("extract", "rank") else (0,))
    if program not in ("check", "colours", "evaluate") or broken:
        assert SHOWN in out + err


def test_what_is_written_keeps_or_escapes_the_names(place, tmp_path, capsys):
    shutil.copytree(place / "data", tmp_path / "data")
    for path in tmp_path.glob("data/train/*/*_c1.jpg"):
        path.write_bytes(b"no image")
    with pytest.raises(SystemExit):
        run(check_dataset, ["--report", tmp_path / "report.json", *words(settings_of(tmp_path))])
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert SHOWN in found["errors"]["unreadable"][0]
    assert all(NAME in path for path in RetrievalTask.load(place / "run" / "features.npz").images.paths)
    assert yaml.safe_load((place / "run" / "config.yml").read_text())["OUTPUT_DIR"] == str(place / "run")
    options = ["training", "--out", str(tmp_path / "a.svg"), f"{NAME}$_$={place / 'run'}"]
    assert run(plots, options) == 0
    ElementTree.parse(tmp_path / "a.svg")
    capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ({"PYTHONIOENCODING": "ascii"}, r"\u4e1c\u95e8\udcff_c1.jpg"),
        ({"PYTHONIOENCODING": "latin-1:strict"}, r"\u4e1c\u95e8\udcff_c1.jpg"),
        ({"LC_ALL": "C.UTF-8"}, r"东门\udcff_c1.jpg"),
        ({"LC_ALL": "POSIX"}, r"东门\udcff_c1.jpg"),
    ],
)
def test_terminals(tmp_path, setting, shown):
    for number, name in enumerate(("query", "gallery")):
        save_noise(tmp_path / name / "машина35" / "东门\udcff_c1.jpg", number)
    (tmp_path / "query" / "машина35" / "东门\udcff_c1.jpg").write_bytes(b"no image")
    options = ["--test_only", *words(SETTINGS | {"DATASETS.NAMES": "folder", "DATASETS.ROOT_DIR": tmp_path})]
    command = [sys.executable, ROOT / "tools" / "check_dataset.py", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    done = subprocess.run(command, env=environment | ENVIRONMENT | setting, capture_output=True)
    encoding = setting.get("PYTHONIOENCODING", "utf-8").partition(":")[0]
    assert done.returncode == 1 and f"{shown}: cannot be read" in done.stdout.decode(encoding)
    assert b"Traceback" not in done.stderr
