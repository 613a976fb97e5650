"""Batches from a graph of identities, for every method on images (Liao, Shao, CVPR 2022)."""

from yacs.config import CfgNode

from config.keys import ONE_OR_MORE, ZERO_OR_MORE, Key, Keys, Rule, under, words
from config.methods.prompts import learns_online
from config.nodes import main_solver


def _keys(samplers: str, *features: str) -> Keys:
    needs = (samplers, words("graph"))
    keys = {
        "GRAPH_FEATURES": Key(
            "auto",
            "Features by which identities are near: 'text', of their prompts; 'image', the means of their "
            "training images, without augmentation; 'both', side by side. 'auto': 'text', or 'image' for a "
            "method without texts, which has no other.",
            words(*features),
            needs=needs,
            fixed=True,
        ),
        "GRAPH_DISTANCE": Key(
            "cosine",
            "'cosine' compares directions of features, 'dot' takes their products: the larger, the nearer. "
            "Those of images are means of normalised ones.",
            words("cosine", "dot"),
            needs=needs,
            fixed=True,
        ),
        "GRAPH_EVERY": Key(
            1, "Epochs from one building of the graph to the next.", ONE_OR_MORE, needs=needs, fixed=True
        ),
        "GRAPH_AFTER": Key(
            0,
            "Epochs before the first graph, in batches of the stage's other sampler: 'softmax_triplet', in "
            "stage 1 'random'.",
            ZERO_OR_MORE,
            needs=needs,
            fixed=True,
        ),
        "GRAPH_ANCHORS": Key(
            "images",
            "Length of an epoch: as many batches as the images fill, for a random part of the identities, "
            "'images', or a batch for each identity and its nearest, 'all'. A number of ITERS goes before.",
            words("images", "all"),
            needs=needs,
            fixed=True,
        ),
    }
    return under("DATALOADER", keys)


ONE_STAGE = _keys("DATALOADER.SAMPLER", "auto", "image")
TWO_STAGES = {
    **_keys("DATALOADER.SAMPLER or SOLVER.STAGE1.SAMPLER", "auto", "text", "image", "both"),
    "SOLVER.STAGE1.SAMPLER": Key(
        "random",
        "Stage 1: 'random' shuffles the image features, 'graph' draws DATALOADER.NUM_INSTANCE of each of a "
        "few identities that are near by DATALOADER.GRAPH_FEATURES.",
        words("random", "graph"),
        fixed=True,
    ),
}


def features_of(cfg: CfgNode) -> str:
    """DATALOADER.GRAPH_FEATURES, with what 'auto' chooses for the method."""
    chosen = cfg.DATALOADER.GRAPH_FEATURES
    if chosen != "auto":
        return chosen
    return "image" if cfg.MODEL.TEXT == "none" else "text"


def check(cfg: CfgNode) -> None:
    """A stage whose batches a graph draws has an epoch with one, and features that have the distance."""
    node = cfg.DATALOADER
    if node.GRAPH_FEATURES == "both" and node.GRAPH_DISTANCE == "dot":
        raise ValueError(
            "DATALOADER.GRAPH_DISTANCE is 'dot'; allowed with GRAPH_FEATURES 'both': 'cosine', because both "
            "are normalised"
        )
    stages = [("SOLVER.STAGE2" if "STAGE2" in cfg.SOLVER else "SOLVER", cfg.DATALOADER.SAMPLER)]
    if "STAGE1" in cfg.SOLVER:
        stages.append(("SOLVER.STAGE1", cfg.SOLVER.STAGE1.SAMPLER))
    for name, sampler in stages:
        epochs = (main_solver(cfg) if name != "SOLVER.STAGE1" else cfg.SOLVER.STAGE1).MAX_EPOCHS
        if sampler == "graph":
            rule = Rule(f"below {name}.MAX_EPOCHS {epochs}", lambda value, most=epochs: value < most)
            rule.require("DATALOADER.GRAPH_AFTER", cfg.DATALOADER.GRAPH_AFTER)


def check_stage1(cfg: CfgNode) -> None:
    """Stage 1's graph fills a batch with whole identities, and draws from features that are kept."""
    node, instances = cfg.SOLVER.STAGE1, cfg.DATALOADER.NUM_INSTANCE
    if node.SAMPLER != "graph":
        return
    if learns_online(cfg):
        raise ValueError(
            "SOLVER.STAGE1.SAMPLER is 'graph'; allowed: 'random' with SOLVER.STAGE1.ONLINE_FEATURES True"
        )
    rule = Rule(f"multiples of DATALOADER.NUM_INSTANCE {instances}", lambda value: value % instances == 0)
    rule.require("SOLVER.STAGE1.IMS_PER_BATCH", node.IMS_PER_BATCH)
