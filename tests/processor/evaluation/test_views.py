"""TEST.AUGMENT: features averaged over two views, in training and tests."""

import argparse
import json

import pytest
import torch

from config.load import load_config
from datasets import ImageBatch, PixelTransform, SecondView, make_dataset, make_second_view
from model import make_test_model
from processor import METHODS
from processor.evaluation import extract_streams, image_encoder, with_second_view
from processor.make_test import extract_task
from retrieval import RetrievalTask
from tests.processor.running import records, run_test
from tests.toys import words
from utils.precision import Precision

CPU = torch.device("cpu")
ARGS = argparse.Namespace(config_file="", opts=[])


def features_of(config):
    """Features by key, of a test of TEST.WEIGHT."""
    task = extract_task(config, METHODS["baseline"], make_dataset(config, need_train=False), CPU)
    order = sorted(range(len(task.images)), key=task.images.keys.__getitem__)
    return task.images.features[order]


@pytest.fixture(scope="module")
def toy_weight(toy_towers, market_tree, tmp_path_factory):
    """A file of random weights; cameras matter."""
    from config import cfg
    from model import make_model
    from tests.processor.conftest import TOY_KEYS

    torch.manual_seed(0)
    pairs = TOY_KEYS | {"MODEL.SIE_CAMERA": True, "MODEL.SIE_COE": 1.0}
    path = tmp_path_factory.mktemp("weight") / "toy-vit_1.pth"
    torch.save(make_model(load_config(cfg, "", words(pairs)), 4, 2, 1).state_dict(), path)
    return str(path)


@pytest.fixture
def config_of(toy_config, toy_weight):
    fixed = ("TEST.WEIGHT", toy_weight, "MODEL.SIE_CAMERA", True, "MODEL.SIE_COE", 1.0)
    return lambda *pairs: toy_config(*fixed, *pairs)


@pytest.mark.parametrize("neck", ["before", "after"])
@pytest.mark.parametrize("augment", ["flip", "flip_crop"])
def test_features_are_means_of_two(config_of, augment, neck):
    """Image by image, in a loop; before any normalisation, cameras kept."""
    config = config_of("TEST.AUGMENT", augment, "TEST.NECK_FEAT", neck)
    dataset = make_dataset(config, need_train=False)
    model, _ = make_test_model(config, 2, 1, data=dataset.name)
    model.eval()
    view = make_second_view(config, dataset.test_records())
    _, evaluation = METHODS["baseline"].test(config, dataset)
    expected = {}
    for batch in evaluation.loader:
        images = batch.to(CPU).images
        for row, key in enumerate(batch.keys):
            side = batch.camids[row : row + 1], batch.viewids[row : row + 1]
            views = images[row : row + 1], view(images[row : row + 1], [key])
            with torch.no_grad():
                expected[key] = sum(model(image, *side)[0].double() for image in views) / 2
    expected = torch.stack([expected[key] for key in sorted(expected)]).float()
    found = features_of(config)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found - features_of(config_of("TEST.NECK_FEAT", neck))).abs().max() > 1e-3


def test_batches_and_workers_make_no_difference(config_of):
    found = [
        features_of(config_of("TEST.AUGMENT", "flip_crop", "TEST.IMS_PER_BATCH", size, *workers))
        for size, workers in ((1, ()), (3, ("DATALOADER.NUM_WORKERS", 2)), (100, ()))
    ]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-5, atol=1e-6)
    crops = config_of("TEST.AUGMENT", "flip_crop", "SOLVER.SEED", 5)
    assert (features_of(crops) - found[0]).abs().max() > 1e-3


def test_without_views_nothing_changes(config_of):
    """Bit for bit what the model gives."""
    config = config_of()
    model, evaluation = METHODS["baseline"].test(config, make_dataset(config, need_train=False))
    model.eval()
    with torch.no_grad():
        batches = [batch.to(CPU) for batch in evaluation.loader]
        plain = torch.cat([model(batch.images, batch.camids, batch.viewids) for batch in batches])
    features = extract_streams(evaluation, model, CPU, Precision("cpu"))["image"].features
    assert torch.equal(features, plain)
    encode = image_encoder(model)
    assert with_second_view(encode, None) is encode


def test_the_mean_is_taken_in_float32():
    """Half precision would lose the smaller of the two features."""
    images = torch.tensor([1000.0, -999.5]).expand(1, 3, 1, 2)
    batch = ImageBatch(images, *(torch.zeros(1, dtype=torch.long) for _ in range(3)), ["a"])
    encode = with_second_view(
        lambda batch: batch.images[:, :, 0, 0].bfloat16(), SecondView(PixelTransform((0.0,) * 3, (1.0,) * 3))
    )
    assert encode(batch).tolist() == [[0.0] * 3] and encode(batch).dtype == torch.float32


def test_training_and_test_evaluate_alike_and_say_how(trained, toy_config, tmp_path):
    pairs = ("TEST.AUGMENT", "flip_crop", "MAIN.CHECKPOINT_PERIOD", 2)
    _, folder = trained("baseline", *pairs)
    weight = ("TEST.WEIGHT", str(folder / "toy-vit_2.pth"), "OUTPUT_DIR", str(tmp_path / "test"))
    run_test(toy_config(*pairs, *weight), ARGS)
    written = json.loads((tmp_path / "test" / "metrics.json").read_text())
    last = records(folder)[-1]
    assert {name: written[name] for name in ("mAP", "mINP", "rank1")} == {
        name: last[name] for name in ("mAP", "mINP", "rank1")
    }
    assert written["augment"] == "flip_crop"
    assert RetrievalTask.load(tmp_path / "test" / "features.npz").info["augment"] == "flip_crop"
