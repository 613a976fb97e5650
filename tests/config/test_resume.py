"""Under which configurations a run can go on."""

import pytest

from config import cfg, cfg_base, cfg_tbps
from config.load import leaves, load_config
from config.resume import require_same_run


@pytest.fixture
def check(caplog):
    """check(former pairs, pairs now) -> the warnings; raises what `require_same_run` does."""

    def run(before, now, tree=cfg):
        former, present = (load_config(tree, "", list(pairs)) for pairs in (before, now))
        require_same_run(present, leaves(former), "run/last.pt")
        return [record.getMessage() for record in caplog.records]

    return run


@pytest.mark.parametrize("tree", [cfg, cfg_base])
def test_the_same_configuration(check, tree):
    assert check([], [], tree) == []


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        (
            "MODEL.NAME",
            "RN50",
            "NAME is 'RN50', but the run in run/last.pt has 'resnet50'; allowed with",
        ),
        ("DATASETS.NAMES", "veri", "DATASETS.NAMES is 'veri', but .* has 'market1501'"),
        ("DATALOADER.SAMPLER", "softmax_triplet", "SAMPLER is 'softmax_triplet', but .* has 'softmax'"),
        ("DATALOADER.NUM_INSTANCE", 4, "NUM_INSTANCE is 4, but .* has 16"),
        ("SOLVER.SEED", 0, "SOLVER.SEED is 0, but .* has 1234"),
        ("SOLVER.STAGE1.IMS_PER_BATCH", 2, "STAGE1.IMS_PER_BATCH is 2, but .* has 64"),
        ("SOLVER.STAGE2.IMS_PER_BATCH", 2, "STAGE2.IMS_PER_BATCH is 2, but .* has 64"),
        ("SOLVER.STAGE2.OPTIMIZER_NAME", "SGD", "STAGE2.OPTIMIZER_NAME is 'SGD', but .* has 'Adam'"),
    ],
)
def test_what_would_be_another_run_is_refused(check, caplog, key, value, told):
    with pytest.raises(ValueError, match=told) as caught:
        check([], [key, value])
    assert "\n" not in str(caught.value)
    assert "that value, or another OUTPUT_DIR for another run" in str(caught.value)


def test_one_stage(check):
    for key, value in (("SOLVER.IMS_PER_BATCH", 8), ("SOLVER.OPTIMIZER_NAME", "AdamW")):
        with pytest.raises(ValueError, match=rf"{key} is '?{value}'?, but the run in run/last\.pt has"):
            check([], [key, value], cfg_base)


def test_text_search(check):
    """What the weights or the draws are made of stays; how a loss is weighed may change."""
    for key, value in (
        ("MODEL.TEXT_LENGTH", 32),
        ("MODEL.SIMCLR_MLP", [512, 64, 512]),
        ("MODEL.MLM_DEPTH", 2),
        ("DATASETS.NAMES", "rstpreid"),
        ("DATASETS.EVAL_SPLIT", "val"),
        ("SOLVER.IMS_PER_BATCH", 80),
        ("SOLVER.SEED", 3),
    ):
        with pytest.raises(ValueError, match=rf"^{key} is .*, but the run in run/last\.pt has"):
            check([], [key, value], cfg_tbps)
    for key, value in (
        ("MODEL.CITC_LOSS_WEIGHT", 0.2),
        ("MODEL.TEXT_DROPOUT", 0.1),
        ("INPUT.WORD_DELETION", 0.1),
        ("SOLVER.KEEP_BEST", True),
        ("LOG.TRACKER", "tensorboard"),
        ("LOG.RUN", "again"),
        ("DATASETS.ROOT_DIR", "elsewhere"),
    ):
        assert check([], [key, value], cfg_tbps)[-1].startswith(f"resumed with {key} {value!r}, was ")


def test_other_keys_are_told_one_by_one(check):
    told = check(
        ["SOLVER.STAGE2.LOG_PERIOD", 3, "TEST.NECK_FEAT", "before"],
        ["SOLVER.STAGE2.LOG_PERIOD", 5, "INPUT.SIZE_TEST", [64, 32]],
    )
    assert told == [
        "resumed with INPUT.SIZE_TEST [64, 32], was [384, 128]",
        "resumed with SOLVER.STAGE2.LOG_PERIOD 5, was 3",
        "resumed with TEST.NECK_FEAT 'after', was 'before'",
    ]


def test_keys_that_a_former_version_did_not_have_are_no_difference(caplog):
    former = {key: value for key, value in leaves(cfg).items() if key != "SOLVER.SAVE_EVERY_MIN"}
    require_same_run(cfg, former, "run/last.pt")
    assert not caplog.records


@pytest.mark.parametrize("former", [{}, {"A": 1}])
def test_what_is_no_configuration_is_refused(former):
    with pytest.raises(ValueError, match=r"run/last\.pt holds no configuration"):
        require_same_run(cfg, former, "run/last.pt")
