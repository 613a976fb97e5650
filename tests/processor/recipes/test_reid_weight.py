"""MODEL.REID_WEIGHT: a run starts with the image side of a re-id file."""

import json
import re
from pathlib import Path

import pytest
import torch

from processor import METHODS
from tests.processor.running import OFTEN, assert_same_run, checkpoints, kill_at_step, records

CLUSTERS = {
    "CLUSTER.METHOD": "dbscan",
    "MODEL.ID_LOSS_WEIGHT": 0.0,
    "CLUSTER.MIN_SAMPLES": 2,
    "CLUSTER.K1": 2,
    "CLUSTER.K2": 1,
}
GO_ON = ("TEST.EVAL_BEFORE_TRAINING", True, "MODEL.PRETRAIN_CHOICE", "clip", "MODEL.PRETRAIN_PATH")


@pytest.fixture
def former(trained, tmp_path):
    """The checkpoint of a run of the baseline, which ended with an evaluation."""
    _, folder = trained("baseline", *OFTEN, "OUTPUT_DIR", str(tmp_path / "former"))
    return folder / "toy-vit_2.pth"


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("baseline", (*GO_ON, "no/such/clip.pt")),
        ("pcl", (*GO_ON, "no/such/clip.pt")),
        ("pcl", tuple(word for pair in CLUSTERS.items() for word in pair)),
        ("clipreid", ("TEST.EVAL_BEFORE_TRAINING", True)),
    ],
)
def test_every_image_method_begins_where_the_other_run_ended(trained, former, name, pairs):
    """At a rate of 0 the image tower stays what it was at the start."""
    _, folder = trained(name, *OFTEN, *pairs, "MAIN.BASE_LR", 0.0, "MODEL.REID_WEIGHT", str(former))
    told = (folder / "train_log.txt").read_text()
    assert f"{former}: taken over: bottleneck 5, bottleneck_proj 5, image_encoder" in told
    assert ("MODEL.PRETRAIN_PATH no/such/clip.pt is not used: MODEL.REID_WEIGHT" in told) == (
        "no/such/clip.pt" in pairs
    )
    one, other = (checkpoints(each)["toy-vit_2.pth"] for each in (folder, former.parent))
    tower = [key for key in other if key.startswith("image_encoder.")]
    assert tower and all(torch.equal(one[key], other[key]) for key in tower)
    if "TEST.EVAL_BEFORE_TRAINING" in pairs:
        (first, *_), (*_, last) = records(folder), records(former.parent)
        assert first["epoch"] == 0 and first["mAP"] == pytest.approx(last["mAP"])


def test_such_a_run_is_resumed_without_the_file(trained, former, tmp_path, monkeypatch):
    pairs = (*OFTEN, "SOLVER.SAVE_EVERY_MIN", 1e-9, "MODEL.REID_WEIGHT")
    _, whole = trained("baseline", *pairs, str(former), "OUTPUT_DIR", str(tmp_path / "whole"))
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        kill_at_step(context, 2, lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        trained("baseline", *pairs, str(former))
    _, folder = trained("baseline", *pairs, str(tmp_path / "gone.pth"), resume=True)
    assert_same_run(folder, whole)


def test_a_run_starts_from_one_file(trained, former):
    pairs = ("MODEL.REID_WEIGHT", str(former), "MODEL.STAGE1_WEIGHT", "stage1.pth")
    with pytest.raises(ValueError, match=r"REID_WEIGHT is .*; allowed with MODEL.STAGE1_WEIGHT: ''"):
        trained("clipreid", *pairs)


def test_a_finished_stage_of_an_earlier_version_did_not_start_from_it(trained, former, tmp_path):
    pairs = ("SOLVER.SKIP_FINISHED", True, "OUTPUT_DIR", str(tmp_path / "stages"))
    _, folder = trained("clipreid", *pairs)
    (folder / "toy-vit_2.pth").unlink()
    file = folder / "toy-vit_stage1_2.settings.json"
    settings = json.loads(file.read_text())
    del settings["config"]["MODEL.REID_WEIGHT"]
    file.write_text(json.dumps(settings))
    trained("clipreid", *pairs, "MODEL.REID_WEIGHT", str(former))
    told = f"MODEL.REID_WEIGHT '{former}' has no effect: {folder / 'toy-vit_stage1_2.pth'} is taken"
    assert told in (folder / "train_log.txt").read_text()


def test_what_is_no_such_file_ends_the_run_before_training(trained, former, toy_config):
    with pytest.raises(ValueError, match=rf"MODEL.REID_WEIGHT {re.escape(str(former))} .*does not fit"):
        trained("clipreid", "MODEL.REID_WEIGHT", str(former), "MODEL.NAME", "toy-resnet")
    assert not (Path(toy_config().OUTPUT_DIR) / "config.yml").exists()


def test_text_search_has_no_such_key():
    having = {name for name, method in METHODS.items() if "REID_WEIGHT" in method.tree.MODEL}
    assert having == {"baseline", "clipreid", "pcl", "pcl_clusters"}
