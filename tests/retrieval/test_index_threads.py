"""Threads share a gallery: they find what is there while another adds, compacts or changes the index."""

import threading

import numpy as np
import pytest

pytest.importorskip("pymilvus")

from retrieval import Gallery
from tests.retrieval.gallery_changes import MODELS, features_of

KEYS = [f"k{number}" for number in range(200)]


@pytest.mark.parametrize("change", ["add", "compact", "index"])
def test_searches_go_on_meanwhile(tmp_path, change):
    features = features_of(KEYS, [1] * len(KEYS))
    wrong, done = [], threading.Event()
    with Gallery.create(tmp_path / "gallery.db", MODELS) as gallery:
        gallery.add(features, KEYS)

        def ask():
            for number in np.random.default_rng(0).integers(0, len(KEYS), 100_000):
                if done.is_set():
                    return
                try:
                    (hits,) = gallery.search(features[number], 5)
                    found = [hits[0].key, gallery.get([KEYS[number]])[0].key]
                    assert found == [KEYS[number]] * 2 and len(hits) == 5
                except (OSError, ValueError, AssertionError, IndexError) as error:
                    wrong.append(error)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in range(3):
                if change == "add":  # so many that a segment is written
                    others = [f"{number} {each}" for each in range(1100)]
                    gallery.add(features_of(others, [1] * len(others)), others)
                elif change == "compact":
                    gallery.compact()
                else:
                    gallery.set_index(("hnsw", "flat")[number % 2])
        finally:
            done.set()
            for thread in threads:
                thread.join()
    assert not wrong, (len(wrong), wrong[0])
