import dataclasses
import functools
import os
import pickle
import traceback

import pytest
import torch
from PIL import Image
from torch import distributed

from config import cfg_tbps
from datasets import (
    CaptionBatch,
    CaptionDataset,
    CaptionRecord,
    ImageRecord,
    PairBatch,
    Trial,
    decode_image,
    make_caption_loaders,
    make_text_search_augmentations,
    vary_caption,
)
from datasets import test_transform as plain_transform
from datasets.pixels import pairs as pairs_file

KINDS = ("images", "second_images", "first_views", "second_views")


@pytest.fixture
def cfg():
    tree = cfg_tbps.clone()
    tree.INPUT.SIZE_TRAIN, tree.INPUT.SIZE_TEST = [32, 20], [24, 16]
    tree.INPUT.WORD_DELETION, tree.INPUT.BACK_TRANSLATION = 0.5, 0.5
    tree.DATALOADER.NUM_WORKERS, tree.SOLVER.IMS_PER_BATCH, tree.TEST.IMS_PER_BATCH = 0, 4, 3
    return tree


@pytest.fixture
def data(tmp_path, save_image):
    """10 training captions of 5 images of 3 identities, and 5 captions of 3 test images."""

    def image(split, number):
        return str(save_image(tmp_path / split / f"{number}.png", (12 + number, 30), colour=30 * number + 30))

    def caption(path, number, pid):
        words = f"person {pid} wears {number} shoes", f"shoes {number}"
        return CaptionRecord(path, pid, *words, f"{path}#{number}")

    train = [caption(image("train", i), n, i // 2) for i in range(5) for n in range(2)]
    images = [ImageRecord(image("test", i), 70 + i // 2, -1, 0) for i in range(3)]
    captions = [caption(record.path, n, record.pid) for record in images for n in range(2)]
    return CaptionDataset("x", train, [Trial(captions[:5], images, "all")])


def tensors(batch):
    kinds = [getattr(batch, name) for name in KINDS]
    return [batch.pids, batch.seeds, *(kind for kind in kinds if kind is not None)]


def same(left, right):
    texts = (left.captions, left.paths, left.keys) == (right.captions, right.paths, right.keys)
    return texts and all(map(torch.equal, tensors(left), tensors(right)))


def epoch(cfg, data, number=1, start=0):
    train = make_caption_loaders(cfg, data).train
    train.batch_sampler.set_epoch(number, start)
    return [batch.to("cpu") for batch in train]


def test_an_epoch_is_the_full_batches_of_shuffled_pairs(cfg, data):
    train = make_caption_loaders(cfg, data).train
    by_key = {record.key: record for record in data.train}
    assert len(train) == 2
    keys = []
    for batch in train:
        assert batch.images.dtype == torch.uint8
        moved = batch.to("cpu")
        assert type(moved) is PairBatch
        for name in KINDS:
            assert getattr(moved, name).shape == (4, 3, 32, 20)
            assert getattr(moved, name).dtype == torch.float32
        assert moved.seeds.dtype == moved.pids.dtype == torch.int64
        records = [by_key[key] for key in moved.keys]
        assert moved.paths == [record.path for record in records]
        assert moved.pids.tolist() == [record.pid for record in records]
        keys += moved.keys
    assert len(set(keys)) == 8 and keys != sorted(keys)


def test_pictures_are_the_augmentations_of_the_file_and_differ(cfg, data):
    calls = []

    def recorded(augment, image, seed):
        out = augment(image, seed)
        calls.append((image, out))
        return out

    loaders = make_caption_loaders(cfg, data)
    items = loaders.train.dataset
    items = dataclasses.replace(
        items, pool=functools.partial(recorded, items.pool), view=functools.partial(recorded, items.view)
    )
    item = items[next(iter(loaders.train.batch_sampler))[0]]
    (image, first), (_, second), (original, view), (_, other_view) = calls
    assert torch.equal(original, decode_image(item.record.path))
    assert image.shape == (3, 32, 20)
    pictures = [item.image, item.second_image, item.first_view, item.second_view]
    assert all(map(torch.equal, pictures, [first, second, view, other_view]))
    assert len({picture.numpy().tobytes() for picture in pictures}) == 4


def test_a_batch_has_the_normalised_pictures_of_its_items(cfg, data):
    loaders = make_caption_loaders(cfg, data)
    draws = next(iter(loaders.train.batch_sampler))
    batch = next(iter(loaders.train)).to("cpu")
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)
    )
    assert batch.seeds.tolist() == [draw.seed for draw in draws]
    for place, draw in enumerate(draws):
        item = loaders.train.dataset[draw]
        assert item.caption == batch.captions[place]
        for name, picture in zip(KINDS, item[3:], strict=True):
            assert torch.equal(getattr(batch, name)[place], picture.float().div(255).sub(mean).div(std))


def test_captions_vary_by_the_keys(cfg, data):
    found = {
        caption for number in range(20) for batch in epoch(cfg, data, number) for caption in batch.captions
    }
    assert len(found) > 20
    assert all(set(caption.split()) <= {*"012", "person", "wears", "shoes"} for caption in found)
    cfg.INPUT.WORD_DELETION = 0.0
    written = {record.caption for record in data.train} | {record.back_translation for record in data.train}
    found = [
        caption for number in range(9) for batch in epoch(cfg, data, number) for caption in batch.captions
    ]
    assert set(found) == written
    cfg.INPUT.BACK_TRANSLATION = 0.0
    for batch in epoch(cfg, data):
        by_key = {record.key: record.caption for record in data.train}
        assert batch.captions == [by_key[key] for key in batch.keys]


@pytest.mark.parametrize(
    ("second", "views", "keys"),
    [
        (True, True, {}),
        (False, True, {"MULTI_VIEW": False}),
        (False, True, {"NITC_LOSS_WEIGHT": 0.0}),
        (True, False, {"SS_LOSS_WEIGHT": 0.0}),
        (False, False, {"MULTI_VIEW": False, "SS_LOSS_WEIGHT": 0.0}),
    ],
)
def test_only_pictures_that_a_loss_wants_are_made(cfg, data, monkeypatch, second, views, keys):
    whole = epoch(cfg, data)
    for name, value in keys.items():
        cfg.MODEL[name] = value
    decoded = []
    monkeypatch.setattr(
        pairs_file,
        "decode_image",
        lambda path, **options: decoded.append(path) or decode_image(path, **options),
    )
    found = epoch(cfg, data)
    assert len(decoded) == 8  # one an item
    for batch, complete in zip(found, whole, strict=True):
        wanted = {"second_images": second, "first_views": views, "second_views": views}
        assert {name: getattr(batch, name) is not None for name in wanted} == wanted
        # What is left out changes nothing else.
        assert same(batch, complete.replace(**{name: None for name, is_on in wanted.items() if not is_on}))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(cfg, data, workers):
    cfg.INPUT.MIXGEN, cfg.INPUT.MIXGEN_PROB, cfg.INPUT.MIXGEN_RATIO = "ori", 0.5, 0.5
    here = epoch(cfg, data)
    cfg.DATALOADER.NUM_WORKERS = workers
    assert all(map(same, here, epoch(cfg, data)))


def test_loading_leaves_global_generators(cfg, data):
    state = torch.get_rng_state()
    first = epoch(cfg, data)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert all(map(same, first, epoch(cfg, data)))
    assert not any(map(same, first, epoch(cfg, data, 2)))


def test_an_epoch_goes_on_where_it_stopped(cfg, data):
    cfg.SOLVER.IMS_PER_BATCH = 2
    whole = epoch(cfg, data, 3)
    for start in (2, 4, 5):
        assert [same(*both) for both in zip(whole[start:], epoch(cfg, data, 3, start), strict=True)] == [
            True
        ] * (5 - start)


@pytest.fixture
def by_processes(cfg, data, monkeypatch):
    """by_processes(2) -> the loaders of each of two processes of a run."""

    def build(count):
        monkeypatch.setattr(distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(distributed, "get_world_size", lambda: count)
        for rank in range(count):
            monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
            yield make_caption_loaders(cfg, data)

    return build


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_each_batch(cfg, data, by_processes, count):
    cfg.INPUT.MIXGEN, cfg.INPUT.MIXGEN_PROB, cfg.INPUT.MIXGEN_RATIO = "ori", 1.0, 0.5
    whole = epoch(cfg, data, 0)
    parts = [[batch.to("cpu") for batch in loaders.train] for loaders in by_processes(count)]
    for batch, *shares in zip(whole, *parts, strict=True):
        texts = [
            [text for share in shares for text in getattr(share, name)]
            for name in ("captions", "paths", "keys")
        ]
        assert texts == [batch.captions, batch.paths, batch.keys]
        joined = map(torch.cat, zip(*map(tensors, shares), strict=True))
        assert all(map(torch.equal, tensors(batch), joined))
        assert {len(share.keys) for share in shares} == {4 // count}


def test_processes_share_images_and_captions_of_the_test(data, by_processes):
    parts = list(by_processes(2))
    for name, records in (("images", data.test_records()), ("captions", data.test_captions())):
        keys = [[key for batch in getattr(loaders, name) for key in batch.keys] for loaders in parts]
        assert keys[0] + keys[1] == [record.key for record in records]
        assert all(keys)


def test_batches_that_cannot_be_made_name_the_key(cfg, data, by_processes):
    with pytest.raises(ValueError, match=r"^SOLVER.IMS_PER_BATCH is 4; .*3 processes: multiples of 3$"):
        list(by_processes(3))
    cfg.SOLVER.IMS_PER_BATCH = 12
    with pytest.raises(ValueError, match=r"^SOLVER.IMS_PER_BATCH is 12; .*10 training pairs: up to 10$"):
        make_caption_loaders(cfg, data)


# ---- MixGen


@pytest.mark.parametrize("kind", ["ori", "cat"])
def test_mixed_pairs_are_made_of_two(cfg, data, kind):
    plain = epoch(cfg, data)
    cfg.INPUT.MIXGEN, cfg.INPUT.MIXGEN_PROB, cfg.INPUT.MIXGEN_RATIO = kind, 1.0, 0.25
    for batch, mixed in zip(plain, epoch(cfg, data), strict=True):
        captions = batch.captions
        assert mixed.captions == [f"{captions[0]} {captions[1]}", *captions[1:]]
        images = batch.images.clone()
        if kind == "ori":
            images[0] = (batch.images[0] + batch.images[1]) / 2
        else:
            halves = torch.nn.functional.interpolate(
                batch.images[:2], (32, 10), mode="bilinear", antialias=True
            )
            images[0] = torch.cat([*halves], dim=2)
        assert (mixed.images - images).abs().max() < 1 / 255 / 0.22  # bytes round
        assert not torch.equal(mixed.images[0], batch.images[0])
        # All else stays: pids, other pictures.
        assert same(mixed.replace(captions=captions, images=batch.images), batch)


def test_side_by_side_has_the_width_where_it_is_odd():
    left, right = (torch.full((3, 4, 7), level, dtype=torch.uint8) for level in (10, 20))
    mixed = pairs_file.side_by_side(left, right)
    assert mixed.shape == (3, 4, 7) and sorted(mixed.unique().tolist()) == [10, 20]


def test_the_mean_of_bytes_does_not_overflow():
    images = (torch.full((3, 1, 1), level, dtype=torch.uint8) for level in (255, 254))
    assert pairs_file.average(*images).unique().tolist() == [255]


# ---- test


def test_images_and_captions_of_the_trials_come_once_each(cfg, data):
    trial = data.trials[0]
    loaders = make_caption_loaders(cfg, dataclasses.replace(data, trials=[trial, trial]))
    assert [batch.keys for batch in loaders.images] == [[record.key for record in trial.gallery]]
    batches = list(loaders.captions)
    assert [len(batch.keys) for batch in batches] == [3, 2]
    assert all(isinstance(batch.to("cpu"), CaptionBatch) for batch in batches)
    for name, field in (("keys", "key"), ("captions", "caption"), ("paths", "path")):
        found = [value for batch in batches for value in getattr(batch, name)]
        assert found == [getattr(record, field) for record in trial.query]
    assert torch.cat([batch.pids for batch in batches]).tolist() == [record.pid for record in trial.query]


def test_captions_may_be_the_gallery(cfg, data):
    query, gallery, rule = data.trials[0]
    loaders = make_caption_loaders(cfg, dataclasses.replace(data, trials=[Trial(gallery, query, rule)]))
    assert [key for batch in loaders.captions for key in batch.keys] == [record.key for record in query]
    assert [key for batch in loaders.images for key in batch.keys] == [record.key for record in gallery]


@pytest.mark.parametrize("size", [None, (18, 30)])
def test_test_images_are_those_of_the_test_transform(cfg, data, size):
    prepare = plain_transform(
        size or (24, 16), cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD, interpolation="bicubic"
    )
    images = torch.cat([batch.to("cpu").images for batch in make_caption_loaders(cfg, data, size).images])
    for image, record in zip(images, data.test_records(), strict=True):
        assert torch.allclose(image, prepare(Image.open(record.path)), atol=1e-6)


def test_without_training_split_there_is_no_training_loader(cfg, data):
    loaders = make_caption_loaders(cfg, dataclasses.replace(data, train=[]))
    assert loaders.train is None
    assert len(loaders.images) == 1 and len(loaders.captions) == 2


# ---- files


@pytest.mark.parametrize("upright", [False, True])
def test_images_are_turned_where_the_data_set_says_so(cfg, data, upright):
    levels = torch.zeros(40, 20, dtype=torch.uint8)
    levels[:20] = 200  # above; turned by 180 degrees, below
    for record in (*data.train, *data.test_records()):
        exif = Image.Exif()
        exif[0x0112] = 3
        Image.fromarray(levels.numpy()).convert("RGB").save(record.path, exif=exif)
    loaders = make_caption_loaders(cfg, dataclasses.replace(data, upright=upright))
    for loader in (loaders.train, loaders.images):
        for batch in loader:
            rows = batch.to("cpu").images.mean(dim=(1, 3))  # (B, H)
            half = rows.shape[1] // 2
            assert ((rows[:, :half].mean(1) < rows[:, half:].mean(1)) == upright).all()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["truncate", "remove"])
def test_an_unreadable_image_stops_the_loader_with_its_path(cfg, data, workers, damage):
    cfg.DATALOADER.NUM_WORKERS = workers
    path = data.train[0].path
    if damage == "remove":
        os.remove(path)
    else:
        os.truncate(path, 60)
    with pytest.raises((ValueError, FileNotFoundError), match=path) as raised:
        [batch for number in range(3) for batch in epoch(cfg, data, number)]
    # The traceback keeps the workers until the garbage collector comes, which waits seconds for them.
    traceback.clear_frames(raised.tb)
    del raised


def test_training_items_can_be_sent_to_workers_that_do_not_fork(cfg, data):
    loaders = make_caption_loaders(cfg, data)
    sent = pickle.loads(pickle.dumps((loaders.train.dataset, loaders.train.collate_fn)))
    draws = next(iter(loaders.train.batch_sampler))
    items, collate = sent
    assert same(collate([items[draw] for draw in draws]).to("cpu"), epoch(cfg, data, 0)[0])


# ---- augmentations of pictures


def test_augmentations_are_those_of_training(cfg, data):
    pool, view = make_text_search_augmentations(cfg)
    items = make_caption_loaders(cfg, data).train.dataset
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)
    )
    picture, image = Image.open(data.train[0].path), decode_image(data.train[0].path)
    for given, own in ((pool, items.pool), (view, items.view)):
        for seed in range(5):
            assert torch.equal(given(picture, seed), own(image, seed).float().div(255).sub(mean).div(std))


def test_the_vary_function_is_that_of_the_keys(cfg, data):
    vary = make_caption_loaders(cfg, data).train.dataset.vary
    for seed in range(20):
        wanted = vary_caption(data.train[0], seed, back_translation=0.5, deletion=0.5)
        assert vary(data.train[0], seed) == wanted
