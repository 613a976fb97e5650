"""PCL-CLIP: a contrastive loss against prototypes, of identities or of clusters of images.

The other methods read its keys too, because their losses can be joined by that one.
"""

from yacs.config import CfgNode

from config.keys import FRACTION, ONE_OR_MORE, POSITIVE, ZERO_OR_MORE, Key, Rule, under, words

_PROTOTYPES = ("PCL_LOSS_WEIGHT", POSITIVE)
_CLUSTERS = ("METHOD", words("dbscan"))

KEYS = {
    "MODEL.PCL_LOSS_WEIGHT": Key(
        0.0, "Weight of the prototype contrastive loss. 0: no prototypes.", ZERO_OR_MORE
    ),
    "MODEL.MEMORY_MOMENTUM": Key(
        0.2,
        "Share of the old prototype that an update keeps; 0.2 takes 80 % of the new sample.",
        FRACTION,
        needs=_PROTOTYPES,
    ),
    "MODEL.MEMORY_TEMPERATURE": Key(
        0.05,
        "Divisor of the cosine similarities before the softmax.",
        POSITIVE,
        needs=_PROTOTYPES,
    ),
    "MODEL.MEMORY_UPDATE": Key(
        "hard",
        "A prototype moves towards its identity's least similar image in the batch, 'hard', or towards one "
        "image after the other, 'all'.",
        words("hard", "all"),
        needs=_PROTOTYPES,
    ),
    **under(
        "CLUSTER",
        {
            "METHOD": Key(
                "none",
                "'dbscan' trains without identities: before each epoch images are clustered, and clusters "
                "take the place of identities. Only in train_pcl.py.",
                words("none", "dbscan"),
                fixed=True,
            ),
            "EPS": Key(
                0.7,
                "DBSCAN: Jaccard distance up to which images are neighbours.",
                Rule("above 0 and below 1", lambda value: 0 < value < 1),
                needs=_CLUSTERS,
            ),
            "MIN_SAMPLES": Key(
                4,
                "DBSCAN: neighbours of an image within a cluster, with itself.",
                ONE_OR_MORE,
                needs=_CLUSTERS,
            ),
            "K1": Key(
                30,
                "Jaccard distance: nearest neighbours among which reciprocal ones are looked for.",
                ONE_OR_MORE,
                needs=_CLUSTERS,
            ),
            "K2": Key(
                6,
                "Jaccard distance: nearest neighbours over which the sets are averaged. 1: no averaging.",
                ONE_OR_MORE,
                needs=_CLUSTERS,
            ),
        },
    ),
}

# The published settings of PCL-CLIP, where they differ from the baseline's.
DEFAULTS = {
    "MODEL.PCL_LOSS_WEIGHT": 1.0,
    "MODEL.TRIPLET_LOSS_WEIGHT": 0.0,
    "MODEL.CLASSIFIER": "joint",
    "MODEL.FREEZE_PATCHES": True,
    "INPUT.RE_MODE": "constant",
    "INPUT.TEST_RESIZE": "bicubic",
    "DATALOADER.SAMPLER": "softmax_triplet",
    "SOLVER.ITERS": 200,
    "SOLVER.SCHEDULE_START": 0,
    "SOLVER.WEIGHT_DECAY_BIAS": -1.0,
}


def check(cfg: CfgNode) -> None:
    """The settings that clusters need.

    Clusters change from epoch to epoch, so that no classifier and no centre can follow them. Only the
    identity sampler leaves outliers out, and no image can stand in for another before there are features.
    """
    if cfg.CLUSTER.METHOD == "none":
        return
    where = f"with CLUSTER.METHOD {cfg.CLUSTER.METHOD!r}"
    for name, value, wanted in (
        ("MODEL.ID_LOSS_WEIGHT", cfg.MODEL.ID_LOSS_WEIGHT, 0.0),
        ("MODEL.METRIC_LOSS_TYPE", cfg.MODEL.METRIC_LOSS_TYPE, "triplet"),
        ("DATALOADER.SAMPLER", cfg.DATALOADER.SAMPLER, "softmax_triplet"),
        ("DATALOADER.ON_ERROR", cfg.DATALOADER.ON_ERROR, "raise"),
    ):
        if value != wanted:
            raise ValueError(f"{name} is {value!r}; allowed: {wanted!r} {where}")
    Rule(f"above 0 {where}", POSITIVE.holds).require("MODEL.PCL_LOSS_WEIGHT", cfg.MODEL.PCL_LOSS_WEIGHT)


def require_identities(cfg: CfgNode) -> None:
    """Refuses clusters, for the training programs of other methods."""
    if cfg.CLUSTER.METHOD != "none":
        raise ValueError(
            f"CLUSTER.METHOD is {cfg.CLUSTER.METHOD!r}; allowed: 'none', or another program: train_pcl.py "
            "trains without identities"
        )
