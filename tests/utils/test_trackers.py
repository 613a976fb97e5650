"""Names of numbers in trackers; those of reid-task are written out."""

from utils.trackers import published_metrics, tracked_metrics

STAGE2 = {
    **{"stage": "stage2", "epoch": 7, "lr": 0.0003, "loss": 2.5, "acc": 0.75, "id": 1.0},
    **{"mAP": 0.5, "rank1": 0.6, "rank5": 0.7, "rank10": 0.8, "seconds": 3.0, "samples": 64, "time": 17e8},
}
PUBLISHED = {
    **{"train_loss_stage2_epoch": 2.5, "train_acc_stage2_epoch": 0.75, "base_lr_stage2": 0.0003},
    **{"val_mAP": 0.5, "val_rank1": 0.6, "val_rank5": 0.7, "val_rank10": 0.8},
}


def test_names_of_an_epoch():
    assert published_metrics(STAGE2) == PUBLISHED
    stage1 = {"stage": "stage1", "epoch": 1, "lr": 1e-5, "loss": 9.0}
    assert published_metrics(stage1) == {"train_loss_stage1_epoch": 9.0, "base_lr_stage1": 1e-5}
    assert published_metrics({**stage1, "stage": "stage0", "acc_i2t": 0.1, "acc_t2i": 0.2}) == {
        **{"train_loss_stage0_epoch": 9.0, "base_lr_stage0": 1e-5},
        **{"train_acc_i2t_stage0_epoch": 0.1, "train_acc_t2i_stage0_epoch": 0.2},
    }


def test_names_of_a_step():
    assert published_metrics({"stage": "stage1", "loss": 4.0}, step=True) == {"train_loss_stage1_step": 4.0}
    step = {"stage": "stage2", "epoch": 2, "iteration": 5, "step": 12, "lr": 1e-5, "loss": 4.0, "acc": 0.5}
    assert published_metrics(step, step=True) == {
        **{"train_loss_stage2_step": 4.0, "train_acc_stage2_step": 0.5},
    }


def test_other_numbers_keep_their_names_and_places_are_none():
    others = {"id_stage2_epoch": 1.0, "seconds_stage2_epoch": 3.0, "samples_stage2_epoch": 64.0}
    assert tracked_metrics(STAGE2) == PUBLISHED | others
    step = {
        "stage": "a",
        "epoch": 2,
        "iteration": 5,
        "step": 12,
        "lr": 0.1,
        "loss": 4.0,
        "loss_id": 3,
        "time": 1,
    }
    assert tracked_metrics(step, step=True) == {
        **{"train_loss_a_step": 4.0, "loss_id_a_step": 3.0, "lr_a_step": 0.1},
    }


def test_what_is_not_finite_is_left_out():
    line = {"stage": "a", "epoch": 1, "loss": float("nan"), "acc": float("inf"), "mINP": 0.5}
    assert tracked_metrics(line) == {"mINP_a_epoch": 0.5}
