"""Graph sampler: batches of an identity and those nearest to it (Liao, Shao, CVPR 2022, section 3.2)."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor
from torch.utils.data import Sampler

from datasets.graph import nearest_classes
from datasets.sampling.identity import RandomIdentitySampler
from datasets.sampling.repeated import RepeatedSampler

ANCHORS = ("images", "all")
_STREAM = 2  # keeps the order of rows apart from other draws of a seed and an epoch


class GraphSampler(Sampler[int]):
    """Image indices, row after row: P = batch_size // K different classes with K indices each.

    K is `num_instances`. A row has the P - 1 classes nearest to its anchor, nearest first, and the anchor
    last; rows come in random order. Each class hands out its images in turn, in a new random order whenever
    all were used: a class of fewer than K repeats. Before there is a graph, the batches are those of a
    `RandomIdentitySampler`.

    Call `set_features`, where there are new ones, and then `set_epoch` before each epoch. What an epoch draws
    depends only on the seed, the epoch, the neighbours and `counts`, so that these two are its whole state.

    Args:
        pids: of the images, 0 to C - 1; images with a number below 0 are left out.
        seed: with the epoch it determines the order of rows, with the class that of its images.
        anchors: an epoch has a row for every class, 'all', or as many as the images fill, 'images': for a
            random part of the classes, another one in each epoch.
        rows: of an epoch, in place of what `anchors` says. Above C, classes are anchors again.

    Attributes:
        counts: (C,) how many images each class has handed out before this epoch.
        neighbours: (C, P - 1), nearest first; None before there is a graph.

    Raises ValueError for other anchors, a class without an image, a batch size that is no multiple of K, and
    fewer than two or more than C classes in a batch.
    """

    def __init__(
        self,
        pids: Sequence[int],
        batch_size: int,
        num_instances: int,
        seed: int,
        anchors: str = "images",
        rows: int | None = None,
    ) -> None:
        if anchors not in ANCHORS:
            raise ValueError(f"anchors is {anchors!r}; allowed: {', '.join(map(repr, ANCHORS))}")
        labels = np.asarray(pids, np.int64)
        self._sizes = np.bincount(labels[labels >= 0])
        classes = len(self._sizes)
        if not self._sizes.all():
            missing = int(np.flatnonzero(self._sizes == 0)[0])
            raise ValueError(f"pids has no image of class {missing}; allowed: one or more of each class")
        _require_classes(batch_size, num_instances, classes)
        self.num_instances, self.num_pids = num_instances, batch_size // num_instances
        # Images by class, and where each class begins.
        self._images = np.argsort(labels, kind="stable")[(labels < 0).sum() :]
        self._first = np.cumsum(self._sizes) - self._sizes
        by_images = min(-(-len(self._images) // batch_size), classes)
        self._num_rows = rows or (classes if anchors == "all" else by_images)
        self._identities: Sampler[int] = RandomIdentitySampler(pids, batch_size, num_instances, seed)
        if rows:
            self._identities = RepeatedSampler(self._identities, rows * batch_size)
        self.seed, self.epoch = seed, 0
        self.counts, self.neighbours = np.zeros(classes, np.int64), None
        self._rows: np.ndarray | None = None

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self._sizes)

    @property
    def has_graph(self) -> bool:
        """Whether the rows of this epoch are drawn from a graph."""
        return self._rows is not None

    def set_features(self, features: Tensor, distance: str = "cosine") -> None:
        """Draw from the graph of these features (C, D) from the next `set_epoch` on.

        Raises ValueError for another C, and what `nearest_classes` raises.
        """
        if len(features) != self.num_classes:
            raise ValueError(f"features has {len(features)} rows; allowed: {self.num_classes}, one a class")
        self.neighbours = nearest_classes(features, self.num_pids - 1, distance).cpu().numpy()

    def set_state(self, neighbours: np.ndarray | None, counts: np.ndarray) -> None:
        """Go on as a sampler that had these before the epoch that is set next."""
        self.neighbours, self.counts, self._rows = neighbours, counts, None

    def set_epoch(self, epoch: int) -> None:
        """Choose the rows of the next pass. In another epoch, classes go on where the last one ends."""
        if epoch != self.epoch and self._rows is not None:
            used = np.bincount(self._rows.ravel(), minlength=self.num_classes)
            self.counts = self.counts + used * self.num_instances
        self.epoch = epoch
        self._rows = None if self.neighbours is None else self._draw_rows(self.neighbours)
        self._identities.set_epoch(epoch)

    def __len__(self) -> int:
        """Images of the epoch; before there is a graph, the reported length of the other sampler."""
        return len(self._identities) if self._rows is None else self._rows.size * self.num_instances

    def __iter__(self) -> Iterator[int]:
        if self._rows is None:
            return iter(self._identities)
        return iter(self._draw_images(self._rows.ravel()).tolist())

    def _draw_rows(self, neighbours: np.ndarray) -> np.ndarray:
        """Classes (rows, P) of this epoch."""
        rng = np.random.default_rng((self.seed, self.epoch, _STREAM))
        passes = -(-self._num_rows // self.num_classes)
        anchors = np.concatenate([rng.permutation(self.num_classes) for _ in range(passes)])
        anchors = anchors[: self._num_rows]
        return np.concatenate([neighbours[anchors], anchors[:, None]], axis=1)

    def _draw_images(self, classes: np.ndarray) -> np.ndarray:
        """Images, K for each of `classes` (n,) in their order.

        The n-th image of a class is in its shuffle n // size at the place n % size.
        """
        times = np.bincount(classes, minlength=self.num_classes)
        numbers = self.counts[classes] + _occurrences(classes, times) * self.num_instances
        numbers = numbers[:, None] + np.arange(self.num_instances)  # (n, K)
        sizes = self._sizes[classes][:, None]
        # All shuffles that the epoch touches, class by class.
        before = self.counts // self._sizes
        last = (self.counts + times * self.num_instances - 1) // self._sizes
        touched = np.where(times > 0, last - before + 1, 0)
        first_shuffle = np.cumsum(touched) - touched
        of_class = np.repeat(np.arange(self.num_classes), touched)
        shuffle = before[of_class] + np.arange(len(of_class)) - first_shuffle[of_class]
        places, starts = _shuffled_places(self.seed, of_class, shuffle, self._sizes[of_class])
        shuffles = first_shuffle[classes][:, None] + numbers // sizes - before[classes][:, None]
        chosen = places[starts[shuffles] + numbers % sizes]
        return self._images[self._first[classes][:, None] + chosen].ravel()


def _require_classes(batch_size: int, num_instances: int, classes: int) -> None:
    fits = num_instances > 0 and batch_size % num_instances == 0
    if not fits or not 2 <= batch_size // num_instances <= classes:
        raise ValueError(
            f"batch_size is {batch_size}; allowed with `num_instances` {num_instances} and {classes} "
            f"identities: multiples of {num_instances} from {2 * num_instances}, which hold an identity and "
            f"its nearest, to {classes * num_instances}"
        )


def _occurrences(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """For each value (n,) how often it came before; `times` counts each value."""
    order = np.argsort(values, kind="stable")
    found = np.empty_like(order)
    found[order] = np.arange(len(values)) - np.repeat(np.cumsum(times) - times, times)
    return found


def _shuffled_places(
    seed: int, classes: np.ndarray, shuffles: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shuffled 0..size-1 of each (class, number of its shuffle), one after the other, and their starts.

    A shuffle sorts by random numbers that follow from seed, class, shuffle and place: no generator would have
    to be asked, or kept, for each.
    """
    starts = np.cumsum(sizes) - sizes
    owner = np.repeat(np.arange(len(sizes)), sizes)
    places = np.arange(len(owner)) - starts[owner]
    keys = _mixed(_mixed(_mixed(np.full(1, seed)) ^ classes.astype(np.uint64)) ^ shuffles.astype(np.uint64))
    random = _mixed(keys[owner] ^ places.astype(np.uint64))
    return places[np.lexsort((random, owner))], starts


def _mixed(values: np.ndarray) -> np.ndarray:
    """Numbers of 64 bits that look random, one for each whole number (splitmix64, Steele et al. 2014)."""
    x = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
