"""FeatureSet: features of images with the identity, the camera and the file that each belongs to.

It is the value that extraction hands over and that everything in this room takes; on disk it is one .npz.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.files import write_atomically

_ARRAYS = ("features", "pids", "camids", "paths")
# What .npz can hold and a matrix product can use; bfloat16 has no numpy counterpart.
_FEATURE_DTYPES = (torch.float16, torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features (N, D) with pids (N,), camids (N,) and N paths; row i of each belongs to image i.

    Tensors, numpy arrays and lists are accepted; labels become int64 on the features' device, paths a tuple
    of str. A pid of -1 means that the identity is not known, a camid of -1 that the camera is not. N may be
    0. Raises ValueError when the features are not a float16/32/64 matrix, when labels are not integers, or
    when the lengths differ.
    """

    features: Tensor
    pids: Tensor
    camids: Tensor
    paths: Sequence[str]

    def __post_init__(self) -> None:
        features = torch.as_tensor(self.features)
        if features.ndim != 2 or features.dtype not in _FEATURE_DTYPES:
            raise ValueError(
                f"features must be a (N, D) matrix of float16, float32 or float64, "
                f"got shape {tuple(features.shape)} of {features.dtype}"
            )
        if isinstance(self.paths, str):
            raise ValueError(
                f"paths must be a sequence of {len(features)} paths, got the one str {self.paths!r}"
            )
        # The dataclass is frozen for its users; this is the one place where the fields get their final form.
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "pids", _labels("pids", self.pids, features.device))
        object.__setattr__(self, "camids", _labels("camids", self.camids, features.device))
        object.__setattr__(self, "paths", tuple(str(path) for path in self.paths))
        lengths = {name: len(getattr(self, name)) for name in _ARRAYS}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ValueError(f"a FeatureSet needs fields of one length, got {listed}")

    def __len__(self) -> int:
        return len(self.features)

    def select(self, indices: Tensor | Sequence[int] | np.ndarray) -> FeatureSet:
        """The images at `indices`, in that order, repeats allowed, or those where a boolean mask (N,) holds.

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
        # The galleries of large data sets are half a gigabyte, and lie in one piece in what extraction gives.
        if rows and rows == list(range(rows[0], rows[0] + len(rows))):
            index = slice(rows[0], rows[0] + len(rows))
        return FeatureSet(
            self.features[index], self.pids[index], self.camids[index], [self.paths[i] for i in rows]
        )

    def with_cameras(self, camids: Tensor | Sequence[int] | np.ndarray) -> FeatureSet:
        """The same images, each counted for the camera in camids (N,)."""
        return FeatureSet(self.features, self.pids, camids, self.paths)

    def normalized(self) -> FeatureSet:
        """The same images with rows of L2 norm 1. Raises ValueError naming a row of norm 0, NaN or inf."""
        # Norms of float16 rows are taken in float32: a sum of squares leaves float16's range early.
        precision = torch.promote_types(self.features.dtype, torch.float32)
        norms = torch.linalg.vector_norm(self.features, dim=1, keepdim=True, dtype=precision)  # (N, 1)
        bad = (~torch.isfinite(norms) | (norms == 0)).flatten().nonzero().flatten()
        if len(bad):
            row = int(bad[0])
            raise ValueError(
                f"cannot normalise feature row {row} ({self.paths[row]}): its L2 norm is "
                f"{norms[row].item()}, it must be finite and above 0"
            )
        features = (self.features / norms).to(self.features.dtype)
        return FeatureSet(features, self.pids, self.camids, self.paths)

    def save(self, path: str | Path, info: Mapping[str, Any] | None = None) -> None:
        """Write exactly the file `path`: an .npz with arrays features, pids, camids, paths (no pickles).

        `info`, what JSON can hold, says where the features come from; `RetrievalTask.load` gives it back.
        """
        write_arrays(path, feature_arrays(self), info or {})

    @staticmethod
    def load(path: str | Path) -> FeatureSet:
        """Read what `save` wrote, onto the CPU. Raises FileNotFoundError, or ValueError for other files."""
        with feature_file(path) as stored:
            return read_features(stored)


def feature_arrays(images: FeatureSet) -> dict[str, np.ndarray]:
    """The arrays of a feature file by name."""
    return {
        "features": images.features.detach().cpu().numpy(),
        "pids": images.pids.cpu().numpy(),
        "camids": images.camids.cpu().numpy(),
        "paths": np.array(images.paths, dtype=np.str_),
    }


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
    """Write an .npz of these arrays and of `info` as JSON; a failure leaves a former file whole."""

    def write(beside: Path) -> None:
        # Through a handle: to a name without it, np.savez would append ".npz".
        with open(beside, "wb") as file:
            np.savez(file, **arrays, info=np.array(json.dumps(dict(info)), dtype=np.str_))

    write_atomically(path, write)


@contextmanager
def feature_file(path: str | Path) -> Iterator[np.lib.npyio.NpzFile]:
    """The open arrays of a feature file; whatever goes wrong in reading them is told with the path."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no feature file at {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a feature file, an .npz with {', '.join(_ARRAYS)}")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            yield stored
    except (ValueError, KeyError, TypeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        needed = ", ".join(_ARRAYS)
        raise ValueError(f"{path} is not a feature file, an .npz with {needed}: {error}") from error


def read_features(stored: Mapping[str, np.ndarray]) -> FeatureSet:
    """The FeatureSet in the arrays of a feature file."""
    return FeatureSet(**{name: stored[name] for name in _ARRAYS})


def _labels(name: str, values: Tensor | Sequence[int] | np.ndarray, device: torch.device) -> Tensor:
    labels = torch.as_tensor(values)
    # An empty list arrives as float32, hence the test on numel.
    integers = not (labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex())
    if labels.ndim != 1 or (labels.numel() and not integers):
        raise ValueError(f"{name} must be (N,) integers, got shape {tuple(labels.shape)} of {labels.dtype}")
    return labels.to(device=device, dtype=torch.int64)
