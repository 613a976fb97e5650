"""The folder of Milvus Lite: what a killed process left in it."""

from __future__ import annotations

import shutil
from pathlib import Path

PREFIX = "clipreid_"  # of the names of collections
LOCK = ".clipreid.lock"
_SCHEMA = "schema.json"


def collections_in(folder: Path) -> list[Path]:
    """The folders of a gallery's collections, also of those that were being made; the others are not ours."""
    return [path for path in folder.glob(f"collections/{PREFIX}*") if path.is_dir()]


def is_of_others(folder: Path) -> bool:
    """Whether a folder has files, and none that Milvus Lite begins with."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return bool(names) and names.isdisjoint(("collections", "LOCK", LOCK))


def clean_folder(folder: Path) -> bool:
    """Remove collections that were being made or dropped; whether there is a log that was not written out.

    To be called while no process has the folder open.
    """
    collections = collections_in(folder)
    for collection in collections:
        if not (collection / _SCHEMA).exists():  # Milvus Lite lists those with one, and cannot make it again
            shutil.rmtree(collection)
    return any(any(collection.glob("wal/*.arrow")) for collection in collections)
