"""Captions in several languages: columns, keys and text files, what is asked for and what is counted."""

import logging

import pytest

from config.check import check_config
from datasets import make_caption_dataset

CSV = [
    "path,pid,split,caption,caption_zh,back_translation_zh,caption_ru,colour",
    "1.jpg,ann,train,A woman.|A lady,女人，红衣。,女士,Женщина,x",
    "2.jpg,ben,train,A man,,,Мужчина|Он,x",
    "3.jpg,ben,train,,男人,,,x",
    "4.jpg,7,test,Somebody,有人,,Кто-то,x",
    "5.jpg,8,test,,女孩|她,,,x",
    "6.jpg,8,gallery,Not searched for,也不,,,x",
]
BOTH = ("DATASETS.LANGUAGES", "['', 'zh']", "TEST.LANGUAGES", "['zh', '']")


@pytest.fixture
def read_csv(caption_cfg, tmp_path):
    """A function: lines, KEY, VALUE, … → the data set that dataset.csv with these lines is."""

    def read(lines, *pairs, **options):
        (tmp_path / "dataset.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return make_caption_dataset(caption_cfg("csv", *pairs), **options)

    return read


def told(caplog):
    """What was logged of the data set, without the table."""
    return [message for message in caplog.messages if "split: " in message or "not searched" in message]


def keys(records):
    return [record.key.rpartition("/")[2] for record in records]


def test_each_caption_of_each_language_is_a_pair(read_csv, caplog):
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        dataset = read_csv(CSV, *BOTH)
    assert keys(dataset.train) == ["1.jpg#0", "1.jpg#1", "1.jpg#zh0", "2.jpg#0", "3.jpg#zh0"]
    assert [record.language for record in dataset.train] == ["", "", "zh", "", "zh"]
    assert [record.pid for record in dataset.train] == [0, 0, 0, 1, 1]
    assert dataset.train[2].caption == "女人，红衣。"  # only ASCII is cleaned
    assert [record.back_translation for record in dataset.train] == ["", "", "女士", "", ""]
    chinese, english = dataset.trials
    assert dataset.trial_names == ("caption_zh", "caption") and chinese.rule == english.rule == "all"
    assert keys(chinese.query) == ["4.jpg#zh0", "5.jpg#zh0", "5.jpg#zh1"] and keys(english.query) == [
        "4.jpg#0"
    ]
    assert chinese.gallery == english.gallery and len(english.gallery) == 3
    assert keys(dataset.test_captions()) == ["4.jpg#zh0", "5.jpg#zh0", "5.jpg#zh1", "4.jpg#0"]
    lines = "\n".join(told(caplog))
    for part in (
        "train split: captions that are not read, as not asked for: 3 caption_ru",
        "test split: captions that are not read, as not asked for: 1 caption_ru",
        "1 (images without caption), such as ",
        "1 (images without caption_zh), such as ",
        "2 captions in gallery are not searched for",
    ):
        assert part in lines
    assert "1 columns are not read: 'colour'" in caplog.text


def test_one_language_is_read_as_always(read_csv, caplog):
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        dataset = read_csv(CSV)
    assert keys(dataset.train) == ["1.jpg#0", "1.jpg#1", "2.jpg#0"]
    assert [keys(trial.query) for trial in dataset.trials] == [["4.jpg#0"]] and dataset.trial_names == ()
    assert (
        "train split: captions that are not read, as not asked for: 3 caption_ru, 2 caption_zh" in caplog.text
    )
    dataset = read_csv(CSV, "DATASETS.LANGUAGES", "['zh']", "TEST.LANGUAGES", "['ru']")
    assert keys(dataset.train) == ["1.jpg#zh0", "3.jpg#zh0"]
    assert [keys(trial.query) for trial in dataset.trials] == [["4.jpg#ru0"]] and dataset.trial_names == ()


def test_a_test_asks_for_its_own_languages_only(read_csv):
    lines = ["path,pid,split,caption_zh", "1.jpg,7,query,女人", "2.jpg,7,gallery,"]
    dataset = read_csv(lines, "TEST.LANGUAGES", "['zh']", need_train=False)
    assert keys(dataset.trials[0].query) == ["1.jpg#zh0"]
    with pytest.raises(
        ValueError, match=r":1: no column 'caption' among path, pid, split, caption_zh; needed"
    ):
        read_csv(lines, "TEST.LANGUAGES", "['zh']")


@pytest.mark.parametrize(
    ("lines", "pairs", "message"),
    [
        (
            ["path,pid,split,caption,caption_ru", "1.jpg,a,train,A,", "2.jpg,7,test,A,"],
            ("DATASETS.LANGUAGES", "['', 'zh']"),
            r"csv:1: no column 'caption_zh' among path, pid, split, caption, caption_ru; needed are path, "
            "pid, split, caption, caption_zh, optional are camid, viewid, back_translation, ",
        ),
        (CSV[:4], BOTH, r"csv: 0 gallery images in the test split"),
        (
            [*CSV[:3], "4.jpg,7,test,Somebody,,,,"],
            BOTH,
            r"csv: no caption_zh in the test split; captions there: caption \(1\)$",
        ),
        ([*CSV, "9.jpg,9,query,,,,Нет,"], BOTH, ":8: caption_zh is empty"),
        ([*CSV, "9.jpg,9,train,A,(..),,,"], BOTH, r":8: caption_zh 1 of .*/9\.jpg is '\(\.\.\)', of which"),
        ([*CSV, "9.jpg,9,train,A,nan,,,"], BOTH, ":8: caption_zh is 'nan', as tables write an empty cell"),
        ([CSV[0].replace("ru", "zh"), *CSV[1:]], BOTH, "column 'caption_zh' comes 2 times"),
    ],
)
def test_errors_are_one_line(lines, pairs, message, read_csv):
    with pytest.raises(ValueError, match=message) as error:
        read_csv(lines, *pairs)
    assert "\n" not in str(error.value)


def test_a_query_needs_a_caption_in_one_of_the_languages(read_csv):
    dataset = read_csv([*CSV, "9.jpg,9,query,A,,,,", "9.jpg,8,gallery,,,,,"][:-1], *BOTH)
    assert [len(trial.query) for trial in dataset.trials] == [3, 2]


def test_the_check_reads_all_languages(read_csv):
    dataset = read_csv([*CSV, "9.jpg,9,train,,(..),,,"], for_check=True)
    assert dataset.trial_names == ("caption", "caption_ru", "caption_zh")
    assert keys(dataset.train)[-2:] == ["3.jpg#zh0", "9.jpg#zh0"] and dataset.train[-1].caption == ""
    only = ["path,pid,split,caption_zh", "1.jpg,a,train,女", "2.jpg,7,query,男", "2.jpg,7,gallery,"]
    assert len(read_csv(only, for_check=True).train) == 1


@pytest.mark.parametrize(
    "codes", ["['z h']", "['zh', 'zh']", "[]", "['bt']", "['zh_TW']", "['1']", "['', '../zh']"]
)
@pytest.mark.parametrize("key", ["DATASETS.LANGUAGES", "TEST.LANGUAGES"])
def test_other_codes_are_refused(codes, key, caption_cfg):
    with pytest.raises(
        ValueError, match=rf"^{key} is \[.*; allowed: '' or codes of letters, digits and hyphens"
    ):
        check_config(caption_cfg("csv", key, codes))
    check_config(caption_cfg("csv", key, "['', 'pt-BR', 'es-419']"))


# ---- JSON

TRAIN = {
    "id": 7,
    "file_path": "a.jpg",
    "captions": ["A man", "He"],
    "captions_zh": ["男人"],
    "captions_ru": [],
}
TEST = {"id": 9, "file_path": "b.jpg", "captions": ["She"], "captions_zh": ["她", "女人"]}
BACK = {"captions_bt": ["a boy", ""], "captions_bt_zh": ["男生"]}


def test_prepared_files(caption_cfg, write_json):
    write_json("train_reid.json", [TRAIN | BACK, TRAIN | {"file_path": "c.jpg"}])
    write_json("test_reid.json", [TEST])
    dataset = make_caption_dataset(caption_cfg("captions", *BOTH))
    assert [(r.caption, r.back_translation, r.language) for r in dataset.train[:3]] == [
        ("a man", "a boy", ""),
        ("he", "", ""),
        ("男人", "男生", "zh"),
    ]
    assert [[r.caption for r in trial.query] for trial in dataset.trials] == [["她", "女人"], ["she"]]


def test_an_official_file(caption_cfg, write_json):
    rows = [
        {"split": "train", **TRAIN},
        {"split": "train", **TRAIN, "captions_zh": []},
        {"split": "test", **TEST},
    ]
    write_json("CUHK-PEDES/reid_raw.json", rows)
    dataset = make_caption_dataset(caption_cfg("cuhk_pedes", *BOTH))
    assert keys(dataset.train) == ["a.jpg#0", "a.jpg#1", "a.jpg#zh0"]
    assert make_caption_dataset(caption_cfg("cuhk_pedes")).queries == [("she", 9)]


def test_captions_in_a_language_only(caption_cfg, write_json):
    train, test = ({key: row[key] for key in row if key != "captions"} for row in (TRAIN, TEST))
    write_json("train_reid.json", [train])
    write_json("test_reid.json", [test])
    pairs = ("DATASETS.LANGUAGES", "['zh']", "TEST.LANGUAGES", "['zh']")
    assert len(make_caption_dataset(caption_cfg("captions", *pairs)).train) == 1
    with pytest.raises(
        ValueError, match=r": no caption in the train split; captions there: caption_zh \(1\)$"
    ):
        make_caption_dataset(caption_cfg("captions"))
    pairs = ("DATASETS.LANGUAGES", "['zh', 'ru']", "TEST.LANGUAGES", "['zh']")
    with pytest.raises(
        ValueError, match=r": no caption_ru in the train split; captions there: caption_zh \(1\)$"
    ):
        make_caption_dataset(caption_cfg("captions", *pairs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"captions_zh": "女"}, r"row 2: captions_zh is '女'; allowed: "),
        ({"captions_zh": [5]}, r"row 2: captions_zh\.0 is 5; allowed: "),
        ({"captions_bt_zh": None}, r"row 2: captions_bt_zh is None; allowed: "),
        ({"captions": None}, r"row 2: captions is None; allowed: "),
    ],
)
def test_a_wrong_row_is_named(change, message, caption_cfg, write_json):
    write_json("train_reid.json", [TRAIN, TRAIN | change])
    write_json("test_reid.json", [TEST])
    with pytest.raises(ValueError, match=message) as error:
        make_caption_dataset(caption_cfg("captions", *BOTH))
    assert "\n" not in str(error.value)


def test_a_row_without_the_key_is_an_image_without_the_language(caption_cfg, write_json, caplog):
    write_json("train_reid.json", [TRAIN, {"id": 8, "file_path": "c.jpg", "captions": ["Only English"]}])
    write_json("test_reid.json", [TEST])
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        dataset = make_caption_dataset(caption_cfg("captions", *BOTH))
    assert keys(dataset.train)[-1] == "c.jpg#0"
    assert "train split: 4 (captions without back translation)" in caplog.text
    assert "1 (images without caption_zh), such as " in caplog.text


# ---- folder

FILES = {
    "train/ann/a.jpg": "",
    "train/ann/a.txt": "A woman",
    "train/ann/a.zh.txt": "女人\n\n女士",
    "train/ben/b.jpg": "",
    "train/ben/b.jpg.zh.txt": "男人",
    "train/ben/b.jpg.txt": "A man",
    "test/7/c.jpg": "",
    "test/7/c.txt": "Somebody",
    "test/7/c.zh.TXT": "有人",
    "test/7/c.ru.txt": "Кто-то",
}


@pytest.fixture
def read_folder(caption_cfg, tmp_path, touch_files):
    """A function: name → text of a file, KEY, VALUE, … → the data set."""

    def read(files, *pairs, **options):
        touch_files(tmp_path, *files)
        for name, text in files.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        return make_caption_dataset(caption_cfg("folder", *pairs), **options)

    return read


def test_text_files_of_languages(read_folder, caplog):
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        dataset = read_folder(FILES, *BOTH)
    assert keys(dataset.train) == ["a.jpg#0", "a.jpg#zh0", "a.jpg#zh1", "b.jpg#0", "b.jpg#zh0"]
    assert [[r.caption for r in trial.query] for trial in dataset.trials] == [["有人"], ["somebody"]]
    assert "test split: captions that are not read, as not asked for: 1 caption_ru" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_a_text_file_of_an_image_with_such_a_name_is_its_own(read_folder, caplog):
    more = {"train/ann/a.zh.jpg": "", "train/ann/a.png.txt": "lost", "train/ann/d.zh.txt": "lost"}
    with caplog.at_level(logging.INFO, "transreid.datasets"):
        dataset = read_folder(FILES | more)
    assert ("女人", "a.zh.jpg#0") in [(r.caption, r.key.rpartition("/")[2]) for r in dataset.train]
    assert "train split: captions that are not read, as not asked for: 1 caption_zh" in caplog.text
    assert "2 (a text file without an image of its name), such as " in caplog.text
