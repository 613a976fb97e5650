"""Drawn galleries of any size: features with the structure of people seen by cameras, and their metadata.

They are drawn in blocks, each from its own seed, so that no process has to hold all of them.
"""

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

import torch
from torch import Tensor

from retrieval import Metadata

WIDTH = 512
BLOCK = 10_000  # entries
CAMERAS = 6
PER_IDENTITY = 20  # pictures
QUERIES = 64
_LATENT_WIDTH = 48
_FIRST_TIME = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Block(NamedTuple):
    """Features (N, 512) of norm 1, cameras (N,) as numbers, and the rows (N,) in the whole gallery."""

    features: Tensor
    cameras: Tensor
    rows: range

    @property
    def keys(self) -> list[str]:
        """A SHA-256 for each, as pictures have."""
        return [key_of(row) for row in self.rows]

    @property
    def metadata(self) -> list[Metadata]:
        """Camera, time, path and name of the picture of each; one is taken every second."""
        return [
            Metadata(
                camera=camera_name(camera),
                time=_FIRST_TIME + timedelta(seconds=row),
                path=f"/pictures/{camera_name(camera)}/{row:08d}.jpg",
                picture=key_of(row),
            )
            for row, camera in zip(self.rows, self.cameras.tolist(), strict=True)
        ]


class DrawnGallery:
    """`size` entries of `size` / 20 identities, and 64 queries of such identities."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._seed = seed
        generator = torch.Generator().manual_seed(seed)
        self._centres = torch.randn(max(1, size // PER_IDENTITY), _LATENT_WIDTH, generator=generator)
        self._shifts = 0.3 * torch.randn(CAMERAS, _LATENT_WIDTH, generator=generator)
        self._spread = torch.randn(_LATENT_WIDTH, WIDTH, generator=generator)

    def blocks(self) -> Iterator[Block]:
        """All entries in order."""
        for number, first in enumerate(range(0, self.size, BLOCK)):
            rows = range(first, min(first + BLOCK, self.size))
            yield Block(*self._draw(len(rows), number), rows)

    def queries(self) -> tuple[Tensor, Tensor]:
        """Features (64, 512) and cameras (64,)."""
        return self._draw(QUERIES, -1)

    def _draw(self, count: int, number: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed((self._seed << 32) + number + 1)
        identities = torch.randint(len(self._centres), (count,), generator=generator)
        cameras = torch.randint(CAMERAS, (count,), generator=generator)
        difficulty = 0.7 * torch.exp(0.4 * torch.randn(count, 1, generator=generator))
        place = self._centres[identities] + self._shifts[cameras]
        place += difficulty * torch.randn(count, _LATENT_WIDTH, generator=generator)
        return torch.nn.functional.normalize(place @ self._spread), cameras


def camera_name(camera: int) -> str:
    """The name of a camera by its number."""
    return f"camera {camera}"


def key_of(row: int) -> str:
    """The key of an entry by its row."""
    return hashlib.sha256(str(row).encode()).hexdigest()
