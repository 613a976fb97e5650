"""The folder of a gallery: others' files in it, other working folders, and who may read it."""

import os

import pytest

pytest.importorskip("pymilvus")

from retrieval import Gallery
from tests.retrieval.gallery_changes import MODELS, features_of


def test_a_folder_of_something_else_stays_as_it_is(tmp_path):
    album = tmp_path / "photos.db/collections/holiday"
    album.mkdir(parents=True)
    (album / "beach.jpg").write_text("sand")
    with pytest.raises(FileNotFoundError, match="create it first"):
        Gallery.open(tmp_path / "photos.db", MODELS)
    assert [path.name for path in (tmp_path / "photos.db").iterdir()] == ["collections"]
    with Gallery.create(tmp_path / "photos.db", MODELS):
        pass
    assert (album / "beach.jpg").read_text() == "sand"


def test_no_gallery_is_created_among_other_files(tmp_path):
    folder = tmp_path / "photos.db"
    folder.mkdir()
    (folder / "beach.jpg").write_text("sand")
    with pytest.raises(ValueError, match=r"photos\.db is a folder with other files"):
        Gallery.create(folder, MODELS)
    assert os.listdir(folder) == ["beach.jpg"]


def test_an_address_is_relative_to_the_folder_where_it_was_opened(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with Gallery.create("gallery.db", MODELS) as gallery:
        gallery.add(features_of(["a"], [1]), ["a"])
        monkeypatch.chdir("elsewhere")
        gallery._connection.reopen()  # as after a failed write
        assert gallery.known(["a"]) == {"a"}
    assert not os.listdir()
    with Gallery.open("../gallery.db", MODELS) as gallery:
        assert gallery.count() == 1


@pytest.mark.skipif(os.name == "nt", reason="needs rights of POSIX")
def test_a_new_folder_is_its_users_alone(tmp_path):
    Gallery.create(tmp_path / "gallery.db", MODELS).close()
    assert (tmp_path / "gallery.db").stat().st_mode & 0o777 == 0o700
