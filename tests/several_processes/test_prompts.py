"""Prompt learning under torchrun, on the CPU: online features and means of epochs as in one process."""

import pytest

from tests.several_processes.courses import assert_same_course, records

pytestmark = pytest.mark.slow

ONLINE = (
    *("SOLVER.STAGE1.ONLINE_FEATURES", "True", "MODEL.PROMPT.DEEP_VISION", "2"),
    *("MODEL.PROMPT.DEEP_TEXT", "2", "MODEL.ADAPTER_RATIO", "0.2"),
    *("SOLVER.STAGE1.GAUSS_STD", "1", "SOLVER.STAGE2.GAUSS_STD", "1"),
)


def test_the_same_course(trained):
    one, two = (trained(count, "train_clipreid.py", *ONLINE) for count in (1, 2))
    assert_same_course(records(one), records(two), tolerance=1e-4)
