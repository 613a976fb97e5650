import json

import pytest

from utils.untrusted.forms import Form, Texts, check_form, parse_json, read_json, read_json_rows


class Point(Form):
    x: int
    names: tuple[str, ...] = ()
    y: float = 0.0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"x": 1.5}', "x is 1.5"),
        ('{"x": "1"}', "x is '1'"),
        ('{"names": []}', "x: Field required"),
        ('{"x": 1, "names": ["a", 3]}', "names.1 is 3"),
        ('{"x": 1, "y": NaN}', "y is nan"),
        ("[1]", "it is "),
        ("{", "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
        ('{"x": ' + "9" * 5000 + "}", "out of range"),
        ('{"x": 1, "names": ["\\ud80"]}', "Invalid JSON"),
    ],
)
def test_a_wrong_form_is_one_line_with_file_field_and_value(tmp_path, text, named):
    path = tmp_path / "point.json"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        read_json(path, Point)
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and named in line and "\n" not in line and len(line) < 500


def test_a_right_form_is_read_and_unknown_fields_are_left_out():
    text = json.dumps({"x": 1, "names": ["东门"], "other": {}})
    assert parse_json(text, Point, "text") == Point(x=1, names=("东门",))
    assert check_form({"x": 2, "y": 1}, Point, "dict").y == 1.0


def test_names_that_are_no_text_are_read_as_their_escapes():
    r"""`json.dumps` writes half a pair for each byte that is no text; the backslash of `C:\ud.pth` is one."""
    names = ["\udcff.pth", "😀", "C:\\ud800", "\ud83d"]
    read = parse_json(json.dumps({"x": 1, "names": names}), Point, "text").names
    assert read == (r"\udcff.pth", "😀", "C:\\ud800", r"\ud83d")


class Lines(Form):
    lines: Texts


def rows_of(path, content, **options):
    path.write_text(content, **options)
    return read_json_rows(path, Lines, 10**8)


def test_a_list_of_rows_is_read_with_or_without_byte_order_mark(tmp_path):
    rows = [Lines(lines=["a", "b"]), Lines(lines=[])]
    content = json.dumps([{"lines": row.lines, "other": 1} for row in rows])
    for encoding in ("utf-8", "utf-8-sig"):
        assert rows_of(tmp_path / "rows.json", content, encoding=encoding) == rows
    assert rows_of(tmp_path / "rows.json", '[{"lines": ["\\ud83d"]}]') == [Lines(lines=[r"\ud83d"])]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('[{"lines": []}, {"lines": ["a", 5]}]', "row 2: lines.1 is 5"),
        ('[{"lines": []}, {}]', "row 2: lines: Field required"),
        ("[5]", "row 1: it is 5"),
        ('{"lines": []}', "it is {"),
        ("[", "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
    ],
)
def test_a_wrong_row_is_one_line_with_its_number(tmp_path, content, named):
    path = tmp_path / "rows.json"
    with pytest.raises(ValueError) as caught:
        rows_of(path, content)
    line = str(caught.value)
    assert line.startswith(f"{path}: {named}") and "\n" not in line and len(line) < 500


@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('[{"lines": [', "]}]")])
def test_only_the_first_of_many_mistakes_is_kept(tmp_path, start, end):
    with pytest.raises(ValueError, match=r"row 1: (it|lines\.0) is 1") as caught:
        rows_of(tmp_path / "rows.json", start + "1," * 1000 + "1" + end)
    assert "more" not in str(caught.value)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text("[" + " " * 100 + "]")
    with pytest.raises(ValueError, match="has 102 bytes; allowed: at most 50"):
        read_json_rows(path, Lines, 50)
