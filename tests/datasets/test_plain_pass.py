"""The pass over training images without augmentation, and the resize that it shares with testing."""

import pytest
import torch
from yacs.config import CfgNode

from config import cfg, cfg_base, cfg_pcl
from datasets import make_dataloader, read_image
from datasets import test_transform as plain_transform
from datasets.pixels.resize import RESIZES, resize_bicubic


@pytest.fixture
def one_stage(data_cfg):
    data_cfg.SOLVER = CfgNode({"SEED": 7, "IMS_PER_BATCH": 6, "ITERS": -1})
    return data_cfg


@pytest.mark.parametrize(
    "options", [["MODEL.PCL_LOSS_WEIGHT", 0.5], ["CLUSTER.METHOD", "dbscan"], ["MODEL.PCL_LOSS_WEIGHT", 1.0]]
)
def test_one_stage_trees_have_it_where_something_is_made_of_it(one_stage, dataset, options):
    assert make_dataloader(one_stage, dataset).cache is None
    one_stage.merge_from_list(options)
    one_stage.INPUT.RE_PROB = 1.0
    cache = make_dataloader(one_stage, dataset).cache
    first, second = list(cache), list(cache)
    assert [len(batch.paths) for batch in first] == [3] * 6  # TEST.IMS_PER_BATCH
    assert [path for batch in first for path in batch.paths] == [record.path for record in dataset.train]
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, second, strict=True))
    assert {batch.pixels.erase_prob for batch in first} == {0.0}


def test_two_stages_keep_the_size_of_their_pass(data_cfg, dataset):
    data_cfg.MODEL.PCL_LOSS_WEIGHT = 1.0
    assert [len(batch.paths) for batch in make_dataloader(data_cfg, dataset).cache] == [5, 5, 5, 3]


def test_its_workers_end_with_each_pass(one_stage, dataset):
    one_stage.MODEL.PCL_LOSS_WEIGHT, one_stage.DATALOADER.NUM_WORKERS = 1.0, 1
    cache = make_dataloader(one_stage, dataset).cache
    assert (cache.num_workers, cache.persistent_workers) == (1, False)
    assert len(list(cache)) == len(list(cache)) == 6


def test_it_is_empty_without_the_training_split(one_stage, dataset):
    one_stage.MODEL.PCL_LOSS_WEIGHT = 1.0
    dataset.train.clear()
    assert make_dataloader(one_stage, dataset).cache is None


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_plain_images_are_resized_as_configured(data_cfg, dataset, interpolation):
    data_cfg.INPUT.TEST_RESIZE = interpolation
    prepare = plain_transform((32, 16), [0.5] * 3, [0.5] * 3, interpolation=interpolation)
    loaders = make_dataloader(data_cfg, dataset)
    for batch in (*loaders.cache, *loaders.test):
        wanted = torch.stack([prepare(read_image(path)) for path in batch.paths])
        assert torch.equal(batch.to("cpu").images, wanted)
    assert loaders.train.dataset.resize is RESIZES["fast bicubic"] is resize_bicubic


def test_another_resize_is_refused(data_cfg, dataset):
    data_cfg.INPUT.TEST_RESIZE = "nearest"
    with pytest.raises(ValueError, match="interpolation 'nearest', allowed are bilinear, bicubic"):
        make_dataloader(data_cfg, dataset)


def test_erasing_is_as_configured(data_cfg, dataset):
    data_cfg.INPUT.PIXEL_MEAN, data_cfg.INPUT.RE_PROB = [0.1, 0.2, 0.3], 1.0
    assert next(iter(make_dataloader(data_cfg, dataset).train)).pixels.erase_fill is None
    data_cfg.INPUT.RE_MODE = "constant"
    loaders = make_dataloader(data_cfg, dataset)
    assert [next(iter(loader)).pixels.erase_fill for loader in loaders[:3]] == [(0.1, 0.2, 0.3), None, None]
    images = next(iter(loaders.train)).to("cpu").images.permute(0, 2, 3, 1)
    assert (images == torch.tensor([0.1, 0.2, 0.3])).all(-1).flatten(1).any(1).all()


@pytest.mark.parametrize(
    ("tree", "has_pass", "iters"), [(cfg, True, None), (cfg_base, False, None), (cfg_pcl, True, 200)]
)
def test_the_default_trees_have_the_keys(dataset, tree, has_pass, iters):
    config = tree.clone()
    config.merge_from_list(
        ["DATALOADER.NUM_WORKERS", 0, "INPUT.SIZE_TRAIN", [32, 16], "DATALOADER.NUM_INSTANCE", 4]
    )
    main = config.SOLVER.STAGE2 if "STAGE2" in config.SOLVER else config.SOLVER
    main.IMS_PER_BATCH = 8
    loaders = make_dataloader(config, dataset)
    assert (loaders.cache is not None) == has_pass
    assert iters is None or len(loaders.train) == iters
    assert next(iter(loaders.train)).to("cpu").images.shape == (8, 3, 32, 16)
