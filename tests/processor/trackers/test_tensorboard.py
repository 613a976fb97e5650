"""TensorBoard's files as its own reader shows them: names, axes, and what is trained again."""

import numpy as np
import pytest
from PIL import Image

from processor.trackers import Experiment, TensorBoard
from tests.processor.trackers.events import read_events, scalars, steps, texts


@pytest.fixture
def make(tmp_path):
    """make() -> a tracker of the run `mine`, in the experiment `all`."""

    def start(config=None):
        tracker = TensorBoard(Experiment(tmp_path, "all", "mine"))
        tracker.start({"A.B": "x"} if config is None else config, {"torch": "2"})
        return tracker

    return start


def epoch(number, stage="stage2", **values):
    return {"stage": stage, "epoch": number, "lr": 0.1 / number, "loss": 1.0 / number, **values, "time": 17e8}


def step(number, **values):
    return {
        "stage": "stage2",
        "epoch": 1,
        "iteration": 1,
        "step": number,
        "lr": 0.5,
        **values,
        "time": 17e8 + 1,
    }


def test_each_stage_has_its_folder_and_steps_their_own(make, tmp_path):
    tracker = make()
    tracker.log(epoch(1, "stage1"))
    tracker.log_step(step(20, loss=3.0))
    tracker.log(epoch(1, rank1=0.5, loss_id=2.0))
    tracker.finish("finished")
    assert scalars(tmp_path / "all/mine_stage1") == {
        "train_loss_stage1_epoch": [(1, 1.0)],
        "base_lr_stage1": [(1, pytest.approx(0.1))],
    }
    numbers = scalars(tmp_path / "all/mine_stage2")
    assert numbers["val_rank1"] == [(1, 0.5)] and numbers["loss_id_stage2_epoch"] == [(1, 2.0)]
    assert scalars(tmp_path / "all/mine_stage2/steps") == {
        "train_loss_stage2_step": [(20, 3.0)],
        "lr_stage2_step": [(20, 0.5)],
    }
    (event,) = read_events(tmp_path / "all/mine_stage2/steps").Scalars("lr_stage2_step")
    assert event.wall_time == 17e8 + 1


def test_the_configuration_is_text_without_markup(make, tmp_path):
    tracker = make({"A.B": "<b>*x*\n# y", "C": [1, 2]})
    tracker.log(epoch(3))
    tracker.finish("finished")
    found = texts(tmp_path / "all/mine_stage2")
    assert found["config"] == [(3, "    A.B: <b>*x*\\n# y\n    C: [1, 2]")]
    assert found["environment"] == [(3, "    torch: 2")]


def test_what_is_trained_again_is_shown_once(make, tmp_path):
    """The run is killed after epoch 3 and step 50, and goes on from epoch 2, step 20."""
    tracker = make()
    for number in (1, 2, 3):
        tracker.log(epoch(number))
        tracker.log_step(step(10 * number, loss=1.0))
        tracker.log_step(step(10 * number + 20, loss=1.0))
    again = make()
    for number in (2, 3, 4):
        again.log_step(step(10 * number + 10, loss=2.0))
        again.log(epoch(number, loss=9.0))
    again.finish("finished")
    found = steps(tmp_path / "all/mine_stage2")
    assert found["train_loss_stage2_epoch"] == [1, 2, 3, 4] and found["base_lr_stage2"] == [1, 2, 3, 4]
    assert scalars(tmp_path / "all/mine_stage2")["train_loss_stage2_epoch"][1] == (2, 9.0)
    assert [number for number, _ in texts(tmp_path / "all/mine_stage2")["config"]] == [1, 2]


def test_a_second_run_in_the_folder_hides_the_first(make, tmp_path):
    for value in (1.0, 2.0):
        tracker = make()
        for number in (1, 2) if value == 1.0 else (1,):
            tracker.log(epoch(number, loss=value))
        tracker.finish("stopped")
    assert scalars(tmp_path / "all/mine_stage2")["train_loss_stage2_epoch"] == [(1, 2.0)]


def test_pictures(make, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tracker = make()
    tracker.log(epoch(4))
    tracker.show("rankings", tmp_path / "a.png", epoch(4))
    tracker.finish("finished")
    (event,) = read_events(tmp_path / "all/mine_stage2").Images("rankings")
    assert (event.step, event.width, event.height) == (4, 10, 20)


def test_what_was_logged_is_on_the_disk_before_the_end(make, tmp_path):
    tracker = make()
    tracker.log(epoch(1))
    tracker.log_step(step(1, loss=2.0))
    assert steps(tmp_path / "all/mine_stage2")["train_loss_stage2_epoch"] == [1]
    assert steps(tmp_path / "all/mine_stage2/steps")["train_loss_stage2_step"] == [1]
    tracker.finish("failed")


def test_a_folder_that_cannot_be_made_is_an_error_of_the_tracker(make, tmp_path):
    (tmp_path / "all").write_text("in its way")
    with pytest.raises(OSError):
        make().log(epoch(1))
