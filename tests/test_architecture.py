"""Rules of the house that reading the code can check: imports, and where keys, devices and prints may be.

Each rule is a function from a file's place and text to the lines that break it, and is tried on some.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("datasets", "model", "loss", "solver", "retrieval")  # siblings: none imports another
LIBRARY = (*ROOMS, "processor", "utils")
PROGRAMS = tuple(f"{verb}{method}.py" for verb in ("train", "test") for method in ("", "_clipreid", "_pcl"))
ABOVE = ("tools", "benchmarks", "tests")  # may import everything
# What a room may import besides itself.
ALLOWED = {room: {"utils"} for room in ROOMS} | {
    "utils": set(),
    "config": {"utils"},
    "processor": {*ROOMS, "utils"},
}
MAX_LINES = 300


def python_files() -> list[PurePosixPath]:
    """All .py files but those of environments, caches and other hidden folders, relative to the root."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        folders = [ROOT.joinpath(*place.parts[:n]) for n in range(1, len(place.parts))]
        if not any(f.name.startswith(".") or (f / "pyvenv.cfg").exists() for f in folders):
            found.append(PurePosixPath(place.as_posix()))
    return found


def room(place: PurePosixPath) -> str:
    """The folder at the root, or 'programs' for files at the root."""
    return place.parts[0] if len(place.parts) > 1 else "programs"


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of each import; of a relative one, its dots and what follows."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def may_see_keys(place: PurePosixPath) -> bool:
    return room(place) in ("config", "programs", *ABOVE) or (
        room(place) in LIBRARY and place.name.startswith("make_")
    )


def imports_against_the_direction(place: PurePosixPath, text: str) -> Iterator[str]:
    """Programs and tools → processor → datasets | model | loss | solver | retrieval → utils."""
    if room(place) not in ALLOWED:
        return
    allowed = {room(place), *ALLOWED[room(place)]} | ({"config"} if may_see_keys(place) else set())
    ours = {*LIBRARY, *ABOVE, "config", *(name.removesuffix(".py") for name in PROGRAMS)}
    for line, name in imports(ast.parse(text)):
        top = name.split(".")[0]
        if name.startswith("..") or (top in ours and top not in allowed):
            yield f"{place}:{line}: {room(place)} imports {name}"


def keys_past_the_border(place: PurePosixPath, text: str) -> Iterator[str]:
    """The configuration object is seen in config/, programs, tools and files named make_*.py alone."""
    if may_see_keys(place):
        return
    tree = ast.parse(text)
    for line, name in imports(tree):
        if name.split(".")[0] in ("yacs", "config"):
            yield f"{place}:{line}: imports {name}"
    for node in ast.walk(tree):
        name = node.arg if isinstance(node, ast.arg) else node.id if isinstance(node, ast.Name) else ""
        if name in ("cfg", "CfgNode"):
            yield f"{place}:{node.lineno}: {name}"


def long_files(place: PurePosixPath, text: str) -> Iterator[str]:
    count = len(text.splitlines())
    if count > MAX_LINES:
        yield f"{place}: {count} lines"


def star_imports(place: PurePosixPath, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            yield f"{place}:{node.lineno}: from {node.module} import *"


def named_devices(place: PurePosixPath, text: str) -> Iterator[str]:
    """Devices are named in utils/device.py; tensors follow their inputs everywhere else."""
    if place == PurePosixPath("utils/device.py") or room(place) == "tests":
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if re.search(r"""\.cuda\(|torch\.device\(\s*f?["']cuda|(\.to\(|device=)\s*f?["']cuda""", line):
            yield f"{place}:{number}: {line.strip()}"


def prints(place: PurePosixPath, text: str) -> Iterator[str]:
    """Library code logs; what a program says at its end is the one exception."""
    if room(place) not in (*LIBRARY, "config") or place == PurePosixPath("config/arguments.py"):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{place}:{node.lineno}: print"


Rule = Callable[[PurePosixPath, str], Iterator[str]]
RULES: list[Rule] = [
    imports_against_the_direction,
    keys_past_the_border,
    long_files,
    star_imports,
    named_devices,
    prints,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule):
    broken = [line for place in python_files() for line in rule(place, (ROOT / place).read_text("utf-8"))]
    assert not broken, "\n".join(broken)


def test_all_rooms_are_looked_at():
    places = python_files()
    assert {*ALLOWED, "programs", "tests"} <= {room(place) for place in places}
    assert {place.name for place in places if room(place) == "programs"} == set(PROGRAMS)
    assert PurePosixPath("tests/test_architecture.py") in places
    assert {*LIBRARY, "config"} == set(ALLOWED)


@pytest.mark.parametrize(
    ("rule", "place", "text"),
    [
        (imports_against_the_direction, "datasets/a.py", "import model"),
        (imports_against_the_direction, "datasets/a.py", "from model.reid import ReIDModel"),
        (imports_against_the_direction, "model/a.py", "def f():\n    from datasets import ImageBatch"),
        (imports_against_the_direction, "model/make_model.py", "import loss.triplet as t"),
        (imports_against_the_direction, "retrieval/a.py", "from processor import extract"),
        (imports_against_the_direction, "utils/a.py", "import os, retrieval"),
        (imports_against_the_direction, "utils/make_a.py", "from solver import make_optimizer"),
        (imports_against_the_direction, "processor/a.py", "from train import x"),
        (imports_against_the_direction, "processor/engine/fit.py", "from config import cfg"),
        (imports_against_the_direction, "config/a.py", "import model"),
        (imports_against_the_direction, "loss/a.py", "from ..model import reid"),
        (imports_against_the_direction, "loss/a.py", "from tools import demo"),
        (keys_past_the_border, "model/reid.py", "from config.subject import prompt_subject"),
        (keys_past_the_border, "model/reid.py", "import yacs.config"),
        (keys_past_the_border, "processor/engine/fit.py", "def f(cfg): ..."),
        (keys_past_the_border, "processor/engine/fit.py", "x = cfg.MODEL"),
        (long_files, "model/reid.py", "\n" * 301),
        (long_files, "tests/test_a.py", "\n" * 301),
        (star_imports, "tools/a.py", "from model.reid import *"),
        (named_devices, "model/reid.py", "x = x.cuda()"),
        (named_devices, "train.py", 'd = torch.device("cuda:0")'),
        (named_devices, "processor/a.py", "d = torch.device('cuda', 0)"),
        (named_devices, "tools/a.py", 'model.to("cuda")'),
        (prints, "model/reid.py", "def f():\n    print(1)"),
        (prints, "config/load.py", "print(1)"),
    ],
)
def test_rule_sees_what_breaks_it(rule, place, text):
    assert list(rule(PurePosixPath(place), text))


@pytest.mark.parametrize(
    ("rule", "place", "text"),
    [
        (
            imports_against_the_direction,
            "processor/make_processor.py",
            "from config.check import check_config",
        ),
        (imports_against_the_direction, "processor/a.py", "import torch\nfrom loss import ReIDLoss"),
        (
            imports_against_the_direction,
            "datasets/a.py",
            "from datasets.records import ImageRecord\nimport utils",
        ),
        (imports_against_the_direction, "datasets/a.py", "from . import records"),
        (imports_against_the_direction, "tools/a.py", "import config, processor, model"),
        (imports_against_the_direction, "train.py", "import config, processor"),
        (
            keys_past_the_border,
            "solver/make_optimizer.py",
            "from yacs.config import CfgNode\ndef f(cfg): ...",
        ),
        (long_files, "model/reid.py", "\n" * 300),
        (named_devices, "utils/device.py", 'torch.device("cuda", 0)'),
        (named_devices, "model/reid.py", 'device=x.device\nif x.device.type == "cuda": ...'),
        (prints, "tools/demo.py", "print(1)"),
        (prints, "model/reid.py", "logger.info('print(1)')"),
    ],
)
def test_rule_lets_pass_what_is_fine(rule, place, text):
    assert not list(rule(PurePosixPath(place), text))
