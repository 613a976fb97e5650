"""Names of pictures: equal for equal bytes under any path, and the fallback to paths."""

import hashlib
import logging
import os

import pytest

from retrieval import FeatureSet, evaluate, name_pictures


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The working folder with a.jpg under several names, and b.jpg of other bytes."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "gallery"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"a" * 3_000_000)
    (folder / "b.jpg").write_bytes(b"b")
    (folder / "copy.jpg").write_bytes(b"a" * 3_000_000)
    (folder / "link.jpg").symlink_to(folder / "a.jpg")
    os.link(folder / "a.jpg", folder / "hard.jpg")
    (tmp_path / "query").symlink_to(folder)
    return folder


SAME = ["gallery/a.jpg", "./gallery/../gallery/a.jpg", "query/a.jpg"]


def test_equal_bytes_have_one_name(files, caplog):
    same = [*SAME, *(str(files / name) for name in ("a.jpg", "copy.jpg", "link.jpg", "hard.jpg"))]
    assert set(name_pictures(same)) == {hashlib.sha256((files / "a.jpg").read_bytes()).hexdigest()}
    assert name_pictures(["query/b.jpg"]) == [hashlib.sha256(b"b").hexdigest()]
    assert name_pictures([]) == [] and not caplog.messages


def test_a_changed_file_has_another_name(files):
    (before,) = name_pictures(["gallery/b.jpg"])
    (files / "b.jpg").write_bytes(b"bb")
    assert name_pictures(["gallery/b.jpg"]) != [before]


def test_what_is_no_image_s_file_is_compared_as_text(files, caplog):
    """A pipe would block, and a file that is empty on the disk claims any size."""
    os.mkfifo(files / "pipe.jpg")
    with open(files / "sparse.jpg", "wb") as file:
        file.truncate(6 * 2**30)
    odd = [str(files / name) for name in ("pipe.jpg", "sparse.jpg")]
    assert name_pictures(odd) == odd
    assert caplog.messages[0].startswith("2 of 2 image files cannot be read")


def test_paths_without_a_file_are_compared_as_text(files, caplog):
    gone = ["x/gone.jpg", "./x/y/../gone.jpg", "query", "a\0b.jpg", "gallery/b.jpg"]
    with caplog.at_level(logging.WARNING, logger="transreid.retrieval"):
        names = name_pictures([*gone, "x/gone.jpg"])
    assert names[0] == names[1] == names[5] == str(files.parent / "x" / "gone.jpg")
    assert len(set(names)) == 4
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith("4 of 5 image files cannot be read")


@pytest.mark.parametrize("path", [*SAME[1:], "gallery/copy.jpg", "gallery/link.jpg", "gallery/hard.jpg"])
@pytest.mark.parametrize("named", [True, False])
def test_evaluation_leaves_the_query_s_picture_out(files, caplog, path, named):
    query = FeatureSet([[0.0]], [1], [-1], ["gallery/a.jpg"])
    gallery = FeatureSet([[0.0], [1.0], [2.0]], [1, 2, 1], [-1] * 3, [path, "gallery/b.jpg", "gone.jpg"])
    if named:
        query, gallery = query.with_pictures(), gallery.with_pictures()
        for name in ("a.jpg", "b.jpg", "copy.jpg", "hard.jpg"):
            (files / name).unlink()
    with caplog.at_level(logging.INFO, logger="transreid.retrieval"):
        assert evaluate(query, gallery).cmc.tolist() == [0, 1, 1]
    told = (
        "1 of 1 queries are in the gallery themselves (same file or same bytes); those pictures are left out"
    )
    assert told in caplog.messages


@pytest.mark.parametrize(("camids", "rule"), [((0, 1), "cross_camera"), ((-1, -1), "all")])
def test_no_file_is_read_without_need(monkeypatch, camids, rule):
    monkeypatch.setattr("retrieval.features.name_pictures", None)
    query, gallery = (FeatureSet([[0.0]], [1], [camid], ["a.jpg"]) for camid in camids)
    assert evaluate(query, gallery, rule=rule).num_valid == 1
