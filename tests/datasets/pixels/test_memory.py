import time
from types import SimpleNamespace

import pytest
import torch

from datasets import ImageDataset, ImageRecord, decode_image
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
    data = small(records)
    cached = cache_images(data, workers=workers)
    images = cached.cached
    assert cached.records == records and cached.resize is data.resize and data.cached is None
    assert images.shape == (8, 3, 32, 16) and images.dtype == torch.uint8
    for image, record in zip(images, records, strict=True):
        assert torch.equal(image, resize_bicubic(decode_image(record.path), (32, 16)))
    assert capfd.readouterr() == ("", "")


def test_too_many_are_refused_before_one_is_read(records, monkeypatch):
    records = records * 200  # 1600 images of 1536 bytes
    read = []
    monkeypatch.setattr("datasets.pixels.images.decode_image", lambda path, **_: read.append(path))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2_000_000))
    with pytest.raises(ValueError) as error:
        cache_images(small(records), workers=1)
    assert str(error.value) == (
        "cache is True: 1600 training images of 32x16 take 0.00246 GB of memory, available are 0.002 GB; "
        "allowed: False"
    )
    assert not read


def test_a_damaged_file_is_named_and_ends_the_work(records, monkeypatch):
    with open(records[0].path, "rb+") as file:
        file.truncate(60)
    asked = []

    def slow(path, **options):
        asked.append(path)
        time.sleep(0.002)
        return decode_image(path, **options)

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
    cached = cache_images(data, workers=workers)
    assert cached.records == [*records[:5], records[6], *records[6:]]
    assert torch.equal(cached[5][0], cached[6][0])
    assert data.records is records and records[5].path == "nowhere.jpg"
