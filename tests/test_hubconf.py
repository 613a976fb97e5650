"""hubconf.py: the models by torch.hub, from a folder that is not on the path."""

import subprocess
import sys

import pytest
import torch

from config import cfg_base
from config.load import load_config
from model import make_model
from tests import toys

LOAD = "import sys, torch; model = torch.hub.load(*sys.argv[1:], source='local', device='cpu'"


@pytest.fixture
def run(repository, tmp_path):
    """run('clipreid', weight, code) -> the finished process, which ran the code after loading."""

    def start(entry, weight, code, before="", facts=""):
        script = f"{before}\n{LOAD}{facts})\n{code}"
        words = [sys.executable, "-c", script, str(repository), entry, str(weight)]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)

    return start


@pytest.mark.slow
def test_a_re_id_model(run, toy_towers, tmp_path):
    model = make_model(load_config(cfg_base, "", toys.words(toys.MODEL)), 2, 2, 1)
    torch.save(model.state_dict(), tmp_path / "best.pth")
    picture = toys.save_noise(tmp_path / "a.png")
    code = (
        f"assert sys.argv[1] not in sys.path; print(*model.encode_image([{str(picture)!r}]).features.shape)"
    )
    done = run("clipreid", tmp_path / "best.pth", code, facts=", size=(256, 128)")
    assert done.stdout == "1 80\n", done.stderr


@pytest.mark.slow
def test_a_text_search_model(run, toy_towers, tmp_path):
    path = toys.save_text_model(tmp_path / "toy_1.pth")
    done = run("clipreid_text", path, "print(*model.encode_text(['a man']).features.shape)")
    assert done.stdout == "1 16\n", done.stderr


@pytest.mark.slow
def test_another_package_of_the_same_name_is_named(run, tmp_path):
    (tmp_path / "datasets.py").write_text("")
    done = run("clipreid", "best.pth", "", before="import datasets")
    assert f"ImportError: datasets is {tmp_path / 'datasets.py'}" in done.stderr
