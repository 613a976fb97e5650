"""Text search with a multilingual tower in several processes, on the CPU: one course."""

import json

import pytest

pytest.importorskip("transformers")

from tests.altclip import write_altclip
from tests.processes import run_program
from tests.processor.running import checkpoints, equal
from tests.several_processes.courses import assert_same_course, records
from tests.toys import TEXT_SETTINGS, draw_captions, words

pytestmark = pytest.mark.slow

FILE = "configs/tbps/vit_tbps_simplified.yml"
LAYERS = {"SOLVER.LAYER_DECAY": "0.5", "SOLVER.TEXT_LR_FACTOR": "0.5"}
WAYS = {
    "plain": {"MODEL.TEXT_DROPOUT": "0.2"},
    "little memory": {
        "MODEL.TEXT_DROPOUT": "0.2",
        "SOLVER.MICRO_BATCH": "1",
        "SOLVER.GRAD_CHECKPOINT": "True",
    },
    "rates by layer": LAYERS,
    "frozen texts": {"MODEL.FREEZE_TEXT": "True"} | LAYERS,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = draw_captions(tmp_path_factory.mktemp("captions"), train=10)
    rows = json.loads((folder / "train_reid.json").read_text())
    write_altclip(folder / "altclip", [caption for row in rows for caption in row["captions"]])
    return folder


@pytest.fixture(scope="module")
def run(place):
    """run(processes, settings) -> output folder."""
    done = {}

    def start(processes, settings):
        key = processes, *settings.items()
        if key not in done:
            done[key] = place / f"run{len(done)}"
            given = TEXT_SETTINGS | {"MODEL.NAME": "AltCLIP", "MODEL.PRETRAIN_CHOICE": "clip"}
            given |= {"MODEL.PRETRAIN_PATH": str(place / "altclip"), "DATASETS.ROOT_DIR": str(place)}
            given |= {"OUTPUT_DIR": str(done[key]), "SOLVER.BASE_LR": "0.001"} | settings
            process = run_program(["train_tbps.py", "--config_file", FILE, *words(given)], processes)
            assert process.returncode == 0, process.stderr
        return done[key]

    return start


@pytest.mark.parametrize("way", WAYS)
def test_the_same_course(run, way):
    one, two = (records(run(count, WAYS[way])) for count in (1, 2))
    assert [line["samples"] for line in one] == [40, 40] and one[0]["loss"] != one[1]["loss"]
    assert_same_course(one, two, tolerance=1e-5)


def test_ways_with_little_memory_take_the_same_course(run):
    plain, little = (records(run(1, WAYS[way])) for way in ("plain", "little memory"))
    assert_same_course(plain, little, tolerance=1e-4)


@pytest.mark.parametrize("way", ["plain", "frozen texts"])
def test_the_same_course_with_a_divided_optimizer(run, way):
    whole, divided = run(2, WAYS[way]), run(2, WAYS[way] | {"SOLVER.SHARD": "zero1"})
    assert_same_course(records(whole), records(divided), tolerance=0)
    assert equal(checkpoints(whole), checkpoints(divided))
