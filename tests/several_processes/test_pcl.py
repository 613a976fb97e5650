"""PCL-CLIP under torchrun, on the CPU: prototypes and clusters are the same as in one process."""

import pytest

from tests.several_processes.courses import assert_same_course, records

pytestmark = pytest.mark.slow

EPOCHS = ("SOLVER.ITERS", "3")
CLUSTERS = ("CLUSTER.METHOD", "dbscan", "CLUSTER.MIN_SAMPLES", "2", "CLUSTER.K1", "3", "CLUSTER.K2", "1")
WAYS = {
    "identities": ("train_pcl.py", (*EPOCHS, "MODEL.SIE_CAMERA", "True")),
    "prototypes alone": ("train_pcl.py", (*EPOCHS, "MODEL.ID_LOSS_WEIGHT", "0")),
    "clusters": ("train_pcl.py", (*EPOCHS, *CLUSTERS, "MODEL.ID_LOSS_WEIGHT", "0")),
    "two stages": ("train_clipreid.py", ("MODEL.PCL_LOSS_WEIGHT", "1")),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_same_course(trained, way):
    program, pairs = WAYS[way]
    one, two = trained(1, program, *pairs), trained(2, program, *pairs)
    assert_same_course(records(one), records(two), tolerance=1e-4)
    if way == "clusters":
        assert records(one)[0]["clusters"] >= 4


def test_each_process_by_batch_norms_of_its_own(trained):
    program, pairs = WAYS["identities"]
    alone = records(trained(2, program, *pairs, "SOLVER.SYNC_BN", "False"))
    assert abs(alone[0]["loss"] - records(trained(2, program, *pairs))[0]["loss"]) > 1e-4
