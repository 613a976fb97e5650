"""What cannot be drawn: one line on stderr that names it, and status 2."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.untrusted.surviving import LIMITS, nothing_else
from tools.plots import draw_cmc, draw_training, main, read_last_run, read_scores

SCORES = {"mAP": 0.4375, "cmc": [0.5, 1.0], "dataset": "market1501", "rerank": None}
UNTRAINED = {"stage": "untrained", "epoch": 0, "mAP": 0.1}
DAMAGED = [
    ("metrics.json", read_scores, draw_cmc, json.dumps(SCORES).encode()),
    (
        "metrics.jsonl",
        read_last_run,
        draw_training,
        b'{"stage": "untrained", "epoch": 0, "mAP": 0.1}\n{"stage": "s", "epoch": 1, "lr": 0.1, "loss": 2}\n'
        b'{"stage": "s", "epoch": 2, "lr": 0.1, "loss": 2.5, "loss_id": 1, "mAP": 0.5, "acc": 0.1}\n',
    ),
]
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
        return f"error: {tmp_path.joinpath(*parts)}: no such file\n"

    assert error("cmc", "a.png", tmp_path / "gone") == told("gone")
    assert error("cmc", "a.png", tmp_path / "gone" / "m.json") == told("gone", "m.json")
    assert error("training", "a.png", folder) == told("vit", "metrics.jsonl")
    assert not (tmp_path / "a.png").exists()
    assert f"--out {tmp_path / 'gone/a.svg'}: no file can be written in" in error("cmc", "gone/a.svg", folder)


def test_two_runs_of_one_name(save_test, tmp_path, capsys):
    market, duke = save_test("market/vit"), save_test("duke/vit")
    assert refused(capsys, "cmc", "--out", tmp_path / "a.png", market, duke) == (
        f"error: {duke}: a second 'vit'; write another name before it, as in NAME={duke}\n"
    )


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"mAP": 0.5, "rank1": 0.5}, "cmc: Field required"),
        ({"cmc": [], "mAP": 0.5}, "cmc is []"),
        ({"cmc": 0.5, "mAP": 0.5}, "cmc is 0.5"),
        ({"cmc": [1.0]}, "mAP: Field required"),
        ({"cmc": [0.5, "1"], "mAP": 0.5}, "cmc.1 is '1'"),
        ({"cmc": [1.0], "mAP": None}, "mAP is None"),
        ({"cmc": [1.0], "mAP": 10**400}, "mAP is 1000"),
        ({"cmc": [1.0, 2], "mAP": 0.5}, "cmc.1 is 2"),
        ({"cmc": [1.0] * 100_001, "mAP": 0.5}, "at most 100000"),
        ({"cmc": [1.0], "mAP": 0.5, "dataset": 5}, "dataset is 5"),
    ],
)
def test_files_without_a_curve(tmp_path, capsys, content, named):
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps(content))
    told = refused(capsys, "cmc", "--out", tmp_path / "a.png", file)
    assert told.startswith(f"error: {file}: ") and named in told


@pytest.mark.parametrize("records", [[], [UNTRAINED], [*EPOCHS, UNTRAINED]])
def test_runs_without_an_epoch(save_run, tmp_path, capsys, records):
    folder = save_run(records)
    assert refused(capsys, "training", "--out", tmp_path / "a.png", folder) == (
        f"error: {folder / 'metrics.jsonl'}: no epoch of training in its last run; allowed: one or more\n"
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"stage": "stage1", "epo', "Invalid JSON"),
        ("", "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
        ("[1, 2]", "it is [1, 2]"),
        ('{"epoch": 1, "loss": 2}', "stage: Field required"),
        ('{"stage": "stage1", "loss": 2}', "epoch: Field required"),
        ('{"stage": "stage1", "epoch": 0, "loss": 2}', "epoch is 0 in 'stage1'; allowed: 1 or more"),
        ('{"stage": "stage1", "epoch": 1' + "0" * 400 + "}", "epoch is 1000"),
        ('{"stage": "stage1", "epoch": 2, "loss_id": "x"}', "loss_id is 'x'"),
        ('{"stage": "stage1", "epoch": 2, "loss_id": true}', "loss_id is True"),
        ('{"stage": "stage1", "epoch": 2, "loss": null}', "loss is None"),
        ('{"stage": "stage1", "epoch": 2, "loss": NaN}', "loss is nan"),
        ('{"stage": "stage1", "epoch": 2, "loss": 1e300}', "loss is 1e+300"),
        ('{"stage": "stage1", "epoch": 2, "lr": -1}', "lr is -1"),
        ('{"stage": "stage1", "epoch": 2, "loss_id": NaN}', "loss_id is nan"),
        ('{"stage": "stage1", "epoch": 2, "loss_id": 1' + "0" * 400 + "}", "loss_id is 1000"),
    ],
)
def test_broken_lines_are_named(save_run, tmp_path, capsys, line, told):
    file = save_run(EPOCHS) / "metrics.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], line, *lines[1:]]))
    error = refused(capsys, "training", "--out", tmp_path / "a.png", file)
    assert error.startswith(f"error: {file}, line 2: {told}") and len(error) < 400


def test_a_last_line_that_was_cut_off_is_left_out(save_run, tmp_path, caplog):
    file = save_run(EPOCHS) / "metrics.jsonl"
    file.write_text(file.read_text() + '{"stage": "stage1", "epo')
    assert main(["training", "--out", str(tmp_path / "a.png"), str(file)]) == 0
    assert caplog.messages == [f"{file}: the last line was cut off while it was written; it is left out"]
    assert len(read_last_run(file)) == 3


def test_many_quantities_and_stages(save_run, tmp_path, capsys):
    """As the rest of the file, they are what a hostile one may have any number of."""
    terms = {f"loss_{n}": 1.0 for n in range(3000)}
    folder = save_run([EPOCHS[0] | terms])
    assert main(["training", "--out", str(tmp_path / "a.svg"), str(folder)]) == 0
    assert "60 of 3002 quantities are drawn" in capsys.readouterr().out
    folder = save_run([EPOCHS[0] | {"stage": str(n), "epoch": 2} for n in range(21)])
    told = refused(capsys, "training", "--out", tmp_path / "a.png", folder)
    assert f"{folder / 'metrics.jsonl'}: 21 stages in its last run; allowed: up to 20" in told


@pytest.mark.filterwarnings("error")
def test_names_are_not_taken_for_formulas_or_halves_of_letters(tmp_path):
    record = r'{"stage": "$\\frac$\ud800", "epoch": 1, "loss": 1, "loss_$\\x$": 2}'
    (tmp_path / "metrics.jsonl").write_text(record + "\n")
    assert main(["training", "--out", str(tmp_path / "a.png"), str(tmp_path)]) == 0


@LIMITS
@given(data=st.data())
def test_files_that_were_damaged(tmp_path_factory, data):
    """A picture, or one line."""
    folder = tmp_path_factory.getbasetemp()
    name, reader, draw, whole = data.draw(st.sampled_from(DAMAGED))
    content = bytearray(whole)
    odd = st.sampled_from(b'{}[]",:0123456789.-eE\\u\ntfn') | st.integers(0, 255)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(odd)
    (folder / name).write_bytes(content)
    with nothing_else():
        try:
            figure = draw({"run": reader(folder / name)})
        except ValueError as error:
            told = str(error)
            assert told.startswith(str(folder / name)) and "\n" not in told and len(told) < 900
        else:
            figure.savefig(folder / "a.svg", format="svg")


def test_files_of_other_kinds(tmp_path, capsys):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"PK\x03\x04\xff\xfe")
    for command in ("cmc", "training"):
        error = refused(capsys, command, "--out", tmp_path / "a.png", file)
        assert error.startswith(f"error: {file}: ") and ("Invalid JSON" in error or "UTF-8" in error)
    file.write_text("mAP: 0.5")
    assert refused(capsys, "cmc", "--out", tmp_path / "a.png", file).startswith(
        f"error: {file}: Invalid JSON"
    )


def test_a_link_to_itself(tmp_path, capsys):
    link = tmp_path / "metrics.jsonl"
    link.symlink_to(link)
    assert str(link) in refused(capsys, "training", "--out", tmp_path / "a.png", link)


def test_too_large_files(tmp_path, capsys):
    for command, name in (("cmc", "metrics.json"), ("training", "metrics.jsonl")):
        file = tmp_path / name
        with open(file, "wb") as opened:
            opened.truncate(2**30)
        error = refused(capsys, command, "--out", tmp_path / "a.png", file)
        assert error == f"error: {file} has 1,073,741,824 bytes; allowed: at most 16,777,216\n"
