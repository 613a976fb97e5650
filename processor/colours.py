"""Evaluations next to a ranking by colour histograms, which need no training, of the same test images."""

import logging
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from datasets import colours_of
from retrieval import FeatureSet, RetrievalTask, TrialRows, evaluate_task
from utils.text import one_line

_MOST = 2000  # images that are compared: more take longer to read than they tell
_logger = logging.getLogger("transreid")


class ColourFloor:
    """Compares evaluations with a ranking by colour histograms on some of the test images.

    `Evaluator.see` gives it the evaluations; as a function it compares the last one, for which images are
    read, and gives what is poor about it, or ''. Images that cannot be compared end the comparison with a
    line in the log.

    Args:
        upright: images are turned as their EXIF orientation says.
        seed: determines which identities are compared, where there are many.
    """

    def __init__(self, *, upright: bool, seed: int) -> None:
        self.upright, self.seed = upright, seed
        self._colours: dict[str, Tensor] | None = {}
        self._seen: RetrievalTask | None = None

    def __call__(self) -> str:
        """How far the last evaluation is below the colour histograms, or ''."""
        part = self._seen
        if part is None or self._colours is None:
            return ""
        try:
            colours = evaluate_task(RetrievalTask(self._with_colours(part.images), part.trials)).mAP
            found = evaluate_task(part)
        except (ValueError, OSError) as error:
            self._colours = None
            _logger.info("evaluations are not compared with colour histograms: %s", one_line(error))
            return ""
        if found.mAP >= colours - 1 / found.num_valid:  # a query less or more
            return ""
        return (
            f"mAP is {found.mAP:.1%} on {len(part.images):,} test images, below the {colours:.1%} of a "
            "colour histogram, which learns nothing"
        )

    def see(self, task: RetrievalTask) -> None:
        """Keep a part of an evaluation's task, on the features of a model; called in one process."""
        self._seen = some_identities(task, self.seed)

    def _with_colours(self, images: FeatureSet) -> FeatureSet:
        """The items with colour histograms as features."""
        known = self._colours if self._colours is not None else {}
        for path in set(images.paths) - set(known):
            known[path] = torch.from_numpy(colours_of(path, upright=self.upright))
        features = torch.stack([known[path] for path in images.paths])
        pids, camids = images.pids.cpu(), images.camids.cpu()
        return FeatureSet(features, pids, camids, images.paths, images.keys, images.pictures)


def some_identities(task: RetrievalTask, seed: int, most: int = _MOST) -> RetrievalTask:
    """The task with the images of some identities, drawn with the seed, at most about so many images."""
    queried = torch.cat([task.images.pids[trial.query_rows] for trial in task.trials]).unique().cpu().numpy()
    counts = {int(pid): int(count) for pid, count in zip(*_counts(task.images.pids), strict=True)}
    chosen, total = [], 0
    for pid in np.random.default_rng(seed).permutation(queried).tolist():
        if chosen and total + counts[pid] > most:
            break
        chosen.append(pid)
        total += counts[pid]
    keep = torch.isin(task.images.pids, torch.tensor(chosen, device=task.images.pids.device))
    places = torch.cumsum(keep, dim=0) - 1
    trials = [_within(trial, keep, places) for trial in task.trials]
    used = tuple(trial for trial in trials if len(trial.query_rows) and len(trial.gallery_rows))
    return RetrievalTask(task.images.select(keep), used, task.info)


def _counts(pids: Tensor) -> tuple[list[int], list[int]]:
    distinct, counts = pids.cpu().unique(return_counts=True)
    return distinct.tolist(), counts.tolist()


def _within(trial: TrialRows, keep: Tensor, places: Tensor) -> TrialRows:
    """The trial of the kept rows, at their new places."""

    def part(rows: Tensor, camids: Tensor) -> tuple[Tensor, Tensor]:
        kept = keep[rows.to(keep.device)].to(rows.device)
        return places[rows[kept].to(places.device)].to(rows.device), camids[kept]

    query, gallery = part(*trial[:2]), part(*trial[2:4])
    return TrialRows(*query, *gallery, trial.rule, trial.name)


def both(*listeners: Callable[[RetrievalTask], None] | None) -> Callable[[RetrievalTask], None] | None:
    """One function that calls all that are not None; None where there is none."""
    heard = [each for each in listeners if each is not None]

    def see(task: RetrievalTask) -> None:
        for each in heard:
            each(task)

    return see if heard else None
