"""The options of the readers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadOptions:
    """Options of the readers; each uses those that concern it.

    Args:
        need_train: read the training split; without it that split may be absent and `.train` is empty.
        need_test: read query and gallery; without it they may be absent and are empty in the only trial.
        need_labels: every training image must have an identity (csv, folder).
        need_views: images must have viewpoint labels (veri).
        csv: name of the CSV file (csv).
        test_size: identities of the test list (VehicleID).
        seed: seed of random trials (VehicleID).
    """

    need_train: bool = True
    need_test: bool = True
    need_labels: bool = True
    need_views: bool = False
    csv: str = "dataset.csv"
    test_size: int = 800
    seed: int = 0


DEFAULTS = ReadOptions()
