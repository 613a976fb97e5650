"""The timed works on a gallery of one size: adding, opening and searching, by ours and by plain libraries.

Each work returns numbers by name. Nearest entries are given as rows of the drawn gallery.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.gallery.drawn import QUERIES, WIDTH, DrawnGallery, camera_name, key_of
from benchmarks.measure import measure
from retrieval import Gallery, SpaceModel

K = 10
PORTION = 1_000  # entries that are added in one call
SINGLE_QUERIES, TIMES = 16, 5
MODEL = {"reid": SpaceModel(name="drawn", sha256="0" * 64, width=WIDTH)}

# Rows (Q, K) and similarities (Q, K) of queries (Q, 512), without those of one camera for each query.
Search = Callable[[Tensor, "Sequence[int] | None"], tuple[NDArray[np.integer], NDArray[np.floating]]]


def add_ours(drawn: DrawnGallery, address: str) -> dict[str, Any]:
    """Fill a new gallery. The clock runs while entries are added, not while they are drawn."""
    import milvus_lite.adapter.grpc.server  # noqa: F401, libraries are no memory of the gallery

    seconds = 0.0

    def fill() -> None:
        nonlocal seconds
        with Gallery.create(address, MODEL) as gallery:
            for block in drawn.blocks():
                keys, metadata = block.keys, block.metadata
                for start in range(0, len(keys), PORTION):
                    part = slice(start, start + PORTION)
                    begun = time.perf_counter()
                    gallery.add(block.features[part], keys[part], metadata[part])
                    seconds += time.perf_counter() - begun
            begun = time.perf_counter()
        seconds += time.perf_counter() - begun

    megabytes = measure(fill)[1].megabytes
    return {"add_seconds": seconds, "add_megabytes": megabytes, "disk_megabytes": _disk(address)}


def index_ours(drawn: DrawnGallery, address: str) -> dict[str, Any]:
    """Build HNSW over the gallery."""
    with Gallery.open(address, MODEL) as gallery:
        _, (seconds, _) = measure(lambda: gallery.set_index("hnsw"))
    return {"index_seconds": seconds, "disk_megabytes": _disk(address)}


def search_ours(drawn: DrawnGallery, address: str) -> dict[str, Any]:
    """Open the gallery and search."""
    import milvus_lite.adapter.grpc.server  # noqa: F401

    rows = {key_of(row): row for row in range(drawn.size)}

    def work() -> dict[str, Any]:
        begun = time.perf_counter()
        with Gallery.open(address, MODEL) as gallery:
            open_seconds = time.perf_counter() - begun

            def search(queries: Tensor, cameras: Sequence[int] | None) -> tuple:
                if cameras is None:
                    found = gallery.search(queries, K)
                else:
                    pairs = zip(queries, cameras, strict=True)
                    found = list(
                        chain.from_iterable(
                            gallery.search(query, K, exclude_camera=camera_name(camera))
                            for query, camera in pairs
                        )
                    )
                places = np.array([[rows[hit.key] for hit in hits] for hits in found])
                return places, np.array([[hit.similarity for hit in hits] for hits in found])

            return _time_search(search, *drawn.queries()) | {"open_seconds": open_seconds}

    return _with_memory(work)


def search_faiss(drawn: DrawnGallery, address: str) -> dict[str, Any]:
    """Fill faiss's flat index in memory and search."""
    import faiss

    def work() -> dict[str, Any]:
        index, cameras, seconds = faiss.IndexFlatIP(WIDTH), [], 0.0
        for block in drawn.blocks():
            cameras.append(block.cameras)
            begun = time.perf_counter()
            index.add(block.features.numpy())
            seconds += time.perf_counter() - begun
        of_camera = torch.cat(cameras).numpy()

        def search(queries: Tensor, excluded: Sequence[int] | None) -> tuple:
            if excluded is None:
                similarities, rows = index.search(queries.numpy(), K)
                return rows, similarities
            found = []
            for query, camera in zip(queries, excluded, strict=True):
                chosen = faiss.IDSelectorBatch(np.flatnonzero(of_camera != camera))
                found.append(index.search(query[None].numpy(), K, params=faiss.SearchParameters(sel=chosen)))
            similarities, rows = (np.concatenate(part) for part in zip(*found, strict=True))
            return rows, similarities

        return _time_search(search, *drawn.queries()) | {"add_seconds": seconds}

    return _with_memory(work)


def search_product(drawn: DrawnGallery, address: str) -> dict[str, Any]:
    """Hold the features in one matrix, multiply, and take the largest."""

    def work() -> dict[str, Any]:
        features, cameras = torch.empty(drawn.size, WIDTH), torch.empty(drawn.size, dtype=torch.int64)
        seconds = 0.0
        for block in drawn.blocks():
            begun = time.perf_counter()
            features[block.rows.start : block.rows.stop] = block.features
            seconds += time.perf_counter() - begun
            cameras[block.rows.start : block.rows.stop] = block.cameras

        def search(queries: Tensor, excluded: Sequence[int] | None) -> tuple:
            similarity = queries @ features.T  # (Q, N)
            if excluded is not None:
                similarity[torch.tensor(excluded)[:, None] == cameras] = -2
            values, rows = similarity.topk(K)
            return rows.numpy(), values.numpy()

        return _time_search(search, *drawn.queries()) | {"add_seconds": seconds}

    return _with_memory(work)


WORKS: dict[str, Callable[[DrawnGallery, str], dict[str, Any]]] = {
    "add": add_ours,
    "index": index_ours,
    "search": search_ours,
    "faiss": search_faiss,
    "product": search_product,
}


def _time_search(search: Search, queries: Tensor, cameras: Tensor) -> dict[str, Any]:
    """Milliseconds of one query, of 64, and of one without its camera; the rows that are found."""
    excluded = cameras.tolist()

    def median_ms(works: Sequence[Callable[[], Any]]) -> float:
        seconds = []
        for work in works:
            begun = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - begun)
        return statistics.median(seconds) * 1e3

    rows, similarities = search(queries, None)  # the first search of a process prepares libraries
    singles = [queries[i : i + 1] for i in range(SINGLE_QUERIES)]
    search(singles[0], excluded[:1])
    of_one = median_ms([lambda query=query: search(query, None) for query in singles])
    of_all = median_ms([lambda: search(queries, None)] * TIMES)
    without = median_ms([lambda i=i: search(singles[i], excluded[i : i + 1]) for i in range(SINGLE_QUERIES)])
    other_rows, other_similarities = search(queries, excluded)
    return {
        "one_ms": of_one,
        f"q{QUERIES}_ms": of_all,
        "camera_ms": without,
        "rows": rows.tolist(),
        "similarities": similarities.tolist(),
        "camera_rows": other_rows.tolist(),
        "camera_similarities": other_similarities.tolist(),
    }


def _with_memory(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    numbers, measured = measure(work)
    return numbers | {"megabytes": measured.megabytes}


def _disk(address: str) -> float:
    """Megabytes (10^6 bytes) of a gallery's folder; 0 for a server."""
    return sum(path.stat().st_size for path in Path(address).rglob("*") if path.is_file()) / 1e6
