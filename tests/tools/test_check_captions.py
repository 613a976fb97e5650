"""The check of a data set of captions."""

import json

import pytest

from tests.tools.checking import draw, run
from tools.check_dataset import main

ROWS = [
    ("train", "1.jpg", 5, ["A man in red."]),
    ("train", "2.jpg", 5, ["A man."]),
    ("train", "3.jpg", 6, ["A boy."]),
    ("train", "4.jpg", 6, ["A lad."]),
    ("test", "5.jpg", 5, ["A woman.", "A lady."]),
    ("test", "6.jpg", 7, ["A girl."]),
]


@pytest.fixture
def caption_words(tmp_path):
    """A function: rows, options → the words of a check of these rows in the form of CUHK-PEDES."""

    def make(rows, *options):
        images = tmp_path / "CUHK-PEDES" / "imgs"
        for seed, (_, name, _, _) in enumerate(rows):
            draw(images / name, seed)
        names = ("split", "file_path", "id", "captions")
        content = json.dumps([dict(zip(names, row, strict=True)) for row in rows])
        (images.parent / "reid_raw.json").write_text(content)
        pairs = ["DATASETS.NAMES", "('cuhk_pedes')", "DATASETS.ROOT_DIR", str(tmp_path)]
        return [*map(str, options), *pairs, "DATALOADER.NUM_WORKERS", "0"]

    return make


def test_good_captions(caption_words, capsys):
    status, lines = run(caption_words(ROWS), capsys)
    assert status == 0 and lines[0] == "Data set cuhk_pedes: 6 image files"
    assert lines[3].split("|")[:4] == ["train ", "      2 ", "        4 ", "          4 "]
    assert len(lines) == 5 + 14 and all(line.endswith(": 0") for line in lines[5:])


def test_one_image_of_an_identity_is_enough_for_a_sentence(caption_words, capsys):
    rows = [ROWS[0], ("train", "7.jpg", 6, ["A man."]), *ROWS[4:]]
    status, lines = run(caption_words(rows), capsys)
    assert status == 0 and not [line for line in lines if "training identities" in line]


def test_what_should_be_put_right_in_captions(caption_words, tmp_path, capsys):
    rows = [
        *ROWS,
        ("train", "7.jpg", 6, [" (...) ", "Word " * 1000, "A man!", "Unbelievablyoverlongish " * 20]),
        ("train", "8.jpg", 8, []),
        ("test", "9.jpg", 9, []),
    ]
    words = caption_words(rows, "--report", tmp_path / "report.json")
    images = tmp_path / "CUHK-PEDES" / "imgs"
    (images / "6.jpg").write_bytes((images / "1.jpg").read_bytes())
    (images / "4.jpg").unlink()
    status, lines = run(words, capsys)
    assert status == 1
    told = json.loads((tmp_path / "report.json").read_text())
    errors = {name: found for name, found in told["errors"].items() if found}
    assert errors == {
        "absent": [f"{images}/4.jpg"],
        "train_in_test": [f"{images}/1.jpg = {images}/6.jpg"],
        "wordless": [f"{images}/7.jpg#0"],
    }
    notes = {name: found for name, found in told["notes"].items() if found}
    assert notes.keys() == {"without_caption", "cut", "shared"}
    assert notes["without_caption"] == [f"{images}/8.jpg", f"{images}/9.jpg"]
    assert [line.partition(": ")[0] for line in notes["cut"]] == [f"{images}/7.jpg#1", f"{images}/7.jpg#3"]
    both = f"{images}/2.jpg#0 (identity 5), {images}/7.jpg#2 (identity 6)"
    assert notes["shared"] == [f"'a man' of 2 identities: {both}"]
    assert "note: captions that are cut, at 77 words or 77 tokens (MODEL.TEXT_LENGTH): 2" in lines
    assert lines[3].endswith(" 1000")


def test_captions_without_training(caption_words, capsys):
    status, lines = run(caption_words(ROWS[4:]), capsys)
    assert status == 1 and lines[0] == "Data set cuhk_pedes: 2 image files"
    assert lines[3].startswith("test ") and "splits that are not there: 1" in lines
    assert "0 captions in the train split" in "".join(lines)


def test_captions_cannot_reach_the_terminal(caption_words, capsys):
    text = "a\x1b[2Jb\r\u202ec"
    _, lines = run(
        caption_words([*ROWS, ("train", "7.jpg", 5, [text]), ("train", "8.jpg", 6, [text])]), capsys
    )
    assert all(line.isprintable() for line in lines)
    assert any(r"\x1b[2jb\r\u202ec' of 2 identities" in line for line in lines)


def test_the_token_limit_is_that_of_the_settings(caption_words, capsys):
    rows = [*ROWS, ("test", "7.jpg", 7, ["one two three four five six"])]
    for limit, count in ((8, 0), (7, 1)):
        _, lines = run([*caption_words(rows), "MODEL.TEXT_LENGTH", str(limit)], capsys)
        assert (
            f"note: captions that are cut, at 77 words or {limit} tokens (MODEL.TEXT_LENGTH): {count}"
            in lines
        )


def test_queries_without_an_image(tmp_path, capsys):
    for seed in range(3):
        draw(tmp_path / f"{seed}.jpg", seed)
    rows = [
        "path,pid,split,caption",
        "0.jpg,ann,query,A woman",
        "1.jpg,ben,query,A man",
        "2.jpg,ben,gallery,",
    ]
    (tmp_path / "dataset.csv").write_text("\n".join(rows))
    pairs = ["DATASETS.NAMES", "csv", "DATASETS.ROOT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", "0"]
    status, lines = run(["--captions", "--test_only", *pairs], capsys)
    assert status == 0 and lines[0] == "Data set csv: 3 image files"
    start = lines.index("note: query identities without a gallery image: 1")
    assert lines[start + 1] == f"  identity ann, {tmp_path}/0.jpg"


def test_captions_of_all_languages_that_are_there(tmp_path, capsys):
    for seed, name in enumerate(("1.jpg", "2.jpg", "3.jpg")):
        draw(tmp_path / name, seed)
    rows = [
        "path,pid,split,caption_zh,caption_ru",
        "1.jpg,ann,train,一位女士。,Женщина",
        "2.jpg,ben,train,男人,Мужчина в пальто",
        "3.jpg,zoe,test,女孩|...,",
    ]
    (tmp_path / "dataset.csv").write_text("\n".join(rows), "utf-8")
    pairs = ["DATASETS.NAMES", "csv", "DATASETS.ROOT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", "0"]
    status, lines = run(["--captions", *pairs], capsys)
    assert status == 1 and f"  {tmp_path}/3.jpg#zh1" in lines
    assert [line.split("|")[0].strip() for line in lines[3:8]] == [
        "train",
        "- caption_ru",
        "- caption_zh",
        "test",
        "- caption_zh",
    ]


def test_tokens_are_those_of_the_text_tower(tmp_path, capsys):
    pytest.importorskip("transformers")
    from tests.altclip import write_altclip

    write_altclip(tmp_path / "hub")
    capsys.readouterr()
    for seed, name in enumerate(("1.jpg", "2.jpg")):
        draw(tmp_path / name, seed)
    rows = [
        "path,pid,split,caption_zh",
        f"1.jpg,ann,train,{'穿着红色外套' * 5}",
        "2.jpg,zoe,test,一个穿着红色外套",
    ]
    (tmp_path / "dataset.csv").write_text("\n".join(rows), "utf-8")
    pairs = ["DATASETS.NAMES", "csv", "DATASETS.ROOT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", "0"]
    pairs += ["MODEL.TEXT_LENGTH", "12"]
    told = "note: captions that are cut, at 77 words or 12 tokens (MODEL.TEXT_LENGTH): "
    assert f"{told}2" in run(["--captions", *pairs], capsys)[1]
    pairs += ["MODEL.NAME", "AltCLIP", "MODEL.PRETRAIN_PATH", str(tmp_path / "hub")]
    assert f"{told}1" in run(["--captions", *pairs], capsys)[1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": True}, "reid_raw.json: row 7: id is True"),
        ({"captions": "A man"}, "reid_raw.json: row 7: captions is 'A man'"),
        ({"id": 6, "split": "train", "file_path": "1.jpg"}, "row 7: "),
    ],
)
def test_rows_that_cannot_be_read(caption_words, tmp_path, capsys, change, told):
    words = caption_words([*ROWS, ("test", "7.jpg", 7, ["A"])])
    file = tmp_path / "CUHK-PEDES" / "reid_raw.json"
    *rows, last = json.loads(file.read_text())
    file.write_text(json.dumps([*rows, last | change]))
    with pytest.raises(SystemExit) as end:
        main(words)
    out, err = capsys.readouterr()
    assert end.value.code == 2 and told in err and err.count("\n") == 1 and not out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--captions", "DATASETS.NAMES", "market1501"), "DATASETS.NAMES 'market1501' is unknown"),
        (("DATASETS.NAMES", "cuhk"), "DATASETS.NAMES 'cuhk' is unknown"),
        (("DATASETS.NAMES", "cuhk_pedes", "MODEL.SIE_CAMERA", "True"), "MODEL.SIE_CAMERA"),
    ],
)
def test_settings_of_the_other_kind(words, told, capsys):
    with pytest.raises(SystemExit) as end:
        main([*words])
    assert end.value.code == 2 and told in capsys.readouterr().err
