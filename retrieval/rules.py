"""Which gallery images count for a query: the cross-camera rule of Market-1501 (Zheng et al., ICCV 2015).

Pairs of equal identity are few, so they are listed, found by sorting, instead of marked in a matrix (Q, G).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from retrieval.features import FeatureSet
from utils.labels import NO_CAMERA, NO_PID

_NO_CODE = -2  # equal to no code of the other side


class Pairs(NamedTuple):
    """Pairs of a query and a gallery image: both (P,) int64."""

    query: Tensor
    gallery: Tensor


class CrossCameraRule:
    """Finds each query's matches and the gallery images that are removed from its ranking.

    Removed are images with the query's pid and camid. Where the query's camid is -1 (unknown), only the query
    image itself is: the gallery image with the same path and camid -1. A match is an image of the query's pid
    that is not removed; a pid of -1 (unknown) matches nothing.
    """

    def __init__(self, query: FeatureSet, gallery: FeatureSet) -> None:
        unknown = query.pids == NO_PID
        # Below every gallery pid, whatever these are.
        nobody = int(gallery.pids.min()) - 1 if len(gallery) else _NO_CODE
        self._pids = _Join(torch.where(unknown, nobody, query.pids), gallery.pids)
        self._images = _Join(*_image_codes(query, gallery))
        self._query_camids, self._gallery_camids = query.camids, gallery.camids

    def pairs(self, rows: slice) -> tuple[Pairs, Pairs]:
        """(matches, removed) of the queries in `rows`, which are numbered from 0 within the slice.

        Matches come in ascending order of (query, gallery).
        """
        query, gallery = self._pids.pairs(rows)
        camids = self._query_camids[rows][query]
        same_camera = (camids == self._gallery_camids[gallery]) & (camids != NO_CAMERA)
        same_image = self._images.equal(rows, query, gallery)
        own_query, own_gallery = self._images.pairs(rows)
        matches, junk = ~(same_camera | same_image), same_camera
        return (
            Pairs(query[matches], gallery[matches]),
            Pairs(torch.cat([query[junk], own_query]), torch.cat([gallery[junk], own_gallery])),
        )


class _Join:
    """Pairs of equal codes between left (Q,) and right (G,)."""

    def __init__(self, left: Tensor, right: Tensor) -> None:
        self._left, self._right = left, right
        self._sorted, self._order = right.sort(stable=True)

    def pairs(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Left positions within the slice, right positions."""
        wanted = self._left[rows].contiguous()
        first = torch.searchsorted(self._sorted, wanted)
        counts = torch.searchsorted(self._sorted, wanted, right=True) - first
        left = torch.arange(len(wanted), device=wanted.device).repeat_interleave(counts)
        ends = counts.cumsum(0)
        within = torch.arange(len(left), device=wanted.device) - (ends - counts)[left]
        return left, self._order[first[left] + within]

    def equal(self, rows: slice, left: Tensor, right: Tensor) -> Tensor:
        """Whether the codes of pairs are equal; left positions are within the slice."""
        return self._left[rows][left] == self._right[right]


def _image_codes(query: FeatureSet, gallery: FeatureSet) -> tuple[Tensor, Tensor]:
    """Codes (Q,) and (G,) that are equal exactly where both cameras are unknown and the path is the same."""
    numbers: dict[str, int] = {}
    codes = []
    for images, known_camera in ((query, -1), (gallery, _NO_CODE)):
        code = torch.tensor([numbers.setdefault(path, len(numbers)) for path in images.paths])
        code = code.to(device=images.camids.device, dtype=torch.int64)
        codes.append(torch.where(images.camids == NO_CAMERA, code, known_camera))
    return codes[0], codes[1]
