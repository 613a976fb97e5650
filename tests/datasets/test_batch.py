import dataclasses

import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from datasets import ImageBatch, ImageRecord, LoadedBatch, PixelTransform, collate

PIXELS = PixelTransform((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
RECORDS = [ImageRecord("a.jpg", 3, -1, 0), ImageRecord("b.jpg", 9, 4, 7, "b#1")]


def labels(batch):
    return batch.pids, batch.camids, batch.viewids


@pytest.fixture
def loaded():
    levels = torch.tensor([0, 255], dtype=torch.uint8)
    items = [(levels[i].expand(3, 2, 1), record, i + 2**62) for i, record in enumerate(RECORDS)]
    return collate(items, PIXELS)


def test_collate_stacks_images_and_labels(loaded):
    assert isinstance(loaded, LoadedBatch)
    assert loaded.images.shape == (2, 3, 2, 1) and loaded.images.dtype == torch.uint8
    assert loaded.images[:, 0, 0, 0].tolist() == [0, 255]
    assert [t.tolist() for t in labels(loaded)] == [[3, 9], [-1, 4], [0, 7]]
    assert {t.dtype for t in labels(loaded)} == {torch.int64}
    assert (loaded.paths, loaded.keys, loaded.pixels) == (["a.jpg", "b.jpg"], ["a.jpg", "b#1"], PIXELS)
    assert loaded.seeds == [2**62, 2**62 + 1]


def test_collate_takes_images_of_any_memory_order():
    image = torch.arange(24, dtype=torch.uint8).reshape(3, 4, 2)
    last = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    batch = collate([(image, RECORDS[0], None), (last, RECORDS[1], None)], PIXELS)
    assert torch.equal(batch.images, torch.stack([image, image]))
    assert batch.seeds == []


def test_a_loaded_batch_becomes_floats_where_it_goes(loaded):
    batch = loaded.to("cpu")
    assert isinstance(batch, ImageBatch)
    assert batch.images.is_contiguous()
    assert torch.equal(batch.images, torch.tensor([-2.0, 2.0])[:, None, None, None].expand(2, 3, 2, 1))
    assert all(torch.equal(a, b) for a, b in zip(labels(batch), labels(loaded), strict=True))
    assert (batch.paths, batch.keys) == (loaded.paths, loaded.keys)
    moved = loaded.to("meta")
    assert {tensor.device.type for tensor in (moved.images, *labels(moved))} == {"meta"}
    assert moved.images.dtype == torch.float32


def test_images_are_erased_by_their_seeds_on_the_way(loaded):
    pixels = dataclasses.replace(PIXELS, erase_prob=1.0)
    images = loaded.images.repeat(1, 1, 16, 16)
    batch = loaded.replace(images=images, pixels=pixels).to("cpu")
    assert torch.equal(batch.images, pixels(images, loaded.seeds))
    assert not torch.equal(batch.images, PIXELS(images))


def test_to_moves_every_tensor_and_keeps_the_paths():
    moved = ImageBatch(torch.ones(1, 3, 2, 2), *(torch.zeros(1).long() for _ in range(3)), ["a"]).to("meta")
    assert isinstance(moved, ImageBatch)
    assert {tensor.device.type for tensor in (moved.images, *labels(moved))} == {"meta"}
    assert moved.paths == moved.keys == ["a"]


def test_pinning_keeps_a_loaded_batch_whole(loaded, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *args: tensor.clone())
    pinned = pin_memory(loaded)
    assert isinstance(pinned, LoadedBatch)
    assert all(torch.equal(a, b) for a, b in zip(labels(pinned), labels(loaded), strict=True))
    assert torch.equal(pinned.images, loaded.images) and pinned.images is not loaded.images
    assert all(
        getattr(pinned, name) == getattr(loaded, name) for name in ("paths", "keys", "pixels", "seeds")
    )
