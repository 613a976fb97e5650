"""From the configuration to a running process: device, process group, signals, folder, log, saved state."""

import argparse
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from yacs.config import CfgNode

from config.check import warn_unused
from config.errors import as_keys
from config.load import as_lines, notes
from config.resume import is_longer, require_same_run
from processor.engine import FILE, Snapshot, read_snapshot
from utils.device import select_device
from utils.distributed import any_process, from_first, is_first, process_group, rank, world_size
from utils.environment import describe_environment
from utils.files import make_output_dir
from utils.launch import launch_name, launched_processes, local_rank, restarts
from utils.lock import locked
from utils.logger import WAITING, setup_logger
from utils.notes import Notes, noting
from utils.seed import seed_everything
from utils.signals import StopRequest
from utils.text import Lines, printable

_logger = logging.getLogger("transreid")
_PATIENCE = 10.0  # seconds


@dataclass(frozen=True)
class Session:
    """A process of a program that trains; `snapshot` is the saved state to resume from.

    `notes` are facts for the receipt, from the lines that have been logged.
    """

    device: torch.device
    output_dir: Path
    stop: StopRequest
    snapshot: Snapshot | None = None
    notes: Notes = field(default_factory=Notes)


@contextmanager
def training_session(cfg: CfgNode, args: argparse.Namespace) -> Iterator[Session]:
    """A session that trains: with OUTPUT_DIR, signals deferred, everything seeded.

    Raises ValueError or OSError where the launch, the folder or its `last.pt` does not fit.
    """
    device = start_process(cfg)
    # torchrun passes a signal on that its processes may have got already, as members of a group.
    patience = _PATIENCE if launched_processes() > 1 else 0.0
    with StopRequest(patience).listening() as stop, process_group(device), ExitStack() as held:
        output_dir = Path(cfg.OUTPUT_DIR)
        unlocked = held.enter_context(_own_output_dir(cfg, "train")) if is_first() else ""
        from_first(None)  # the others wait for the folder
        start_log(cfg, args, output_dir, "train_log.txt", unlocked)
        snapshot = _find_snapshot(cfg, output_dir, resume=args.resume)
        seed_everything(cfg.SOLVER.SEED, deterministic=cfg.SOLVER.DETERMINISTIC)
        with noting() as notes:
            yield Session(device, output_dir, stop, snapshot, notes)


@contextmanager
def test_session(cfg: CfgNode, args: argparse.Namespace) -> Iterator[tuple[torch.device, Path | None]]:
    """The device and the folder of a test; only the first process has a folder, where OUTPUT_DIR names one.

    Raises ValueError or OSError as training does.
    """
    device = start_process(cfg)
    with process_group(device), ExitStack() as held:
        writes = cfg.OUTPUT_DIR and is_first()
        unlocked = held.enter_context(_own_output_dir(cfg, "test")) if writes else ""
        output_dir = Path(cfg.OUTPUT_DIR) if writes else None
        start_log(cfg, args, output_dir, "test_log.txt", unlocked)
        yield device, output_dir


def start_process(cfg: CfgNode) -> torch.device:
    """The device of this process; of several that torchrun started, each takes a GPU of its own.

    Raises ValueError when MODEL.DIST_TRAIN or MODEL.DEVICE_ID do not go with how the program was started.
    """
    if cfg.MODEL.DIST_TRAIN and "WORLD_SIZE" not in os.environ:
        raise ValueError(
            "MODEL.DIST_TRAIN is True, but the program was not started by torchrun; allowed: False, or "
            "torchrun --nproc_per_node N and the program with its options"
        )
    if launched_processes() == 1:
        with as_keys({"kind": "MODEL.DEVICE", "index": "MODEL.DEVICE_ID"}):
            return select_device(cfg.MODEL.DEVICE, cfg.MODEL.DEVICE_ID)
    if cfg.MODEL.DEVICE_ID != "0":
        raise ValueError(
            f"MODEL.DEVICE_ID is {cfg.MODEL.DEVICE_ID!r}; allowed with several processes: '0', because each "
            "takes a GPU of its own (CUDA_VISIBLE_DEVICES chooses among them)"
        )
    gpus = torch.cuda.device_count()
    if cfg.MODEL.DEVICE == "cuda" and 0 < gpus <= local_rank():
        raise ValueError(
            f"process {local_rank()} of this machine has no GPU, there are {gpus}; allowed: torchrun "
            f"--nproc_per_node up to {gpus}"
        )
    return select_device(cfg.MODEL.DEVICE, str(local_rank()))


@contextmanager
def _own_output_dir(cfg: CfgNode, work: str) -> Iterator[str]:
    """Hold OUTPUT_DIR for one training and one test at a time, whose files differ.

    Gives '', or the reason for which it cannot be locked. Raises OSError when it cannot be written to or
    another process holds it.
    """
    with ExitStack() as held:
        with as_keys({"path": "OUTPUT_DIR"}):
            unlocked = held.enter_context(locked(make_output_dir(cfg.OUTPUT_DIR) / f".{work}.lock"))
        yield unlocked


def start_log(
    cfg: CfgNode, args: argparse.Namespace, output_dir: Path | None, file_name: str, unlocked: str = ""
) -> None:
    """Set the log up and begin it: the configuration, and where the program runs; warnings of unused keys.

    `unlocked` is the reason for which OUTPUT_DIR could not be locked, '' for none.
    """
    setup_logger(output_dir, file_name, rank=rank())
    if unlocked:
        _logger.warning(
            "OUTPUT_DIR %s cannot be locked (%s): a second run in it would not be noticed",
            cfg.OUTPUT_DIR,
            unlocked,
        )
    _logger.info("Saving model in the path :%s", cfg.OUTPUT_DIR)
    _logger.info("%s", args)
    if args.config_file:
        _logger.info("Loaded configuration file %s", args.config_file)
    if notes(cfg):
        _logger.info("%s", Lines("\n".join(notes(cfg))))
    _logger.info("Running with config:\n%s", as_lines(cfg), extra=WAITING)
    environment = (f"{name}: {printable(value)}" for name, value in describe_environment().items())
    _logger.info("Running on:\n%s", Lines("\n".join(environment)), extra=WAITING)
    if launched_processes() > 1:
        _logger.info("%d processes share the work", launched_processes())
    elif cfg.SOLVER.SHARD != "none":
        _logger.warning("SOLVER.SHARD %r has no effect in a run of one process", cfg.SOLVER.SHARD)
    warn_unused(cfg)


def _find_snapshot(cfg: CfgNode, output_dir: Path, *, resume: bool) -> Snapshot | None:
    """The `last.pt` to resume from: if asked to, or where torchrun has restarted this very run."""
    path = output_dir / FILE
    if is_first():
        for former in sorted(output_dir.glob("last.former*.pt")) if resume else ():
            _logger.info("%s is of another run; to go on with it, name it %s", former, FILE)
    restarted = any_process(restarts() > 0)[0]
    if not from_first(path.exists()) or not (resume or restarted):
        if resume:
            _logger.info("%s does not exist: the run starts at its beginning", path)
        return None
    try:
        snapshot = read_snapshot(path)
    except ValueError as error:
        if resume:
            raise
        _logger.warning("%s; it is not of this run, which starts at its beginning", error)
        return None
    if not resume and snapshot.state.launch != from_first(launch_name()):
        return None  # torchrun's first attempt ended before it had a file of its own
    state = snapshot.state
    require_same_run(cfg, state.config, str(path))
    snapshot.choose_stage(longer=is_longer(cfg, state.config, str(path), state.finished, state.stage))
    _logger.info(
        "resuming %s: %s; finished stages: %s",
        path,
        snapshot.progress or "no stage in work",
        ", ".join(snapshot.finished) or "none",
    )
    before = snapshot.state.facts.get("processes", world_size())  # older files do not say
    if before != world_size():
        _logger.info(
            "%s is of %s processes, now there are %d: the course stays the same up to rounding (on the CPU "
            "also up to batch norms, which see one process's part of a batch)",
            path,
            before,
            world_size(),
        )
    return snapshot
