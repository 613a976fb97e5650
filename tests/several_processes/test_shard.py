"""SOLVER.SHARD under torchrun, on the CPU: the course of a run whose optimizer is whole in each process."""

import shutil
from pathlib import Path

import pytest

from tests.processes import run_program
from tests.processor.running import checkpoints, equal, last
from tests.several_processes.courses import assert_same_course, records
from tests.several_processes.test_prompts import ONLINE

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ZERO1 = ("SOLVER.SHARD", "zero1")
WAYS = {
    "baseline in micro-batches": (
        "train.py",
        ("SOLVER.MICRO_BATCH", "2", "SOLVER.BIAS_LR_FACTOR", "2", "SOLVER.LARGE_FC_LR", "True"),
    ),
    "two stages and the text tower": ("train_clipreid.py", ("SOLVER.STAGE1.TRAIN_TEXT", "True")),
    "joint losses": ("train_clipreid.py", ("MODEL.PCL_LOSS_WEIGHT", "1")),
    "prototypes": ("train_pcl.py", ("SOLVER.ITERS", "3", "SOLVER.OPTIMIZER_NAME", "SGD")),
    "deep prompts": ("train_clipreid.py", (*ONLINE, "SOLVER.STAGE1.IMS_PER_BATCH", "8")),
}


@pytest.mark.parametrize("processes", [2, 4])
def test_checks_of_every_process(processes):
    done = run_program([str(HERE / "shard_checks.py")], processes)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("way", WAYS)
def test_the_same_course(trained, way, processes):
    program, pairs = WAYS[way]
    whole, divided = (trained(processes, program, *pairs, *shard) for shard in ((), ZERO1))
    assert_same_course(records(whole), records(divided), tolerance=0)
    assert {path.name for path in whole.iterdir()} == {path.name for path in divided.iterdir()}
    assert equal(checkpoints(whole), checkpoints(divided))


@pytest.fixture(scope="module")
def stopped(program, place):
    """stopped(processes, *pairs) -> the folder of a run that was stopped within an epoch of stage 2."""
    done = {}

    def stop(processes, *pairs):
        key = processes, pairs
        if key not in done:
            done[key] = place / f"stopped{len(done)}"
            words = program("train_clipreid.py", done[key].name, *pairs)
            norms = [str(HERE / "whole_batch_norms.py")] if processes > 1 else []
            process = run_program([str(HERE / "stopping.py"), "11", *norms, *words], processes)
            assert process.returncode == 143, process.stderr
            assert last(done[key])["stage"] == "stage2" and last(done[key])["iteration"] == 3
        return done[key]

    return stop


def test_the_file_is_that_of_an_optimizer_that_is_whole(stopped):
    whole, divided = (last(stopped(2, *shard)) for shard in ((), ZERO1))
    assert whole["optimizer"]["state"] and equal(whole["optimizer"], divided["optimizer"])
    assert equal(whole["model"], divided["model"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((2, ZERO1), (2, ZERO1)),
        ((2, ZERO1), (2, ())),
        ((2, ()), (2, ZERO1)),
        ((2, ZERO1), (1, ())),
        ((1, ()), (2, ZERO1)),
        ((2, ZERO1), (4, ZERO1)),
    ],
)
def test_a_run_goes_on(stopped, run, trained, place, before, after):
    (processes, pairs), (now, others) = before, after
    whole = trained(processes, "train_clipreid.py", *pairs)
    folder = place / f"{processes}{len(pairs)} then {now}{len(others)}"
    shutil.copytree(stopped(processes, *pairs), folder)
    done = run(now, "train_clipreid.py", folder.name, *others, options=["--resume"])
    assert done.returncode == 0, done.stderr
    log = (folder / "train_log.txt").read_text()
    assert ("resumed with SOLVER.SHARD" in log) == (pairs != others)
    if now != processes:
        assert_same_course(records(whole), records(folder), tolerance=1e-5)
        return
    assert_same_course(records(whole), records(folder), tolerance=0)
    assert equal(checkpoints(whole)["vit_2.pth"], checkpoints(folder)["vit_2.pth"])


def test_a_finished_run_becomes_longer(run, trained, place):
    longer = ("SOLVER.MAX_EPOCHS", "3", *ZERO1)
    whole, folder = trained(2, "train.py", *longer), place / "two epochs, then three"
    shutil.copytree(trained(2, "train.py", *ZERO1), folder)
    done = run(2, "train.py", folder.name, *longer, options=["--resume"])
    assert done.returncode == 0, done.stderr
    assert equal(checkpoints(whole)["vit_3.pth"], checkpoints(folder)["vit_3.pth"])
    assert equal(last(whole)["optimizer"], last(folder)["optimizer"])


def test_one_process_has_nothing_to_divide(trained):
    whole, alone = trained(1, "train.py"), trained(1, "train.py", *ZERO1)
    assert_same_course(records(whole), records(alone), tolerance=0)
    told = "SOLVER.SHARD 'zero1' has no effect"
    assert told in (alone / "train_log.txt").read_text()
