"""Any text as a configuration file: a configuration or an error in one line, at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.untrusted.surviving import LIMITS, load_or_refuse


def of_file(tmp_path, capfd, content):
    path = tmp_path / "run.yml"
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return load_or_refuse(capfd, path)


def laughs(levels, width=9, shape="[{}]"):
    lines = ["a0: &a0 lol"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} " + shape.format(", ".join([f"*a{level - 1}"] * width)))
    return "\n".join(lines)


def merges(levels):
    lines = ["m0: &m0 {NAME: a}"]
    lines += [f"m{level}: &m{level} {{<<: [*m{level - 1}, *m{level - 1}]}}" for level in range(1, levels)]
    return "\n".join(lines)


def maps(levels):
    return "m0: &m0 {a: 1}\n" + "\n".join(
        f"m{n}: &m{n} {{a: *m{n - 1}, b: *m{n - 1}}}" for n in range(1, levels)
    )


REFUSED = {
    "billion laughs": (laughs(12), "more than 10000 values"),
    "billion laughs in mappings": (maps(40), "more than 10000 values"),
    "merges": (merges(40), "more than 10000 values"),
    "long chain": (maps(200).replace(", b: *m", ", c: [*m").replace("}", "]}"), "not valid YAML"),
    "itself": ("MODEL: &a [*a]", "line 1: a value that holds itself"),
    "itself in a mapping": ("MODEL: &a\n  NAME: *a", "a value that holds itself"),
    "itself merged": ("MODEL: &a\n  <<: *a", "a value that holds itself"),
    "deep list": ("MODEL: " + "[" * 20_000, "more than 50 levels"),
    "deep mapping": ("MODEL: " + "{a: " * 20_000, "more than 50 levels"),
    "deep and closed": ("MODEL: " + "[" * 60 + "]" * 60, "50 levels"),
    "deep by indents": ("\n".join(" " * n + "a:" for n in range(200)), "50 levels"),
    "deep dashes": ("- " * 5000, "more than 50 levels"),
    "many keys with question marks": ("? " * 5000, "more than 50 levels"),
    "mapping as key": ("{a: b}: c", "a key that is a mapping"),
    "list as key": ("? [a, b]\n: c", "a key that is a sequence"),
    "number as key": ("3: 4", "unknown key 3"),
    "nothing as key": ("~: 4", "unknown key None"),
    "nan as key": (".nan: 4", "unknown key nan"),
    "number in a group": ("MODEL: {3: 4}", "unknown key MODEL.3"),
    "truth as key": ("on: 4", "unknown key True"),
    "date as key": ("2024-01-01: 4", "unknown key 2024-01-01"),
    "long key": ("? " + "a" * 90_000 + "\n: 4", "unknown key aaa"),
    "key of two lines": ('"a\\nb": 4', "unknown key a\\nb"),
    "key that colours": ('"\\e[31m": 4', "unknown key \\x1b[31m"),
    "long number": ("SOLVER: {SEED: " + "9" * 90_000 + "}", "not valid YAML"),
    "long hexadecimal": ("SOLVER: {SEED: 0x" + "f" * 90_000 + "}", "thousands of digits; expected: int"),
    "long minutes": ("SOLVER: {SEED: 1" + ":59" * 30_000 + "}", "a number of thousands of digits"),
    "large number": ("SOLVER: {SEED: " + "9" * 400 + "}", "expected: int"),
    "large for a float": ("MODEL: {SIE_COE: " + "9" * 400 + "}", "expected: float"),
    "infinite epochs": ("SOLVER: {STAGE1: {MAX_EPOCHS: .inf}}", "is inf; expected: int"),
    "zero byte": ("MODEL: {NAME: 'a\0b'}", "not valid YAML"),
    "control bytes": ("\x01\x02\x1b[31m: 3", "not valid YAML"),
    "only tabs": ("\t\t\n\tMODEL: 3", "not valid YAML"),
    "latin": (b"MODEL: \xff\xfe", "not valid YAML"),
    "utf-16": ("MODEL: {}".encode("utf-16"), "not valid YAML"),
    "a megabyte": ("# " + "a" * 10**6, "files of up to 100000 bytes"),
    "a megabyte of text": ("OUTPUT_DIR: " + "a" * 10**6, "files of up to 100000 bytes"),
    "long text": ("MODEL: {SIE_COE: '" + "a" * 90_000 + "'}", "expected: float"),
    "python object": ("MODEL: !!python/object:os.system {}", "line 1: not valid YAML"),
    "python call": ("MODEL: !!python/object/apply:os.system ['touch ran']", "line 1: not valid YAML"),
    "python name": ("MODEL: !!python/name:os.system", "line 1: not valid YAML"),
    "python key": ("? !!python/tuple [a]\n: b", "a key that is a sequence"),
    "long tag": ("MODEL: !" + "a" * 5000 + " 3", "not valid YAML"),
    "tag of nothing": ("MODEL: !!int ''", "not valid YAML"),
    "tag of another kind": ("MODEL: !!timestamp soon", "not valid YAML"),
    "a truth that is none": ("MODEL: !!bool maybe", "not valid YAML"),
    "bytes": ("OUTPUT_DIR: !!binary aGVsbG8=", "expected: str"),
    "no bytes": ("OUTPUT_DIR: !!binary é", "not valid YAML"),
    "set": ("OUTPUT_DIR: !!set {a, b}", "expected: str"),
    "ordered": ("!!omap [a: 1]", "holds a list"),
    "date": ("OUTPUT_DIR: 2024-01-01", "expected: str"),
    "far date": ("OUTPUT_DIR: 9999-12-31T23:59:59-23:59", "OUTPUT_DIR"),
    "merge of a number": ("MODEL: {<<: 3}", "not valid YAML"),
    "two documents": ("a: 1\n---\nb: 2", "not valid YAML"),
    "unknown alias": ("MODEL: *a", "not valid YAML"),
    "text alone": ("MODEL", "holds a str"),
    "parent of zero bytes": ('_BASE_: "a\\0.yml"', "allowed: the path of a YAML file"),
    "parent of two lines": ('_BASE_: "a\\nb"', "allowed: the path of a YAML file"),
    "long parent": ("_BASE_: " + "a" * 5000 + ".yml", "no path of a file"),
    "parent list": ("_BASE_: [a.yml]", "_BASE_ is ['a.yml']"),
    "parent folder": ("_BASE_: .", "allowed: files that end in"),
    "parent that is gone": ("_BASE_: gone.yml", "gone.yml does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_files(tmp_path, capfd, case):
    content, reason = REFUSED[case]
    told = of_file(tmp_path, capfd, content)
    assert isinstance(told, str) and reason in told
    assert [path.name for path in tmp_path.iterdir()] == ["run.yml"]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("\ufeffMODEL: {NAME: a}", "a"),
        ("MODEL:\r\n  NAME: a\r\n", "a"),
        ("MODEL: {NAME: &a a, PRETRAIN_PATH: *a}", "a"),
        ("MODEL: {<<: {NAME: b}, NECK: c}", "b"),
        ("--- \nMODEL: {NAME: a}\n...\n", "a"),
    ],
)
def test_what_is_fine(tmp_path, capfd, content, name):
    config = of_file(tmp_path, capfd, content)
    assert name == config.MODEL.NAME


def test_files_that_name_files(tmp_path, capfd):
    for number in range(30):
        (tmp_path / f"{number}.yml").write_text(f"_BASE_: {number + 1}.yml")
    (tmp_path / "30.yml").write_text("MODEL: {NAME: last}")
    assert "more than 20 files name each other by _BASE_" in load_or_refuse(capfd, tmp_path / "0.yml")
    assert load_or_refuse(capfd, tmp_path / "20.yml").MODEL.NAME == "last"
    (tmp_path / "loop.yml").symlink_to(tmp_path / "loop.yml")
    assert "loop.yml" in load_or_refuse(capfd, tmp_path / "loop.yml")
    (tmp_path / "folder.yml").mkdir()
    assert "folder.yml; allowed: files" in load_or_refuse(capfd, tmp_path / "folder.yml")


PARTS = [
    "MODEL",
    "NAME",
    "_BASE_",
    "SOLVER",
    "STAGE1",
    ": ",
    ":",
    "\n",
    "\n  ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
]
PARTS += [
    "&a ",
    "*a",
    "<<: ",
    "? ",
    "!!",
    "!!int ",
    "!!str ",
    "!",
    "|",
    ">",
    "'",
    '"',
    "#",
    "%",
    "@",
    "\t",
    "\0",
]
PARTS += [
    "---\n",
    "...\n",
    "3",
    "1e5",
    "0x1F",
    ".inf",
    "~",
    "2024-01-01",
    "True",
    "\ufeff",
    "é",
    "\\",
    "a.yml",
]


@LIMITS
@given(text=st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=4)), max_size=30).map("".join))
def test_any_text(tmp_path, capfd, text):
    of_file(tmp_path, capfd, text)


@LIMITS
@given(content=st.binary(max_size=200))
def test_any_bytes(tmp_path, capfd, content):
    of_file(tmp_path, capfd, content)
