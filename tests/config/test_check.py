"""Each value check on its own, and the warnings about keys without effect."""

import logging

import pytest

from config import cfg, cfg_base, cfg_pcl, cfg_tbps
from config.check import check_config, check_training, unused_keys, warn_unused
from config.load import load_config
from tests.toys import words

# One case for each rule, not for each key.
SHARED = [
    ("MODEL.DEVICE", "tpu", "'cuda', 'cpu'"),
    ("MODEL.DEVICE_ID", "cuda:1", "the index of a visible GPU"),
    ("MODEL.DEVICE_ID", "-1", "the index of a visible GPU"),
    ("MODEL.DEVICE_ID", "0,1", "the index of a visible GPU, e.g. '0' (a process uses one; several: torchrun"),
    ("MODEL.STRIDE_SIZE", "[16, 0]", "positive numbers"),
    ("MODEL.ID_LOSS_WEIGHT", "-0.1", "0 or more"),
    ("MODEL.SIE_COE", "1e999", "finite numbers"),
    ("MODEL.MEMORY_MOMENTUM", "1.1", "0 to 1"),
    ("MODEL.MEMORY_TEMPERATURE", "0", "above 0"),
    ("INPUT.PIXEL_MEAN", "[1e999, 0, 0]", "finite numbers"),
    ("INPUT.RE_PROB", "-0.5", "0 to 1"),
    ("DATASETS.VEHICLEID_TEST_SIZE", "3200", "800, 1600, 2400"),
    ("DATALOADER.NUM_INSTANCE", "1", "2 or more"),
    ("DATALOADER.NUM_WORKERS", "-2", "-1 (as many as processors) or more"),
    ("SOLVER.SEED", "-1", "0 to 4294967295"),
    ("CLUSTER.EPS", "1", "above 0 and below 1"),
    ("CLUSTER.EPS", "0", "above 0 and below 1"),
    ("TEST.AMP", "on", "'auto', 'bf16', 'fp16', 'off'"),
    ("TEST.RERANK_K1", "0", "1 or more"),
    ("TEST.FEATURES", "out/features.npz", "the name of a file, e.g. 'features.npz', or ''"),
]
TEXT_SEARCH = [
    ("MODEL.TEXT_LENGTH", "3", "4 or more"),
    ("MODEL.TEXT_DROPOUT", "1", "0 to below 1"),
    ("MODEL.NITC_LOSS_WEIGHT", "-1", "0 (off) or more"),
    ("MODEL.SOFT_LABEL_WEIGHT", "1.5", "0 to 1"),
    ("MODEL.RITC_EPS", "0", "above 0"),
    ("MODEL.SIMCLR_MLP", "[512, 0, 512]", "whole numbers from 1 on"),
    ("MODEL.SIMCLR_TEMPERATURE", "0", "above 0"),
    ("MODEL.MLM_DEPTH", "0", "1 or more"),
    ("INPUT.MIXGEN", "mix", "'none', 'ori', 'cat'"),
    ("INPUT.MIXGEN_RATIO", "0.6", "0 to 0.5"),
    ("DATASETS.EVAL_SPLIT", "train", "'test', 'val'"),
    ("DATALOADER.ON_ERROR", "skip", "'raise'"),
    ("SOLVER.NEW_LR_FACTOR", "0", "above 0"),
    ("TEST.DIRECTION", "both", "'text_to_image', 'image_to_text'"),
    ("SOLVER.SCHEDULE", "linear", "'cosine', 'cosine_iterations', 'multistep'"),
]
STAGES = [
    ("IMS_PER_BATCH", "0", "1 or more"),
    ("OPTIMIZER_NAME", "adam", "'Adam', 'AdamW', 'SGD'"),
    ("WEIGHT_DECAY_BIAS", "-2", "-1 (as WEIGHT_DECAY), 0 or more"),
    ("BETAS", "[0.9, 1]", "numbers from 0 to below 1"),
    ("SCHEDULE", "linear", "'cosine', "),
    ("STEPS", "[50, 30]", "ascending epochs"),
    ("STEPS", "[0, 30]", "ascending epochs"),
    ("SCHEDULE_START", "2", "0, 1"),
    ("ITERS", "0", "-1 (as many as one pass gives), 1 or more"),
]
TRIPLET = ["DATALOADER.SAMPLER", "softmax_triplet"]
CLUSTERS = ["CLUSTER.METHOD", "dbscan", "MODEL.ID_LOSS_WEIGHT", "0"]


def assert_refused(base, key, text, allowed):
    with pytest.raises(ValueError) as caught:
        check_config(load_config(base, "", [key, text]))
    message = str(caught.value)
    assert message.startswith(f"{key} is ") and f"; allowed: {allowed}" in message and "\n" not in message


@pytest.mark.parametrize("base", [cfg, cfg_base, cfg_pcl])
def test_defaults_pass(base):
    check_config(base)
    check_config(load_config(base, "", TRIPLET))


@pytest.mark.parametrize(("key", "text", "allowed"), SHARED)
def test_shared_keys(key, text, allowed):
    assert_refused(cfg, key, text, allowed)
    assert_refused(cfg_base, key, text, allowed)


@pytest.mark.parametrize(("key", "text", "allowed"), TEXT_SEARCH)
def test_keys_of_text_search(key, text, allowed):
    assert_refused(cfg_tbps, key, text, allowed)


def test_text_search_trains_the_temperature():
    off = {"MODEL.NITC_LOSS_WEIGHT": "0", "MODEL.RITC_LOSS_WEIGHT": "0"}
    with pytest.raises(ValueError, match=r"are 0; allowed: one or both above 0") as caught:
        check_config(load_config(cfg_tbps, "", words(off)))
    assert all(name in str(caught.value) for name in off)
    for name in off:
        check_config(load_config(cfg_tbps, "", words(off | {name: "0.1"})))


@pytest.mark.parametrize(("name", "text", "allowed"), STAGES)
def test_keys_of_stages(name, text, allowed):
    if name != "ITERS":
        assert_refused(cfg, f"SOLVER.STAGE1.{name}", text, allowed)
    assert_refused(cfg, f"SOLVER.STAGE2.{name}", text, allowed)
    assert_refused(cfg_base, f"SOLVER.{name}", text, allowed)


@pytest.mark.parametrize(("base", "key"), [(cfg, "SOLVER.STAGE2"), (cfg_base, "SOLVER")])
def test_identity_sampler_needs_whole_identities(base, key):
    opts = [*TRIPLET, "DATALOADER.NUM_INSTANCE", "4", f"{key}.IMS_PER_BATCH"]
    check_config(load_config(base, "", [*opts, "60"]))
    with pytest.raises(ValueError) as caught:
        check_config(load_config(base, "", [*opts, "62"]))
    assert str(caught.value) == (
        f"{key}.IMS_PER_BATCH is 62; allowed: multiples of DATALOADER.NUM_INSTANCE 4"
    )
    check_config(load_config(base, "", ["DATALOADER.SAMPLER", "softmax", *opts[2:], "62"]))


@pytest.mark.parametrize("key", ["SOLVER.STAGE1", "SOLVER.STAGE2"])
def test_a_graph_needs_whole_identities(key):
    sampler = "DATALOADER.SAMPLER" if key.endswith("2") else "SOLVER.STAGE1.SAMPLER"
    opts = [sampler, "graph", "DATALOADER.NUM_INSTANCE", "4", f"{key}.IMS_PER_BATCH"]
    check_config(load_config(cfg, "", [*opts, "60"]))
    with pytest.raises(ValueError, match=f"{key}.IMS_PER_BATCH is 62; .*DATALOADER.NUM_INSTANCE 4"):
        check_config(load_config(cfg, "", [*opts, "62"]))


def test_a_graph_in_stage_1_needs_kept_features():
    opts = ["SOLVER.STAGE1.SAMPLER", "graph", "SOLVER.STAGE1.ONLINE_FEATURES", "True"]
    check_config(load_config(cfg, "", opts))  # without deep prompts features do not change
    with pytest.raises(ValueError, match=r"STAGE1\.SAMPLER is 'graph'; .*'random' .*ONLINE_FEATURES"):
        check_config(load_config(cfg, "", [*opts, "MODEL.PROMPT.DEEP_VISION", "2"]))


@pytest.mark.parametrize("base", [cfg_base, cfg_pcl])
def test_a_method_without_texts_has_no_graph_of_texts(base):
    opts = ["DATALOADER.SAMPLER", "graph", "DATALOADER.GRAPH_FEATURES"]
    check_config(load_config(base, "", [*opts, "image"]))
    for features in ("text", "both"):
        assert_refused(base, "DATALOADER.GRAPH_FEATURES", features, "'auto', 'image'")


def test_stage1_batches_need_no_whole_identities():
    check_config(load_config(cfg, "", [*TRIPLET, "SOLVER.STAGE1.IMS_PER_BATCH", "7"]))


@pytest.mark.parametrize(
    ("key", "text", "allowed"),
    [
        ("MODEL.ID_LOSS_WEIGHT", "0.25", "0.0 with CLUSTER.METHOD 'dbscan'"),
        ("MODEL.METRIC_LOSS_TYPE", "triplet_center", "'triplet' with CLUSTER.METHOD 'dbscan'"),
        ("DATALOADER.SAMPLER", "softmax", "'softmax_triplet' with CLUSTER.METHOD 'dbscan'"),
        ("DATALOADER.SAMPLER", "graph", "'softmax_triplet' with CLUSTER.METHOD 'dbscan'"),
        ("DATALOADER.ON_ERROR", "skip", "'raise' with CLUSTER.METHOD 'dbscan'"),
    ],
)
def test_clusters_go_with_some_settings_only(key, text, allowed):
    check_config(load_config(cfg_pcl, "", CLUSTERS))
    with pytest.raises(ValueError) as caught:
        check_config(load_config(cfg_pcl, "", [*CLUSTERS, key, text]))
    assert str(caught.value).startswith(f"{key} is ") and f"; allowed: {allowed}" in str(caught.value)


@pytest.mark.parametrize(
    ("base", "key", "text", "allowed"),
    [(cfg, "MODEL.TEXT", "none", "'prompts'"), (cfg_base, "MODEL.TEXT", "prompts", "'none'")],
)
def test_a_method_allows_its_own_text_side_only(base, key, text, allowed):
    assert allowed.strip("'") == base.MODEL.TEXT
    assert_refused(base, key, text, allowed)


@pytest.mark.parametrize(
    ("base", "pairs", "key"),
    [
        (cfg, [], "OUTPUT_DIR"),
        (cfg_base, ["OUTPUT_DIR", "a", "INPUT.SIZE_TEST", "[256, 128]"], "INPUT.SIZE_TEST"),
        (cfg_base, ["OUTPUT_DIR", "a", *CLUSTERS, "MODEL.PCL_LOSS_WEIGHT", "1", *TRIPLET], "CLUSTER.METHOD"),
        (cfg, ["OUTPUT_DIR", "a", *CLUSTERS, "MODEL.PCL_LOSS_WEIGHT", "1", *TRIPLET], "CLUSTER.METHOD"),
        (cfg_pcl, ["OUTPUT_DIR", "a", *CLUSTERS], ""),
    ],
)
def test_what_training_does_not_take_but_a_test_does(base, pairs, key):
    config = load_config(base, "", pairs)
    check_config(config)
    if not key:
        check_training(config)
        return
    with pytest.raises(ValueError, match=rf"^{key} is .*; allowed"):
        check_training(config)


@pytest.mark.parametrize(
    ("base", "key", "text", "reason"),
    [
        (cfg, "MODEL.LAST_STRIDE", "2", "stride 1"),
        (cfg_base, "MODEL.DROP_PATH", "0.2", "no stochastic depth"),
        (cfg_base, "MODEL.STAGE1_WEIGHT", "stage1.pth", "no prompts"),
        (cfg_base, "MODEL.I2T_LOSS_WEIGHT", "0", "no prompts"),
        (cfg_base, "DATASETS.SUBJECT", "boat", "no prompts"),
        (cfg, "DATASETS.ALLOW_OUTSIDE", "True", "paths in lists may lead anywhere"),
        (cfg, "SOLVER.STAGE1.EVAL_PERIOD", "60", "does not change what is evaluated"),
        (cfg, "SOLVER.STAGE1.COSINE_SCALE", "3", "no cosine classifier"),
        (cfg, "SOLVER.STAGE1.WARMUP_ITERS", "10", "SOLVER.STAGE1.SCHEDULE 'multistep', which is 'cosine'"),
        (
            cfg,
            "SOLVER.STAGE2.LR_MIN",
            "0",
            "SOLVER.STAGE2.SCHEDULE 'cosine', 'cosine_iterations', which is 'multistep'",
        ),
        (
            cfg_base,
            "SOLVER.WARMUP_LR_INIT",
            "0",
            "SOLVER.SCHEDULE 'cosine', 'cosine_iterations', which is 'multistep'",
        ),
        (cfg_base, "SOLVER.MOMENTUM", "0", "SOLVER.OPTIMIZER_NAME 'SGD', which is 'Adam'"),
        (cfg_base, "CLUSTER.EPS", "0.5", "CLUSTER.METHOD 'dbscan', which is 'none'"),
        (cfg_base, "MODEL.MEMORY_MOMENTUM", "0.5", "MODEL.PCL_LOSS_WEIGHT above 0, which is 0.0"),
        (cfg_base, "LOG.RUN", "a", "LOG.TRACKER other than 'none', which is 'none'"),
        (cfg, "LOG.PICTURES_EVERY", "5", "LOG.TRACKER other than 'none', which is 'none'"),
        (cfg_tbps, "LOG.EXPERIMENT", "a", "LOG.TRACKER other than 'none', which is 'none'"),
        (cfg_tbps, "LOG.URI", "http://127.0.0.1:1", "LOG.TRACKER with 'mlflow' in it, which is 'none'"),
        (cfg_tbps, "MODEL.MLM_DEPTH", "2", "MODEL.MLM_LOSS_WEIGHT above 0, which is 0.0"),
        (cfg_tbps, "INPUT.MIXGEN_PROB", "0.2", "INPUT.MIXGEN 'ori', 'cat', which is 'none'"),
        (cfg_tbps, "DATASETS.IMAGE_DIR", "a", "DATASETS.NAMES 'captions', which is 'cuhk_pedes'"),
        (cfg_tbps, "DATASETS.CSV", "a.csv", "DATASETS.NAMES 'csv', which is 'cuhk_pedes'"),
        (
            cfg_tbps,
            "SOLVER.NEW_LR_FACTOR",
            "2",
            "MODEL.ID_LOSS_WEIGHT or MODEL.MLM_LOSS_WEIGHT above 0, which are 0.0, 0.0",
        ),
    ],
)
def test_keys_without_effect(base, key, text, reason):
    ((found, why),) = unused_keys(load_config(base, "", [key, text])).items()
    assert found == key and reason in why


@pytest.mark.parametrize(
    ("pairs", "unused"),
    [
        (
            ["MODEL.MULTI_VIEW", "False", "MODEL.SOFT_LABEL_WEIGHT", "0.1"],
            {"MULTI_VIEW", "SOFT_LABEL_WEIGHT"},
        ),
        (["MODEL.SS_LOSS_WEIGHT", "0", "MODEL.SIMCLR_MLP", "[512, 64, 64]"], {"SIMCLR_MLP"}),
        (["DATASETS.NAMES", "csv", "DATASETS.ANNOTATION_DIR", "a"], {"ANNOTATION_DIR"}),
    ],
)
def test_keys_of_text_search_that_others_switch_off(pairs, unused):
    config = load_config(cfg_tbps, "", ["MODEL.NITC_LOSS_WEIGHT", "0", *pairs])
    assert {name.rpartition(".")[2] for name in unused_keys(config)} == unused


@pytest.mark.parametrize(
    ("base", "pairs"),
    [
        (cfg, ["TEST.EVAL", "True"]),
        (cfg, ["MODEL.I2T_LOSS_WEIGHT", "0"]),
        (cfg, ["DATASETS.SUBJECT", "boat"]),
        (cfg, ["SOLVER.STAGE1.LR_MIN", "0"]),
        (cfg, ["SOLVER.STAGE2.WARMUP_ITERS", "3"]),
        (cfg, ["MODEL.LAST_STRIDE", "1"]),
        (cfg_pcl, ["MODEL.MEMORY_MOMENTUM", "0.5", *CLUSTERS, "CLUSTER.EPS", "0.5"]),
        (cfg_base, ["SOLVER.SCHEDULE", "cosine", "SOLVER.LR_MIN", "0"]),
        (cfg_base, ["SOLVER.OPTIMIZER_NAME", "SGD", "SOLVER.MOMENTUM", "0"]),
        (cfg_base, ["LOG.TRACKER", "tensorboard", "LOG.RUN", "a", "LOG.PICTURES_EVERY", "5"]),
        (cfg_base, ["LOG.TRACKER", "tensorboard", "LOG.EXPERIMENT", "a"]),
        (cfg_base, ["LOG.TRACKER", "tensorboard,mlflow", "LOG.URI", "http://127.0.0.1:1"]),
        (cfg_tbps, ["MODEL.ID_LOSS_WEIGHT", "1", "SOLVER.NEW_LR_FACTOR", "2"]),
        (cfg_tbps, ["DATASETS.NAMES", "captions", "DATASETS.IMAGE_DIR", "a", "DATASETS.ANNOTATION_DIR", "b"]),
    ],
)
def test_used_keys_and_defaults_are_not_reported(base, pairs):
    assert unused_keys(load_config(base, "", pairs)) == {}


def test_one_warning_per_unused_key(caplog):
    config = load_config(cfg_base, "", ["MODEL.COS_LAYER", "True", "MODEL.NECK", "no", "MODEL.NAME", "RN50"])
    with caplog.at_level(logging.WARNING, logger="transreid.config"):
        warn_unused(config)
    assert sorted(record.getMessage() for record in caplog.records) == [
        "MODEL.COS_LAYER True has no effect: the classifiers are always linear",
        "MODEL.NECK 'no' has no effect: the head always has the two batch norms",
    ]


def test_an_error_names_the_file_that_sets_the_key(tmp_path):
    (tmp_path / "a.yml").write_text("SOLVER: {SEED: -1}\nDATALOADER: {SAMPLER: softmax_triplet}\n")
    (tmp_path / "b.yml").write_text("_BASE_: a.yml\nDATALOADER:\n  NUM_INSTANCE: 7\n")
    with pytest.raises(ValueError, match=r"SEED is -1; .* \(.*a\.yml, line 1\)$"):
        check_config(load_config(cfg, tmp_path / "b.yml"))
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH is 64; .*_INSTANCE 7 \(.*b\.yml, line 3\)$"):
        check_config(load_config(cfg, tmp_path / "b.yml", ["SOLVER.SEED", "1"]))
    with pytest.raises(ValueError, match=r"SEED is -2; allowed: 0 to \d+$"):
        check_config(load_config(cfg, tmp_path / "b.yml", ["SOLVER.SEED", "-2"]))
