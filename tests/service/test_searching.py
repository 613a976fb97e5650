"""Searches of many threads that become few."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from retrieval import Hit, Metadata
from service.searching import Conditions, Searches


class Gallery:
    """Finds the number that the features hold; notes its searches, and waits in the first."""

    def __init__(self):
        self.searches, self.started, self.go = [], threading.Event(), threading.Event()

    def search(self, rows, k, *, space, exclude_camera, cameras, since, until):
        self.searches.append((len(rows), k))
        self.started.set()
        assert self.go.wait(10)
        if exclude_camera == "broken":
            raise OSError("the store fails")
        return [[Hit(str(int(row[0])), 1.0, Metadata())] * k for row in rows]


def conditions(k, exclude_camera=""):
    return Conditions("reid", k, exclude_camera, ("c1",), None, None)


def test_equal_conditions_become_one_search():
    gallery = Gallery()
    searches = Searches(gallery, most=32, waiting=32)
    with ThreadPoolExecutor(16) as pool:
        first = pool.submit(searches, torch.tensor([0.0]), conditions(1))
        assert gallery.started.wait(10)
        others = [pool.submit(searches, torch.tensor([i + 1.0]), conditions(1 + i % 2)) for i in range(8)]
        broken = pool.submit(searches, torch.tensor([9.0]), conditions(1, "broken"))
        while searches._batcher.waiting < 9:
            pass
        gallery.go.set()
        assert [hit.key for hit in first.result(10)] == ["0"]
        for i, other in enumerate(others):
            assert [hit.key for hit in other.result(10)] == [str(i + 1)] * (1 + i % 2)
        with pytest.raises(OSError, match="the store fails"):
            broken.result(10)
    assert gallery.searches[0] == (1, 1) and sorted(gallery.searches[1:]) == [(1, 1), (4, 1), (4, 2)]
    searches.close()
    with pytest.raises(RuntimeError, match="closed"):
        searches(torch.tensor([1.0]), conditions(1))
