"""Text search in several processes, on the CPU: one course, and a test that is shared."""

import json

import numpy as np
import pytest

from tests.processes import run_program
from tests.several_processes.courses import assert_same_course, records
from tests.toys import TEXT_SETTINGS, draw_captions, words, write_tower

pytestmark = pytest.mark.slow

ALL = {
    "MODEL.ID_LOSS_WEIGHT": "1",
    "MODEL.MLM_LOSS_WEIGHT": "1",
    "MODEL.MLM_DEPTH": "1",
    "INPUT.MIXGEN": "cat",
    "INPUT.MIXGEN_PROB": "1",
    "INPUT.MIXGEN_RATIO": "0.25",
}
WAYS = {
    "full": ("configs/tbps/vit_tbps.yml", {"INPUT.BACK_TRANSLATION": "0.5", "INPUT.WORD_DELETION": "0.2"}),
    "simplified": ("configs/tbps/vit_tbps_simplified.yml", {"SOLVER.MICRO_BATCH": "1"}),
    "every loss": ("configs/tbps/vit_tbps.yml", ALL),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions")
    write_tower(folder / "toy.json", embed_dim=64)
    return draw_captions(folder, train=10)


@pytest.fixture(scope="module")
def run(place):
    """run(processes, program, output folder, configuration, settings) -> output folder."""

    def start(processes, program, out, file, settings):
        given = TEXT_SETTINGS | {"MODEL.NAME": str(place / "toy.json"), "MODEL.SIMCLR_MLP": "[64, 8, 16]"}
        given |= {"DATASETS.ROOT_DIR": str(place), "OUTPUT_DIR": str(place / out), "SOLVER.BASE_LR": "0.001"}
        process = run_program([program, "--config_file", file, *words(given | settings)], processes)
        assert process.returncode == 0, process.stderr
        return place / out

    return start


@pytest.mark.parametrize("way", WAYS)
def test_the_same_course(run, way):
    file, settings = WAYS[way]
    one, *others = (
        records(run(count, "train_tbps.py", f"{way} {count}", file, settings)) for count in (1, 2, 4)
    )
    assert [line["samples"] for line in one] == [40, 40]
    wanted = {"full": {"nitc", "ss", "citc", "ritc"}, "simplified": {"nitc", "ritc"}}
    terms = wanted.get(way, {*wanted["full"], "id", "mlm"})
    assert terms == {name.removeprefix("loss_") for name in one[0] if name.startswith("loss_")}
    for other in others:
        assert_same_course(one, other, tolerance=1e-5)


@pytest.mark.parametrize("processes", [2, 4])
def test_the_same_course_with_a_divided_optimizer(run, processes):
    file, settings = WAYS["every loss"]
    whole = run(processes, "train_tbps.py", f"none {processes}", file, settings)
    shard = {"SOLVER.SHARD": "zero1"}
    divided = run(processes, "train_tbps.py", f"zero1 {processes}", file, settings | shard)
    assert_same_course(records(whole), records(divided), tolerance=0)


def test_a_test_is_shared(run, place):
    file = "configs/tbps/vit_tbps.yml"
    trained = run(1, "train_tbps.py", "trained", file, {"SOLVER.MAX_EPOCHS": "1"})
    weight = {"TEST.WEIGHT": str(trained / "toy_1.pth")}
    one, two = (run(count, "test_tbps.py", f"test {count}", file, weight) for count in (1, 2))
    assert json.loads((one / "metrics.json").read_text()) == json.loads((two / "metrics.json").read_text())
    features = [np.load(folder / "features.npz") for folder in (one, two)]
    assert list(features[0]["keys"]) == list(features[1]["keys"])
    np.testing.assert_allclose(features[0]["features"], features[1]["features"], rtol=1e-4, atol=1e-6)
