"""The table of methods: one row says what each one is made of. A new method is new files and a row here."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from yacs.config import CfgNode

from config import cfg as two_stage_tree
from config import cfg_base, cfg_pcl, cfg_tbps
from datasets import make_caption_dataset
from model import adopt_card, adopt_text_search_card
from processor import make_parts, make_recipes, make_rehearsals, make_text_parts, make_watch
from processor.chance import ChanceFloor, Floor
from processor.engine import Run, Stage
from processor.evaluation import Evaluation
from processor.make_parts import Description, Parts, Start
from processor.outlook import Rehearsal


@dataclass(frozen=True)
class Method:
    """A training method. The defaults are those of methods on images with identities.

    Args:
        name: its name in logs, model cards and command lines.
        tree: its configuration tree with defaults.
        stages: configuration, parts and run to the stages, in turn. A recipe may leave out the setting up of
            stages that `run.saver.finished` names.
        data: configuration, `need_train=` to the data set.
        model: configuration, data set, `pretrained=` to the model, on the CPU.
        loaders: configuration, data set, model to the loaders that `stages` reads.
        evaluation: configuration, data set, loaders, model to what is evaluated.
        test: configuration, data set without training split to the model in TEST.WEIGHT and its evaluation.
        adopt: configuration, keys of the command line to the configuration as the card of TEST.WEIGHT says.
        card: configuration, parts, name to the model card of checkpoints and `last.pt`, or None.
        start: configuration, data set, function that builds the model (`pretrained=`) to the model that a new
            run starts from, and the names of stages that are finished with it.
        rehearsals: configuration and parts to the stages on blank tensors, whose memory is counted.
        floor: configuration and parts to what evaluations are compared with, or None.
        variant: the method that a configuration of this one means, where a key chooses between two.
    """

    name: str
    tree: CfgNode
    stages: Callable[[CfgNode, Parts, Run], Iterator[Stage]]
    data: Callable[..., Any] = make_parts.image_data
    model: Callable[..., nn.Module] = make_parts.image_model
    loaders: Callable[[CfgNode, Any, Any], Any] = make_parts.image_loaders
    evaluation: Callable[[CfgNode, Any, Any, nn.Module], Evaluation] = make_parts.image_evaluation
    test: Callable[[CfgNode, Any], tuple[nn.Module, Evaluation]] = make_parts.image_test
    adopt: Callable[[CfgNode, Collection[str]], CfgNode] = adopt_card
    card: Callable[..., Description | None] = make_parts.image_card
    start: Callable[[CfgNode, Any, Callable[..., nn.Module]], Start] = make_parts.from_clip
    rehearsals: Callable[[CfgNode, Parts], list[Rehearsal]] = lambda cfg, parts: []
    floor: Callable[[CfgNode, Parts], Floor | None] = lambda cfg, parts: None
    variant: "Callable[[CfgNode], Method | None]" = lambda cfg: None


BASELINE = Method(
    "baseline",
    cfg_base,
    make_recipes.baseline_stages,
    start=make_parts.from_reid_or_clip,
    rehearsals=make_rehearsals.baseline_rehearsals,
    floor=make_watch.colour_floor,
)
CLIPREID = Method(
    "clipreid",
    two_stage_tree,
    make_recipes.clipreid_stages,
    model=make_parts.prompt_model,
    loaders=make_parts.prompt_loaders,
    start=make_parts.from_finished,
    rehearsals=make_rehearsals.clipreid_rehearsals,
    floor=make_watch.colour_floor,
)
PCL_CLUSTERS = Method(
    "pcl_clusters",
    cfg_pcl,
    make_recipes.cluster_stages,
    data=make_parts.unlabelled_data,
    model=make_parts.unlabelled_model,
    loaders=make_parts.unlabelled_loaders,
    start=make_parts.from_reid_or_clip,
    rehearsals=make_rehearsals.cluster_rehearsals,
    floor=make_watch.colour_floor,
)
PCL = Method(
    "pcl",
    cfg_pcl,
    make_recipes.pcl_stages,
    start=make_parts.from_reid_or_clip,
    rehearsals=make_rehearsals.pcl_rehearsals,
    floor=make_watch.colour_floor,
    variant=lambda cfg: PCL_CLUSTERS if cfg.CLUSTER.METHOD != "none" else None,
)
TBPS = Method(
    "tbps",
    cfg_tbps,
    make_recipes.text_search_stages,
    data=make_caption_dataset,
    model=make_text_parts.text_model,
    loaders=make_text_parts.text_loaders,
    evaluation=make_text_parts.text_evaluation,
    test=make_text_parts.text_test,
    adopt=adopt_text_search_card,
    card=make_text_parts.text_card,
    rehearsals=make_rehearsals.text_rehearsals,
    floor=lambda cfg, parts: ChanceFloor(),
)
METHODS = {method.name: method for method in (BASELINE, CLIPREID, PCL, PCL_CLUSTERS, TBPS)}
