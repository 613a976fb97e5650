"""tools/hub.py: a folder of a model, to a hub and from there."""

import os
import subprocess
import sys

import pytest
import torch
from huggingface_hub import ModelCard as Readme

from config import cfg_base
from config.load import load_config
from model import make_card, make_model, read_card, read_text_search_card
from retrieval import FeatureSet
from tests import toys
from tests.hub_server import serving
from tools import extract, hub


@pytest.fixture
def weights(toy_towers, tmp_path):
    config = load_config(cfg_base, "", toys.words(toys.MODEL | {"INPUT.SIZE_TEST": "[64, 32]"}))
    model = make_model(config, 2, 2, 1)
    torch.save(model.state_dict(), tmp_path / "toy-vit_60.pth")
    make_card(config, model, "base", data="market1501", versions={}).write(tmp_path / "toy-vit_60.pth")
    return tmp_path / "toy-vit_60.pth"


def save(*options):
    return hub.main(["save", *map(str, options)])


def test_the_options_reach_the_folder(weights, tmp_path, capsys):
    metrics = tmp_path / "metrics.json"
    metrics.write_text('{"cmc": [0.5, 0.75], "mAP": 0.25, "dataset": "market1501"}')
    options = ("--license", "mit", "--data-license", "ours", "--metrics", metrics, "--repo", "me/toy")
    assert save("--weight", weights, "--out", tmp_path / "a/b", *options) == 0
    assert str(tmp_path / "a/b/model.safetensors") in capsys.readouterr().out
    card, readme = read_card(tmp_path / "a/b"), Readme.load(tmp_path / "a/b/README.md")
    assert (card.license, card.data_license, readme.data.license) == ("mit", "ours", "mit")
    assert 'load_model("hf-hub:me/toy")' in readme.text
    assert [each.metric_value for each in readme.data.eval_results] == [25.0, 50.0, 75.0, 75.0]


def test_text_search_models_are_known_by_their_file(toy_towers, tmp_path):
    path = toys.save_text_model(tmp_path / "toy_1.pth")
    save("--weight", path, "--out", tmp_path / "folder")
    assert read_text_search_card(tmp_path / "folder").text_length == 16


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--weight", "gone.pth"), "gone.pth"),
        (("--weight", "local-dir:gone"), "local-dir:gone has no model.safetensors"),
        (("--weight", "{weights}", "--license", "a\tb"), "license is 'a\\tb'"),
        (("--weight", "{weights}", "--metrics", "gone.json"), "gone.json"),
        (("--weight", "{weights}", "--model", "nobody"), "--model"),
    ],
)
def test_wrong_options_end_in_one_line(weights, tmp_path, capsys, options, told):
    options = [word.format(weights=weights) for word in options]
    with pytest.raises(SystemExit) as end:
        save(*options, "--out", tmp_path / "folder")
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.splitlines()[-1].startswith("error: ") and told in error
    assert not (tmp_path / "folder").exists()


@pytest.mark.slow
@pytest.mark.service
def test_to_a_hub_and_back(weights, repository, tmp_path):
    """Programs take `hf-hub:` wherever they take a file."""
    folder, picture = tmp_path / "folder", toys.save_noise(tmp_path / "people/a.png")
    save("--weight", weights, "--out", folder)
    with serving() as server:
        environment = {**os.environ, **server.environment(tmp_path / "home")}

        def run(program, *words):
            command = [sys.executable, repository / "tools" / program, *words]
            return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

        pushed = run("hub.py", "push", "--folder", folder, "org/name")
        assert pushed.stdout.startswith(f"{server.address}/org/name/commit/"), pushed.stderr
        options = ("--images", picture.parent, "--workers", "0", "--device", "cpu", "--out")
        found = run("extract.py", "--weight", "hf-hub:org/name", *options, tmp_path / "hub.npz")
        assert found.returncode == 0, found.stderr
        code = f"import clipreid; print(clipreid.load_model({str(weights)!r}).push_to_hub('org/other'))"
        words = {"cwd": repository, "env": environment, "capture_output": True, "text": True}
        by_hand = subprocess.run([sys.executable, "-c", code], **words)
        assert f"{server.address}/org/other/commit/" in by_hand.stdout, by_hand.stderr
        first, second = server.repos["org/name"], server.repos["org/other"]
        assert b"hf-hub:org/other" in second["README.md"] and first["config.json"] == second["config.json"]
        assert first["model.safetensors"] == second["model.safetensors"]
        missing = run("extract.py", "--weight", "hf-hub:org/gone", *options, tmp_path / "gone.npz")
    assert (
        missing.returncode == 2
        and f"hf-hub:org/gone: no such repository at {server.address}" in missing.stderr
    )
    extract.main(["--weight", str(weights), *map(str, options), str(tmp_path / "file.npz")])
    found, expected = (FeatureSet.load(tmp_path / name).features for name in ("hub.npz", "file.npz"))
    assert torch.equal(found, expected)
