"""From stages to a finished run: what is done is skipped, what was saved is restored, the rest is trained."""

import logging
from collections.abc import Callable, Iterator

from processor.engine.journal import log_lines
from processor.engine.loop import Run, fit
from processor.engine.resume import Snapshot
from processor.engine.stage import Stage
from processor.engine.trackers import timed

_logger = logging.getLogger("transreid")


def drive(
    stages: Callable[[], Iterator[Stage]],
    run: Run,
    snapshot: Snapshot | None = None,
    *,
    evaluate_first: bool = False,
) -> None:
    """Train the stages, which `stages` gives in turn, from `snapshot` on where there is one.

    Stages that the run has finished are skipped. `evaluate_first` evaluates a new run before its first stage,
    logged as epoch 0. Trackers hear how the run ends. Raises what `fit` raises.
    """
    status = "failed"
    try:
        _drive(stages(), run, snapshot, evaluate_first)
        status = "finished"
    except (SystemExit, KeyboardInterrupt):
        status = "stopped"
        raise
    finally:
        for tracker in run.saver.trackers:
            tracker.finish(status)


def _drive(stages: Iterator[Stage], run: Run, snapshot: Snapshot | None, evaluate_first: bool) -> None:
    if evaluate_first and snapshot is None:
        run.saver.put_former_aside()
        report = run.evaluate()
        log_lines("Validation Results - Epoch: 0", report.lines)
        noted = timed({"stage": "untrained", "epoch": 0, **report.values})
        for tracker in run.saver.trackers:
            tracker.log(noted)
    idle = True
    for stage in stages:
        if stage.name in run.saver.finished:
            continue
        if idle:
            run.saver.put_former_aside()
        idle = False
        _logger.info("%s: %d epochs", stage.name, stage.plan.epochs)
        if snapshot is not None:
            snapshot.restore_run(run.precision)
        fit(stage, run, snapshot if snapshot is not None and snapshot.progress is not None else None)
        snapshot = None
    before = " (all of it before; there is nothing left to train)" if idle else ""
    _logger.info("finished: %s%s", ", ".join(run.saver.finished), before)
