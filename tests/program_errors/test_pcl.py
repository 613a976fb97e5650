"""What ends train_pcl.py before any training, in one line; and what does not end it."""

import pytest

from tests.toys import words

FEW = {"SOLVER.IMS_PER_BATCH": "4", "SOLVER.MAX_EPOCHS": "2", "SOLVER.ITERS": "2"}
CLUSTERS = {"CLUSTER.METHOD": "dbscan", "MODEL.ID_LOSS_WEIGHT": "0"}


def test_the_settings_of_this_folder_are_fine(start, tmp_path):
    status, out, err = start("train_pcl.py", *words(FEW))
    assert (status, err) == (0, "") and "Epoch[2] Iteration[2/2]" in out
    assert (tmp_path / "logs" / "toy-vit_2.pth").is_file()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"SOLVER.ITERS": "0"}, ["SOLVER.ITERS is 0; allowed: -1 (as many as one pass gives), 1 or more"]),
        ({"MODEL.MEMORY_MOMENTUM": "1.2"}, ["MODEL.MEMORY_MOMENTUM is 1.2; allowed: 0 to 1"]),
        ({"MODEL.MEMORY_MOMENTUM": "-0.2"}, ["MODEL.MEMORY_MOMENTUM is -0.2; allowed: 0 to 1"]),
        ({"MODEL.MEMORY_TEMPERATURE": "0"}, ["MODEL.MEMORY_TEMPERATURE is 0.0; allowed: above 0"]),
        ({"MODEL.NAME": "resnet50"}, ["'resnet50'", "allowed: 'ViT-B-16', 'RN50'"]),
        ({"MODEL.NAME": "ViT-B-16-SigLIP"}, ["ViT-B-16-SigLIP", "allowed:"]),
        (
            {"SOLVER.IMS_PER_BATCH": "64"},
            ["IMS_PER_BATCH is 64", "2 identities", "up to 4"],
        ),
        ({"MODEL.PCL_LOSS_WEIGHT": "0", "MODEL.ID_LOSS_WEIGHT": "0"}, ["are all 0; allowed: one or more"]),
        ({"MODEL.SIE_VEIW": "True"}, ["unknown key MODEL.SIE_VEIW", "MODEL.SIE_VIEW"]),
        (CLUSTERS | {"CLUSTER.EPS": "1.5"}, ["CLUSTER.EPS is 1.5; allowed: above 0 and below 1"]),
        (CLUSTERS | {"CLUSTER.MIN_SAMPLES": "0"}, ["CLUSTER.MIN_SAMPLES is 0; allowed: 1 or more"]),
        ({"CLUSTER.METHOD": "dbscan"}, ["MODEL.ID_LOSS_WEIGHT is 0.25; allowed: 0.0 with CLUSTER.METHOD"]),
        (CLUSTERS | {"MODEL.PCL_LOSS_WEIGHT": "0"}, ["allowed: above 0 with CLUSTER.METHOD 'dbscan'"]),
        (
            CLUSTERS | {"SOLVER.IMS_PER_BATCH": "64"},
            ["IMS_PER_BATCH is 64", "4 identities", "up to 8"],
        ),
    ],
)
def test_settings(refused, settings, told):
    refused("train_pcl.py", *words(FEW | settings), told=told)


@pytest.mark.parametrize("program", ["train.py", "train_clipreid.py"])
def test_other_programs_want_identities(refused, program):
    told = ["CLUSTER.METHOD is 'dbscan'; allowed: 'none', or another program: train_pcl.py"]
    refused(program, "CLUSTER.METHOD", "dbscan", told=told)


@pytest.mark.parametrize(
    ("settings", "clusters"),
    [({"CLUSTER.MIN_SAMPLES": "50"}, 0), ({"CLUSTER.EPS": "0.99", "CLUSTER.MIN_SAMPLES": "1"}, 1)],
)
def test_one_cluster_or_none_is_told_and_the_next_epoch_goes_on(start, tmp_path, settings, clusters):
    status, out, err = start("train_pcl.py", *words(FEW | CLUSTERS | settings))
    assert (status, err) == (0, "")
    for epoch in (1, 2):
        assert f"Epoch {epoch}: {clusters} clusters, " in out
        assert f"Epoch {epoch} has {clusters} clusters; needed: 2 or more" in out
        assert f"Epoch {epoch} done, without a batch" in out
    assert "Validation Results - Epoch: 2" in out and "Epoch[" not in out
    assert (tmp_path / "logs" / "toy-vit_2.pth").is_file()
