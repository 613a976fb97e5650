"""The load on a server, for a few seconds."""

import re

import pytest

from benchmarks.serve.__main__ import main

pytestmark = [pytest.mark.slow, pytest.mark.service]


def test_a_short_load(capfd):
    """A queue shorter than the clients are many: some are refused, all are answered."""
    few = ["--clients", "12", "--seconds", "3", "--entries", "100", "--pictures", "4", "--queue", "6"]
    assert main(few) == 0
    text = capfd.readouterr().out
    rows = dict(re.findall(r"^\| ([a-z ]+?) \| ([\d,]+) \| .* \|$", text, re.MULTILINE))
    assert set(rows) == {"search by picture", "search by key", "picture", "add and remove"}
    assert int(rows["search by picture"].replace(",", "")) > 5
    assert "12 clients for" in text and "100 entries" in text and "other errors: none" in text
    assert int(re.search(r"([\d,]+) refused with 429", text)[1].replace(",", "")) > 0
    assert re.search(r"Memory of the server: \d+ MB at first", text)
