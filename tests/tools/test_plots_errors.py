"""What cannot be drawn: one line on stderr that names it, and status 2."""

import json

import pytest

from tools.plots import main

SCORES = {"mAP": 0.4375, "cmc": [0.5, 1.0], "dataset": "market1501", "rerank": None}
UNTRAINED = {"stage": "untrained", "epoch": 0, "mAP": 0.1}
EPOCHS = [{"stage": "stage1", "epoch": n, "lr": 0.1, "loss": 1 / n} for n in (1, 2, 3)]


@pytest.fixture
def save_test(tmp_path):
    """save_test('vit') -> the folder with its metrics.json."""

    def save(name="vit"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(SCORES))
        return folder

    return save


@pytest.fixture
def save_run(tmp_path):
    """save_run(records) -> the folder with its metrics.jsonl."""

    def save(records):
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return tmp_path

    return save


def refused(capsys, *argv):
    """The one line on stderr that a command ends with."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in argv])
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


def test_other_formats_are_refused(save_test, tmp_path, capsys):
    for name in ("a.jpg", "a", "png"):
        told = f"error: --out is {tmp_path / name}; allowed: a file name that ends in .png, .svg, .pdf\n"
        assert refused(capsys, "cmc", "--out", tmp_path / name, save_test(name)) == told


def test_missing_files_and_folders(save_test, tmp_path, capsys):
    folder = save_test()

    def error(command, out, path):
        return refused(capsys, command, "--out", tmp_path / out, path)

    def told(*parts):
        return f"error: {tmp_path.joinpath(*parts)}: No such file or directory\n"

    assert error("cmc", "a.png", tmp_path / "gone") == told("gone")
    assert error("cmc", "a.png", tmp_path / "gone" / "m.json") == told("gone", "m.json")
    assert error("training", "a.png", folder) == told("vit", "metrics.jsonl")
    assert not (tmp_path / "a.png").exists()
    assert error("cmc", "gone/a.svg", folder) == told("gone", "a.svg")


def test_two_runs_of_one_name(save_test, tmp_path, capsys):
    market, duke = save_test("market/vit"), save_test("duke/vit")
    assert refused(capsys, "cmc", "--out", tmp_path / "a.png", market, duke) == (
        f"error: {duke}: a second 'vit'; write another name before it, as in NAME={duke}\n"
    )


BROKEN = [{"mAP": 0.5, "rank1": 0.5}, {"cmc": [], "mAP": 0.5}, {"cmc": 0.5, "mAP": 0.5}, {"cmc": [1.0]}]


@pytest.mark.parametrize("content", [*BROKEN, {"cmc": [0.5, "1"], "mAP": 0.5}, {"cmc": [1.0], "mAP": None}])
def test_files_without_a_curve(tmp_path, capsys, content):
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps(content))
    assert refused(capsys, "cmc", "--out", tmp_path / "a.png", file) == (
        f"error: {file}: no CMC curve with its mAP in it; allowed: metrics.json of a test program\n"
    )


@pytest.mark.parametrize("records", [[], [UNTRAINED], [*EPOCHS, UNTRAINED]])
def test_runs_without_an_epoch(save_run, tmp_path, capsys, records):
    folder = save_run(records)
    assert refused(capsys, "training", "--out", tmp_path / "a.png", folder) == (
        f"error: {folder / 'metrics.jsonl'}: no epoch of training in its last run; allowed: one or more\n"
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"stage": "stage1", "epo', "no JSON: Unterminated string"),
        ("", "no JSON: Expecting value"),
        ("[1, 2]", "a JSON list; allowed: an object"),
        ('{"epoch": 1, "loss": 2}', "no epoch of training; allowed: metrics.jsonl of a training program"),
        ('{"stage": "stage1", "loss": 2}', "no epoch of training; allowed: metrics.jsonl"),
        ('{"stage": "stage1", "epoch": 2, "loss_id": "x"}', "no epoch of training; allowed: metrics.jsonl"),
    ],
)
def test_broken_lines_are_named(save_run, tmp_path, capsys, line, told):
    file = save_run(EPOCHS) / "metrics.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], line, *lines[1:]]))
    error = refused(capsys, "training", "--out", tmp_path / "a.png", file)
    assert error.startswith(f"error: {file}, line 2: {told}")


def test_files_of_other_kinds(tmp_path, capsys):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"PK\x03\x04\xff\xfe")
    for command in ("cmc", "training"):
        error = refused(capsys, command, "--out", tmp_path / "a.png", file)
        assert error == f"error: {file}: no text file; allowed: what a program wrote as metrics\n"
    file.write_text("mAP: 0.5")
    assert refused(capsys, "cmc", "--out", tmp_path / "a.png", file).startswith(f"error: {file}: no JSON: ")
