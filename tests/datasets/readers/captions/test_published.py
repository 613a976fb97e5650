import itertools
import json
import logging
from pathlib import Path

import pytest

from datasets import make_caption_dataset

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "tbps" / "datasets.json").read_text())
FILES = {
    "cuhk_pedes": ("CUHK-PEDES/reid_raw.json", "file_path"),
    "icfg_pedes": ("ICFG-PEDES/ICFG-PEDES.json", "file_path"),
    "rstpreid": ("RSTPReid/data_captions.json", "img_path"),
}
TRAIN = {"split": "train", "file_path": "a.jpg", "id": 7, "captions": ["A man.", "A red man."]}
TEST = {"split": "test", "file_path": "b.jpg", "id": 0, "captions": ["A woman!"]}
CUHK = "CUHK-PEDES/reid_raw.json"


def golden_rows(golden, folder):
    """Rows of an annotation file, from the records that the published code reads of such a file."""

    def inside(path):
        return path.partition(f"{folder}/imgs/")[2]

    train = []
    for (path, pid), own in itertools.groupby(golden["train"], key=lambda row: tuple(row[:2])):
        captions, translations = zip(*(row[2:] for row in own), strict=True)
        row = {"file_path": inside(path), "id": pid, "captions": captions, "captions_bt": translations}
        train.append(row)
    queries = itertools.groupby(golden["queries"], key=lambda row: row[1])
    images = itertools.groupby(golden["gallery"], key=lambda row: row[1])
    test = []
    for (_, captions), (pid, own) in zip(queries, images, strict=True):
        # Which image of the identity has which caption is not told, nor does it matter.
        texts = [f"  {caption.upper()} (!)" for caption, _ in captions]
        for path, _ in own:
            test.append({"file_path": inside(path), "id": pid, "captions": texts})
            texts = []
    return {"train": train, "test": test}


def found(dataset, root):
    def inside(record):
        return Path(record.path).relative_to(root).as_posix()

    return {
        "train": [[inside(r), *r[1:4]] for r in dataset.train],
        "gallery": [[inside(r), r.pid] for r in dataset.gallery],
        "queries": [list(query) for query in dataset.queries],
        "num_train_pids": dataset.num_train_pids,
    }


@pytest.mark.parametrize("name", FILES)
def test_an_official_file_gives_the_published_records(name, caption_cfg, write_json, tmp_path):
    file, path_key = FILES[name]
    rows = golden_rows(GOLDEN[name], file.partition("/")[0])
    val = {"file_path": "v.jpg", "id": 3, "captions": ["Nobody"]}
    listed = [{"split": "val", **val}] if name != "icfg_pedes" else []
    for split, some in rows.items():
        for row in some:
            row.pop("captions_bt", None)
            listed.append({"split": split, "processed_tokens": [["a"]], **row})
    write_json(file, [{path_key if key == "file_path" else key: row[key] for key in row} for row in listed])
    dataset = make_caption_dataset(caption_cfg(name))
    wanted = {key: GOLDEN[name][key] for key in ("train", "gallery", "queries", "num_train_pids")}
    assert found(dataset, tmp_path) == wanted
    assert (dataset.name, dataset.upright, dataset.trials[0].rule) == (name, False, "all")


@pytest.mark.parametrize("name", ["captions", "rstpreid"])
def test_prepared_files_give_the_published_records(name, caption_cfg, write_json, tmp_path):
    folder = "prepared" if name == "captions" else "RSTPReid"
    golden = GOLDEN["captions"]
    for split, rows in golden_rows(golden, "prepared").items():
        write_json(f"prepared/{split}_reid.json", rows)
    (tmp_path / folder / "imgs").mkdir(parents=True, exist_ok=True)
    pairs = ["DATASETS.ROOT_DIR", tmp_path / "prepared"]
    if name == "rstpreid":
        pairs = ["DATASETS.ANNOTATION_DIR", tmp_path / "prepared"]
    dataset = make_caption_dataset(caption_cfg(name, *pairs))
    wanted = {key: golden[key] for key in ("train", "gallery", "queries", "num_train_pids")}
    moved = json.loads(json.dumps(wanted).replace("prepared/imgs", f"{folder}/imgs"))
    assert found(dataset, tmp_path) == moved
    assert any(record.back_translation for record in dataset.train)


def test_records_have_names_and_identities_as_written(caption_cfg, write_json, tmp_path):
    write_json(CUHK, [TRAIN, TEST])
    dataset = make_caption_dataset(caption_cfg("cuhk_pedes"))
    image = f"{tmp_path}/CUHK-PEDES/imgs/a.jpg"
    assert [(record.key, record.pid, record.texts.identity) for record in dataset.train] == [
        (f"{image}#0", 0, "7"),
        (f"{image}#1", 0, "7"),
    ]
    assert [(record.pid, record.camid, record.texts.identity) for record in dataset.gallery] == [(0, -1, "0")]
    assert dataset.table().splitlines()[2:] == [
        "train |      1 |        1 |          2 |         2.5,    3",
        "test  |      1 |        1 |          1 |         2.0,    2",
    ]


def test_another_spelling_of_a_file(caption_cfg, write_json):
    write_json("ICFG-PEDES/ICFG_PEDES.json", [TRAIN, TEST])
    assert make_caption_dataset(caption_cfg("icfg_pedes")).num_train_pids == 1
    (write_json("ICFG-PEDES/x", "").parent / "ICFG_PEDES.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"ICFG-PEDES\.json or .*ICFG_PEDES\.json"):
        make_caption_dataset(caption_cfg("icfg_pedes"))


@pytest.mark.parametrize("name", ["cuhk_pedes", "captions"])
def test_a_test_needs_no_training_annotations(name, caption_cfg, write_json):
    write_json(CUHK, [TEST])
    write_json("test_reid.json", [TEST])
    dataset = make_caption_dataset(caption_cfg(name), need_train=False)
    assert (dataset.train, dataset.queries) == ([], [("a woman", 0)])
    with pytest.raises((ValueError, FileNotFoundError), match="train"):
        make_caption_dataset(caption_cfg(name))


def test_the_validation_split(caption_cfg, write_json):
    write_json(CUHK, [TRAIN, TEST | {"split": "val", "id": 5}])
    dataset = make_caption_dataset(caption_cfg("cuhk_pedes", "DATASETS.EVAL_SPLIT", "val"))
    assert dataset.queries == [("a woman", 5)] and "\nval   |      1 " in dataset.table()
    with pytest.raises(ValueError, match=r"in the test split \(DATASETS.EVAL_SPLIT\).* there: train, val"):
        make_caption_dataset(caption_cfg("cuhk_pedes"))
    write_json("ICFG-PEDES/ICFG-PEDES.json", [TRAIN, TEST])
    with pytest.raises(ValueError, match=r"in the val split \(DATASETS.EVAL_SPLIT\).* there: test, train"):
        make_caption_dataset(caption_cfg("icfg_pedes", "DATASETS.EVAL_SPLIT", "val"))
    write_json("train_reid.json", [TRAIN]), write_json("test_reid.json", [TEST])
    with pytest.raises(FileNotFoundError, match=r"/val_reid\.json: no such file"):
        make_caption_dataset(caption_cfg("captions", "DATASETS.EVAL_SPLIT", "val"))


def test_where_images_lie_and_how_they_are_read(caption_cfg, write_json, tmp_path):
    write_json("train_reid.json", [TRAIN]), write_json("test_reid.json", [TEST])
    (tmp_path / "imgs").rename(tmp_path / "pictures")
    pairs = ["DATASETS.IMAGE_DIR", "pictures", "INPUT.ORIENTATION", "exif"]
    dataset = make_caption_dataset(caption_cfg("captions", *pairs))
    assert dataset.gallery[0].path == f"{tmp_path}/pictures/b.jpg" and dataset.upright
    with pytest.raises(FileNotFoundError, match="/imgs: no such folder"):
        make_caption_dataset(caption_cfg("captions"))


def test_what_is_cut_and_left_out_is_counted(caption_cfg, write_json, caplog):
    train = [
        TRAIN | {"captions": ["word " * 1000, "two", "three"], "captions_bt": ["a b", "", "...", "more"]},
        TRAIN | {"captions": ["two", "new"], "captions_bt": ["c"]},
        TRAIN | {"file_path": "c.jpg", "captions": []},
        TRAIN | {"file_path": "d.jpg", "captions": ["same", "same"]},
    ]
    write_json("train_reid.json", train)
    write_json("test_reid.json", [TEST, TEST | {"file_path": "c.jpg", "captions": []}])
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        dataset = make_caption_dataset(caption_cfg("captions"))
    assert [(r.caption[:9], r.back_translation, r.key.partition("imgs/")[2]) for r in dataset.train] == [
        ("word word", "a b", "a.jpg#0"),
        ("two", "", "a.jpg#1"),
        ("three", "", "a.jpg#2"),
        ("new", "", "a.jpg#3"),
        ("same", "", "d.jpg#0"),
        ("same", "", "d.jpg#1"),
    ]
    assert len(dataset.train[0].caption.split()) == 77 and len(dataset.gallery) == 2
    train_line, test_line = (line for line in caplog.messages if " split: " in line)
    for told in (
        "1 (captions of more than 77 words",
        "train_reid.json: row 1",
        "2 (rows of captions with another number of back translations",
        "5 (captions without back translation",
        "1 (captions that repeat one of another row of their image",
        "1 (images without caption, left out)",
    ):
        assert told in train_line
    assert "test split: 1 (images without caption), such as " in test_line


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": True}, "row 2: id is True"),
        ({"id": "7"}, "row 2: id is '7'"),
        ({"id": 7.0}, "row 2: id is 7.0"),
        ({"id": -1}, "row 2: id is -1"),
        ({"id": 10**18}, "row 2: id is 1000000000000000000"),
        ({"id": None}, "row 2: id is None"),
        ({"captions": "a man"}, "row 2: captions is 'a man'"),
        ({"captions": [5]}, "row 2: captions.0 is 5"),
        ({"captions": {}}, "row 2: captions is {}"),
        ({"captions": ["good", " (...) "]}, r"row 2: caption 2 of .*/imgs/b\.jpg is ' \(...\) '"),
        ({"captions": [""]}, r"row 2: caption 1 of .*/imgs/b\.jpg is ''"),
        ({"captions": ["\t"]}, "row 2: caption 1 of "),
        ({"split": "valid"}, "row 2: split is 'valid'.*'train', 'val' or 'test'"),
        ({"file_path": ""}, "row 2: file_path is ''"),
        ({"file_path": 5}, "row 2: file_path is 5"),
        (
            {"split": "train", "file_path": "a.jpg"},
            r"row 2: .*/a\.jpg is of identity '0', but of '7' in .*row 1",
        ),
        (None, "row 2: it is None"),
    ],
)
def test_a_wrong_row_is_named(change, told, caption_cfg, write_json):
    file = write_json(CUHK, [TRAIN, change and TEST | change])
    with pytest.raises(ValueError, match=rf"^{file}: {told}") as error:
        make_caption_dataset(caption_cfg("cuhk_pedes"))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("key", ["id", "captions", "split", "file_path"])
def test_a_missing_key_is_named(key, caption_cfg, write_json):
    file = write_json(CUHK, [TRAIN, {name: value for name, value in TEST.items() if name != key}])
    with pytest.raises(ValueError, match=f"^{file}: row 2: {key}: "):
        make_caption_dataset(caption_cfg("cuhk_pedes"))


@pytest.mark.parametrize(
    "text", ["", "[", "{}", "null", "[[[", "[" * 100_000, '{"rows": []}', "[NaN]", '[{"id": ' + "9" * 9999]
)
def test_a_file_of_another_form_is_named(text, caption_cfg, write_json):
    file = write_json(CUHK, text)
    with pytest.raises(ValueError, match=f"^{file}: ") as error:
        make_caption_dataset(caption_cfg("cuhk_pedes"))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_an_empty_list_and_other_encodings(caption_cfg, write_json, monkeypatch):
    file = write_json(CUHK, [])
    with pytest.raises(ValueError, match=f"^{file}: 0 captions in the train split.* there: none"):
        make_caption_dataset(caption_cfg("cuhk_pedes"))
    write_json(CUHK, json.dumps([TRAIN, TEST]), encoding="utf-16")
    with pytest.raises(ValueError, match=f"^{file}: .*UTF-16"):
        make_caption_dataset(caption_cfg("cuhk_pedes"))
    write_json(CUHK, json.dumps([TRAIN, TEST]), encoding="utf-8-sig")
    assert make_caption_dataset(caption_cfg("cuhk_pedes")).num_train_pids == 1
    monkeypatch.setattr("datasets.readers.captions.published._MAX_JSON", 20)
    with pytest.raises(ValueError, match=f"^{file} has .* bytes; allowed: at most 20"):
        make_caption_dataset(caption_cfg("cuhk_pedes"))


def test_one_image_written_in_two_ways_is_one_image(caption_cfg, write_json):
    again = TEST | {"file_path": "x/../b.jpg", "captions": ["A tall woman"]}
    write_json(CUHK, [TRAIN, TEST, again])
    dataset = make_caption_dataset(caption_cfg("cuhk_pedes"))
    assert len(dataset.gallery) == 1 and [caption for caption, _ in dataset.queries] == [
        "a woman",
        "a tall woman",
    ]
    write_json(CUHK, [TRAIN, TEST, again | {"id": 1}])
    with pytest.raises(ValueError, match=r"row 3: .*x/\.\./b\.jpg is of identity '1', but of '0' in .*row 2"):
        make_caption_dataset(caption_cfg("cuhk_pedes"))


def test_folders_and_files_that_are_missing(caption_cfg, write_json, tmp_path):
    for name, (file, _) in FILES.items():
        with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/{file}"):
            make_caption_dataset(caption_cfg(name))
    write_json(CUHK, [TRAIN, TEST])
    (tmp_path / "CUHK-PEDES/imgs").rmdir()
    with pytest.raises(FileNotFoundError, match=r"CUHK-PEDES/imgs: no such folder.*reid_raw\.json"):
        make_caption_dataset(caption_cfg("cuhk_pedes"))
    (tmp_path / CUHK).unlink()
    (tmp_path / CUHK).mkdir()
    (tmp_path / "CUHK-PEDES/imgs").mkdir()
    with pytest.raises(ValueError, match=r"reid_raw\.json is a folder; allowed: a plain file"):
        make_caption_dataset(caption_cfg("cuhk_pedes"))


@pytest.mark.parametrize("name", ["market1501", "CUHK_PEDES", "cuhk-pedes"])
def test_another_name(name, caption_cfg):
    with pytest.raises(ValueError, match=rf"DATASETS\.NAMES '{name}' is unknown.*cuhk_pedes, icfg_pedes"):
        make_caption_dataset(caption_cfg(name))


def test_captions_are_kept_for_a_check(caption_cfg, write_json):
    write_json(
        CUHK,
        [
            TRAIN | {"captions": ["...", "A" + " b" * 99]},
            TRAIN | {"file_path": "c.jpg", "captions": []},
            TEST,
        ],
    )
    dataset = make_caption_dataset(caption_cfg("cuhk_pedes"), for_check=True)
    assert [record.caption for record in dataset.train] == ["", "a" + " b" * 99]
    assert [path.rpartition("/")[2] for path in dataset.left_out] == ["c.jpg"]
