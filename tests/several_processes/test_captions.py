"""Stage 0 and captions in the later stages under torchrun, on the CPU: the course of one process."""

import json

import pytest

from datasets.drawn import FOLDER
from tests.several_processes.courses import assert_same_course, records

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("beside", ["False", "True"])
def test_the_same_course(trained, place, beside):
    images = sorted(path.name for path in (place / FOLDER / "bounding_box_train").iterdir())
    file = place / "captions.json"
    file.write_text(json.dumps({name: [f"person {name[:4]}", "seen from behind"] for name in images[:-6]}))
    keys = (
        *(
            "DATASETS.CAPTIONS",
            str(file),
            "SOLVER.STAGE0.MAX_EPOCHS",
            "1",
            "SOLVER.STAGE0.IMS_PER_BATCH",
            "8",
        ),
        *("SOLVER.STAGE1.CAPTIONS", "True", "SOLVER.STAGE2.CAPTIONS", "0.7"),
        *("MODEL.PROMPT.IN_CAPTIONS", beside, "SOLVER.STAGE0.OPTIMIZER_NAME", "SGD"),
    )
    one, two = (trained(count, "train_clipreid.py", *keys) for count in (1, 2))
    assert_same_course(records(one), records(two), tolerance=1e-4)
