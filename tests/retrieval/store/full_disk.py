"""Fill a small disk with a gallery, make room, go on.

`python -m tests.retrieval.store.full_disk FOLDER SEED …`

Mounts a file system in memory at the folder, so it is run in a namespace of mounts of its own. Every
entry whose addition returned must be there at each step; it ends with an AssertionError where one is not.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from retrieval import Gallery
from tests.retrieval.gallery_changes import MODELS, Change, State, assert_found, changed, held_by, make_change

SIZE = 8 << 20  # bytes of the disk
MOST_LEFT = 700_000  # bytes that are left when the gallery is filled on


class Filling:
    """A gallery, the entries that were added to it, and those whose addition failed."""

    def __init__(self, address: Path, draw: random.Random) -> None:
        self.address, self._draw = address, draw
        self.added: State = {}
        self.failed: set[str] = set()
        self.messages: list[str] = []
        self._number = 0

    def add(self, gallery: Gallery) -> bool:
        """Add some entries under new keys; whether that returned."""
        self._number += 1
        count = self._draw.randint(1, 500)
        keys = tuple(f"k{self._number:05d} {i}" for i in range(count))
        change = Change("add", keys, self._number, new="anna")
        try:
            make_change(gallery, change)
        except OSError as error:
            self.messages.append(str(error))
            self.failed.update(keys)
            return False
        self.added = changed(self.added, change)
        return True

    def check(self, gallery: Gallery) -> None:
        """All that were added are there once and are found; others are only those whose addition failed."""
        held = held_by(gallery)
        missing = self.added.keys() - held.keys()
        assert not missing, f"{len(missing)} of {len(self.added)} are missing: {sorted(missing)[:3]}"
        others = held.keys() - self.added.keys() - self.failed
        assert not others, sorted(others)[:3]
        there = {key: (int(key[1:6]), "anna") for key in held}
        assert_found(gallery, there, self._draw)


def fill_and_go_on(folder: Path, seed: int) -> dict:
    """Fill the disk at a random moment, make room, and go on in the same process."""
    draw = random.Random(seed)
    filling = Filling(folder / f"gallery_{seed}.db", draw)
    filler = folder / "filler"
    Gallery.create(filling.address, MODELS).close()
    with Gallery.open(filling.address, MODELS) as gallery:
        for _ in range(draw.randint(1, 12)):
            assert filling.add(gallery)
        left = draw.choice([0, draw.randint(0, 20_000), draw.randint(0, MOST_LEFT)])
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, _free(folder) - left))
        tries = 0
        while len(filling.messages) < 3 and tries < 200:
            filling.add(gallery)
            tries += 1
        assert len(filling.messages) == 3, "the disk does not get full"
        filler.unlink()
        filling.check(gallery)
        for _ in range(8):
            assert filling.add(gallery), filling.messages[-1]
        filling.check(gallery)
    with Gallery.open(filling.address, MODELS) as gallery:
        filling.check(gallery)
        gallery.compact()
        filling.check(gallery)
    return {"seed": seed, "added": len(filling.added), "messages": filling.messages}


def open_on_a_full_disk(folder: Path, seed: int) -> dict:
    """Fill the disk, close the gallery, and open it while the disk is full."""
    draw = random.Random(seed)
    filling = Filling(folder / f"gallery_{seed}.db", draw)
    filler = folder / "filler"
    with Gallery.create(filling.address, MODELS) as gallery:
        for _ in range(draw.randint(1, 6)):
            assert filling.add(gallery)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, _free(folder) - draw.randint(0, MOST_LEFT)))
        while len(filling.messages) < 2:
            filling.add(gallery)
    with Gallery.open(filling.address, MODELS) as gallery:
        filling.check(gallery)
    filler.unlink()
    with Gallery.open(filling.address, MODELS) as gallery:
        filling.check(gallery)
        assert filling.add(gallery)
    with Gallery.open(filling.address, MODELS) as gallery:
        filling.check(gallery)
    return {"seed": seed, "added": len(filling.added), "messages": filling.messages}


def _free(folder: Path) -> int:
    system = os.statvfs(folder)
    return system.f_bavail * system.f_bsize


def main() -> None:
    folder, *seeds = sys.argv[1:]
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], check=True)
    for seed in map(int, seeds):
        for work in (fill_and_go_on, open_on_a_full_disk):
            print(json.dumps({"work": work.__name__} | work(Path(folder), seed)), flush=True)
            for path in Path(folder).iterdir():
                subprocess.run(["rm", "-rf", path], check=True)


if __name__ == "__main__":
    main()
