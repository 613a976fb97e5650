"""YAML files made to do harm or damaged by chance: a configuration, or an error in one line with the file."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import cfg
from config.load import load_config
from tests.untrusted.surviving import LIMITS, nothing_else
from utils.package import find_shipped

GOOD = find_shipped("configs/person/vit_base.yml").read_bytes()
LEVELS = range(30)


def bomb(first, form):
    """Each level stands for three of the one before."""
    return f"a0: &a0 {first}\n" + "".join(
        f"a{n + 1}: &a{n + 1} {form.format(*[f'*a{n}'] * 3)}\n" for n in LEVELS
    )


def read(folder, content):
    path = folder / "run.yml"
    path.write_bytes(content)
    with nothing_else():
        try:
            load_config(cfg, path)
        except (ValueError, FileNotFoundError) as error:
            told = str(error)
            assert told.startswith(str(path)) and told.isprintable() and len(told) < 900
            return told
    return None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (bomb("[x]", "[{}, {}, {}]"), "stands for more than 10,000 values"),
        (bomb("{x: 1}", "{{x: {}, y: {}, z: {}}}"), "stands for more than 10,000 values"),
        (bomb("{x: 1}", "{{<<: [{}, {}, {}]}}"), "stands for more than 10,000 values"),
        ("OUTPUT_DIR: &a [*a]", "stands for more than 10,000 values"),
        ("MODEL: &a {NAME: *a}", "stands for more than 10,000 values"),
        ("[" * 2000, "not valid YAML"),
        ("OUTPUT_DIR: " + "[" * 200 + "]" * 200, "OUTPUT_DIR is "),
        ("OUTPUT_DIR: !!int ''", "not valid YAML"),
        ("OUTPUT_DIR: !!timestamp x", ""),
        ("SOLVER: {SEED: " + "9" * 5000 + "}", "not valid YAML"),
        ("A: " + "1:" * 60_000 + "1", "a value of 120,001 characters; allowed: 4,096"),
        ("A: 1\n" * 100_000, "allowed: at most 131,072"),
    ],
    ids=range(12),
)
def test_hostile_yaml(tmp_path, text, told):
    found = read(tmp_path, text.encode())
    assert told in (found or "")


def test_what_is_no_plain_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "run.yml")
    with pytest.raises(ValueError, match=r"run\.yml is a pipe; allowed: a plain file"):
        load_config(cfg, tmp_path / "run.yml")


@LIMITS
@given(data=st.data())
def test_a_file_that_was_damaged(tmp_path_factory, data):
    content = bytearray(GOOD)
    odd = st.sampled_from(b"&*[]{}!|>'\"#:,-?%@`<\0\x1b\n\t 0aN") | st.integers(0, 255)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=5)):
        content[place] = data.draw(odd)
    read(tmp_path_factory.getbasetemp(), bytes(content[: data.draw(st.integers(1, len(content)))]))
