"""FeatureSet: features of items with the identity, camera, file and key of each.

Extraction returns it and everything in this room takes it; on disk it is one .npz.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrieval.labels import LabelNames
from utils.files import write_arrays
from utils.labels import NO_CAMERA
from utils.picture_names import name_pictures
from utils.text import printable
from utils.untrusted.feature_files import MAX_NAMES, read_feature_file
from utils.untrusted.forms import parse_json

_logger = logging.getLogger("transreid.retrieval")
_TEXTS = ("paths", "keys", "pictures")
# What .npz can hold and a matrix product can use; bfloat16 has no numpy counterpart.
_FEATURE_DTYPES = (torch.float16, torch.float32, torch.float64)


@dataclass(frozen=True, eq=False, init=False)
class FeatureSet:
    """Features (N, D) of N items with pids (N,), camids (N,), N paths, keys and pictures; row i is item i.

    A pid of -1 means that the identity is unknown, a camid of -1 that the camera is. `keys` name the items:
    one file may hold several, such as the captions of an image or crops of a picture. `pictures` name what
    the files show, '' where no name has been computed: see `with_pictures`. `names` are identities, cameras
    and texts as people know them.
    """

    features: Tensor
    pids: Tensor
    camids: Tensor
    paths: tuple[str, ...]
    keys: tuple[str, ...]
    pictures: tuple[str, ...]
    names: LabelNames

    def __init__(
        self,
        features: Tensor | np.ndarray | Sequence[Sequence[float]],
        pids: Tensor | np.ndarray | Sequence[int],
        camids: Tensor | np.ndarray | Sequence[int],
        paths: Sequence[str] | np.ndarray,
        keys: Sequence[str] | np.ndarray | None = None,
        pictures: Sequence[str] | np.ndarray | None = None,
        names: LabelNames | None = None,
    ) -> None:
        """A set whose keys default to the paths, and whose pictures have no names by default; N may be 0.

        Labels become int64 on the features' device, texts tuples of str. Raises ValueError when the features
        are not a float16/32/64 matrix, when labels are not integers, or when the lengths differ.
        """
        features = torch.as_tensor(features)
        if features.ndim != 2 or features.dtype not in _FEATURE_DTYPES:
            raise ValueError(
                f"features must be a (N, D) matrix of float16, float32 or float64, "
                f"got shape {tuple(features.shape)} of {features.dtype}"
            )
        paths = _texts("paths", paths)
        fields = {
            "features": features,
            "pids": _labels("pids", pids, features.device),
            "camids": _labels("camids", camids, features.device),
            "paths": paths,
            "keys": paths if keys is None else _texts("keys", keys),
            "pictures": ("",) * len(features) if pictures is None else _texts("pictures", pictures),
        }
        if len({len(values) for values in fields.values()}) > 1:
            listed = ", ".join(f"{name} {len(values)}" for name, values in fields.items())
            raise ValueError(f"a FeatureSet needs fields of one length, got {listed}")
        for name, values in (fields | {"names": names or LabelNames()}).items():
            object.__setattr__(self, name, values)  # the dataclass is frozen for its users

    def __len__(self) -> int:
        return len(self.features)

    def select(self, indices: Tensor | Sequence[int] | np.ndarray) -> FeatureSet:
        """The items at `indices`, in that order, repeats allowed, or those where a boolean mask (N,) holds.

        Indices that count up by one give a view of the features, others a copy. Raises ValueError for an
        index outside 0..N-1 and for a mask of another length.
        """
        index = torch.as_tensor(indices, device=self.features.device)
        if index.dtype == torch.bool:
            if index.shape != (len(self),):
                raise ValueError(f"a mask needs shape ({len(self)},), got {tuple(index.shape)}")
            index = index.nonzero().flatten()
        index = _labels("indices", index, self.features.device)
        outside = index[(index < 0) | (index >= len(self))]
        if len(outside):
            raise ValueError(f"index {outside[0].item()} is outside 0..{len(self) - 1}")
        rows = index.tolist()
        # Galleries of large data sets take half a gigabyte, and are one slice of an extraction.
        if rows and rows == list(range(rows[0], rows[0] + len(rows))):
            index = slice(rows[0], rows[0] + len(rows))
        texts = {name: [getattr(self, name)[row] for row in rows] for name in _TEXTS}
        return FeatureSet(
            self.features[index], self.pids[index], self.camids[index], **texts, names=self.names
        )

    @staticmethod
    def concat(parts: Sequence[FeatureSet]) -> FeatureSet:
        """The items of all parts, in their order. Raises ValueError for features of different widths."""
        widths = [part.features.shape[1] for part in parts]
        if len(set(widths)) > 1:
            raise ValueError(f"features are {' and '.join(map(str, widths))} wide: the widths must be equal")
        features, pids, camids = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("features", "pids", "camids")
        )
        texts = {name: sum((getattr(part, name) for part in parts), ()) for name in _TEXTS}
        return FeatureSet(features, pids, camids, **texts, names=reduce(or_, (part.names for part in parts)))

    def with_cameras(self, camids: Tensor | Sequence[int] | np.ndarray) -> FeatureSet:
        """The same items with other camids (N,)."""
        return replace(self, camids=camids)

    def with_pictures(self, wanted: Tensor | None = None) -> FeatureSet:
        """The same items, with names of pictures where the mask `wanted` (N,) holds; names it has stay.

        Reads the files of the paths (see `name_pictures`). None wants those of unknown camera.
        """
        wanted = self.camids == NO_CAMERA if wanted is None else wanted
        rows = [row for row in wanted.nonzero().flatten().tolist() if not self.pictures[row]]
        if not rows:
            return self
        pictures = list(self.pictures)
        for row, name in zip(rows, name_pictures([self.paths[row] for row in rows]), strict=True):
            pictures[row] = name
        return replace(self, pictures=pictures)

    def normalized(self) -> FeatureSet:
        """The same items with rows of L2 norm 1. Raises ValueError naming a row of norm 0, NaN or inf."""
        # Norms of float16 rows are taken in float32: a sum of squares soon exceeds the range of float16.
        precision = torch.promote_types(self.features.dtype, torch.float32)
        norms = torch.linalg.vector_norm(self.features, dim=1, keepdim=True, dtype=precision)  # (N, 1)
        bad = (~torch.isfinite(norms) | (norms == 0)).flatten().nonzero().flatten()
        if len(bad):
            row = int(bad[0])
            raise ValueError(
                f"cannot normalise feature row {row} ({self.keys[row]}): its L2 norm is "
                f"{norms[row].item()}, it must be finite and above 0"
            )
        return replace(self, features=(self.features / norms).to(self.features.dtype))

    def save(
        self,
        path: str | Path,
        info: Mapping[str, Any] | None = None,
        more: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Write exactly the file `path`: an .npz of the fields (no pickles), `pictures` where one has a name.

        `names` are JSON in it where there are any. `info`, JSON-serialisable, records the origin of the
        features; `RetrievalTask.load` reads it. `more` are further arrays, which `load` leaves out.
        """
        write_arrays(path, feature_arrays(self, self.names) | dict(more or {}), info or {})

    @staticmethod
    def load(path: str | Path) -> FeatureSet:
        """Read a file that `save` wrote, onto the CPU; without keys in the file, the keys are the paths.

        Raises FileNotFoundError, or ValueError for other files.
        """
        stored = read_feature_file(path)
        return FeatureSet(**stored.items, names=read_names(stored.names, path))


def feature_arrays(images: FeatureSet, names: LabelNames) -> dict[str, np.ndarray]:
    """The arrays of a feature file by name; texts of items are left out, with a warning, where too long."""
    arrays = {
        "features": images.features.detach().cpu().numpy(),
        "pids": images.pids.cpu().numpy(),
        "camids": images.camids.cpu().numpy(),
    }
    texts = _TEXTS if any(images.pictures) else _TEXTS[:2]
    arrays |= {name: np.array(getattr(images, name), dtype=np.str_) for name in texts}
    if len(written := names.model_dump_json()) > MAX_NAMES:
        _logger.warning(
            "the texts of %d items are not written: names have %d characters with them; allowed: %d",
            *(len(names.items), len(written), MAX_NAMES),
        )
        names = names.model_copy(update={"items": {}})
        written = names.model_dump_json()
    return arrays if names == LabelNames() else arrays | {"names": np.array(written, dtype=np.str_)}


def read_names(text: str, path: str | Path) -> LabelNames:
    """The names in a feature file's JSON. Raises ValueError that names the path for another form."""
    try:
        return parse_json(text, LabelNames, "its names")
    except ValueError as error:
        raise ValueError(f"{printable(path)}: {error}") from error


def _labels(name: str, values: Tensor | Sequence[int] | np.ndarray, device: torch.device) -> Tensor:
    labels = torch.as_tensor(values)
    # An empty list arrives as float32, hence the test on numel.
    integers = not (labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex())
    if labels.ndim != 1 or (labels.numel() and not integers):
        raise ValueError(f"{name} must be (N,) integers, got shape {tuple(labels.shape)} of {labels.dtype}")
    return labels.to(device=device, dtype=torch.int64)


def _texts(name: str, values: Sequence[str] | np.ndarray) -> tuple[str, ...]:
    if isinstance(values, str):
        raise ValueError(f"{name} must be a sequence of N texts, got the one str {values!r}")
    return tuple(str(value) for value in values)
