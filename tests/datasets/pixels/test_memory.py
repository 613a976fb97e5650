import logging
import time

import pytest
import torch

from datasets import ImageDataset, ImageRecord, decode_image
from datasets.pixels import memory as cache
from datasets.pixels.memory import cache_images
from datasets.pixels.resize import resize_bicubic
from datasets.pixels.stand_ins import StandIns


@pytest.fixture
def records(tmp_path, save_image):
    names = [f"{i}.{suffix}" for i in range(4) for suffix in ("jpg", "png")]
    return [
        ImageRecord(str(save_image(tmp_path / name, (40 + i, 90))), 0, 0, 0) for i, name in enumerate(names)
    ]


def small(records, **options):
    return ImageDataset(records, (32, 16), interpolation="fast bicubic", **options)


@pytest.mark.parametrize("workers", [0, 3])
def test_it_holds_the_resized_images_in_order(records, workers, capfd):
    images, found = cache_images(small(records), workers=workers)
    assert found == records
    assert images.shape == (8, 3, 32, 16) and images.dtype == torch.uint8
    for image, record in zip(images, records, strict=True):
        assert torch.equal(image, resize_bicubic(decode_image(record.path), (32, 16)))
    assert capfd.readouterr() == ("", "")


def test_its_size_is_told_before_anything_is_read(records, caplog, monkeypatch):
    records = records * 200  # 1600 images of 1536 bytes
    read = []
    monkeypatch.setattr("datasets.pixels.images.decode_image", lambda path: read.append(path))
    monkeypatch.setattr(cache, "available_memory", lambda: 2_000_000)
    message = "1600 training images of 32x16 take 0.00246 GB"
    with (
        caplog.at_level(logging.INFO, "transreid.datasets"),
        pytest.raises(ValueError) as error,
    ):
        cache_images(small(records), workers=1)
    assert caplog.messages == [f"DATALOADER.CACHE: {message}"]
    assert str(error.value) == (
        f"DATALOADER.CACHE is True: {message}, available are 0.002 GB; allowed: False"
    )
    assert not read


def test_a_damaged_file_is_named_and_ends_the_work(records, monkeypatch):
    with open(records[0].path, "rb+") as file:
        file.truncate(60)
    asked = []

    def slow(path):
        asked.append(path)
        time.sleep(0.002)
        return decode_image(path)

    monkeypatch.setattr("datasets.pixels.images.decode_image", slow)
    with pytest.raises(ValueError, match=rf"^{records[0].path}: cannot be read as an image: "):
        cache_images(small(records * 50), workers=2)
    assert len(asked) < 200


@pytest.mark.parametrize("workers", [0, 3])
def test_it_holds_what_stands_in_for_a_damaged_file(records, workers):
    records = records * 13  # 1 % of 104 images is one; the others with its path are of other identities
    records = [record._replace(pid=i // 4) for i, record in enumerate(records)]
    records[5] = records[5]._replace(path="nowhere.jpg")
    data = small(records, stand_ins=StandIns(records))
    images, found = cache_images(data, workers=workers)
    assert found == [*records[:5], records[6], *records[6:]]
    assert torch.equal(images[5], images[6])
    assert data.records is records and records[5].path == "nowhere.jpg"


def test_the_memory_of_this_machine():
    assert 1e8 < cache.available_memory() < 1e14


def test_the_memory_is_what_linux_and_a_container_leave(tmp_path, monkeypatch):
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text("MemTotal:  100 kB\nMemFree:  1 kB\nMemAvailable:     50 kB\n")
    monkeypatch.setattr(cache, "Path", lambda path: tmp_path / path.rpartition("/")[2])
    assert cache.available_memory() == 50 * 1024
    for text, available in (("max\n", 50 * 1024), ("90000\n", 50 * 1024), ("20000\n", 20000)):
        limit.write_text(text)
        assert cache.available_memory() == available
    meminfo.unlink()
    assert cache.available_memory() > 1e8
