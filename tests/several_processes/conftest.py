"""Programs of toy models, started in one process or under torchrun, on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from datasets.drawn import draw_market1501
from tests.toys import SETTINGS, words, write_tower

TOY = SETTINGS | {
    "INPUT.SIZE_TRAIN": "[64, 32]",
    "INPUT.SIZE_TEST": "[64, 32]",
    "TEST.IMS_PER_BATCH": "3",
    "TEST.AMP": "off",
}
MAIN = {"IMS_PER_BATCH": "8", "MAX_EPOCHS": "2", "WARMUP_ITERS": "0", "EVAL_PERIOD": "2", "BASE_LR": "0.001"}
STAGE1 = {"IMS_PER_BATCH": "10", "MAX_EPOCHS": "2", "BASE_LR": "0.02", "WARMUP_EPOCHS": "0"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with descriptions of toy towers and drawn people: eight for training, three for tests."""
    folder = tmp_path_factory.mktemp("several")
    for name in ("vit", "resnet"):
        write_tower(folder / f"{name}.json", f"toy-{name}")
    draw_market1501(
        folder, train_ids=8, test_ids=3, images_per_camera=2, cameras=2, distractors=0, size=(64, 32)
    )
    return folder


@pytest.fixture(scope="module")
def command(repository, place):
    """command(processes, program, output folder, KEY, VALUE, …) -> what Popen and run take."""

    def build(processes, program, out, *pairs, tower="vit", options=(), launcher=()):
        settings = TOY | {"DATASETS.ROOT_DIR": str(place), "OUTPUT_DIR": str(place / out)}
        settings["MODEL.NAME"] = str(place / f"{tower}.json")
        if program == "train_clipreid.py":
            settings |= {f"SOLVER.STAGE1.{key}": value for key, value in STAGE1.items()}
        if "train" in program:
            main = "SOLVER.STAGE2." if "clipreid" in program else "SOLVER."
            settings |= {main + key: value for key, value in MAIN.items()}
        settings |= dict(zip(pairs[::2], pairs[1::2], strict=True))
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *launcher]
        launch += [str(Path(__file__).with_name("whole_batch_norms.py"))]
        start = [sys.executable, *(launch if processes > 1 else ())]
        return {
            "args": [*start, program, *options, "--config_file", "", *words(settings)],
            "cwd": repository,
            "env": os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            "text": True,
        }

    return build


@pytest.fixture(scope="module")
def run(command):
    """run(processes, program, output folder, KEY, VALUE, …) -> the finished process."""
    return lambda *words, **more: subprocess.run(**command(*words, **more), capture_output=True, timeout=180)


@pytest.fixture(scope="module")
def trained(run, place):
    """trained(processes, program, KEY, VALUE, …) -> output folder of a run that went well."""
    done = {}

    def train(processes, program, *pairs, **more):
        key = (processes, program, *pairs, *more.items())
        if key not in done:
            done[key] = place / f"run{len(done)}"
            process = run(processes, program, done[key].name, *pairs, **more)
            assert process.returncode == 0, process.stderr
            # torch 2.4 warns of its own checkpoint.py.
            odd = [x for x in process.stderr.splitlines() if "Warning" in x and "checkpoint.py" not in x]
            assert not odd and "terminate" not in process.stderr
        return done[key]

    return train
