"""The noun of the prompts where only the configuration is at hand; data sets carry their own."""

from yacs.config import CfgNode

_VEHICLE_SETS = ("veri", "VehicleID")


def prompt_subject(cfg: CfgNode) -> str:
    """DATASETS.SUBJECT, or the data set's own noun where it is empty: 'vehicle' or 'person'."""
    return cfg.DATASETS.SUBJECT or ("vehicle" if cfg.DATASETS.NAMES in _VEHICLE_SETS else "person")
