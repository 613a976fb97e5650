"""From the configuration to the stages of the image methods."""

import functools
from collections.abc import Iterator
from dataclasses import replace

from yacs.config import CfgNode

from config.errors import as_keys
from config.load import leaves
from config.methods.graph import features_of
from config.methods.prompts import learns_online
from config.nodes import solver_node
from datasets import GraphSampler
from loss import make_loss
from model import DualModel, ReIDModel, make_teacher
from processor.averaging import averaged
from processor.engine import Plan, Run, Stage
from processor.make_parts import Parts, data_facts, stage_files
from processor.recipes.clipreid import CaptionUse, clipreid
from processor.recipes.graph import GraphPlan
from processor.recipes.image_objective import ImageTraining
from processor.recipes.learning import log_learning
from processor.recipes.one_stage import clustered_stage, one_stage
from processor.recipes.text_search import LossWeights, TextSearchObjective, text_search_stage
from processor.skipping import note_settings
from retrieval import cluster
from solver import gaussian_weights, make_optimizer, make_schedule, stage_parameters
from utils.distributed import is_first
from utils.package import require_extra


def make_plan(cfg: CfgNode, stage: str, iterations: int = 0) -> Plan:
    """The plan of 'stage0', 'stage1' or 'main' (stage 2, or the only stage).

    `iterations` are those of an epoch.
    """
    node = solver_node(cfg, stage)
    return Plan(
        epochs=node.MAX_EPOCHS,
        batch_size=node.IMS_PER_BATCH,
        schedule=make_schedule(cfg, stage, iterations),
        make_optimizer=lambda named: make_optimizer(cfg, stage_parameters(cfg, named, stage), stage),
        log_period=node.LOG_PERIOD,
        checkpoint_period=node.CHECKPOINT_PERIOD,
        # Prompts do not touch the image side, whose features are what is evaluated.
        eval_period=None if stage == "stage1" else node.EVAL_PERIOD,
        # On a GPU stage 1 is captured, which a compiler would only break up; captions differ in length.
        compile=cfg.SOLVER.COMPILE and stage == "main",
    )


def _main_plan(cfg: CfgNode, parts: Parts) -> Plan:
    return make_plan(cfg, "main", len(parts.loaders.train))


def baseline_stages(cfg: CfgNode, parts: Parts, run: Run) -> Iterator[Stage]:
    """Identity and triplet losses on the image tower."""
    return one_stage("baseline", _training(cfg, parts, run), _main_plan(cfg, parts), accuracy=True)


def clipreid_stages(cfg: CfgNode, parts: Parts, run: Run) -> Iterator[Stage]:
    """Prompts, then the image tower against their texts."""
    training = _training(cfg, parts, run)
    prompt_plan = None if "stage1" in run.saver.finished else make_plan(cfg, "stage1")
    if prompt_plan is not None and cfg.SOLVER.STAGE1.SAMPLER == "graph":
        training = replace(training, prompt_graph=_prompt_graph(cfg, parts))
    before = run.saver.finished[:]
    stages = clipreid(
        training,
        prompt_plan,
        _main_plan(cfg, parts),
        seed=cfg.SOLVER.SEED,
        half_features=cfg.SOLVER.STAGE1.HALF_FEATURES,
        online=learns_online(cfg),
        captions=_caption_use(cfg, parts, run),
    )
    for stage in stages:
        node = cfg.SOLVER[stage.name.upper()]
        if node.get("GAUSS_STD"):
            weights = gaussian_weights(stage.plan.epochs, node.GAUSS_MEAN, node.GAUSS_STD)
            stage = averaged(stage, parts.model, weights)
        log_learning(stage, parts.model)
        yield stage
        path = run.output_dir / stage_files(cfg)[stage.name]
        if is_first() and stage.name not in before and path.is_file():
            note_settings(path, leaves(cfg), data_facts(cfg, parts.dataset))


def _caption_use(cfg: CfgNode, parts: Parts, run: Run) -> CaptionUse | None:
    if parts.loaders.described is None:
        return None
    stage0, stage1, stage2 = cfg.SOLVER.STAGE0, cfg.SOLVER.STAGE1, cfg.SOLVER.STAGE2
    is_due = stage0.MAX_EPOCHS and "stage0" not in run.saver.finished
    return CaptionUse(
        parts.loaders.described,
        make_plan(cfg, "stage0") if is_due else None,
        temperature=stage0.TEMPERATURE,
        identity_targets=stage0.IDENTITY_TARGETS,
        trains_words=stage0.MAX_EPOCHS > 0,
        in_prompts=stage1.CAPTIONS,
        probability=stage2.CAPTIONS,
        every=stage2.CAPTIONS_EVERY,
    )


def pcl_stages(cfg: CfgNode, parts: Parts, run: Run) -> Iterator[Stage]:
    """The image tower against a prototype of each identity; as published, no accuracy is reported."""
    return one_stage("pcl", _training(cfg, parts, run), _main_plan(cfg, parts), accuracy=False)


def cluster_stages(cfg: CfgNode, parts: Parts, run: Run) -> Iterator[Stage]:
    """The image tower against a prototype of each cluster."""
    require_extra("cluster")  # before the first epoch
    node = cfg.CLUSTER
    find = functools.partial(cluster, eps=node.EPS, min_samples=node.MIN_SAMPLES, k1=node.K1, k2=node.K2)
    return clustered_stage("pcl", _training(cfg, parts, run), _main_plan(cfg, parts), find)


def text_search_stages(cfg: CfgNode, parts: Parts, run: Run) -> Iterator[Stage]:
    """Both towers of CLIP on pairs of images and captions."""
    objective = make_text_search_objective(cfg, parts.model, len(parts.loaders.train))
    return text_search_stage(objective, parts.loaders.train, _main_plan(cfg, parts))


def make_text_search_objective(cfg: CfgNode, model: DualModel, iterations: int = 1) -> TextSearchObjective:
    """The objective of text search on a model; `iterations` are those of an epoch."""
    node = cfg.MODEL
    weights = LossWeights(
        nitc=node.NITC_LOSS_WEIGHT,
        multi_view=node.MULTI_VIEW,
        soft=node.SOFT_LABEL_WEIGHT,
        ritc=node.RITC_LOSS_WEIGHT,
        ritc_eps=node.RITC_EPS,
        citc=node.CITC_LOSS_WEIGHT,
        citc_inmodal=node.CITC_INMODAL,
        citc_crossmodal=node.CITC_CROSSMODAL,
        ss=node.SS_LOSS_WEIGHT,
        ss_temperature=node.SIMCLR_TEMPERATURE,
        id=node.ID_LOSS_WEIGHT,
        mlm=node.MLM_LOSS_WEIGHT,
    )
    return TextSearchObjective(model, weights, iterations)


def _training(cfg: CfgNode, parts: Parts, run: Run) -> ImageTraining:
    model: ReIDModel = parts.model
    loss = make_loss(cfg, model.num_classes, model.image_encoder.width)
    teacher = make_teacher(cfg)
    if teacher is not None:
        with as_keys({"teacher": "MODEL.TEACHER.NAME"}):
            teacher.require_width(model.image_encoder)
    graph = _graph_plan(cfg, parts.loaders.order) if cfg.DATALOADER.SAMPLER == "graph" else None
    return ImageTraining(model, loss, parts.loaders, run.device, run.precision, teacher, graph)


def _prompt_graph(cfg: CfgNode, parts: Parts) -> GraphPlan:
    """The graph of stage 1, on the images of the plain pass."""
    node, pids = cfg.SOLVER.STAGE1, [record.pid for record in parts.loaders.plain.dataset.records]
    keys = {"batch_size": "SOLVER.STAGE1.IMS_PER_BATCH", "num_instances": "DATALOADER.NUM_INSTANCE"}
    with as_keys(keys):
        drawn = (pids, node.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE, cfg.SOLVER.SEED)
        return _graph_plan(cfg, GraphSampler(*drawn, cfg.DATALOADER.GRAPH_ANCHORS))


def _graph_plan(cfg: CfgNode, sampler: GraphSampler) -> GraphPlan:
    node = cfg.DATALOADER
    return GraphPlan(sampler, features_of(cfg), node.GRAPH_DISTANCE, node.GRAPH_EVERY, node.GRAPH_AFTER)
