"""Threads share a gallery; processes do not share its folder."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("pymilvus")

from retrieval import Gallery, Metadata
from tests.processes import start_function
from tests.retrieval.gallery_changes import MODELS, features_of, held_by

pytestmark = pytest.mark.slow


def keys_of(thread):
    return [f"{thread} {i}" for i in range(400)]


def test_threads_change_and_search_a_gallery_at_once(address):
    with Gallery.create(address, MODELS) as gallery:

        def add(thread):
            keys = keys_of(thread)
            for start in range(0, 400, 80):
                part = keys[start : start + 80]
                gallery.add(features_of(part, [1] * 80), part, [Metadata(identity=f"p{thread}")] * 80)
            gallery.remove(keys[::4])
            return gallery.rename(f"p{thread}", "everybody")

        def read(thread):
            for _ in range(12):
                for hits in gallery.search(features_of(keys_of(thread)[:5], [1] * 5), 300):
                    assert len({hit.key for hit in hits}) == len(hits)
                    assert {hit.metadata.identity for hit in hits} <= {"everybody", "p0", "p1", "p2"}
                entries = [entry.key for entry in gallery.entries()]
                assert len(set(entries)) == len(entries)
            return 0

        with ThreadPoolExecutor(6) as pool:
            works = [pool.submit(work, thread) for thread in range(3) for work in (add, read)]
            assert sum(work.result() for work in works) == 3 * 300
        left = {key for thread in range(3) for i, key in enumerate(keys_of(thread)) if i % 4}
        assert {key: name for key, (_, name) in held_by(gallery).items()} == dict.fromkeys(left, "everybody")


def hold(address, told):
    with Gallery.open(address, MODELS):
        told.touch()
        time.sleep(60)


def test_another_process_is_told_who_has_the_folder(tmp_path):
    address, told = tmp_path / "gallery.db", tmp_path / "told"
    Gallery.create(address, MODELS).close()
    holder = start_function(hold, address, told)
    try:
        while not told.exists():
            assert holder.is_alive()
            time.sleep(0.01)
        with pytest.raises(BlockingIOError) as caught:
            Gallery.open(address, MODELS)
        message = str(caught.value)
        assert f"process {holder.pid} " in message and str(address) in message and "\n" not in message
    finally:
        holder.kill()
        holder.join()
    with Gallery.open(address, MODELS) as gallery:  # its log is nobody's
        assert gallery.count() == 0 and holder.pid != os.getpid()
