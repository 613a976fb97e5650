import dataclasses
import hashlib

import pytest

from datasets import FileFacts, Findings, ImageRecord, ReIDDataset, Trial, audit, inspect_files


def make(train=(), query=(), gallery=(), more=()):
    """A data set of (path, pid, camid) and further trials."""
    trials = [(query, gallery), *more]
    as_records = [[ImageRecord(*row, 0) for row in rows] for rows in (train, *(s for t in trials for s in t))]
    return ReIDDataset("toy", as_records[0], list(map(Trial, as_records[1::2], as_records[2::2])), "person")


GOOD = {
    "train": [("t1", 0, 0), ("t2", 0, 1), ("t3", 1, 0), ("t4", 1, 1)],
    "query": [("q1", 0, 0), ("q2", 1, 0)],
    "gallery": [("g1", 0, 1), ("g2", 1, 1), ("g3", 7, 0)],
}


def found(facts=None, **splits):
    """What is found in the good data set with these splits and these facts instead, empty kinds left out."""
    dataset = make(**{**GOOD, **splits})
    paths = {record.path for record in (*dataset.train, *dataset.test_records())}
    files = {path: FileFacts(f"bytes of {path}") for path in sorted(paths)} | (facts or {})
    findings = audit(dataset, files)
    named = {name: getattr(findings, name) for name in (*Findings.ERRORS, *Findings.NOTES)}
    return {name: lines for name, lines in named.items() if lines}


def test_every_kind_has_a_title():
    assert [*Findings.ERRORS, *Findings.NOTES] == [field.name for field in dataclasses.fields(Findings)]


def test_a_good_data_set():
    assert found() == found(train=[]) == {}


def test_files_that_are_no_images():
    facts = {
        "t1": FileFacts("", "unreadable", "t1: no image"),
        "q1": FileFacts("", "empty"),
        "g1": FileFacts("", "empty"),
        "g2": FileFacts("", "absent"),
    }
    assert found(facts) == {"unreadable": ["t1: no image"], "empty": ["g1", "q1"], "absent": ["g2"]}


@pytest.mark.parametrize(
    ("one", "other", "kind", "line"),
    [
        ("t1", "t3", "duplicates", "t1 (identity 0) = t3 (identity 1)"),
        ("q1", "g3", "duplicates", "q1 (identity 0) = g3 (identity 7)"),
        ("t3", "g1", "train_in_test", "t3 = g1"),
        ("t1", "t2", "repeated", "t1 = t2"),
        ("q1", "g1", "repeated", "q1 = g1"),
    ],
)
def test_equal_bytes(one, other, kind, line):
    assert found({one: FileFacts("same"), other: FileFacts("same")}) == {kind: [line]}


def test_one_file_listed_twice():
    again = found(gallery=[*GOOD["gallery"], ("q1", 0, 0), ("q2", 7, 0), ("t2", 8, 0)])
    assert again == {
        "duplicates": ["q2 (identity 1) = q2 (identity 7)"],
        "train_in_test": ["t2 = t2"],
    }
    # Where there are no bytes to compare, too.
    facts = {"t2": FileFacts("", "absent")}
    assert found(facts, gallery=[*GOOD["gallery"], ("t2", 8, 0)])["train_in_test"] == ["t2 = t2"]


def test_training_identities_with_little_to_learn_from():
    train = [*GOOD["train"], ("t5", 2, 0), ("t6", 3, 1), ("t7", 3, 1), ("t8", 4, -1), ("t9", 4, -1)]
    assert found(train=train) == {
        "single_image": ["the identity of t5"],
        "single_camera": ["the identity of t6"],
    }
    one_for_all = [(path, pid, 0) for path, pid, _ in train]
    assert found(train=one_for_all) == {"single_image": ["the identity of t5"]}


def test_training_images_of_no_known_identity():
    train = [*GOOD["train"], ("u1", -1, 0), ("u2", -1, 2)]
    assert found(train=train) == found(train=train[:-1]) == {}
    same = {path: FileFacts("same") for path in ("t1", "u1", "u2")}
    assert found(same, train=train) == {"repeated": ["t1 = u1 = u2"]}
    same = {path: FileFacts("same") for path in ("t1", "t3", "u1")}
    assert [*found(same, train=train)] == ["duplicates"]


@pytest.mark.parametrize("workers", [0, 2])
def test_files_are_decoded_in_full(tmp_path, save_image, workers):
    whole = save_image(tmp_path / "whole.jpg", (64, 64))
    cut, empty, text = (tmp_path / name for name in ("cut.jpg", "empty.png", "text.png"))
    cut.write_bytes(whole.read_bytes()[:-200])
    empty.touch()
    text.write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to(whole)
    paths = [str(tmp_path / name) for name in ("link.jpg", "gone.jpg", "folder.jpg", "a\0b.jpg")]
    files = inspect_files([*map(str, (whole, cut, empty, text)), *paths], workers)
    digest = hashlib.sha256(whole.read_bytes()).hexdigest()
    assert files[str(whole)] == files[paths[0]] == FileFacts(digest)
    assert files[str(empty)] == FileFacts("", "empty")
    assert [files[path] for path in paths[1:]] == [FileFacts("", "absent")] * 3
    for path in (cut, text):
        facts = files[str(path)]
        assert (facts.digest, facts.problem) == ("", "unreadable")
        assert facts.reason.startswith(f"{path}: cannot be read as an image: ")


def test_a_process_that_dies_is_told(monkeypatch):
    monkeypatch.setattr("datasets.checks.audit.inspect_file", dies)
    with pytest.raises(OSError, match=r"^workers is 1: one of these processes was ended, .* allowed: 0"):
        inspect_files(["a.jpg"], 1)


def dies(path):
    import os

    os._exit(1)
