"""Any words as KEY VALUE pairs: a configuration or an error in one line, at once."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config import cfg, cfg_base
from config.load import leaves
from tests.untrusted.surviving import LIMITS, load_or_refuse

VALUES = {
    "digits": "9" * 100_000,
    "digits that are read": "9" * 1999,
    "hexadecimal": "0x" + "f" * 1990,
    "brackets": "[" * 100_000,
    "brackets that are read": "[" * 1900,
    "closed brackets": "[" * 190 + "]" * 190,
    "braces": "{" * 500,
    "minus": "-" * 1900 + "1",
    "nots": "not " * 400 + "1",
    "sums": "1+" * 900 + "1",
    "attributes": "a" + ".a" * 900,
    "wide character": "'\\U0010ffff' '\\x41'",
    "bad character": "'\\xzz'",
    "no such name": "'\\N{no such name}'",
    "backslash": '"\\d"',
    "words joined": "1if 1else 2",
    "number and word": "0x1for x in []",
    "called number": "1()",
    "compared to text": "1 is 'a'",
    "zero byte": "a\0b",
    "lines": "a\nb\nc",
    "surrogate": "\udcff",
    "colours": "\x1b[31mred",
    "a call": "__import__('os').system('touch ran')",
    "bytes": "b'\\xff'",
    "list in a set": "{[1]}",
    "sets": "{1, 2}",
    "power": "9**9**9",
    "product": "'a'*10**10",
    "complex": "1e400+1e400j",
    "infinite": "1e400",
    "nothing": "nan",
    "dots": "...",
    "walrus": "(a:=1)",
    "format": "f'{1}'",
}
KEYS = ("SOLVER.STAGE1.MAX_EPOCHS", "SOLVER.STAGE2.BASE_LR", "MODEL.NAME", "DATASETS.NAMES")
KEYS += (
    "MODEL.STRIDE_SIZE",
    "SOLVER.STAGE2.STEPS",
    "MODEL.SIE_CAMERA",
    "INPUT.PIXEL_MEAN",
    "MODEL",
    "_BASE_",
)


@pytest.mark.parametrize("value", VALUES)
def test_hostile_values(capfd, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for key in KEYS:
        load_or_refuse(capfd, "", [key, VALUES[value]])
        load_or_refuse(capfd, "", [VALUES[value], key])
    load_or_refuse(capfd, "", [VALUES[value]])
    told = load_or_refuse(capfd, "", ["SOLVER.STAGE1.MAX_EPOCHS", VALUES[value]])
    assert "command line: SOLVER.STAGE1.MAX_EPOCHS is " in told and "expected: int" in told
    assert not list(tmp_path.iterdir())


TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["MODEL", "NAME", "INPUT", "SIZE_TEST", "x"]), inner, max_size=4),
    ),
    max_leaves=12,
)


@LIMITS
@given(tree=TREES, name=st.sampled_from(list(leaves(cfg)) + list(leaves(cfg_base))))
def test_any_tree_and_any_value(tmp_path, capfd, tree, name):
    *groups, key = name.split(".")
    whole = {key: tree}
    for group in reversed(groups):
        whole = {group: whole}
    path = tmp_path / "run.yml"
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    load_or_refuse(capfd, path)
    load_or_refuse(capfd, "", [name, repr(tree)])
    load_or_refuse(capfd, "", [name, tree])


@LIMITS
@given(words=st.lists(st.one_of(st.sampled_from(KEYS), st.text(max_size=30)), max_size=4))
def test_any_words(capfd, words):
    load_or_refuse(capfd, "", words)
