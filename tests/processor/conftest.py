"""A tiny Market-1501 on disk and configurations of toy models for it."""

import argparse
from dataclasses import replace

import pytest
import torch

from config import cfg, cfg_pcl
from config.load import load_config
from datasets import make_dataloader, make_dataset
from loss import make_loss
from model import make_model
from processor import METHODS, make_processor, train
from processor.engine.loop import Run
from processor.engine.resume import Saver
from processor.engine.trackers import JsonLines
from processor.make_recipes import make_plan
from processor.recipes.clipreid import clipreid
from processor.recipes.image_objective import ImageTraining
from tests.toys import SETTINGS, draw_market, words
from utils.precision import Precision
from utils.seed import seed_everything

TOY_KEYS = SETTINGS | {"TEST.IMS_PER_BATCH": 3, "TEST.NECK_FEAT": "before"}
# Eight images: two batches of five and three, two batches of two identities with two images.
STAGE1_KEYS = {
    "SOLVER.STAGE1.IMS_PER_BATCH": 5,
    "SOLVER.STAGE1.MAX_EPOCHS": 2,
    "SOLVER.STAGE1.BASE_LR": 0.02,
    "SOLVER.STAGE1.WARMUP_EPOCHS": 0,
}
MAIN_KEYS = {
    "IMS_PER_BATCH": 4,
    "MAX_EPOCHS": 2,
    "BASE_LR": 1e-3,
    "WARMUP_ITERS": 0,
    "CHECKPOINT_PERIOD": 5,
    "EVAL_PERIOD": 5,
    "STEPS": [20],
}


@pytest.fixture(autouse=True)
def outlook(monkeypatch):
    """Runs count no memory before they begin: it takes time, and steps that tests tamper with.

    outlook() -> they do again.
    """
    real = make_processor.log_outlook
    monkeypatch.setattr(make_processor, "log_outlook", lambda *args, **options: None)
    return lambda: monkeypatch.setattr(make_processor, "log_outlook", real)


@pytest.fixture(scope="session")
def market_tree(tmp_path_factory):
    """ROOT_DIR of a data set of two cameras: four training identities with two images, three for tests."""
    return draw_market(tmp_path_factory.mktemp("data"), range(1, 5), range(11, 14), gallery_shots=2)


@pytest.fixture
def toy_config(toy_towers, market_tree, tmp_path):
    """toy_config("SOLVER.SEED", 3, tree=cfg_base) -> a configuration; MAIN.X is X of the main stage."""

    def load(*pairs, tree=cfg):
        two_stages = "STAGE2" in tree.SOLVER
        main = "SOLVER.STAGE2." if two_stages else "SOLVER."
        settings = TOY_KEYS | {main + key: value for key, value in MAIN_KEYS.items()}
        settings |= {"DATASETS.ROOT_DIR": str(market_tree), "OUTPUT_DIR": str(tmp_path / "run")}
        settings |= STAGE1_KEYS if two_stages else {}
        settings |= {"SOLVER.ITERS": 3} if tree is cfg_pcl else {}
        given = dict(zip(pairs[::2], pairs[1::2], strict=True))
        settings |= {key.replace("MAIN.", main): value for key, value in given.items()}
        return load_config(tree, "", words(settings))

    return load


@pytest.fixture
def trained(toy_config, tmp_path):
    """trained('clipreid', 'SOLVER.SEED', 1) -> the configuration and the output folder of a run."""

    def run(recipe, *pairs, resume=False):
        config = toy_config(*pairs, tree=METHODS[recipe].tree)
        options = {"config_file": "", "local_rank": 0, "traceback": False, "opts": [], "resume": resume}
        train(config, argparse.Namespace(**options), method=METHODS[recipe])
        return config, type(tmp_path)(config.OUTPUT_DIR)

    return run


@pytest.fixture
def setting(toy_config, tmp_path):
    """setting('toy-vit', cfg, ...) -> configuration, model, loaders, run; nothing is evaluated."""

    def build(tower, tree, *pairs):
        config = toy_config("MODEL.NAME", tower, *pairs, tree=tree)
        seed_everything(config.SOLVER.SEED)
        dataset = make_dataset(config)
        model = make_model(config, dataset.num_train_pids, 2, 1)
        precision = Precision("cpu")
        saver = Saver(tmp_path, model, precision, {}, trackers=[JsonLines(tmp_path)])
        run = Run(model, tower, torch.device("cpu"), tmp_path, None, precision, saver)
        return config, model, make_dataloader(config, dataset), run

    return build


@pytest.fixture
def two_stages():
    """two_stages(config, model, loaders) -> the stages of CLIP-ReID, without evaluation."""

    def build(config, model, loaders, **options):
        plan = make_plan(config, "main")
        return clipreid(
            training_of(config, model, loaders),
            make_plan(config, "stage1"),
            replace(plan, eval_period=None),
            seed=config.SOLVER.SEED,
            **options,
        )

    return build


def training_of(config, model, loaders, loss=None):
    """What a recipe takes, on the CPU."""
    loss = loss or make_loss(config, model.num_classes, model.image_encoder.width)
    return ImageTraining(model, loss, loaders, torch.device("cpu"), Precision("cpu"))
