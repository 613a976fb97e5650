"""The first pages, docs/start: each fits on a screen, and its commands run one after the other."""

import dataclasses
import json
import logging
import re
import runpy
import shutil
import sys
import zipfile

import open_clip
import pytest
import torch

from config import cfg
from config.load import load_config
from datasets import DATA_SOURCES
from datasets.drawn import draw_captions, draw_market1501
from model import make_model
from model.clip import OPENAI_NAMES
from tests.docs.reading import BLOCKS, ROOT, START, VISION, commands, is_program, is_tool, settings_of
from tests.file_server import serving_files
from tests.toys import words, write_tower
from tools.downloading import WEIGHTS
from utils.download import fetching

PAGES = sorted((ROOT / START).glob("*.md"))
LINES, COLUMNS = 45, 120  # of a screen; a command may be longer
NAMES = ("anna", "ben", "carla", "dora", "eve", "finn", "gus", "hilda")
QUICK = {
    "": {"DATALOADER.NUM_WORKERS": "0"},
    "train": {"MODEL.PRETRAIN_CHOICE": "none"},
    "train_clipreid": {
        "SOLVER.STAGE1.MAX_EPOCHS": "1",
        "SOLVER.STAGE2.IMS_PER_BATCH": "8",
    },
    "train_pcl": {
        "SOLVER.IMS_PER_BATCH": "8",
        "SOLVER.ITERS": "1",
        "DATALOADER.NUM_INSTANCE": "4",
        "CLUSTER.K1": "4",
        "CLUSTER.K2": "2",
        "CLUSTER.MIN_SAMPLES": "2",
    },
    "train_tbps": {"SOLVER.IMS_PER_BATCH": "8", "MODEL.MULTI_VIEW": "False", "MODEL.SS_LOSS_WEIGHT": "0.0"},
}


def captioned(root):
    """Drawn people with sentences in the form of RSTPReid."""
    drawn = draw_captions(root, train_ids=8, test_ids=4, cameras=2)
    rows = []
    for split in ("train", "test"):
        for row in json.loads((drawn / f"{split}_reid.json").read_text()):
            rows.append(
                {"split": split, "id": row["id"], "img_path": row["file_path"], "captions": row["captions"]}
            )
    (drawn / "data_captions.json").write_text(json.dumps(rows))
    return drawn


def zipped(folder):
    """The bytes of an archive that has the folder in it."""
    file = folder.with_suffix(".zip")
    with zipfile.ZipFile(file, "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder.parent))
    return file.read_bytes()


@pytest.fixture(scope="module")
def offered(tmp_path_factory):
    """What can be fetched, by name: bytes; and drawn people for folders of own images."""
    root = tmp_path_factory.mktemp("offered")
    market = draw_market1501(root, train_ids=4, test_ids=4, images_per_camera=2, cameras=2, distractors=0)
    yield market, {"market1501": zipped(market), "rstpreid": zipped(captioned(root))}


@pytest.fixture
def newcomer(tmp_path, monkeypatch, offered):
    """A working directory with own images, a tiny tower for ViT-B-16, and a server of what is fetched."""
    market, archives = offered
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "logs").mkdir()
    save_own_images(tmp_path, market)
    open_clip.add_model_config(write_tower(tmp_path / "tiny.json", vision_cfg=VISION))
    monkeypatch.setitem(OPENAI_NAMES, "ViT-B-16", "tiny")
    monkeypatch.setattr(fetching, "_RETRIES", 0)
    logger = logging.getLogger("transreid")
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers = []
    with serving_files() as server:
        for name, content in archives.items():
            serve(monkeypatch, DATA_SOURCES, name, server.put(f"{name}.zip", content))
        name = "clipreid/market1501/vit_clipreid"
        serve(monkeypatch, WEIGHTS, name, server.put("vit_clipreid.pth", published_file(tmp_path)))
        yield tmp_path
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.propagate, logger.level = before


def serve(monkeypatch, table, name, url):
    source = dataclasses.replace(table[name], url=url, drive_id="", resource_key="", size=0, md5="")
    monkeypatch.setitem(table, name, source)


def published_file(folder):
    """The bytes of a checkpoint as the authors have published theirs."""
    pairs = words({"MODEL.PRETRAIN_CHOICE": "none", "MODEL.DEVICE": "cpu"})
    config = load_config(cfg, "configs/person/vit_clipreid.yml", pairs)
    torch.save(make_model(config, 4, 2, 1).state_dict(), folder / "published.pth")
    return (folder / "published.pth").read_bytes()


def save_own_images(folder, market):
    """Drawn people as `my_people`, by identity, and as `my_photos`, without identity or camera."""
    photos = folder / "my_photos" / "train"
    photos.mkdir(parents=True)
    pictures = sorted(market.rglob("0*.jpg"), key=lambda path: path.name)
    names = dict(zip(dict.fromkeys(path.name[:4] for path in pictures), NAMES, strict=True))
    for number, path in enumerate(pictures, start=1):
        name, camera = names[path.name[:4]], path.name[5:7]
        place = folder / "my_people" / name
        place.mkdir(parents=True, exist_ok=True)
        before = len([*place.glob(f"{name}_{camera}_*")])
        shutil.copy(path, place / f"{name}_{camera}_{before + 1:02}.jpg")
        shutil.copy(path, photos / f"{number}.jpg")
    shutil.copy(folder / "my_people" / "carla" / "carla_c1_01.jpg", folder / "photo.jpg")


def run(line, of_command, monkeypatch, capsys):
    """A command as the page has it, with toy settings at its end."""
    name = of_command[1].removesuffix(".py")
    if is_program(of_command):
        quick = QUICK[""] | (QUICK["train"] | QUICK.get(name, {}) if name.startswith("train") else {})
        config, args, main = settings_of(of_command, words(quick))
        main(config, args)
        return
    assert is_tool(of_command), line
    if name == "tools/gallery":
        pytest.importorskip("milvus_lite")
    more = ["--workers", "0"] if name == "tools/extract" else []
    monkeypatch.setattr(sys, "argv", [*of_command[1:], *more])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / of_command[1]), run_name="__main__")
    assert end.value.code == 0, (line, capsys.readouterr().err)


def test_the_four_pages_are_linked_from_the_first_screen():
    first = (ROOT / "README.md").read_text().split("\n## ")[0].splitlines()[:45]
    for page in PAGES:
        assert any(f"({START}{page.name})" in line for line in first), page.name
    assert len(PAGES) == 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_one_screen(page):
    lines = page.read_text().splitlines()
    assert len(lines) <= LINES
    assert [line for line in lines if len(line) > COLUMNS and not line.startswith("python ")] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_in_their_order(page, newcomer, monkeypatch, capsys):
    blocks = [block for block in BLOCKS if block.where.startswith(f"{START}{page.name}:")]
    lines = [command for block in blocks if block.language == "bash" for command in commands(block)]
    assert len(lines) >= 4
    for line, of_command in lines:
        run(line, of_command, monkeypatch, capsys)
    if page.stem == "identities":
        assert_photo_is_asked(newcomer / "logs" / "one" / "ranking.html")


def assert_photo_is_asked(page):
    """The photo is on the page as the query only, although the gallery has a copy of it."""
    query, *hits = re.findall(r'title="([^"]*)"', page.read_text())
    assert query == "photo.jpg" and len(hits) == 7
    assert "my_people/carla/carla_c2_01.jpg" in hits and "my_people/carla/carla_c1_01.jpg" not in hits
