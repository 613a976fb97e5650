"""Rules of the house that no linter knows: where configuration keys and devices may be named, and room faces.

Each rule is a function from a file's place and text to the lines that break it, and is tried on some.
Directions between and inside the rooms are import-linter's, in pyproject.toml.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from config import TABLES

ROOT = Path(__file__).parent.parent
ROOMS = ("datasets", "model", "loss", "solver", "retrieval", "processor")
LIBRARY = (*ROOMS, "utils")
NODES = {name.split(".")[0] for table in TABLES for name in table.keys if "." in name}
KEY = re.compile(rf"\b({'|'.join(sorted(NODES))})\.[A-Z]")


def places() -> list[PurePosixPath]:
    """All .py files at the root and in its folders, but for hidden ones and environments."""
    folders = [path for path in ROOT.glob("[!.]*/") if not (path / "pyvenv.cfg").exists()]
    found = [*ROOT.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    return [PurePosixPath(path.relative_to(ROOT).as_posix()) for path in sorted(found)]


def sees_no_keys(place: PurePosixPath) -> bool:
    """Whether a file is past the border: in a room, neither named make_* nor the table of methods."""
    return place.parts[0] in LIBRARY and not place.name.startswith(("make_", "methods"))


def keys_past_the_border(place: PurePosixPath, text: str) -> Iterator[str]:
    """The configuration object is seen in config/, programs, tools, files named make_* and methods only."""
    if not sees_no_keys(place):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            broken = any(name.split(".")[0] in ("yacs", "config") for name in names)
        else:
            broken = getattr(node, "arg", getattr(node, "id", "")) in ("cfg", "CfgNode")
        if broken:
            yield f"{place}:{node.lineno}: {ast.unparse(node)}"


def key_names_past_the_border(place: PurePosixPath, text: str) -> Iterator[str]:
    """Past the border an error is about an argument: nobody writes MODEL.X."""
    for node in ast.walk(ast.parse(text)) if sees_no_keys(place) else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and KEY.search(node.value):
            yield f"{place}:{node.lineno}: {KEY.search(node.value)[0]}"


def imports_past_a_face(place: PurePosixPath, text: str) -> Iterator[str]:
    """A room is imported from its packages, not from its files, but in itself and by tests."""
    for node in ast.walk(ast.parse(text)) if place.parts[0] != "tests" else ():
        if isinstance(node, ast.ImportFrom | ast.Import):
            for name in [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]:
                room, *inside = (name or "").split(".")
                if (
                    room in ROOMS
                    and room != place.parts[0]
                    and ROOT.joinpath(room, *inside).with_suffix(".py").exists()
                ):
                    yield f"{place}:{node.lineno}: {name}"


def named_devices(place: PurePosixPath, text: str) -> Iterator[str]:
    """Devices are named in utils/device.py; tensors follow their inputs everywhere else."""
    if place == PurePosixPath("utils/device.py") or place.parts[0] == "tests":
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if re.search(r"""\.cuda\(|torch\.device\(\s*f?["']cuda|(\.to\(|device=)\s*f?["']cuda""", line):
            yield f"{place}:{number}: {line.strip()}"


def composed_messages(place: PurePosixPath, text: str) -> Iterator[str]:
    """The form of what a program prints is its own; names are arguments, which are escaped."""
    for node in ast.walk(ast.parse(text)):
        is_output = isinstance(node, ast.Call) and ast.unparse(node.func) == "say"
        if is_output and not isinstance(node.args[0], ast.Constant):
            yield f"{place}:{node.lineno}: {ast.unparse(node)}"


RULES = [
    keys_past_the_border,
    key_names_past_the_border,
    imports_past_a_face,
    named_devices,
    composed_messages,
]


@pytest.mark.parametrize("rule", RULES)
def test_rule_holds(rule):
    broken = [line for place in places() for line in rule(place, (ROOT / place).read_text("utf-8"))]
    assert not broken, "\n".join(broken)


def test_all_rooms_are_looked_at():
    assert {*LIBRARY, "config", "tools", "benchmarks", "tests", "train.py"} <= {
        place.parts[0] for place in places()
    }


@pytest.mark.parametrize(
    ("rule", "place", "text"),
    [
        (keys_past_the_border, "model/reid.py", "from config.subject import prompt_subject"),
        (keys_past_the_border, "model/reid.py", "import yacs.config"),
        (keys_past_the_border, "processor/engine/fit.py", "def f(cfg): ..."),
        (keys_past_the_border, "processor/engine/fit.py", "x = cfg.MODEL"),
        (key_names_past_the_border, "loss/a.py", "raise ValueError(f'MODEL.MARGIN is {margin}')"),
        (imports_past_a_face, "train.py", "from datasets.records import ImageRecord"),
        (imports_past_a_face, "processor/a.py", "import retrieval.features"),
        (named_devices, "model/reid.py", "x = x.cuda()"),
        (named_devices, "train.py", 'd = torch.device("cuda:0")'),
        (named_devices, "processor/a.py", "d = torch.device('cuda', 0)"),
        (named_devices, "tools/a.py", 'model.to("cuda")'),
        (composed_messages, "tools/a.py", 'say(f"{path}")'),
    ],
)
def test_rule_sees_what_breaks_it(rule, place, text):
    assert list(rule(PurePosixPath(place), text))


@pytest.mark.parametrize(
    ("rule", "place", "text"),
    [
        (
            keys_past_the_border,
            "solver/make_optimizer.py",
            "import yacs.config\ndef f(cfg): ...",
        ),
        (key_names_past_the_border, "tools/a.py", "words = ['TEST.WEIGHT', path]"),
        (imports_past_a_face, "datasets/a.py", "from datasets.records import ImageRecord"),
        (imports_past_a_face, "tools/a.py", "from datasets import ImageRecord\nimport datasets.readers"),
        (composed_messages, "tools/a.py", 'say("%s", path)'),
        (named_devices, "utils/device.py", 'torch.device("cuda", 0)'),
        (named_devices, "model/reid.py", 'device=x.device\nif x.device.type == "cuda": ...'),
    ],
)
def test_rule_lets_pass_what_is_fine(rule, place, text):
    assert not list(rule(PurePosixPath(place), text))
