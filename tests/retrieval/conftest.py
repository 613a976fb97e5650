"""Shared by the tests: addresses of galleries, features to search in, a loop over their pairs."""

import os
import uuid
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from retrieval import FeatureSet, RetrievalTask, TrialRows

SERVER = os.environ.get("CLIPREID_TEST_MILVUS", "")


@pytest.fixture
def address(tmp_path) -> Iterator[str]:
    """The address of a new gallery: a folder, or a database of the server in CLIPREID_TEST_MILVUS."""
    if not SERVER:
        yield str(tmp_path / "gallery.db")
        return
    from pymilvus import MilvusClient

    name, token = f"test_{uuid.uuid4().hex[:12]}", os.environ.get("MILVUS_TOKEN", "")
    yield f"{SERVER}/{name}"
    client = MilvusClient(f"{SERVER}/{name}", token=token)
    for collection in client.list_collections():
        client.drop_collection(collection)
    client.close()
    client = MilvusClient(SERVER, token=token)
    client.drop_database(name)
    client.close()


@pytest.fixture(scope="session")
def whole_number_task() -> Callable[..., RetrievalTask]:
    return draw_whole_numbers


@pytest.fixture(scope="session")
def people_task() -> Callable[..., RetrievalTask]:
    return draw_people


@pytest.fixture(scope="session")
def naive_pairs() -> Callable[[RetrievalTask], tuple]:
    return list_pairs


def draw_whole_numbers(seed=0, images=60, trials=1, rule="cross_camera"):
    """Whole numbers: distances are exact and often tie; pids and cameras may be unknown, paths equal."""
    generator = np.random.default_rng(seed)
    features = FeatureSet(
        generator.integers(0, 5, size=(images, 3)).astype(np.float32),
        generator.integers(-1, 6, size=images),
        generator.integers(-1, 3, size=images),
        [f"{generator.integers(0, images)}.jpg" for _ in range(images)],
    )

    def rows(count):
        chosen = torch.from_numpy(generator.choice(images, size=count, replace=False))
        return chosen, features.camids[chosen]

    return RetrievalTask(
        features, tuple(TrialRows(*rows(images // 3), *rows(images // 2), rule) for _ in range(trials))
    )


def draw_people(identities=12, seed=0, spread=0.5, images=8):
    """Identities with a centre each, in four cameras; float64, L2-normalised."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(identities, 8))
    pids = np.repeat(np.arange(identities), images)
    features = centres[pids] + spread * generator.normal(size=(len(pids), 8))
    camids = np.tile(np.arange(4), len(pids) // 4)
    paths = [f"{i}.jpg" for i in range(len(pids))]
    return RetrievalTask.all_against_all(FeatureSet(features, pids, camids, paths)).normalized()


def list_pairs(task):
    """Distances of same and of different pairs, and (own, other, pid, absent) of each query."""
    same, different, queries = [], [], []
    for query, gallery, rule in task:
        for i in range(len(query)):
            if query.pids[i] == -1:
                continue
            own, other, present = [], [], False
            for j in range(len(gallery)):
                if gallery.pids[j] == -1:
                    continue
                squares = (query.features[i].double() - gallery.features[j].double()) ** 2
                equal_pid = bool(query.pids[i] == gallery.pids[j])
                present |= equal_pid
                if rule == "all":
                    removed = False
                elif -1 in (query.camids[i], gallery.camids[j]):
                    removed = query.paths[i] == gallery.paths[j]
                else:
                    removed = equal_pid and query.camids[i] == gallery.camids[j]
                if not removed:
                    (own if equal_pid else other).append(squares.sum().item())
            same += own
            different += other
            nearest = (min(part, default=np.inf) for part in (own, other))
            queries.append((*nearest, int(query.pids[i]), not present))
    return np.array(same), np.array(different), queries
