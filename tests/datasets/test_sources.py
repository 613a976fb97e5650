"""datasets/sources.py: data sets that are missing, fetched before a run or named with what fetches them."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from config import cfg, cfg_tbps
from config.load import load_config
from datasets import DATA_SOURCES, make_caption_dataset, make_dataset, sources
from datasets.drawn import draw_market1501
from datasets.readers import READERS
from datasets.readers.captions import CAPTION_READERS
from tests.docs.reading import CAPTION_SETS, DATA_SETS, block_of, tree

OWN = {"csv", "folder", "captions"}  # of the user
PATHS = tree(block_of("docs/data.md", "text", "data/"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Drawn people as Market-1501's archive has them."""
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("drawn")
    draw_market1501(
        folder, train_ids=2, test_ids=2, images_per_camera=2, cameras=2, distractors=1, size=(32, 16)
    )
    with zipfile.ZipFile(folder / "a.zip", "w") as made:
        for path in folder.rglob("*.jpg"):
            made.write(path, path.relative_to(folder))
    return (folder / "a.zip").read_bytes()


@pytest.fixture
def asked(archive, monkeypatch):
    """The names that are fetched, as drawn people instead."""
    names, download = [], sources.download_source

    def fetch(name, source, root):
        names.append(name)
        source = replace(source, md5="", size=0)
        return download(name, source, root, lambda url, path: path.write_bytes(archive))

    monkeypatch.setattr(sources, "download_source", fetch)
    return names


def settings(root, name="market1501", base=cfg, download=True, **more):
    pairs = {"NAMES": name, "ROOT_DIR": str(root), "DOWNLOAD": str(download), **more}
    return load_config(
        base, "", [word for key, value in pairs.items() for word in (f"DATASETS.{key}", value)]
    )


def test_every_published_set_has_a_source_in_the_folder_that_is_read():
    named = DATA_SOURCES.keys() - {"cuhk_pedes_captions"}
    assert {*DATA_SETS, *CAPTION_SETS} - OWN <= named <= (READERS.keys() | CAPTION_READERS.keys()) - OWN
    for name, source in DATA_SOURCES.items():
        place = "/".join(filter(None, ("data", source.target, source.marker)))
        assert any(f"{path}/".startswith(f"{place}/") for path in PATHS), name
        assert bool(source.terms) != bool(source.drive_id) and source.page.startswith("http")
        assert "\n" not in source.by_hand(Path("data"))


def test_a_missing_set_is_fetched_and_read(asked, tmp_path):
    dataset = make_dataset(settings(tmp_path / "data"))
    assert asked == ["market1501"] and dataset.train and dataset.query and dataset.gallery
    make_dataset(settings(tmp_path / "data", download=False))
    assert len(make_dataset(settings(tmp_path / "data")).train) == len(dataset.train)


def test_sets_that_are_trained_on_or_tested_are_fetched_too(asked, tmp_path):
    with pytest.raises(ValueError, match="msmt17 is not public"):
        make_dataset(settings(tmp_path / "data", TEST="msmt17"))
    assert asked == ["market1501", "msmt17"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["Market-1501-v15.09.15"]


@pytest.mark.parametrize("name", sorted(READERS.keys() - OWN))
def test_the_error_of_a_missing_set_names_the_command(name, asked, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        make_dataset(settings(tmp_path / "gone", name, download=False))
    line = str(error.value)
    assert f"python tools/download.py {name} --root {tmp_path / 'gone'}" in line and "\n" not in line
    assert "DATASETS.ROOT_DIR" in line and not asked


def test_the_error_of_captions_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tools/download\.py rstpreid --root"):
        make_caption_dataset(settings(tmp_path, "rstpreid", cfg_tbps, download=False))


def test_captions_by_request_are_not_fetched(tmp_path):
    with pytest.raises(ValueError, match=r"icfg_pedes is not public.*https://github\.com/zifyloo/SSAN"):
        make_caption_dataset(settings(tmp_path, "icfg_pedes", cfg_tbps))


def test_the_error_of_a_damaged_set_is_its_own(tmp_path):
    (tmp_path / "Market-1501-v15.09.15/query").mkdir(parents=True)
    with pytest.raises(FileNotFoundError) as error:
        make_dataset(settings(tmp_path, download=False))
    assert "bounding_box_train" in str(error.value) and "tools/" not in str(error.value)


def test_own_images_are_not_downloaded(asked, tmp_path):
    with pytest.raises(FileNotFoundError, match="train"):
        make_dataset(settings(tmp_path, "folder"))
    assert not asked


def test_of_the_processes_of_a_machine_the_first_fetches(asked, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(sources, "gather_objects", lambda mine: [None, mine])
    sources.fetch_missing("market1501", tmp_path)
    assert not asked
    monkeypatch.setattr(sources, "gather_objects", lambda mine: ["market1501 was not fetched", mine])
    with pytest.raises(OSError, match="market1501 was not fetched"):
        sources.fetch_missing("market1501", tmp_path)


def test_a_failure_is_told_to_the_other_processes(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(sources, "gather_objects", lambda mine: told.append(mine) or [mine])
    with pytest.raises(ValueError, match="msmt17"):
        sources.fetch_missing("msmt17", tmp_path)
    assert "msmt17" in told[0]
