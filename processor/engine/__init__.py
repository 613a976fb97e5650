"""The training loop; it knows no method and no configuration."""

from processor.engine.best import BestModel
from processor.engine.loop import Run, fit, prepare, train_step
from processor.engine.objective import Objective, Step, TrainingBatch
from processor.engine.resume import FILE, Progress, Saver, Snapshot, read_snapshot
from processor.engine.signs import Sign
from processor.engine.stage import EpochSampler, Loader, Plan, Stage
from processor.engine.trackers import JsonLines, Record, Report, Tracker
from processor.engine.watch import Watch

__all__ = [
    "FILE",
    "BestModel",
    "EpochSampler",
    "JsonLines",
    "Loader",
    "Objective",
    "Plan",
    "Progress",
    "Record",
    "Report",
    "Run",
    "Saver",
    "Sign",
    "Snapshot",
    "Stage",
    "Step",
    "Tracker",
    "TrainingBatch",
    "Watch",
    "fit",
    "prepare",
    "read_snapshot",
    "train_step",
]
