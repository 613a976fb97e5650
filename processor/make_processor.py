"""From the configuration to a training run or a test: what the programs do."""

import argparse
import functools
import logging

from torch import nn
from yacs.config import CfgNode

from config.check import check_training
from config.load import leaves
from model import model_label
from processor.colours import both
from processor.engine import BestModel, JsonLines, Run, Saver, Snapshot, Tracker, Watch
from processor.engine.drive import drive
from processor.evaluation import require_matches
from processor.make_evaluation import Evaluator
from processor.make_parts import Parts, TrainingData, verify
from processor.make_receipt import TrainingReceipt, fingerprint, make_training_section
from processor.make_session import Session, training_session
from processor.make_trackers import make_trackers, require_trackers
from processor.make_watch import usual_reasons
from processor.methods import Method
from processor.outlook import log_outlook
from utils.distributed import is_first, world_size
from utils.environment import describe_environment
from utils.files import write_atomically
from utils.launch import launch_name
from utils.logger import show_waiting
from utils.precision import training_precision

_DIGEST, _DIGITS = "as digest of its names and labels", 16
_logger = logging.getLogger("transreid")


def train(cfg: CfgNode, args: argparse.Namespace, *, method: Method) -> None:
    """Train by a method.

    OUTPUT_DIR gets checkpoints, `last.pt`, `train_log.txt`, `config.yml`, `metrics.jsonl` and
    `receipt.json`.
    With `args.resume`, and where torchrun restarts a failed run, it continues from `last.pt` if there is one.
    Everything that can be wrong with configuration, data, weights and output folder is found before training.
    """
    method = method.variant(cfg) or method
    check_training(cfg)
    require_trackers(cfg)
    with training_session(cfg, args) as session:
        parts, finished = make_training_parts(cfg, method, session)
        run = make_run(cfg, method, parts, finished, session)
        first = cfg.TEST.EVAL_BEFORE_TRAINING
        log_outlook(method.rehearsals(cfg, parts), run, sharded=cfg.SOLVER.SHARD == "zero1")
        stages = functools.partial(method.stages, cfg, parts, run)
        drive(stages, run, session.snapshot, evaluate_first=first)


def make_training_parts(cfg: CfgNode, method: Method, session: Session) -> tuple[Parts, tuple[str, ...]]:
    """The parts of a run, and the names of its finished stages; `config.yml` is written on the way."""
    dataset = method.data(cfg)
    require_matches(dataset.trials)
    model, finished = _starting_model(cfg, method, dataset, session.snapshot)
    if is_first():
        text = cfg.dump()
        write_atomically(session.output_dir / "config.yml", lambda path: path.write_text(text, "utf-8"))
    show_waiting()
    loaders = method.loaders(cfg, dataset, model)  # may read all training images, so what can be refused was
    verify(cfg, dataset)
    return Parts(dataset, model, loaders, method.evaluation(cfg, dataset, loaders, model)), finished


def _starting_model(
    cfg: CfgNode, method: Method, dataset: TrainingData, snapshot: Snapshot | None
) -> tuple[nn.Module, tuple[str, ...]]:
    """The model with the weights of `last.pt`, or those that a new run of the method starts from."""
    build = functools.partial(method.model, cfg, dataset)
    if snapshot is None:
        return method.start(cfg, dataset, build)
    for name, now in _facts(dataset).items():
        # Files of earlier versions do not have the digest.
        before = snapshot.state.facts.get(name, now if name == _DIGEST else None)
        if before != now:
            raise ValueError(
                f"the training split has {now} {name}, but the run in {snapshot.path} has {before}; allowed "
                "with --resume: the same data"
            )
    model = build(pretrained=False)
    snapshot.restore_model(model)
    return model, snapshot.finished


def make_run(cfg: CfgNode, method: Method, parts: Parts, finished: tuple[str, ...], session: Session) -> Run:
    """The parts that all stages share: precision, saver, trackers, evaluation, the card of checkpoints."""
    precision = training_precision(cfg.SOLVER.AMP, session.device)
    _logger.info("Training in %s (SOLVER.AMP %r)", precision.name, cfg.SOLVER.AMP)
    environment = describe_environment()
    about = {
        "config": leaves(cfg),
        "versions": environment,
        "launch": launch_name(),
        "processes": world_size(),
    }
    label, card = model_label(cfg.MODEL.NAME), method.card(cfg, parts, method.name)
    describe = None
    if card is not None:
        about["card"], describe = card.text, card.write
    trackers: list[Tracker] = [JsonLines(session.output_dir)]
    if cfg.SOLVER.KEEP_BEST:
        path = session.output_dir / f"{label}_best.pth"
        names = ", ".join(parts.dataset.trial_names)
        value = f"mean rank1 of {names}" if names else ""
        trackers.append(BestModel(parts.model, path, parts.dataset.split, label=value, describe=describe))
    outside = make_trackers(cfg, method.name, session.output_dir)
    floor = method.floor(cfg, parts)
    see = both(outside.see, None if floor is None else floor.see)
    evaluate = Evaluator(cfg, parts.model, parts.evaluation, session.device, see)
    section = make_training_section(cfg, method.name, parts.dataset, session)
    trackers.append(TrainingReceipt(session, section, lambda: evaluate.metrics))
    trackers += outside.trackers
    saver = Saver(
        session.output_dir,
        parts.model,
        precision,
        about | _facts(parts.dataset),
        trackers=trackers,
        every=60 * cfg.SOLVER.SAVE_EVERY_MIN,
        finished=finished,
        resumed=session.snapshot is not None,
    )
    for tracker in trackers:
        tracker.start(leaves(cfg), environment)
    if session.snapshot is not None:
        session.snapshot.rewind(trackers)
    return Run(
        parts.model,
        label,
        session.device,
        session.output_dir,
        evaluate,
        precision,
        saver,
        describe=describe,
        keep=cfg.SOLVER.KEEP,
        sync_batch_norm=cfg.SOLVER.SYNC_BN,
        stop=session.stop,
        watch=Watch(floor, usual_reasons(cfg)),
    )


def _facts(dataset: TrainingData) -> dict[str, int | str]:
    """Facts that must be equal for a run to continue on a data set."""
    digest = fingerprint(dataset.train)[:_DIGITS]
    return {"images": len(dataset.train), "identities": dataset.num_train_pids, _DIGEST: digest}
