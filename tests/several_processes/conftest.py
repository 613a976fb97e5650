"""Programs of toy models, started in one process or under torchrun, on the CPU."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from datasets.drawn import FOLDER, draw_market1501
from tests.processes import ENVIRONMENT, run_program
from tests.toys import SETTINGS, words, write_tower

TOY = SETTINGS | {
    "INPUT.SIZE_TRAIN": "[64, 32]",
    "INPUT.SIZE_TEST": "[64, 32]",
    "TEST.IMS_PER_BATCH": "3",
    "TEST.AMP": "off",
}
MAIN = {"IMS_PER_BATCH": "8", "MAX_EPOCHS": "2", "WARMUP_ITERS": "0", "EVAL_PERIOD": "2", "BASE_LR": "0.001"}
NORMS = str(Path(__file__).with_name("whole_batch_norms.py"))
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
    for image in (folder / FOLDER / "bounding_box_train").iterdir():  # the same as a second training set
        own = folder / "train" / image.name[:4] / image.name
        own.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, own)
    return folder


@pytest.fixture(scope="module")
def program(place):
    """program('train.py', output folder, KEY, VALUE, …) -> its words."""

    def build(name, out, *pairs, tower="vit", options=()):
        settings = TOY | {"DATASETS.ROOT_DIR": str(place), "OUTPUT_DIR": str(place / out)}
        settings["MODEL.NAME"] = str(place / f"{tower}.json")
        if name == "train_clipreid.py":
            settings |= {f"SOLVER.STAGE1.{key}": value for key, value in STAGE1.items()}
        if "train" in name:
            main = "SOLVER.STAGE2." if "clipreid" in name else "SOLVER."
            settings |= {main + key: value for key, value in MAIN.items()}
        settings |= dict(zip(pairs[::2], pairs[1::2], strict=True))
        return [name, *options, "--config_file", "", *words(settings)]

    return build


@pytest.fixture(scope="module")
def torchrun(repository):
    """torchrun(2, words of a program) -> what Popen and run take."""

    def build(processes, program, *launcher):
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *launcher]
        command = {"args": [sys.executable, *launch, NORMS, *program], "cwd": repository, "text": True}
        return command | {"env": os.environ | ENVIRONMENT}

    return build


@pytest.fixture(scope="module")
def run(program):
    """run(processes, program, output folder, KEY, VALUE, …) -> the finished process."""

    def start(processes, *given, **more):
        norms = [NORMS] if processes > 1 else []
        return run_program([*norms, *program(*given, **more)], processes)

    return start


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
