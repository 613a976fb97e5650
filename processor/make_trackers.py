"""From the configuration to the trackers of experiments, outside of a run's own files."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from yacs.config import CfgNode

from config.errors import as_keys
from processor.engine import Tracker
from processor.trackers import Experiment, Guarded, RankingPictures, find_trackers
from retrieval import RetrievalTask


class Outside(NamedTuple):
    """Trackers, which never end a run, and what is called with the task of each evaluation, if anything."""

    trackers: list[Tracker]
    see: Callable[[RetrievalTask], None] | None


def require_trackers(cfg: CfgNode) -> None:
    """Raise ValueError for a name in LOG.TRACKER or a LOG.URI, MissingExtra where a package is missing."""
    with as_keys({"names": "LOG.TRACKER", "uri": "LOG.URI"}):
        find_trackers(cfg.LOG.TRACKER, cfg.LOG.URI)


def make_trackers(cfg: CfgNode, method: str, output_dir: Path) -> Outside:
    """The trackers in LOG.TRACKER, and pictures for them with LOG.PICTURES_EVERY.

    The names are LOG's, or else the method and the folder's name. Raises as `require_trackers` does.
    """
    node = cfg.LOG
    run = node.RUN or output_dir.resolve().name
    experiment = Experiment(output_dir, node.EXPERIMENT or method, run, node.URI, node.CHECKPOINTS)
    boards = [Guarded(make(experiment)) for make in find_trackers(node.TRACKER, node.URI)]
    if not boards or not node.PICTURES_EVERY:
        return Outside([*boards], None)
    pictures = RankingPictures(output_dir / "pictures", node.PICTURES_EVERY, boards)
    return Outside([*boards, Guarded(pictures)], pictures.see)
