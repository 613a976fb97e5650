"""A zero-shot test that several processes share: the first one encodes the sentences."""

import json

import pytest
import torch

from retrieval import RetrievalTask
from tests.conftest import GOLDEN, draw_clip
from tests.processes import run_program
from tests.toys import SETTINGS, TOWERS, draw_market, words, write_tower

pytestmark = pytest.mark.slow


def test_one_and_two_processes_agree(tmp_path):
    draw_market(tmp_path, (1, 2), (3, 4, 5))
    torch.save(draw_clip(TOWERS["toy-vit"]), tmp_path / "clip.pt")
    given = SETTINGS | {"MODEL.NAME": str(write_tower(tmp_path / "toy.json"))}
    given |= {"MODEL.PRETRAIN_CHOICE": "clip", "MODEL.PRETRAIN_PATH": str(tmp_path / "clip.pt")}
    given |= {"DATASETS.ROOT_DIR": str(tmp_path), "TEST.IMS_PER_BATCH": "5"}
    options = ["--attributes", str(GOLDEN / "prompts" / "market_attribute.mat"), "--mm"]
    tasks, metrics = [], []
    for count in (1, 2):
        out = tmp_path / str(count)
        settings = words(given | {"OUTPUT_DIR": str(out)})
        process = run_program(["zero_shot.py", *options, *settings], count)
        assert process.returncode == 0, process.stderr
        assert (out / "test_log.txt").read_text().count("Validation Results") == 2
        tasks.append(RetrievalTask.load(out / "features.npz").images)
        metrics.append(json.loads((out / "metrics.json").read_text()))
    one, two = tasks
    assert one.features.shape == (12, 64 + 40) and set(one.keys) == set(two.keys)
    other = two.select([two.keys.index(key) for key in one.keys])
    torch.testing.assert_close(other.features, one.features, rtol=1e-4, atol=1e-5)
    assert metrics[0]["mAP"] == pytest.approx(metrics[1]["mAP"])
