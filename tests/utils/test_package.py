import sys
from pathlib import Path

import pytest

from config import cfg_base
from config.arguments import end_in_one_line
from config.load import load_config
from model.clip import clip_config
from utils.package import MissingExtra, find_shipped, require_extra


def test_shipped_files_are_found_from_any_folder(tmp_path, monkeypatch, repository):
    monkeypatch.chdir(tmp_path)
    shipped = repository / "configs/demo/small_clip.json"
    assert find_shipped("configs/demo/small_clip.json") == find_shipped("demo/small_clip.json") == shipped
    assert find_shipped("demo/other.json") == Path("demo/other.json")
    assert clip_config("configs/demo/small_clip.json")["embed_dim"] > 0
    short = load_config(cfg_base, "pcl/vit_pcl_usl.yml")  # has a _BASE_ next to it
    assert short == load_config(cfg_base, repository / "configs/pcl/vit_pcl_usl.yml") != load_config(cfg_base)


def test_the_working_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "person").mkdir()
    (tmp_path / "person/vit_base.yml").write_text("OUTPUT_DIR: mine")
    assert load_config(cfg_base, "person/vit_base.yml").OUTPUT_DIR == "mine"


def test_a_missing_extra_is_one_line_with_its_command(monkeypatch, capsys):
    require_extra("plots")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r'^matplotlib is.*pip install "clipreid\[plots\]"'):
        require_extra("plots")
    with pytest.raises(SystemExit) as end, end_in_one_line():
        require_extra("plots")
    assert end.value.code == 2 and "clipreid[plots]" in capsys.readouterr().err
