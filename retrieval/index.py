"""Gallery: features of pictures that are added, searched and removed, in a folder or on a Milvus server.

A search is exact by default and sees all that was written before it. A gallery has a space for each kind of
feature, joined by key: 'reid' for images, 'text' for images and sentences.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from retrieval.store.connection import Connection
from retrieval.store.entries import (
    Entry,
    Hit,
    Metadata,
    SpaceModel,
    as_metadata,
    as_row,
    check_keys,
    check_metadata,
    condition,
    literal,
    literals,
)
from retrieval.store.files import read_items, write_rows
from retrieval.store.space import FEATURE, FIELDS, INDEXES, MOST_HITS, Space, portions
from utils.text import printable, quoted
from utils.untrusted.forms import check_form

if TYPE_CHECKING:
    from typing_extensions import Self

SPACES = ("reid", "text")
_SLACK = 1e-6  # of similarities in float32 that are computed in another order
_logger = logging.getLogger("transreid.retrieval")

Features = Tensor | np.ndarray | Sequence[Sequence[float]] | Sequence[float]


class Gallery:
    """A gallery at an address; `Gallery.create` makes one, `Gallery.open` opens it.

    The address is a folder whose name ends in .db (Milvus Lite, in this process), or http://host:19530 of a
    Milvus server, with /database or without; the environment's MILVUS_TOKEN is then the token. Threads may
    share a gallery; a folder belongs to one process at a time. Every method raises OSError, in one line,
    where the store fails.
    """

    def __init__(self, connection: Connection, models: Mapping[str, SpaceModel]) -> None:
        """On an open connection; `models` are those of the features to come, by space."""
        self._connection = connection
        self._spaces = {name: Space(connection, name) for name in SPACES if Space.exists(connection, name)}
        if not self._spaces:
            raise FileNotFoundError(f"gallery {printable(self.address)} does not exist; create it first")
        self._accepted: set[str] = set()
        self.accept(models)

    @classmethod
    def create(cls, address: str | Path, models: Mapping[str, SpaceModel], *, index: str = "flat") -> Self:
        """A new, empty gallery with a space for each model; or new spaces of one that is there.

        `index` 'flat' is exact; 'hnsw' is approximate, and faster in large galleries. Raises ValueError for a
        space that is there already.
        """
        _require("index", index, INDEXES)
        if not models:
            raise ValueError(f"models is empty; allowed: a model for one or more of {', '.join(SPACES)}")
        for space in models:
            _require("space", space, SPACES)
        connection = Connection(str(address), create=True)
        try:
            for space in models:
                if Space.exists(connection, space):
                    raise ValueError(f"gallery {printable(address)} has a space {space} already")
            for space, model in models.items():
                Space.create(connection, space, model, index)
            return cls(connection, models)
        except BaseException:
            connection.close()
            raise

    @classmethod
    def open(cls, address: str | Path, models: Mapping[str, SpaceModel] | None = None) -> Self:
        """The gallery at an address.

        `add` and `search` need the space's model in `models`, so that no features of another model are mixed
        in. Raises FileNotFoundError where there is no gallery, ValueError where a space has another model,
        BlockingIOError where another process has the folder.
        """
        connection = Connection(str(address), create=False)
        try:
            return cls(connection, models or {})
        except BaseException:
            connection.close()
            raise

    def accept(self, models: Mapping[str, SpaceModel]) -> None:
        """Take features of these models, by space, from now on.

        Raises ValueError where a space is not there or has another model.
        """
        for space, model in models.items():
            there = self._space(space).model
            if model != there:
                raise ValueError(
                    f"gallery {printable(self.address)} holds features of {there} in space {space}, "
                    f"not of {model}; allowed: the same model, or another gallery"
                )
        self._accepted.update(models)

    @property
    def address(self) -> str:
        """Where it is."""
        return self._connection.address

    @property
    def spaces(self) -> tuple[str, ...]:
        """The spaces that it has."""
        return tuple(self._spaces)

    @property
    def models(self) -> dict[str, SpaceModel]:
        """The model of each space."""
        return {name: space.model for name, space in self._spaces.items()}

    @property
    def indexes(self) -> dict[str, str]:
        """How each space is searched: 'flat' is exact, 'hnsw' approximate."""
        return {name: space.index for name, space in self._spaces.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is in memory, and let other processes open the folder."""
        try:
            for space in self._spaces.values():
                space.flush()
        except OSError as error:  # it stays in the store's log, and is read from there
            _logger.warning("%s", error)
        finally:
            self._connection.close()

    def add(
        self,
        features: Features,
        keys: Sequence[str],
        metadata: Sequence[Metadata | Mapping[str, Any]] | None = None,
        space: str = "reid",
    ) -> None:
        """Store features (N, D), of any norm but 0, under N keys; a key that is there is replaced.

        They are kept once it returns, even if the process is killed then. Raises ValueError for features of
        another width or without a direction, for keys and metadata that cannot be stored, and in a gallery
        that was opened without this space's model.
        """
        rows = self._normalised(features, space)
        keys = check_keys(keys)
        if len(rows) != len(keys):
            raise ValueError(f"features has {len(rows)} rows and keys {len(keys)}; allowed: one for each key")
        items = zip(rows, keys, check_metadata(metadata, keys), strict=True)
        self._space(space).upsert([as_row(key, facts) | {FEATURE: row} for row, key, facts in items])

    def remove(self, keys: Sequence[str]) -> int:
        """Remove entries from all spaces; how many were there. `compact` then erases them from the disk."""
        keys = check_keys(keys)
        there: set[str] = set()
        for name, space in self._spaces.items():
            found = self.known(keys, name)
            there |= found
            space.delete(sorted(found))
        return len(there)

    def search(
        self,
        features: Features,
        k: int = 10,
        *,
        exclude_camera: str = "",
        cameras: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        threshold: float | None = None,
        space: str = "reid",
    ) -> list[list[Hit]]:
        """The k nearest entries of each of Q features (Q, D) or (D,), nearest first.

        `exclude_camera` leaves a camera out, `cameras` leaves all others out, '' among them being the unknown
        one; `since` and `until` leave out what was seen before, behind or at an unknown time. `threshold` is
        the largest distance, squared Euclidean at norm 1: an empty list says that it is nobody here. Raises
        ValueError as `add` does, for k outside 1..16,384 and a threshold below 0.
        """
        if not isinstance(k, int) or not 1 <= k <= MOST_HITS:
            raise ValueError(f"k is {k}; allowed: 1 to {MOST_HITS:,}")
        if threshold is not None and not threshold >= 0:  # NaN, too
            raise ValueError(f"threshold is {threshold}; allowed: 0 or more")
        rows = self._normalised(features, space)
        where = condition(exclude_camera=exclude_camera, cameras=cameras, since=since, until=until)
        found = self._space(space).search(rows, k, where)
        if threshold is None:
            return found
        return [[hit for hit in hits if hit.distance <= threshold] for hits in found]

    def known(self, keys: Sequence[str], space: str = "reid") -> set[str]:
        """Those of the keys that are there."""
        return {row["key"] for row in self._space(space).rows(check_keys(keys), ["key"])}

    def get(self, keys: Sequence[str], space: str | None = None) -> list[Entry]:
        """The entries of the keys, in their order; of any space by default.

        Raises KeyError for a key that is not there.
        """
        keys = check_keys(keys)
        found: dict[str, Entry] = {}
        for each in [space] if space else self.spaces:
            missing = [key for key in keys if key not in found]
            rows = self._space(each).rows(missing, FIELDS)
            found |= {row["key"]: Entry(row["key"], as_metadata(row)) for row in rows}
        _require_all(keys, found)
        return [found[key] for key in keys]

    def features(self, keys: Sequence[str], space: str = "reid") -> Tensor:
        """The features (N, D) of N keys, of norm 1. Raises KeyError for a key that is not there."""
        keys = check_keys(keys)
        found = {row["key"]: row[FEATURE] for row in self._space(space).rows(keys, ["key", FEATURE])}
        _require_all(keys, found)
        width = self._space(space).model.width
        return torch.tensor(np.array([found[key] for key in keys], dtype=np.float32).reshape(-1, width))

    def entries(
        self,
        space: str | None = None,
        *,
        identities: Sequence[str] | None = None,
        cameras: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Entry]:
        """All entries in any order, by default those of every space, each once.

        `identities` and `cameras` leave out all others, '' being the unknown one; `since` and `until` are
        those of `search`.
        """
        where = condition(identities=identities, cameras=cameras, since=since, until=until)
        seen: set[str] = set()
        for each in [space] if space else self.spaces:
            for row in self._space(each).scan(FIELDS, where):
                if row["key"] not in seen:
                    yield Entry(row["key"], as_metadata(row))
                if not space:
                    seen.add(row["key"])

    def count(self, space: str = "reid") -> int:
        """The number of entries of a space."""
        return self._space(space).count()

    def identities(self) -> dict[str, int]:
        """The names of identities, in alphabetical order, with the number of their entries; '' is unknown."""
        return self._names("identity")

    def cameras(self) -> dict[str, int]:
        """The same for cameras."""
        return self._names("camera")

    def _names(self, field: str) -> dict[str, int]:
        named = {key: name for space in self._spaces.values() for key, name in space.column(field)}
        return dict(sorted(Counter(named.values()).items()))

    def assign(self, keys: Sequence[str], identity: str) -> int:
        """Give entries the name of an identity, '' for none; how many.

        Raises KeyError, and changes nothing, where one is not there.
        """
        keys = check_keys(keys)
        self.get(keys)
        for space in self._spaces.values():
            for part in portions(keys):
                _rename(space, f"key in {literals(part)}", identity)
        return len(keys)

    def rename(self, old: str, new: str) -> int:
        """Give an identity another name; how many entries. With the name of another identity both are one."""
        if old == new:
            return 0
        counts = []
        for space in self._spaces.values():
            counts.append(0)
            while changed := _rename(space, f"identity == {literal(old)}", new):
                counts[-1] += changed
        return max(counts)

    def export_features(self, path: str | Path, space: str = "reid") -> int:
        """Write a feature file, as `FeatureSet.save` does, with metadata in it; how many entries.

        Identities and cameras get numbers, in alphabetical order of their names.
        """
        return write_rows(path, self._space(space).scan([*FIELDS, FEATURE]), self._space(space).model)

    def import_features(self, path: str | Path, space: str = "reid") -> int:
        """Add the items of a feature file under their keys; how many.

        Without metadata in the file, an item has the names of its identity and its camera, and its path.
        Raises ValueError for a file of another model; a warning says where a file does not name its model.
        """
        items, metadata = read_items(path, self._space(space).model)
        self.add(items.features, items.keys, metadata, space)
        return len(items)

    def set_index(self, index: str) -> None:
        """Search by another index: 'flat' or 'hnsw'."""
        _require("index", index, INDEXES)
        for space in self._spaces.values():
            space.set_index(index)

    def recall(self, features: Features, k: int = 10, space: str = "reid") -> float:
        """The share of the exact k nearest entries of features (Q, D) that a search finds, 0 to 1.

        Entries as similar as the k-th count as found. Compares with all features of the space, one after the
        other.
        """
        queries = torch.from_numpy(self._normalised(features, space))
        best = queries.new_empty(len(queries), 0)
        for part in self._space(space).scan_portions(["key", FEATURE]):
            rows = torch.tensor(np.array([row[FEATURE] for row in part], dtype=np.float32))
            best = torch.cat([best, queries @ rows.T], dim=1)
            best = best.topk(min(k, best.shape[1]), dim=1).values
        if not best.numel():
            raise ValueError("there are no features to compare; needed: queries, and entries in the gallery")
        found = [[hit.similarity for hit in hits] for hits in self.search(queries, k, space=space)]
        right = sum(
            similarity >= lowest - _SLACK
            for hits, lowest in zip(found, best[:, -1].tolist(), strict=True)
            for similarity in hits
        )
        return right / best.numel()

    def compact(self) -> None:
        """Write all entries afresh, so that nothing of removed or replaced ones is left in the folder.

        Takes the room of a second gallery meanwhile. A server erases its files some time later, which its
        settings say.
        """
        for space in self._spaces.values():
            space.compact()

    def _space(self, name: str) -> Space:
        _require(f"gallery {printable(self.address)}: space", name, self.spaces)
        return self._spaces[name]

    def _normalised(self, features: Features, space: str) -> np.ndarray:
        """The features as float32 (N, D) of norm 1."""
        model = self._space(space).model
        if space not in self._accepted:
            raise ValueError(
                f"gallery {printable(self.address)} was opened without the model of space {space}; needed: "
                f"{model}"
            )
        rows = torch.as_tensor(features).detach().float().cpu()
        rows = rows[None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != model.width:
            raise ValueError(f"features have shape {tuple(rows.shape)}; allowed: (N, {model.width})")
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        bad = (~torch.isfinite(norms) | (norms == 0)).flatten().nonzero().flatten()
        if len(bad):
            raise ValueError(f"feature row {bad[0]} has norm {norms[bad[0]].item()}; allowed: finite, not 0")
        return (rows / norms).numpy()


def _rename(space: Space, where: str, identity: str) -> int:
    """Name the identity of a portion of the entries that meet a condition; how many."""
    identity = check_form({"identity": identity}, Metadata, "a new name").identity
    fields = [*FIELDS, FEATURE]
    with space.writing:  # an entry that is removed meanwhile does not come back
        rows = space.rows_where(where, fields)
        space.upsert([{name: row[name] for name in fields} | {"identity": identity} for row in rows])
    return len(rows)


def _require(what: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} {quoted(value)}; allowed: {', '.join(allowed)}")


def _require_all(keys: Sequence[str], found: Mapping[str, Any]) -> None:
    missing = [key for key in keys if key not in found]
    if missing:
        raise KeyError(f"no entry with the key {quoted(missing[0])}")
