"""tools/download.py: data sets and published weights by name."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch

from config import cfg_base
from config.load import load_config
from datasets import DATA_SOURCES
from model import make_model
from tests import toys
from tests.file_server import serving_files
from tests.guests import guest_python
from tests.untrusted.test_archives import everything
from tools import download as program
from tools.download import SOURCES, WEIGHTS, download
from utils.download import Source, fetching

PICTURE = "Market-1501-v15.09.15/query/0001_c1s1_001051_00.jpg"
CLIPREID = "clipreid/market1501/vit_clipreid"


def good(url, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(PICTURE, "x")


def run(*words):
    return program.main([*map(str, words)])


def failed(capsys, *words):
    """The last line of a program that ends with status 2."""
    with pytest.raises(SystemExit) as end:
        run(*words)
    error = capsys.readouterr().err
    assert end.value.code == 2
    return error.splitlines()[-1]


@pytest.fixture
def server(monkeypatch):
    pytest.importorskip("gdown")
    monkeypatch.setattr(fetching, "_RETRIES", 0)
    with serving_files() as server:
        yield server


@pytest.fixture
def weights(toy_towers, tmp_path):
    config = load_config(cfg_base, "", toys.words(toys.MODEL | {"INPUT.SIZE_TEST": "[64, 32]"}))
    torch.save(make_model(config, 2, 2, 1).state_dict(), tmp_path / "toy-vit_60.pth")
    return tmp_path / "toy-vit_60.pth"


def test_the_table_has_what_is_known():
    assert {"market1501", "reid_task_files", "reid_task_rn50"} < {
        name for name, source in SOURCES.items() if not source.terms
    }
    assert SOURCES.items() > DATA_SOURCES.items()
    assert SOURCES["market1501"].url == (
        "https://drive.google.com/uc?id=0B8-rUzbwVRk0c054eEozWG9COHM&export=download"
        "&resourcekey=0-8nyl7K9_x37HlQm34MmrYQ"
    )
    assert SOURCES["reid_task_rn50"].drive_id == WEIGHTS["clipreid/market1501/cnn_clipreid"].drive_id


def test_all_published_weights_are_there():
    """The table of CLIP-ReID's README: five models of six data sets, each a file of its own."""
    names = {tuple(name.split("/")) for name in WEIGHTS}
    data, models = {name[1] for name in names}, {name[2] for name in names}
    assert data == {"market1501", "msmt17", "dukemtmc", "occ_duke", "veri", "VehicleID"}
    assert len(models) == 5 and len(names) == 30 and {name[0] for name in names} == {"clipreid"}
    assert len({source.drive_id for source in WEIGHTS.values()}) == 30
    assert {len(source.drive_id) for source in WEIGHTS.values()} == {33}


def test_an_archive_of_any_fetcher_is_unpacked_once(tmp_path):
    asked = []
    for _ in range(2):
        download("market1501", tmp_path, fetch=lambda url, path: (asked.append(url), good(url, path)))
    assert asked == [SOURCES["market1501"].url] and (tmp_path / PICTURE).read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["Market-1501-v15.09.15"]


def test_the_known_checksum_is_compared_with_the_known_address_only(server, tmp_path, monkeypatch, capsys):
    good("", tmp_path / "a.zip")
    source = program.dataclasses.replace(SOURCES["market1501"], drive_id="", url=f"{server.address}/a.zip")
    server.put("a.zip", (tmp_path / "a.zip").read_bytes())
    monkeypatch.setitem(SOURCES, "market1501", source)
    line = failed(capsys, "market1501", "--root", tmp_path / "data")
    assert SOURCES["market1501"].md5 in line and "market1501 was not fetched" in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["market", "clipreid/market1501/vit", "../market1501", ""])
def test_an_unknown_name(name, tmp_path):
    with pytest.raises(ValueError, match="unknown") as error:
        download(name, tmp_path / "data", fetch=good)
    assert "\n" not in str(error.value) and not (tmp_path / "data").exists()


def test_the_program_fetches_to_the_root(server, tmp_path, monkeypatch, capsys):
    good("", tmp_path / "a.zip")
    url = server.put("a.zip", (tmp_path / "a.zip").read_bytes())
    monkeypatch.setitem(SOURCES, "toy", Source("Market-1501-v15.09.15", url=url, marker="query"))
    for _ in range(2):
        assert run("toy", "--root", tmp_path / "data") == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "data/Market-1501-v15.09.15")
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("msmt17",), "msmt17 is not public"),
        (("dukemtmc",), "offline"),
        (("market",), "market1501"),
        (("weights", "market1501"), "market1501"),
        (("weights",), "weights NAME"),
        (("market1501", "more"), "weights NAME"),
        (("weights", CLIPREID, "--dvc"), "--dvc"),
        (("market1501", "--rot", "x"), "--rot"),
    ],
)
def test_wrong_words_end_in_one_line(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert told in failed(capsys, *words)
    assert not everything(tmp_path)


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.terms])
def test_sets_by_request_are_named_with_their_page(name, tmp_path, capsys):
    line = failed(capsys, name, "--root", tmp_path / "data")
    assert line.startswith(f"error: {name} is") and f"by hand: {SOURCES[name].page}" in line
    assert str(tmp_path / "data" / SOURCES[name].target) in line and not (tmp_path / "data").exists()


def test_weights_are_loaded_before_they_are_kept(server, weights, tmp_path, monkeypatch, capsys):
    url = server.put("a.pth", weights.read_bytes())
    monkeypatch.setitem(WEIGHTS, CLIPREID, Source(f"{CLIPREID}.pth", url=url, is_file=True))
    monkeypatch.chdir(tmp_path)
    asked = []
    load = program.check_weights
    monkeypatch.setitem(program._CHECKS, ".pth", lambda path: (asked.append(path.name), load(path)))
    assert run("weights", CLIPREID) == 0
    kept = tmp_path / f"weights/{CLIPREID}.pth"
    assert kept.read_bytes() == weights.read_bytes() and asked == ["vit_clipreid.pth"]
    assert everything(tmp_path / "weights")[-1] == f"{CLIPREID}.pth"


@pytest.mark.parametrize("kind", ["other tensors", "no weights", "half"])
def test_what_is_no_checkpoint_is_not_kept(kind, server, weights, tmp_path, monkeypatch, capsys):
    whole = weights.read_bytes()
    if kind == "other tensors":
        torch.save({"fc.weight": torch.zeros(3, 3)}, weights)
    content = {"no weights": b"no weights", "half": whole[: len(whole) // 2]}.get(kind, weights.read_bytes())
    url = server.put("a.pth", content)
    monkeypatch.setitem(WEIGHTS, CLIPREID, Source(f"{CLIPREID}.pth", url=url, is_file=True))
    line = failed(capsys, "weights", CLIPREID, "--root", tmp_path / "w")
    assert line.startswith(f"error: {CLIPREID} was not fetched") and "by hand" in line
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("content", "is_kept"), [(b'[{"id": 1}]', True), (b"[1,", False), (b"[" * 9**5, False)]
)
def test_a_list_of_captions_is_json(content, is_kept, tmp_path):
    def fetch(url, path):
        path.write_bytes(content)

    if is_kept:
        path = download("cuhk_pedes_captions", tmp_path / "data", fetch)
        assert path == tmp_path / "data/CUHK-PEDES/reid_raw.json" and path.read_bytes() == content
    else:
        with pytest.raises(ValueError, match="JSON"):
            download("cuhk_pedes_captions", tmp_path / "data", fetch)
        assert not (tmp_path / "data").exists()


def test_dvc_is_tried_first(tmp_path, monkeypatch, capsys):
    asked = []

    def pull(*words):
        asked.append(words)
        (tmp_path / "MSMT17").mkdir()
        (tmp_path / "MSMT17/list").touch()

    monkeypatch.setattr(program, "pull_by_dvc", pull)
    assert run("msmt17", "--root", tmp_path, "--dvc", "mine") == 0
    assert asked == [(["msmt17.dvc", "MSMT17.dvc"], tmp_path, "mine")]
    assert run("msmt17", "--root", tmp_path, "--dvc") == 0 and len(asked) == 1


def test_the_address_is_tried_after_dvc(tmp_path, caplog):
    assert download("market1501", tmp_path, good, dvc="") == tmp_path / "Market-1501-v15.09.15"
    assert "market1501.dvc" in caplog.text


def test_dvc_that_brings_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(program, "pull_by_dvc", lambda *words: None)
    download("market1501", tmp_path, good, dvc="")
    assert "Market-1501-v15.09.15" in caplog.text and (tmp_path / PICTURE).is_file()


@pytest.mark.guest
def test_dvc_itself_brings_a_folder(repository, tmp_path):
    """From a remote that is a folder, into a clone that has the .dvc file only."""
    python = guest_python("dvc", ("dvc>=3.50",))
    environment = os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}

    def call(*words, folder):
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first, second = tmp_path / "first", tmp_path / "second"
    picture = toys.save_noise(first / "data/MSMT17/test/1.jpg")
    call("git", "init", "-q", folder=first)
    call("dvc", "init", "-q", folder=first)
    call("dvc", "remote", "add", "mine", tmp_path / "store", folder=first)
    call("dvc", "add", "-q", "data/MSMT17", folder=first)
    call("dvc", "push", "-q", "-r", "mine", folder=first)
    shutil.copytree(first, second, ignore=shutil.ignore_patterns("MSMT17", "cache"))
    words = (sys.executable, repository / "tools/download.py", "msmt17", "--dvc", "mine")
    assert call(*words, folder=second).splitlines()[-1] == "data/MSMT17"
    assert (second / "data/MSMT17/test/1.jpg").read_bytes() == picture.read_bytes()


def test_the_help_has_all_names(capsys):
    with pytest.raises(SystemExit) as end:
        run("--help")
    assert end.value.code == 0
    assert {*SOURCES, *WEIGHTS} <= set(capsys.readouterr().out.split())


def test_the_file_is_loaded_by_its_path(repository, monkeypatch):
    found = importlib.util.spec_from_file_location("download", repository / "tools/download.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    assert module.SOURCES.keys() == SOURCES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("words", [("msmt17",), ("market1501",)])
def test_as_a_program_without_a_network(words, repository, tmp_path):
    """A proxy that is not there stands for no network."""
    pytest.importorskip("gdown")
    proxies = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    command = [sys.executable, repository / "tools/download.py", *words]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | proxies, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and not everything(tmp_path), done
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"error: {words[0]} ") and "by hand: http" in lines[0]
