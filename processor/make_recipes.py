"""From the configuration to the recipes of the training programs."""

import functools
from collections.abc import Callable, Iterator

from yacs.config import CfgNode

from config.shared import solver_node
from datasets import Loaders
from loss import ReIDLoss, make_loss
from model import ReIDModel
from processor.engine.loop import Run
from processor.engine.stage import Plan, Stage
from processor.recipes.baseline import baseline
from processor.recipes.clipreid import clipreid
from processor.recipes.clusters import pcl_clusters
from processor.recipes.pcl import pcl
from processor.recipes.prototypes import neck_features
from retrieval import FeatureSet, cluster
from solver import make_optimizer, make_schedule


def make_plan(cfg: CfgNode, stage: str) -> Plan:
    """The plan of 'stage1' or 'main' (stage 2, or the only stage)."""
    node = solver_node(cfg, stage)
    return Plan(
        epochs=node.MAX_EPOCHS,
        batch_size=node.IMS_PER_BATCH,
        schedule=make_schedule(cfg, stage),
        make_optimizer=functools.partial(make_optimizer, cfg, stage=stage),
        log_period=node.LOG_PERIOD,
        checkpoint_period=node.CHECKPOINT_PERIOD,
        # Prompts do not touch the image side, whose features alone are evaluated.
        eval_period=None if stage == "stage1" else node.EVAL_PERIOD,
        # On a GPU stage 1 is captured, which a compiler would only break up.
        compile=cfg.SOLVER.COMPILE and stage != "stage1",
    )


def _baseline(cfg: CfgNode, model: ReIDModel, loaders: Loaders, run: Run) -> Iterator[Stage]:
    features = _features(model, loaders, run)
    return baseline(model, _loss(cfg, model), loaders.train, make_plan(cfg, "main"), features)


def _clipreid(cfg: CfgNode, model: ReIDModel, loaders: Loaders, run: Run) -> Iterator[Stage]:
    return clipreid(
        model,
        _loss(cfg, model),
        loaders.train,
        loaders.plain,
        prompt_plan=None if "stage1" in run.saver.finished else make_plan(cfg, "stage1"),
        image_plan=make_plan(cfg, "main"),
        device=run.device,
        precision=run.precision,
        seed=cfg.SOLVER.SEED,
        half_features=cfg.SOLVER.STAGE1.HALF_FEATURES,
        features=_features(model, loaders, run),
    )


def _pcl(cfg: CfgNode, model: ReIDModel, loaders: Loaders, run: Run) -> Iterator[Stage]:
    loss, features = _loss(cfg, model), _features(model, loaders, run)
    plan, node = make_plan(cfg, "main"), cfg.CLUSTER
    if node.METHOD == "none":
        return pcl(model, loss, loaders.train, plan, features)
    find = functools.partial(cluster, eps=node.EPS, min_samples=node.MIN_SAMPLES, k1=node.K1, k2=node.K2)
    paths = [record.path for record in loaders.plain.dataset.records]
    return pcl_clusters(
        model,
        loss,
        loaders.train,
        plan,
        features,
        order=loaders.order,
        cluster=find,
        paths=paths,
    )


def _loss(cfg: CfgNode, model: ReIDModel) -> ReIDLoss:
    return make_loss(cfg, model.num_classes, model.image_encoder.width)


def _features(model: ReIDModel, loaders: Loaders, run: Run) -> Callable[[], FeatureSet]:
    return functools.partial(neck_features, model, loaders.plain, run.device, run.precision)


# Of stages that are finished, a recipe may leave out those that are costly to set up.
Recipe = Callable[[CfgNode, ReIDModel, Loaders, Run], Iterator[Stage]]
RECIPES: dict[str, Recipe] = {"baseline": _baseline, "clipreid": _clipreid, "pcl": _pcl}
