"""Splits by identity: some people for training, others for query and gallery."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from datasets.readers.labels import UNKNOWN, in_table
from utils.text import few, quoted


class LabelledImage(NamedTuple):
    """A path, which is the name of the image, with identity and camera; -1: not known."""

    path: str
    pid: str
    camid: str = UNKNOWN


class Division(NamedTuple):
    """The split of each image that is in one, by its path, and the identities whose queries have no match."""

    splits: dict[str, str]
    without_match: list[str]


def split_by_identity(
    images: Sequence[LabelledImage],
    *,
    test_share: float,
    seed: int,
    queries: int | None = 1,
    query_camera: str | None = None,
) -> Division:
    """Draw the identities that are tested, a share of them, and their queries: some a camera at most.

    `queries` are so many of an identity and a camera, None for all that can be. With a `query_camera` queries
    are from this camera and the gallery from the others; its other images of the test are in no split.
    An identity is tested if a query of it can have a match: an image of it from another camera, or any other
    one where a camera is not known. The others are for training or, with a share of 1, in the gallery. Every
    query keeps a match in the gallery. Images of the identity -1 are in the gallery, or with a share of 0
    in no split. The draws follow from the seed, the identities and the paths: another identity moves no image
    of those that stay on their side of the share. Raises ValueError for a share that is not in 0 to 1, less
    than 1 query, an unknown `query_camera`, and where a split is left without an identity.
    """
    if not 0 <= test_share <= 1:
        raise ValueError(f"test_share is {test_share}; allowed: 0 to 1")
    if queries is not None and queries < 1:
        raise ValueError(f"queries is {queries}; allowed: 1 or more")
    asking = None if query_camera is None else _require_camera(query_camera, images)
    people: dict[str, list[LabelledImage]] = {}
    for image in images:
        people.setdefault(in_table(image.pid), []).append(image)
    strangers = people.pop(UNKNOWN, [])
    most = len(images) if queries is None else queries
    chosen = {pid: _draw_queries(own, seed, most, asking) for pid, own in people.items()}
    without_match = [pid for pid in people if not chosen[pid]]
    testable = sorted(people.keys() - without_match, key=lambda pid: _lot(seed, pid))
    wanted = round(test_share * len(people))
    tested = set(testable[:wanted])
    _require_identities(len(people), len(testable), len(tested), test_share)
    splits = {}
    for pid, own in people.items():
        for image in own:
            side = "gallery" if pid in tested or test_share == 1 else "train"
            splits[image.path] = "query" if pid in tested and image.path in chosen[pid] else side
    if test_share:
        splits |= {image.path: "gallery" for image in strangers}
    if asking is not None:
        unasked = {image.path for image in images if in_table(image.camid) == asking}
        splits = {path: side for path, side in splits.items() if side != "gallery" or path not in unasked}
    return Division(splits, without_match)


def _require_camera(name: str, images: Sequence[LabelledImage]) -> str:
    """The camera as in a table."""
    cameras = {in_table(image.camid) for image in images} - {UNKNOWN}
    if (camera := in_table(name)) in cameras:
        return camera
    known = few(sorted(cameras)) if cameras else "none, for no image has a camera"
    raise ValueError(f"`query_camera` is {quoted(name)}; allowed: {known}")


def _require_identities(total: int, testable: int, tested: int, share: float) -> None:
    if share and not testable:
        raise ValueError(
            f"no query of the {total} identities would have a match; needed: identities with images from two "
            "cameras, or with two images where cameras are not known, as by a rule of names without {camid}"
        )
    if share and not tested:
        raise ValueError(
            f"`test_share` {share:g} leaves 0 of {total} identities for query and gallery; allowed: a larger "
            "share, or 0 for none"
        )
    if share < 1 and tested == total:
        raise ValueError(
            f"`test_share` {share:g} leaves 0 of {total} identities for training; allowed: a smaller share, "
            "or 1 for none"
        )


def _draw_queries(
    images: Sequence[LabelledImage], seed: int, most: int, asking: str | None = None
) -> set[str]:
    """Paths of the queries of an identity, `most` of a camera, each with a match among the other images.

    `asking` is the one camera with queries.
    """
    left = Counter(in_table(image.camid) for image in images)
    taken: Counter[str] = Counter()
    paths = set()
    for image in sorted(images, key=lambda image: _lot(seed, image.path)):
        camera = in_table(image.camid)
        if taken[camera] == most or (asking is not None and camera != asking):
            continue
        left[camera] -= 1
        if all(_has_match(other, left) for other in (*taken, camera)):
            taken[camera] += 1
            paths.add(image.path)
        else:
            left[camera] += 1
    return paths


def _has_match(camera: str, gallery: Counter[str]) -> bool:
    """Whether a query of this camera has a match in a gallery with so many images of each camera."""
    return gallery.total() > (0 if camera == UNKNOWN else gallery[camera])


def _lot(seed: int, name: str) -> bytes:
    """The place of a name in the draw, the same on every machine."""
    return hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogateescape")).digest()
