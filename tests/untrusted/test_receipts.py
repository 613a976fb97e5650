"""receipt.json: what is read, replaced and refused, and two programs that write it at once."""

import json
import threading

import pytest

from utils.lock import locked
from utils.untrusted import receipts
from utils.untrusted.receipts import Section, read_receipt, write_section


def section(**changes):
    return Section(method="baseline", **changes)


def test_each_program_replaces_its_own_section(tmp_path):
    write_section(tmp_path, "train", section(seed=1))
    write_section(tmp_path, "test", section(seed=2))
    write_section(tmp_path, "train", section(seed=3))
    found = read_receipt(tmp_path / "receipt.json")
    assert (found.train.seed, found.test.seed) == (3, 2)
    write_section(tmp_path, "train", section(seed=4), anew=True)
    assert read_receipt(tmp_path / "receipt.json").test is None
    assert [path.name for path in tmp_path.iterdir()] == ["receipt.json"]


def test_sections_survive_writing_and_reading(tmp_path):
    written = section(
        config={"A.B": [1, 2], "C": "\udcff", "D": None},
        metrics={"mAP": 0.5},
        intervals={"mAP": [0.25, 0.75]},
        seconds=1.5,
    )
    write_section(tmp_path, "train", written)
    read = read_receipt(tmp_path / "receipt.json").train
    assert read.config == {"A.B": [1, 2], "C": "\\udcff", "D": None}
    assert read.model_copy(update={"config": {}}) == written.model_copy(update={"config": {}})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"format": 2}', "format is 2; allowed: 1"),
        ('{"train": {"method": "a", "status": "done"}}', "train.status is 'done'; allowed: '', 'running', "),
        ('{"train": {"method": "a", "intervals": {"mAP": [1]}}}', "train.intervals.mAP is [1]"),
        ('{"test": {}}', "test.method: Field required"),
        ("[]", "it is []"),
        ("", "Invalid JSON"),
    ],
)
def test_other_files_are_named(tmp_path, content, told):
    (tmp_path / "receipt.json").write_text(content)
    with pytest.raises(ValueError, match=r"receipt\.json: ") as error:
        read_receipt(tmp_path / "receipt.json")
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_no_receipt_is_replaced(tmp_path):
    (tmp_path / "receipt.json").write_text("{")
    write_section(tmp_path, "test", section())
    assert json.loads((tmp_path / "receipt.json").read_text())["train"] is None


def test_a_writer_waits_for_another_one(tmp_path, monkeypatch):
    with locked(tmp_path / ".receipt.lock"):
        waiting = threading.Thread(target=write_section, args=(tmp_path, "test", section()))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive() and not (tmp_path / "receipt.json").exists()
    waiting.join(receipts._PATIENCE)
    assert read_receipt(tmp_path / "receipt.json").test is not None


def test_a_writer_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(receipts, "_PATIENCE", 0.1)
    with locked(tmp_path / ".receipt.lock"), pytest.raises(BlockingIOError, match="is in use by process"):
        write_section(tmp_path, "test", section())
