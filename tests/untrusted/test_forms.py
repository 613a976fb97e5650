import json

import pytest

from utils.untrusted.forms import Form, check_form, parse_json, read_json


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
