import functools
import logging
import traceback
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from datasets import (
    ImageDataset,
    ImageRecord,
    PixelTransform,
    ReIDDataset,
    Trial,
    decode_image,
    make_dataloader,
)
from datasets.batch import collate
from datasets.pixels.stand_ins import StandIns


@pytest.fixture
def records(tmp_path, save_image):
    """200 images of 50 identities, whose images do not follow each other: 1 % are two."""
    return [
        ImageRecord(str(save_image(tmp_path / f"{i}.jpg", colour=i)), i % 50, i // 50, i) for i in range(200)
    ]


def truncate(record):
    data = Path(record.path).read_bytes()
    Path(record.path).write_bytes(data[: len(data) * 3 // 4])


def remove(record):
    Path(record.path).unlink()


def read(stand_ins, index):
    """The record that is read for an index; the image must be its own."""
    image, record = stand_ins.decode(index, decode_image)
    assert torch.equal(image, decode_image(record.path))
    return record


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, "transreid.datasets")
    return lambda: caplog.messages


@pytest.mark.parametrize("damage", [remove, truncate])
@pytest.mark.parametrize(("index", "next_index"), [(7, 57), (157, 7)])
def test_the_next_image_of_the_identity_stands_in(records, damage, index, next_index, warnings):
    stand_ins = StandIns(records)
    damage(records[index])
    for _ in range(3):
        assert read(stand_ins, index) == records[next_index]
    assert all(read(stand_ins, i) == record for i, record in enumerate(records) if i != index)
    assert stand_ins.unreadable == 1
    (warning,) = warnings()
    assert warning.startswith(f"{records[index].path}: ")
    assert warning.endswith("; another image of its identity stands in (1 so far)")


def test_an_unreadable_stand_in_is_replaced_too(records, warnings):
    remove(records[7])
    truncate(records[57])
    stand_ins = StandIns(records)
    assert [read(stand_ins, i) for i in (7, 57, 107)] == [records[107]] * 3
    assert stand_ins.unreadable == 2
    assert [text[-10:] for text in warnings()] == ["(1 so far)", "(2 so far)"]


def test_more_than_one_percent_is_an_error_with_both_numbers(records, warnings):
    for i in (3, 44, 120):
        remove(records[i])
    stand_ins = StandIns(records)
    for i in (3, 44):
        read(stand_ins, i)
    message = rf"^3 of 200 training images cannot be read, more than 1%; the last: {records[120].path}: .+$"
    with pytest.raises(ValueError, match=message):
        read(stand_ins, 120)
    assert len(warnings()) == 3


def test_an_identity_without_readable_images_is_an_error(records):
    records = [*records, *(records[i]._replace(pid=50, path=f"nowhere{i}.jpg") for i in range(2))]
    with pytest.raises(ValueError, match=r"^no image of nowhere1\.jpg's identity can be read$"):
        read(StandIns(records), 201)


def test_other_errors_are_not_taken_for_damage(records):
    stand_ins = StandIns(records)

    def out_of_memory(path):
        raise MemoryError

    with pytest.raises(MemoryError):
        stand_ins.decode(0, out_of_memory)
    assert stand_ins.unreadable == 0


# ---- in loaders


def load(records, stand_ins, batches):
    """The batches of indices as two workers load them, which take turns."""
    return DataLoader(
        ImageDataset(records, (32, 16), interpolation="bicubic", stand_ins=stand_ins),
        batch_sampler=batches,
        num_workers=2,
        collate_fn=functools.partial(collate, pixels=PixelTransform((0.5,) * 3, (0.5,) * 3)),
        multiprocessing_context="fork",  # so that workers write to the same log
    )


def expect_error(loader, error, message):
    with pytest.raises(error, match=message) as raised:
        list(loader)
    # The traceback keeps the workers until the garbage collector comes, which waits seconds for them.
    traceback.clear_frames(raised.tb)
    del raised


@pytest.fixture
def log(tmp_path):
    """What all processes have logged so far."""
    handler = logging.FileHandler(tmp_path / "log.txt")
    logging.getLogger("transreid.datasets").addHandler(handler)
    yield (tmp_path / "log.txt").read_text
    logging.getLogger("transreid.datasets").removeHandler(handler)
    handler.close()


def test_workers_share_what_they_know(records, log):
    stand_ins = StandIns(records)
    remove(records[0])
    truncate(records[11])
    batches = [list(range(first, first + 10)) for first in range(0, 200, 10)]
    instead = {0: records[50], 11: records[61]}
    for _ in range(2):
        for batch, indices in zip(load(records, stand_ins, batches), batches, strict=True):
            wanted = [instead.get(i, records[i]) for i in indices]
            assert batch.paths == [record.path for record in wanted]
            labels = zip(batch.pids.tolist(), batch.camids.tolist(), batch.viewids.tolist(), strict=True)
            assert list(labels) == [record[1:4] for record in wanted]
        assert stand_ins.unreadable == 2
        batches.insert(0, batches.pop())  # the other worker now gets the damaged files
    assert [log().count(f"{records[i].path}: ") for i in (0, 11)] == [1, 1]
    assert log().count("\n") == 2


def test_workers_count_together(records):
    for i in (0, 11, 111):
        remove(records[i])
    loader = load(records, StandIns(records), [list(range(first, first + 10)) for first in range(0, 200, 10)])
    message = f"3 of 200 training images .* the last: {records[111].path}: no such image file"
    expect_error(loader, ValueError, message)


@pytest.fixture
def dataset(records):
    return ReIDDataset("x", records, [Trial(records[:2], records[2:4])], "person")


@pytest.mark.parametrize("cached", [False, True])
def test_a_stand_in_leaves_order_and_draws_as_they_are(data_cfg, dataset, records, cached):
    data_cfg.DATALOADER.ON_ERROR = "skip"
    before = list(make_dataloader(data_cfg, dataset).train)
    remove(records[7])
    truncate(records[8])
    data_cfg.DATALOADER.CACHE = cached
    after = list(make_dataloader(data_cfg, dataset).train)
    instead = {records[7].path: records[57].path, records[8].path: records[58].path}
    for old, new in zip(before, after, strict=True):
        assert new.paths == [instead.get(path, path) for path in old.paths]
        assert (new.seeds, new.pids.tolist()) == (old.seeds, old.pids.tolist())
        same = [path not in instead for path in old.paths]
        assert torch.equal(new.images[same], old.images[same])
    assert any(path in instead for batch in before for path in batch.paths)


def test_train_and_cache_loader_know_the_same(data_cfg, dataset, records, warnings):
    data_cfg.DATALOADER.ON_ERROR = "skip"
    remove(records[7])
    loaders = make_dataloader(data_cfg, dataset)
    for _ in range(2):
        paths = [path for batch in loaders.plain for path in batch.paths]
        assert paths == [records[57 if i == 7 else i].path for i in range(200)]
    list(loaders.train)
    assert len(warnings()) == 1
    remove(records[0])
    with pytest.raises(FileNotFoundError, match=f"^{records[0].path}: "):  # the test has no stand-ins
        list(loaders.test)


@pytest.mark.parametrize(("damage", "error"), [(remove, FileNotFoundError), (truncate, ValueError)])
@pytest.mark.parametrize("workers", [0, 2])
def test_without_stand_ins_the_error_names_the_path(data_cfg, dataset, records, workers, damage, error):
    data_cfg.DATALOADER.ON_ERROR, data_cfg.DATALOADER.NUM_WORKERS = "raise", workers
    damage(records[7])
    loaders = make_dataloader(data_cfg, dataset)
    for loader in (loaders.train, loaders.plain):
        expect_error(loader, error, f"{records[7].path}: ")
    data_cfg.DATALOADER.CACHE = True
    with pytest.raises(error, match=f"^{records[7].path}: "):
        make_dataloader(data_cfg, dataset)
