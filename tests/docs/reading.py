"""The README and docs/ as tests read them: fenced blocks, command lines, trees, links."""

import itertools
import re
import runpy
import shlex
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from config import cfg, cfg_base, cfg_pcl, cfg_tbps
from config.arguments import parse_arguments
from config.load import leaves, load_config
from tests.toys import save_noise

ROOT = Path(__file__).parents[2]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LIBRARY = ("config", "datasets", "loss", "model", "processor", "retrieval", "solver", "utils")
ROOMS = (*LIBRARY, "benchmarks", "tools")
FOLDERS = (*ROOMS, "configs", "docs", "tests")
DATA_SETS = ("market1501", "dukemtmc", "occ_duke", "msmt17", "veri", "VehicleID")
CAPTION_SETS = ("cuhk_pedes", "icfg_pedes", "rstpreid", "captions")
OPTION_FILES = (
    *("tools/features/files.py", "tools/features/finding.py", "tools/features/weights.py"),
    *(f"tools/gallery_commands/{name}.py" for name in ("adding", "changing", "options", "removing")),
    *(f"tools/gallery_commands/{name}.py" for name in ("searching", "showing", "sources")),
    "config/arguments.py",
)
START = "docs/start/"  # pages whose commands test_start.py runs, each from its first to its last
METHODS = ("", "_clipreid", "_pcl", "_tbps")
PROGRAMS = (*(f"{verb}{method}.py" for verb in ("train", "test") for method in METHODS), "zero_shot.py")
VISION = {
    "image_size": 32,
    "layers": 2,
    "width": 64,
    "patch_size": 16,
}  # the patches of ViT-B/16
KEYS = leaves(cfg).keys() | leaves(cfg_base).keys() | leaves(cfg_pcl).keys() | leaves(cfg_tbps).keys()
KEY = re.compile(r"\b(?:MODEL|INPUT|DATASETS|DATALOADER|SOLVER|CLUSTER|TEST|LOG)\.[A-Z][A-Z0-9_.]*[A-Z0-9]\b")


class Block(NamedTuple):
    """A fenced block: file and line for messages, language, text."""

    where: str
    language: str
    text: str


def blocks(path):
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(f"{path.relative_to(ROOT)}:{line}", found[1], found[2])


BLOCKS = [block for path in DOCS for block in blocks(path)]


def prose(path):
    """The text outside of fenced blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchor(title):
    """A heading as a link names it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def anchors(path):
    """The page's headings as a link names them."""
    return {anchor(title) for title in re.findall(r"^#+ (.*)", prose(path), re.MULTILINE)}


def spans(path):
    return re.findall(r"`([^`\n]+)`", prose(path))


def tree(text):
    """Path → what stands behind it, for every line of a tree that is indented by two spaces a level."""
    found, parents = {}, []
    for line in filter(str.strip, text.splitlines()):
        indent, name, note = re.fullmatch(r"( *)(\S+)(?:  +(.*))?", line).groups()
        parents[len(indent) // 2 :] = [name.rstrip("/")]
        found["/".join(parents)] = note or ""
    return found


def commands(block):
    """(name of the file for messages, words) of every command line of a block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if words[:1] == ["torchrun"]:  # its options are of one word each
            words = ["python", *itertools.dropwhile(lambda word: word.startswith("--"), words[1:])]
        if words:
            yield f"{block.where}: {line}", words


# Those of docs/extend.md are about what that page adds: test_extend.py runs them.
COMMANDS = [
    command
    for block in BLOCKS
    if block.language == "bash" and not block.where.startswith("docs/extend.md")
    for command in commands(block)
]


def is_program(words):
    return words[0].endswith("python") and words[1] in PROGRAMS


def is_tool(words):
    return words[0] == "python" and words[1].startswith("tools/")


# The README's commands for its example of own images: train on `folder`, train on `csv`, test; and the tools,
# there and in docs/, that go on with what these leave.
OWN = [
    words
    for block in BLOCKS
    if block.language == "bash" and "my_crops" in block.text and not block.where.startswith(START)
    for _, words in commands(block)
    if is_program(words)
]
AFTERWARDS = [
    (line, words)
    for line, words in COMMANDS
    if is_tool(words)
    and not line.startswith(START)
    and any("my_people" in word or word == "query.npz" for word in words)
    and "push" not in words  # it needs a hub
]


def settings_of(words, more=()):
    """Configuration and arguments of a command line, read by the program's own defaults."""
    seen, words = SimpleNamespace(argv=None), [*words, *more]

    def run_program(main, base, *, description, default_config, **options):
        seen.main, seen.base, seen.default = main, base, default_config
        seen.argv, seen.options = options.pop("argv", None), options

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("config.arguments.run_program", run_program)
        patch.setattr("sys.argv", words[1:])
        runpy.run_path(str(ROOT / words[1]), run_name="__main__")
    args = parse_arguments(
        seen.argv or words[2:], seen.base, description="", default_config=seen.default, **seen.options
    )
    return load_config(seen.base, args.config_file, args.opts), args, seen.main


def block_of(page, language, first):
    """The text of the page's block of that language that begins with `first`."""
    (found,) = (b for b in blocks(ROOT / page) if b.language == language and b.text.startswith(first))
    return found.text


def save_image(path):
    save_noise(path, seed=zlib.crc32(path.name.encode()))


def save_people(folder):
    """The README's folder `my_people`, in that folder."""
    for name in tree(block_of("README.md", "text", "my_people/")):
        if name.endswith(".jpg"):
            save_image(folder / name)
    return folder / "my_people"
