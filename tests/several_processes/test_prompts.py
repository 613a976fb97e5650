"""CLIP-ReID under torchrun: online features, means of epochs, batches from a graph as in one process."""

import pytest

from tests.several_processes.courses import assert_same_course, records

pytestmark = pytest.mark.slow

ONLINE = (
    *("SOLVER.STAGE1.ONLINE_FEATURES", "True", "MODEL.PROMPT.DEEP_VISION", "2"),
    *("MODEL.PROMPT.DEEP_TEXT", "2", "MODEL.ADAPTER_RATIO", "0.2"),
    *("SOLVER.STAGE1.GAUSS_STD", "1", "SOLVER.STAGE2.GAUSS_STD", "1"),
)


# Eight identities with four images, in batches of four with two.
GRAPH = (
    *("DATALOADER.SAMPLER", "graph", "SOLVER.STAGE1.SAMPLER", "graph", "SOLVER.STAGE1.IMS_PER_BATCH", "8"),
    *("DATALOADER.GRAPH_AFTER", "1", "DATALOADER.GRAPH_FEATURES", "both", "SOLVER.STAGE1.MAX_EPOCHS", "3"),
)


@pytest.mark.parametrize("pairs", [ONLINE, GRAPH], ids=["online", "graph"])
def test_the_same_course(trained, pairs):
    one, two = (trained(count, "train_clipreid.py", *pairs) for count in (1, 2))
    assert_same_course(records(one), records(two), tolerance=1e-4)
