"""Rules by name: which gallery images match a query, and which are removed from its ranking.

`cross_camera` is the rule of Market-1501 (Zheng et al., ICCV 2015); `all` removes nothing. Pairs of equal
identity are few, so they are listed, found by sorting, instead of marked in a matrix (Q, G).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from retrieval.features import FeatureSet
from utils.labels import NO_CAMERA, NO_PID
from utils.text import shortened

_SHOWN = 100  # characters of a path in a message
_NO_CODE = -2  # equal to no code of the other side


class Pairs(NamedTuple):
    """Pairs of a query and a gallery image: both (P,) int64."""

    query: Tensor
    gallery: Tensor


class Rule(Protocol):
    """A rule for these queries in this gallery; a pid of -1 (unknown) matches nothing.

    `match` describes a match in messages. `own_pictures` counts the queries that lose gallery images because
    these show the query's own picture.
    """

    match: str
    own_pictures: int

    def __init__(self, query: FeatureSet, gallery: FeatureSet) -> None: ...

    def pairs(self, rows: slice) -> tuple[Pairs, Pairs]:
        """(matches, removed) of the queries in `rows`, which are numbered from 0 within the slice.

        Matches come in ascending order of (query, gallery).
        """
        ...

    @staticmethod
    def compared(query_camids: Tensor, gallery_camids: Tensor) -> tuple[Tensor, Tensor]:
        """Masks (Q,) and (G,) of the images whose pictures are compared, and so need a name."""
        ...


class CrossCameraRule:
    """Removes the images with the query's pid and camid, from the matches too.

    Where one of both camids is -1 (unknown), it removes the query's own picture instead: the gallery images
    of the same name by `name_pictures`. Names that are missing are computed from the files.
    """

    match = "an image of its identity from another camera"

    def __init__(self, query: FeatureSet, gallery: FeatureSet) -> None:
        self._pids = _join_pids(query, gallery)
        self._pictures = _Join(*_picture_codes(query, gallery))
        self._query_camids, self._gallery_camids = query.camids, gallery.camids
        self.own_pictures = len(self._own(slice(0, len(query))).query.unique())

    def pairs(self, rows: slice) -> tuple[Pairs, Pairs]:
        """See `Rule`."""
        query, gallery = self._pids.pairs(rows)
        camids, others = self._query_camids[rows][query], self._gallery_camids[gallery]
        junk = (camids == others) & (camids != NO_CAMERA)
        same_picture = self._pictures.equal(rows, query, gallery) & _unknown(camids, others)
        own, matches = self._own(rows), ~(junk | same_picture)
        return (
            Pairs(query[matches], gallery[matches]),
            Pairs(torch.cat([query[junk], own.query]), torch.cat([gallery[junk], own.gallery])),
        )

    def _own(self, rows: slice) -> Pairs:
        """The queries in `rows` with their own pictures in the gallery."""
        query, gallery = self._pictures.pairs(rows)
        told = _unknown(self._query_camids[rows][query], self._gallery_camids[gallery])
        return Pairs(query[told], gallery[told])

    @staticmethod
    def compared(query_camids: Tensor, gallery_camids: Tensor) -> tuple[Tensor, Tensor]:
        """The images of unknown camera, and all of the other side where there are some."""
        query, gallery = query_camids == NO_CAMERA, gallery_camids == NO_CAMERA
        to_all = query.any().to(gallery.device), gallery.any().to(query.device)
        return query & (len(gallery) > 0) | to_all[1], gallery & (len(query) > 0) | to_all[0]


def _unknown(camids: Tensor, others: Tensor) -> Tensor:
    """Whether one of two cameras is not known, and so may be the other one."""
    return (camids == NO_CAMERA) | (others == NO_CAMERA)


class EveryImageRule:
    """Removes nothing: every gallery image of the query's pid is a match, as in search by text."""

    match = "an image of its identity"
    own_pictures = 0

    def __init__(self, query: FeatureSet, gallery: FeatureSet) -> None:
        self._pids = _join_pids(query, gallery)

    def pairs(self, rows: slice) -> tuple[Pairs, Pairs]:
        """See `Rule`; nothing is removed."""
        matches = Pairs(*self._pids.pairs(rows))
        return matches, Pairs(matches.query[:0], matches.gallery[:0])

    @staticmethod
    def compared(query_camids: Tensor, gallery_camids: Tensor) -> tuple[Tensor, Tensor]:
        """No image."""
        query, gallery = (torch.zeros_like(camids).bool() for camids in (query_camids, gallery_camids))
        return query, gallery


RULES: dict[str, type[Rule]] = {"cross_camera": CrossCameraRule, "all": EveryImageRule}


def find_rule(name: str) -> type[Rule]:
    """The rule of this name. Raises ValueError for an unknown one."""
    if name not in RULES:
        raise ValueError(f"rule is {name!r}; allowed: {', '.join(RULES)}")
    return RULES[name]


def have_match(query: FeatureSet, gallery: FeatureSet, rule: str = "cross_camera") -> Tensor:
    """Whether each query has a match in the gallery, (Q,) bool. Raises ValueError for an unknown rule."""
    matches, _ = find_rule(rule)(query, gallery).pairs(slice(0, len(query)))
    found = torch.zeros_like(query.pids, dtype=torch.bool)
    found[matches.query] = True
    return found


def match_shares(query: FeatureSet, gallery: FeatureSet, rule: str = "cross_camera") -> Tensor:
    """The share of matches among the gallery images that are not removed, (Q,) float64: Rank-1 by chance.

    Raises ValueError for an unknown rule.
    """
    pairs = find_rule(rule)(query, gallery).pairs(slice(0, len(query)))
    matches, removed = (each.query.bincount(minlength=len(query)) for each in pairs)
    return matches.double() / (len(gallery) - removed).clamp(min=1)


def why_no_match(query: FeatureSet, gallery: FeatureSet, rule: str = "cross_camera") -> str:
    """One line for an error where no query has a match: whether identities or cameras are the reason.

    Raises ValueError for an unknown rule.
    """
    match = find_rule(rule).match
    start = f"none of the {len(query)} queries has {match} among the {len(gallery)} gallery images"
    found = (torch.isin(query.pids, gallery.pids) & (query.pids != NO_PID)).nonzero().flatten().tolist()
    if not found:
        parts = f"{_identities(query)} of the queries and {_identities(gallery)} of the gallery"
        return f"{start}; identities are the reason: {parts} have none in common"
    there = set(zip(gallery.pids.tolist(), gallery.camids.tolist(), strict=True))
    labels = list(zip(query.pids.tolist(), query.camids.tolist(), strict=True))
    by_camera = [row for row in found if labels[row] in there and labels[row][1] != NO_CAMERA]
    row = (by_camera or found)[0]
    other = int((gallery.pids == query.pids[row]).nonzero()[0])
    reason = f"{start}; cameras are the reason: {len(found)} queries find only images of their own camera"
    if not by_camera:
        reason = f"{start}: {len(found)} queries find only their own picture (same file or same bytes)"
    elif len(by_camera) < len(found):
        reason += " or, where it is not known, their own picture"
    paths = query.paths[row], gallery.paths[other]
    return f"{reason}, such as {' and '.join(shortened(path, _SHOWN) for path in paths)}"


def _identities(images: FeatureSet) -> str:
    known = (images.pids != NO_PID).nonzero().flatten().tolist()
    example = f" (such as that of {shortened(images.paths[known[0]], _SHOWN)})" if known else ""
    return f"{len(images.pids[known].unique())} known identities{example}"


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


def _join_pids(query: FeatureSet, gallery: FeatureSet) -> _Join:
    # Below every gallery pid, whatever these are.
    nobody = int(gallery.pids.min()) - 1 if len(gallery) else _NO_CODE
    return _Join(torch.where(query.pids == NO_PID, nobody, query.pids), gallery.pids)


def _picture_codes(query: FeatureSet, gallery: FeatureSet) -> tuple[Tensor, Tensor]:
    """Codes (Q,) and (G,) that are equal where the picture is the same, of pictures that are compared."""
    masks = CrossCameraRule.compared(query.camids, gallery.camids)
    numbers: dict[str, int] = {}
    codes = []
    for images, mask, not_compared in zip((query, gallery), masks, (-1, _NO_CODE), strict=True):
        code = torch.full_like(images.camids, not_compared)
        names = images.with_pictures(mask).pictures
        rows = mask.nonzero().flatten()
        code[rows] = rows.new_tensor([numbers.setdefault(names[row], len(numbers)) for row in rows.tolist()])
        codes.append(code)
    return codes[0], codes[1]
