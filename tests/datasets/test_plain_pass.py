"""The pass over training images without augmentation, and the resize that it shares with testing."""

import pytest
import torch

from config import cfg, cfg_base, cfg_pcl
from datasets import make_dataloader, read_image
from datasets import test_transform as plain_transform
from datasets.pixels.resize import RESIZES, resize_bicubic


@pytest.mark.parametrize(("plain_batch", "sizes"), [(None, [3] * 6), (5, [5, 5, 5, 3])])
def test_it_has_every_training_image_once_without_augmentation(data_cfg, dataset, plain_batch, sizes):
    data_cfg.INPUT.RE_PROB = 1.0
    plain = make_dataloader(data_cfg, dataset, plain_batch=plain_batch).plain
    first, second = list(plain), list(plain)
    assert [len(batch.paths) for batch in first] == sizes
    assert [path for batch in first for path in batch.paths] == [record.path for record in dataset.train]
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, second, strict=True))
    assert {batch.pixels.erase_prob for batch in first} == {0.0}


def test_its_workers_end_with_each_pass(data_cfg, dataset):
    data_cfg.DATALOADER.NUM_WORKERS = 1
    plain = make_dataloader(data_cfg, dataset).plain
    assert (plain.num_workers, plain.persistent_workers) == (1, False)
    assert len(list(plain)) == len(list(plain)) == 6


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_plain_images_are_resized_as_configured(data_cfg, dataset, interpolation):
    data_cfg.INPUT.TEST_RESIZE = interpolation
    prepare = plain_transform((32, 16), [0.5] * 3, [0.5] * 3, interpolation=interpolation)
    loaders = make_dataloader(data_cfg, dataset)
    for batch in (*loaders.plain, *loaders.test):
        wanted = torch.stack([prepare(read_image(path)) for path in batch.paths])
        assert torch.equal(batch.to("cpu").images, wanted)
    assert loaders.train.dataset.resize is RESIZES["fast bicubic"] is resize_bicubic


def test_another_resize_is_refused(data_cfg, dataset):
    data_cfg.INPUT.TEST_RESIZE = "nearest"
    with pytest.raises(ValueError, match=r"^INPUT\.TEST_RESIZE is 'nearest'; allowed: bilinear, bicubic"):
        make_dataloader(data_cfg, dataset)


def test_erasing_is_as_configured(data_cfg, dataset):
    data_cfg.INPUT.PIXEL_MEAN, data_cfg.INPUT.RE_PROB = [0.1, 0.2, 0.3], 1.0
    assert next(iter(make_dataloader(data_cfg, dataset).train)).pixels.erase_fill is None
    data_cfg.INPUT.RE_MODE = "constant"
    loaders = make_dataloader(data_cfg, dataset)
    fills = [next(iter(loader)).pixels.erase_fill for loader in (loaders.train, loaders.plain, loaders.test)]
    assert fills == [(0.1, 0.2, 0.3), None, None]
    images = next(iter(loaders.train)).to("cpu").images.permute(0, 2, 3, 1)
    assert (images == torch.tensor([0.1, 0.2, 0.3])).all(-1).flatten(1).any(1).all()


@pytest.mark.parametrize(("tree", "iters"), [(cfg, None), (cfg_base, None), (cfg_pcl, 200)])
def test_the_default_trees_have_the_keys(dataset, tree, iters):
    config = tree.clone()
    config.merge_from_list(
        ["DATALOADER.NUM_WORKERS", 0, "INPUT.SIZE_TRAIN", [32, 16], "DATALOADER.NUM_INSTANCE", 4]
    )
    main = config.SOLVER.STAGE2 if "STAGE2" in config.SOLVER else config.SOLVER
    main.IMS_PER_BATCH = 8
    loaders = make_dataloader(config, dataset)
    assert iters is None or len(loaders.train) == iters
    assert next(iter(loaders.train)).to("cpu").images.shape == (8, 3, 32, 16)
