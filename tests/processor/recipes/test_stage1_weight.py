"""MODEL.STAGE1_WEIGHT: stage 2 from a file is that of the whole run."""

import re
from pathlib import Path

import pytest
import torch

from tests.processor.evaluation.test_test_output import messages
from tests.processor.running import OFTEN, checkpoints, equal, kill_at_step, last, place, records


@pytest.fixture
def whole(trained, tmp_path):
    """The folder of a run of both stages."""
    return trained("clipreid", *OFTEN, "OUTPUT_DIR", str(tmp_path / "whole"))[1]


def stage2(folder):
    files = {name: weights for name, weights in checkpoints(folder).items() if "stage1" not in name}
    return files, [line for line in records(folder) if line["stage"] == "stage2"]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_stage_2_is_that_of_the_whole_run(trained, whole, tmp_path, prefix):
    weights = checkpoints(whole)["toy-vit_stage1_2.pth"]
    file = tmp_path / "stage1.pth"
    torch.save({prefix + name: value for name, value in weights.items()}, file)
    _, folder = trained("clipreid", *OFTEN, "MODEL.STAGE1_WEIGHT", str(file))
    assert equal(stage2(folder), stage2(whole)) and len(stage2(folder)[0]) == 2
    assert {line["stage"] for line in records(folder)} == {"stage2"}
    assert last(folder)["finished"] == ["stage1", "stage2"]
    told = messages(folder / "train_log.txt")
    assert f"stage 1 is taken from {file}" in told and "stage1: 2 epochs" not in told


def test_a_file_of_an_earlier_epoch_is_another_start(trained, whole, tmp_path):
    """The file decides, and not how the model would begin."""
    weights = checkpoints(whole)["toy-vit_stage1_2.pth"]
    weights["prompt_learner.cls_ctx"] += 1
    torch.save(weights, tmp_path / "other.pth")
    _, folder = trained("clipreid", *OFTEN, "MODEL.STAGE1_WEIGHT", str(tmp_path / "other.pth"))
    assert not equal(stage2(folder), stage2(whole))


def test_such_a_run_can_be_resumed_without_the_file(trained, whole, toy_config, tmp_path, monkeypatch):
    pairs = (*OFTEN, "SOLVER.SAVE_EVERY_MIN", 1e-9, "MODEL.STAGE1_WEIGHT")
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        kill_at_step(context, 2, lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        trained("clipreid", *pairs, str(whole / "toy-vit_stage1_2.pth"))
    assert place(Path(toy_config().OUTPUT_DIR)) == ("stage2", 1, 1)
    _, folder = trained("clipreid", *pairs, str(tmp_path / "gone.pth"), resume=True)
    assert equal(stage2(folder), stage2(whole))


def test_what_is_no_such_file_is_refused(trained, whole, tmp_path):
    weights = checkpoints(whole)["toy-vit_stage1_2.pth"]
    prompts = weights["prompt_learner.cls_ctx"]
    file = tmp_path / "stage1.pth"

    def refused(told, *pairs, error=ValueError):
        with pytest.raises(error, match=told.format(re.escape(str(file)))) as caught:
            trained("clipreid", "MODEL.STAGE1_WEIGHT", str(file), *pairs)
        assert "\n" not in str(caught.value)

    refused("no weights file at {}", error=FileNotFoundError)
    torch.save(weights | {"prompt_learner.cls_ctx": torch.cat([prompts, prompts[:1]])}, file)
    refused("STAGE1_WEIGHT {} has the prompts of 5 identities; allowed: of the 4 of the training split")
    torch.save({name: value for name, value in weights.items() if not name.startswith("prompt")}, file)
    refused("STAGE1_WEIGHT {} has no learned prompts .*; allowed: a file of stage 1, e.g. ViT-B-16_stage1")
    torch.save(weights, file)
    refused("STAGE1_WEIGHT {} does not fit this architecture: ", "MODEL.NAME", "toy-resnet")


def test_the_baseline_does_not_read_it(trained):
    _, folder = trained("baseline", "MODEL.STAGE1_WEIGHT", "no/such/file.pth")
    log = (folder / "train_log.txt").read_text()
    assert "WARNING" in log and "STAGE1_WEIGHT" in log.split("WARNING", 1)[1]
