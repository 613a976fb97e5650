"""README.md and docs/: what a reader can copy is parsed, run or loaded, what they name exists."""

import json
import logging
import re
import runpy
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import open_clip
import pytest
from PIL import Image

from config import cfg, cfg_base
from config.arguments import parse_arguments
from config.check import check_config
from config.load import leaves, load_config
from datasets import make_dataloader, make_dataset
from model.clip import OPENAI_NAMES

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ROOMS = ("config", "datasets", "loss", "model", "processor", "retrieval", "solver", "tools", "utils")
FOLDERS = (*ROOMS, "configs", "docs", "tests")
DATA_SETS = ("market1501", "dukemtmc", "occ_duke", "msmt17", "veri", "VehicleID")
PROGRAMS = ("train.py", "test.py", "train_clipreid.py", "test_clipreid.py")
KEYS = leaves(cfg).keys() | leaves(cfg_base).keys()
KEY = re.compile(r"\b(?:MODEL|INPUT|DATASETS|DATALOADER|SOLVER|TEST)\.[A-Z][A-Z0-9_.]*[A-Z0-9]\b")
# A vision transformer with the patches of ViT-B/16, small enough to be trained by a test.
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


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


def anchors(path):
    """The page's headings as a link names them."""
    titles = re.findall(r"^#+ (.*)", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


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
        if words:
            yield f"{block.where}: {line}", words


COMMANDS = [command for block in BLOCKS if block.language == "bash" for command in commands(block)]
# The README's commands for the example of own images: train on `folder`, train on `csv`, test.
OWN = [words for b in BLOCKS if b.language == "bash" and "my_crops" in b.text for _, words in commands(b)]


def is_program(words):
    return words[0].endswith("python") and words[1] in PROGRAMS


def settings_of(words, more=()):
    """Configuration and arguments of a command line, read by the program's own defaults."""
    seen = SimpleNamespace()

    def run_program(main, base, *, description, default_config):
        seen.main, seen.base, seen.default = main, base, default_config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("config.arguments.run_program", run_program)
        runpy.run_path(str(ROOT / words[1]), run_name="__main__")
    args = parse_arguments([*words[2:], *more], description="", default_config=seen.default)
    return load_config(seen.base, args.config_file, args.opts), args, seen.main


def in_readme(language, first):
    """The README's block of that language whose text begins with `first`."""
    (found,) = (b for b in blocks(DOCS[0]) if b.language == language and b.text.startswith(first))
    return found.text


def save_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 256, (32, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


@pytest.fixture(scope="module")
def own_data(tmp_path_factory):
    """A working directory with the README's own data, exactly as written there."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "configs").symlink_to(ROOT / "configs")
    for name in tree(in_readme("text", "my_people/")):
        if name.endswith(".jpg"):
            save_image(folder / name)
    listing = in_readme("csv", "path,pid")
    for line in listing.splitlines()[1:]:
        save_image(folder / "my_crops" / line.split(",")[0])
    (folder / "my_crops" / "dataset.csv").write_text(listing)
    return folder


@pytest.fixture(scope="module")
def reader(own_data):
    """The same directory after the README's commands for it, with a tiny tower for ViT-B-16."""
    (own_data / "tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(own_data / "tiny.json")
    logger = logging.getLogger("transreid")
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPENAI_NAMES, "ViT-B-16", "tiny")
        patch.chdir(own_data)
        for words in OWN:
            quick = ["DATALOADER.NUM_WORKERS", "0", "SOLVER.STAGE1.MAX_EPOCHS", "2"]
            quick += ["MODEL.PRETRAIN_CHOICE", "none"] if words[1].startswith("train") else []
            config, args, main = settings_of(words, quick)
            main(config, args)
        yield own_data
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.propagate, logger.level = before


@pytest.mark.parametrize(("line", "words"), [pytest.param(*command, id=command[0]) for command in COMMANDS])
def test_every_command_can_be_typed(line, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    if is_program(words):
        config, _, _ = settings_of(words)
        check_config(config)
        assert config.DATASETS.NAMES in (*DATA_SETS, "csv", "folder") and config.OUTPUT_DIR
        assert bool(config.TEST.WEIGHT) == words[1].startswith("test")
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[0] == "pip":
        assert words[1:3] == ["install", "-r"] and (ROOT / words[3]).is_file()
    elif words[1].startswith("tools/"):
        source = (ROOT / words[1]).read_text()
        assert all(word in source for word in words[2:] if word.startswith("--"))
    else:
        assert words in (["python3", "-m", "venv", ".venv"], ["source", ".venv/bin/activate"]), line


def test_the_five_variants_are_trained_on_all_data_sets(monkeypatch):
    monkeypatch.chdir(ROOT)
    seen = set()
    for _, words in COMMANDS:
        if is_program(words) and words[1].startswith("train"):
            config, _, _ = settings_of(words)
            variant = (config.MODEL.NAME, words[1], config.MODEL.SIE_CAMERA, tuple(config.MODEL.STRIDE_SIZE))
            seen.add((config.DATASETS.NAMES, *variant))
    variants = [("RN50", f"train{kind}.py", False, (16, 16)) for kind in ("", "_clipreid")]
    variants += [("ViT-B-16", f"train{kind}.py", False, (16, 16)) for kind in ("", "_clipreid")]
    variants += [("ViT-B-16", "train_clipreid.py", True, (12, 12))]
    assert seen >= {(name, *v) for name in ("market1501", "veri", "VehicleID") for v in variants}


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_data_tree_is_read(name, tmp_path):
    for path, note in tree(in_readme("text", "data/")).items():
        if path.endswith(".jpg"):
            save_image(tmp_path / path)
        elif path.endswith(".txt") and note != "(optional)":
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text("\n".join(re.findall(r"`(.*?)`", note)) + "\n")
    pairs = ["DATASETS.NAMES", name, "DATASETS.ROOT_DIR", str(tmp_path / "data")]
    dataset = make_dataset(load_config(cfg, "", pairs))
    assert dataset.train and dataset.query and dataset.gallery
    assert dataset.query[0].pid == dataset.gallery[0].pid
    assert all(Path(record.path).is_file() for record in dataset.train + dataset.test_records())


@pytest.mark.parametrize(("name", "words"), list(zip(("folder", "csv"), OWN[:2], strict=True)))
def test_the_own_data_example_is_read(name, words, own_data, monkeypatch):
    monkeypatch.chdir(own_data)
    config, _, _ = settings_of(words)
    dataset = make_dataset(config)
    assert dataset.name == name and len(make_dataloader(config, dataset).train.sampler) == 8
    form = [[record[1:3] for record in split] for split in (dataset.train, dataset.query, dataset.gallery)]
    assert [sorted(pid for pid, _ in split) for split in form] == [[0, 0, 1, 1], [0, 1], [0, 1]]
    query_cameras, gallery_cameras = ({camid for _, camid in split} for split in form[1:])
    assert len(query_cameras) == len(gallery_cameras) == 1 and query_cameras != gallery_cameras


def test_a_run_leaves_what_the_readme_lists(reader):
    folder = reader / "logs" / "my_people"
    rows = dict(re.findall(r"^\| (`\S.*?) \| (.*?) \|$", DOCS[0].read_text(), re.MULTILINE))
    names = set(re.findall(r"`(.*?)`", " ".join(rows)))
    for name in ("ViT-B-16_60.pth", "train_log.txt", "metrics.jsonl", "config.yml"):
        assert name in names and (folder / name).is_file()
    assert (folder / "ViT-B-16_stage1_2.pth").is_file()
    assert (reader / "logs" / "person" / "vit_clipreid" / "test_log.txt").is_file()
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    told = re.findall(r"`(\w+)`", rows["`metrics.jsonl`"])
    assert {name for name in told if name != "loss_"} | {"loss_id", "loss_triplet", "loss_i2t"} == set(last)
    assert load_config(cfg, folder / "config.yml").DATASETS.NAMES == "folder"


def test_the_log_lines_have_the_form_that_the_readme_shows(reader):
    def form(text):
        lines = (line.partition("INFO: ")[2] for line in text.splitlines())
        return {re.sub(r"[\d.]+(e-\d+)?", "0", line) for line in lines}

    shown = form(in_readme("text", "2026-"))
    assert len(shown) == 5 and shown <= form((reader / "logs/my_people/train_log.txt").read_text())


PYTHON = [block for block in BLOCKS if block.language == "python"]


@pytest.mark.parametrize("block", [pytest.param(block, id=block.where) for block in PYTHON])
def test_python_examples_run(block, reader, monkeypatch):
    monkeypatch.chdir(reader)
    exec(compile(block.text, block.where, "exec"), {})


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_and_named_files_exist(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if not link.startswith("https://"):
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
    for span in spans(path):
        if re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./-]*", span) or span in PROGRAMS:
            assert (ROOT / span).exists(), span


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_named_keys_exist_and_no_local_path_is_told(path):
    text = path.read_text(encoding="utf-8")
    unknown = {
        key for key in KEY.findall(text) if key not in KEYS and not any(k.startswith(f"{key}.") for k in KEYS)
    }
    assert not unknown
    assert not re.search(r"(?<![\w.])/(?:work|home|root|tmp|usr|opt)\b|\.\./shared", text)


def test_the_tree_of_the_architecture_is_the_repository():
    (block,) = (b for b in blocks(ROOT / "docs/architecture.md") if b.text.startswith("README.md"))
    named = tree(block.text)
    assert all(named.values()), "a line without description"
    missing = [path for path in named if not (ROOT / path).exists()]
    files = {path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).glob("*.py")}
    files |= {path.name for path in ROOT.glob("*.py")} | {
        f"docs/{path.name}" for path in (ROOT / "docs").iterdir()
    }
    assert not missing and not files - named.keys()


def test_the_quoted_messages_are_in_the_code():
    table = DOCS[0].read_text().partition("| the message says")[2].partition("\n\n")[0]
    quoted = [text for row in table.splitlines()[2:] for text in re.findall(r"`(.*?)`", row.split(" | ")[0])]
    quoted = [text for text in quoted if " " in text]
    source = "".join(path.read_text() for room in ROOMS for path in (ROOT / room).glob("*.py"))
    assert len(quoted) >= 12
    assert [text for text in quoted if text not in source] == []
