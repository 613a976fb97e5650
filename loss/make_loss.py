"""From the configuration to the losses of the image tower."""

from yacs.config import CfgNode

from config.nodes import main_solver
from loss.center import CenterLoss
from loss.prototype import PrototypeMemory
from loss.terms import ReIDLoss

_SMOOTHING = 0.1


def make_loss(cfg: CfgNode, num_classes: int, feature_width: int | None = None) -> ReIDLoss:
    """The loss of the main stage: fn(output, pids, text_features=None, teacher_features=None) -> named terms.

    `feature_width` sizes the centres of METRIC_LOSS_TYPE 'triplet_center'; it is not needed otherwise. With
    PCL_LOSS_WEIGHT the loss has a `memory`, which must be rebuilt before it is used. Raises ValueError when
    all weights are 0.
    """
    node = cfg.MODEL
    solver = main_solver(cfg)
    center = None
    if node.METRIC_LOSS_TYPE == "triplet_center":
        if feature_width is None:
            raise ValueError("MODEL.METRIC_LOSS_TYPE 'triplet_center' needs the width of the tower's feature")
        center = CenterLoss(num_classes, feature_width)
    elif node.METRIC_LOSS_TYPE != "triplet":
        raise ValueError(
            f"MODEL.METRIC_LOSS_TYPE is {node.METRIC_LOSS_TYPE!r}; allowed: 'triplet', 'triplet_center'"
        )
    weights = ["ID_LOSS_WEIGHT", "TRIPLET_LOSS_WEIGHT", "PCL_LOSS_WEIGHT"]
    weights += ["I2T_LOSS_WEIGHT"] if cfg.MODEL.TEXT == "prompts" else []
    if center is None and not any(node[name] for name in weights):
        raise ValueError(f"MODEL.{', '.join(weights)} are all 0; allowed: one or more above 0")
    memory = None
    if node.PCL_LOSS_WEIGHT:
        memory = PrototypeMemory(
            momentum=node.MEMORY_MOMENTUM, temperature=node.MEMORY_TEMPERATURE, update=node.MEMORY_UPDATE
        )
    return ReIDLoss(
        id_weight=node.ID_LOSS_WEIGHT,
        triplet_weight=node.TRIPLET_LOSS_WEIGHT,
        i2t_weight=node.I2T_LOSS_WEIGHT,
        smoothing=_SMOOTHING if node.IF_LABELSMOOTH == "on" else 0.0,
        margin=None if node.NO_MARGIN else cfg.SOLVER.MARGIN,
        center=center,
        center_weight=solver.CENTER_LOSS_WEIGHT,
        center_rate=solver.CENTER_LR,
        memory=memory,
        pcl_weight=node.PCL_LOSS_WEIGHT,
        teacher_weight=node.TEACHER.LOSS_WEIGHT,
        teacher_feature=node.TEACHER.FEATURE,
    )
