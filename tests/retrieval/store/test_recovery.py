"""Folders of Milvus Lite as processes leave them that are killed at the worst moments."""

import shutil
import time
from pathlib import Path

import pytest

pytest.importorskip("pymilvus")

from retrieval import Gallery
from tests.retrieval.gallery_changes import MODELS, features_of, held_by

KEYS = [f"k{i}" for i in range(60)]


@pytest.fixture
def folder(tmp_path):
    """The folder of the collection in a gallery of 60 entries, which is closed."""
    with Gallery.create(tmp_path / "gallery.db", MODELS) as gallery:
        gallery.add(features_of(KEYS, [1] * 60), KEYS)
    return tmp_path / "gallery.db/collections/clipreid_reid"


def assert_whole(folder: Path, index: str = "flat") -> None:
    """The 60 entries are there and found, now and when the gallery is opened once more."""
    for _ in range(2):
        with Gallery.open(folder.parents[1], MODELS) as gallery:
            assert gallery.indexes["reid"] == index
            assert sorted(held_by(gallery)) == sorted(KEYS)
            (found,) = gallery.search(features_of(["k7"], [1]), 60)
            assert found[0].key == "k7" and sorted(hit.key for hit in found) == sorted(KEYS)


def test_a_log_that_was_written_out_but_not_removed(tmp_path):
    address = tmp_path / "gallery.db"
    log = address / "collections/clipreid_reid/wal"
    with Gallery.create(address, MODELS) as gallery:
        gallery.add(features_of(KEYS, [1] * 60), KEYS)
        shutil.copytree(log, tmp_path / "log")
    assert list((tmp_path / "log").iterdir()) and not list(log.iterdir())
    shutil.copytree(tmp_path / "log", log, dirs_exist_ok=True)
    assert_whole(log.parent)


@pytest.mark.parametrize("index", ["flat", "hnsw"])
@pytest.mark.parametrize("left", [0, 100, 0.5])
def test_an_index_that_was_half_written(folder, caplog, index, left):
    if index == "hnsw":
        with Gallery.open(folder.parents[1], MODELS) as gallery:
            gallery.set_index(index)
    (file,) = folder.rglob("*.idx")
    content = file.read_bytes()
    file.write_bytes(content[: left if isinstance(left, int) else int(left * len(content))])
    assert_whole(folder, index)
    assert caplog.text.count("is damaged, and built again") == 1


def test_a_compaction_that_had_not_written_all(folder):
    spare = folder.with_name("clipreid_reid_rewritten")
    shutil.copytree(folder, spare)
    for data in spare.rglob("*.parquet"):
        data.unlink()
    assert_whole(folder)
    assert not spare.exists()


@pytest.mark.parametrize("left", ["all", "some", "none of the data", "no schema", "nothing"])
def test_a_compaction_that_had_not_dropped_the_former_entries(folder, left):
    dropped = folder.with_name("clipreid_reid_dropped")
    if left != "all":
        shutil.copytree(folder, dropped)
    if left in ("some", "none of the data"):
        for data in dropped.rglob("*.parquet" if left == "some" else "data"):
            data.unlink() if data.is_file() else shutil.rmtree(data)
    if left == "no schema":
        (dropped / "schema.json").unlink()
    if left == "nothing":
        shutil.rmtree(dropped)
    if left == "all":
        shutil.copytree(folder, folder.with_name("clipreid_reid_rewritten"))
        folder.rename(dropped)
    assert_whole(folder)
    assert [each.name for each in folder.parent.iterdir()] == ["clipreid_reid"]


@pytest.mark.slow
def test_a_call_that_takes_long_is_not_broken_off(folder, monkeypatch):
    from milvus_lite.engine.collection import Collection

    build = Collection.create_index
    monkeypatch.setattr(Collection, "create_index", lambda *given: (time.sleep(45), build(*given)))
    with Gallery.open(folder.parents[1], MODELS) as gallery:
        gallery.set_index("hnsw")
        assert gallery.indexes["reid"] == "hnsw"


def test_a_gallery_that_had_not_been_made(tmp_path):
    (tmp_path / "gallery.db/collections/clipreid_reid").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="create it first"):
        Gallery.open(tmp_path / "gallery.db", MODELS)
    with Gallery.create(tmp_path / "gallery.db", MODELS) as gallery:
        assert gallery.count() == 0
