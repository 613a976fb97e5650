import hashlib
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from datasets.drawn.captions import FOLDER, draw_captions
from datasets.drawn.folders import RECORD

SMALL = {"train_ids": 3, "test_ids": 2, "images_per_camera": 2, "cameras": 2, "captions": 3, "size": (64, 32)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_captions(tmp_path_factory.mktemp("drawn"), **SMALL)


def rows(folder: Path, split: str):
    return json.loads((folder / f"{split}_reid.json").read_text())


def digests(folder: Path):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_files_have_the_prepared_form(drawn):
    assert drawn.name == FOLDER
    train, test = rows(drawn, "train"), rows(drawn, "test")
    assert [row["id"] for row in train] == [1] * 4 + [2] * 4 + [3] * 4
    assert [row["id"] for row in test] == [4] * 4 + [5] * 4
    assert {row["file_path"].split("/")[0] for row in test} == {"test"}
    for row in (*train, *test):
        assert row.keys() == {"file_path", "id", "captions", "captions_bt"}
        assert len(row["captions"]) == len(row["captions_bt"]) == 3
        assert all(isinstance(text, str) and text for text in row["captions"] + row["captions_bt"])


def test_every_picture_is_listed_once_and_has_the_size(drawn):
    listed = [row["file_path"] for split in ("train", "test") for row in rows(drawn, split)]
    found = [path.relative_to(drawn / "imgs").as_posix() for path in (drawn / "imgs").rglob("*.jpg")]
    assert sorted(listed) == sorted(found)
    assert len(set(digests(drawn / "imgs").values())) == len(listed) == 20
    for name in listed:
        with Image.open(drawn / "imgs" / name) as picture:
            assert (picture.mode, picture.size) == ("RGB", (32, 64))


def test_wordings_differ_between_pictures_captions_and_back_translations(drawn):
    texts = [text for row in rows(drawn, "train") for text in row["captions"] + row["captions_bt"]]
    assert len(set(texts)) > 0.95 * len(texts)


def test_equal_seeds_give_equal_bytes_and_others_do_not(drawn, tmp_path):
    again = draw_captions(tmp_path / "again", **SMALL)
    other = draw_captions(tmp_path / "other", **SMALL, seed=1)
    assert digests(again) == digests(drawn)
    assert digests(other).keys() == digests(drawn).keys()
    assert not set(digests(other).values()) & set(digests(drawn).values())


def test_the_first_captions_do_not_depend_on_how_many_follow(drawn, tmp_path):
    fewer = draw_captions(tmp_path, **SMALL | {"captions": 1})
    for row, longer in zip(rows(fewer, "train"), rows(drawn, "train"), strict=True):
        assert row["captions"] == longer["captions"][:1]


def test_further_languages_are_further_keys(drawn, tmp_path):
    folder = draw_captions(tmp_path, **SMALL, languages=("ru", "zh"))
    assert {path.read_bytes() for path in folder.rglob("*.jpg")} == {
        path.read_bytes() for path in drawn.rglob("*.jpg")
    }
    for split in ("train", "test"):
        for row, english in zip(rows(folder, split), rows(drawn, split), strict=True):
            assert english.items() <= row.items()
            further = row.keys() - english.keys()
            assert further == {"captions_ru", "captions_bt_ru", "captions_zh", "captions_bt_zh"}
            assert all(len(row[name]) == 3 and all(row[name]) for name in further)
    assert json.loads((folder / RECORD).read_text())["languages"] == ["ru", "zh"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_ids": 0}, "train_ids is 0; allowed: 1 to"),
        ({"test_ids": 0}, "test_ids is 0; allowed: 1 to"),
        ({"images_per_camera": 0}, "images_per_camera is 0; allowed: 1 to"),
        ({"cameras": 7}, "cameras is 7; allowed: 1 to 6"),
        ({"captions": 0}, "captions is 0; allowed: 1 to"),
        ({"languages": ["la"]}, "languages has 'la'; allowed: zh, ru"),
        ({"size": (16, 64)}, "height is 16; allowed: 32 to"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, changed, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        draw_captions(tmp_path, **SMALL | changed)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_not_drawn_is_kept(tmp_path):
    own = tmp_path / FOLDER / "imgs" / "own.jpg"
    own.parent.mkdir(parents=True)
    own.touch()
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match=re.escape(str(own.parents[1]))):
            draw_captions(tmp_path, **SMALL, overwrite=overwrite)
    assert own.exists()
    (tmp_path / FOLDER / RECORD).touch()
    draw_captions(tmp_path, **SMALL, overwrite=True)
    assert not own.exists()
