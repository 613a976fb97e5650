"""Values of a browser: questions, files and times, of which each may be anything."""

import base64
from datetime import datetime

import pytest

from service import Key, Picture, Sentence
from service.page.question import read_distance, read_question, read_time

PNG = "data:image/png;base64,"


def test_questions():
    assert read_question({"data": PNG + base64.b64encode(b"bytes").decode()}, 5) == Picture(b"bytes")
    assert read_question({"text": " a man in red "}, 5) == Sentence("a man in red")
    assert read_question({"key": "k", "data": PNG + "AAAA"}, 5) == Key("k")
    for nothing in (None, "", {}, [], {"text": "  "}, {"data": ""}):
        assert read_question(nothing, 5) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"data": "file:///etc/passwd"}, "the file is no picture"),
        ({"data": "data:text/html;base64,AAAA"}, "the file is no picture"),
        ({"data": PNG + "AA*A"}, "did not arrive whole"),
        ({"data": PNG + "AAA"}, "did not arrive whole"),
        ({"data": PNG + base64.b64encode(b"six by").decode()}, "has 6 bytes; allowed: at most 5"),
        ({"data": ["x"]}, "neither a picture nor a sentence"),
        ({"key": 7}, "neither a picture nor a sentence"),
    ],
)
def test_what_is_no_question(value, words):
    with pytest.raises(ValueError, match=words):
        read_question(value, 5)


def test_times():
    assert read_time(None) is read_time(" ") is None
    assert read_time("2026-11-28 14:30") == datetime(2026, 11, 28, 14, 30)
    assert read_time("2026-11-28") == datetime(2026, 11, 28)
    assert read_time("2026-11-28", last=True) == datetime(2026, 11, 28, 23, 59, 59, 999999)
    assert read_time("2026-11-28 14:30", last=True) == datetime(2026, 11, 28, 14, 30)
    with pytest.raises(ValueError, match=r"time is 'tomorrow'; allowed: 2026-11-28 or"):
        read_time("tomorrow")


def test_distances():
    assert read_distance("") is read_distance(None) is None
    assert read_distance(" 0.62 ") == 0.62
    with pytest.raises(ValueError, match="largest distance is 'near'; allowed: a number"):
        read_distance("near")
