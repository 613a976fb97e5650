"""Changes of a gallery that are drawn from a seed, what it then holds, and a process that makes them."""

import random
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retrieval import Gallery, Metadata, SpaceModel

WIDTH = 8
MODELS = {"reid": SpaceModel(name="toy", sha256="ab" * 32, width=WIDTH)}
MOST_KEYS = 3000
NAMES = 12

State = dict[str, tuple[int, str]]  # by key, which features an entry has and its identity


class Change(NamedTuple):
    """A change of these keys, or of the identity `old`; `number` tells the features of added entries."""

    kind: str
    keys: tuple[str, ...] = ()
    number: int = 0
    old: str = ""
    new: str = ""


def changes(seed: int, kinds: Sequence[str], state: State) -> Iterator[tuple[Change, State]]:
    """Changes without end, each with what the gallery holds then; the first finds `state`."""
    draw = random.Random(seed)
    number = 1 + max((version for version, _ in state.values()), default=0)
    while True:
        change = _draw_change(draw, draw.choice(kinds), number, state)
        state = changed(state, change)
        number += 1
        yield change, state


def _draw_change(draw: random.Random, kind: str, number: int, state: State) -> Change:
    name, other = (f"p{draw.randrange(NAMES)}" for _ in range(2))
    if kind == "add":
        picked = draw.sample(range(MOST_KEYS), draw.randint(1, 300))
        return Change(kind, tuple(f"k{each:05d}" for each in picked), number, new=name)
    if kind in ("remove", "assign"):
        held = sorted(state)
        return Change(kind, tuple(draw.sample(held, min(len(held), draw.randint(1, 100)))), new=name)
    if kind == "rename":
        return Change(kind, old=name, new=other)
    return Change(kind, new=draw.choice(("flat", "hnsw")))


def changed(state: State, change: Change) -> State:
    """The contents of a gallery after a change."""
    kind, keys, number, old, new = change
    if kind == "add":
        return state | dict.fromkeys(keys, (number, new))
    if kind == "remove":
        return {key: value for key, value in state.items() if key not in set(keys)}
    if kind == "assign":
        return state | {key: (state[key][0], new) for key in keys}
    if kind == "rename":
        return {key: (version, new if name == old else name) for key, (version, name) in state.items()}
    return state


def make_change(gallery: Gallery, change: Change) -> None:
    """Change a gallery."""
    kind, keys, number, old, new = change
    if kind == "add":
        gallery.add(features_of(keys, [number] * len(keys)), keys, [Metadata(identity=new)] * len(keys))
    elif kind == "remove":
        gallery.remove(keys)
    elif kind == "assign":
        gallery.assign(keys, new)
    elif kind == "rename":
        gallery.rename(old, new)
    elif kind == "index":
        gallery.set_index(new)
    else:
        gallery.compact()


def features_of(keys: Sequence[str], numbers: Sequence[int]) -> np.ndarray:
    """Features (N, 8) of norm 1 that depend on key and number."""
    rows = [
        np.random.default_rng(zlib.crc32(f"{key} {number}".encode())).normal(size=WIDTH)
        for key, number in zip(keys, numbers, strict=True)
    ]
    rows = np.array(rows, dtype=np.float32).reshape(-1, WIDTH)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def keep_changing(address: str, seed: int, kinds: Sequence[str], state: State, told: Path) -> None:
    """Make changes until this process is killed; each that returned is a line in the file `told`."""
    with Gallery.open(address, MODELS) as gallery, told.open("a") as file:
        for change, _ in changes(seed, kinds, state):
            make_change(gallery, change)
            file.write("done\n")
            file.flush()


def held_by(gallery: Gallery) -> State:
    """The contents of a gallery; every entry must be there once, with features that were added with it."""
    entries = list(gallery.entries())
    keys = [entry.key for entry in entries]
    count = gallery.count()
    assert (len(keys), len(set(keys))) == (count, count)
    found = {}
    for start in range(0, len(keys), 1000):
        part = keys[start : start + 1000]
        found |= dict(zip(part, gallery.features(part).numpy(), strict=True))
    return {entry.key: (found[entry.key], entry.metadata.identity) for entry in entries}


def assert_between(gallery: Gallery, before: State, after: State) -> State:
    """Each entry is as before a change or behind it; returns what the gallery holds."""
    held: State = {}
    for key, (feature, identity) in held_by(gallery).items():
        versions = [state[key] for state in (before, after) if key in state]
        fitting = [
            (number, name)
            for number, name in versions
            if name == identity and np.allclose(features_of([key], [number])[0], feature, atol=1e-6)
        ]
        assert fitting, (key, versions, identity)
        held[key] = fitting[0]
    missing = (before.keys() & after.keys()) - held.keys()
    assert not missing, sorted(missing)[:5]
    return held


def assert_found(gallery: Gallery, state: State, draw: random.Random) -> None:
    """Entries are nearest to their own features, and no hit is given twice."""
    keys = draw.sample(sorted(state), min(len(state), 20))
    if not keys:
        return
    numbers = [state[key][0] for key in keys]
    found = gallery.search(features_of(keys, numbers), 50)
    assert all(len(hits) == min(50, len(state)) == len({hit.key for hit in hits}) for hits in found)
    own = sum(key == hits[0].key for key, hits in zip(keys, found, strict=True))
    assert own == len(keys) or (gallery.indexes["reid"] == "hnsw" and own >= 0.8 * len(keys))
