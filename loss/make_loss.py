"""From the configuration to the losses of the image tower."""

from yacs.config import CfgNode

from loss.center import CenterLoss
from loss.reid_loss import ReIDLoss

_SMOOTHING = 0.1


def make_loss(cfg: CfgNode, num_classes: int, feature_width: int | None = None) -> ReIDLoss:
    """The loss of stage 2 or of the one-stage baseline: fn(output, pids, text_features=None) -> named terms.

    `feature_width` sizes the centres of METRIC_LOSS_TYPE 'triplet_center'; it is not needed otherwise.
    """
    node = cfg.MODEL
    solver = cfg.SOLVER.STAGE2 if "STAGE2" in cfg.SOLVER else cfg.SOLVER
    center = None
    if node.METRIC_LOSS_TYPE == "triplet_center":
        if feature_width is None:
            raise ValueError("MODEL.METRIC_LOSS_TYPE 'triplet_center' needs the width of the tower's feature")
        center = CenterLoss(num_classes, feature_width)
    elif node.METRIC_LOSS_TYPE != "triplet":
        raise ValueError(
            f"MODEL.METRIC_LOSS_TYPE is {node.METRIC_LOSS_TYPE!r}; allowed: 'triplet', 'triplet_center'"
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
    )
