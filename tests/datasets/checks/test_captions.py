import dataclasses

from datasets import CaptionDataset, CaptionFindings, CaptionRecord, ImageRecord, Trial, audit_captions
from utils.labels import LabelTexts


def caption(text, path, pid, number=0, name=""):
    return CaptionRecord(path, pid, text, "", f"{path}#{number}", LabelTexts(name))


def found(train, query, gallery=(), left_out=(), length=5):
    images = [ImageRecord(path, pid, -1, 0) for path, pid in gallery]
    dataset = CaptionDataset("x", train, [Trial(query, images, "all")], left_out=left_out)
    findings = audit_captions(dataset, lambda texts: [len(text.split()) > length for text in texts])
    return {name: lines for name, lines in dataclasses.asdict(findings).items() if lines}


def test_every_kind_has_a_title():
    kinds = [field.name for field in dataclasses.fields(CaptionFindings)]
    assert [*CaptionFindings.ERRORS, *CaptionFindings.NOTES] == kinds


def test_good_captions():
    train = [caption("a man", "1.jpg", 0), caption("a man", "1.jpg", 0, 1), caption("a boy", "2.jpg", 1)]
    # An identity of the test is another one than that of the same number in training.
    assert found(train, [caption("a boy", "3.jpg", 0)], [("3.jpg", 0)]) == {}


def test_what_is_found_in_captions():
    train = [
        caption("", "1.jpg", 0),
        caption("w " * 6, "1.jpg", 0, 1),
        caption("two", "2.jpg", 0),
        caption("two", "3.jpg", 1),
        caption("three", "2.jpg", 0, 1, "ann"),
        caption("three", "3.jpg", 1, 1, "ben"),
        caption("three", "4.jpg", 2, 0, "zoe"),
    ]
    query = [caption("", "5.jpg", 7), caption("w " * 6, "5.jpg", 7, 1)]
    assert found(train, query, [("5.jpg", 7), ("6.jpg", 8)], ("0.jpg",)) == {
        "wordless": ["1.jpg#0", "5.jpg#0"],
        "without_caption": ["0.jpg", "6.jpg"],
        "cut": ["1.jpg#1: 'w w w w w w '", "5.jpg#1: 'w w w w w w '"],
        "shared": [
            "'three' of 3 identities: 2.jpg#1 (identity ann), 3.jpg#1 (identity ben), …",
            "'two' of 2 identities: 2.jpg#0 (identity 0), 3.jpg#0 (identity 1)",
        ],
    }


def test_captions_of_several_languages():
    train = [caption("a man", "1.jpg", 0), caption("a boy", "2.jpg", 1)]
    train += [caption("男", "1.jpg", 0)._replace(key="1.jpg#zh0", language="zh")]
    query = [caption("", "3.jpg", 7)._replace(key="3.jpg#zh0", language="zh"), caption("x", "4.jpg", 8)]
    assert found(train, query, [("3.jpg", 7), ("4.jpg", 8), ("5.jpg", 9)]) == {
        "wordless": ["3.jpg#zh0"],
        "without_caption": [
            "5.jpg",
            "2.jpg (no caption_zh)",
            "3.jpg (no caption)",
            "4.jpg (no caption_zh)",
        ],
    }


def test_words_beyond_those_that_are_read_are_cut_whatever_a_model_reads():
    query = [caption("w " * count, f"{count}.jpg", 0) for count in (77, 78)]
    (line,) = found([], query, length=1000)["cut"]
    assert line.startswith("78.jpg#0: ")


def test_many_captions_are_looked_at_in_parts():
    query = [
        caption("w " * (6 if place == 2500 else 1) + str(place), f"{place}.jpg", 0) for place in range(2600)
    ]
    (line,) = found([], query)["cut"]
    assert line.startswith("2500.jpg#0: ")
