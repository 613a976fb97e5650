"""The folder of Milvus Lite: what a killed process left in it."""

from __future__ import annotations

import shutil
from pathlib import Path

_SCHEMA = "schema.json"


def clean_folder(folder: Path) -> bool:
    """Remove collections that were being made or dropped; whether there is a log that was not written out.

    To be called while no process has the folder open.
    """
    for collection in folder.glob("collections/*/"):
        if not (collection / _SCHEMA).exists():  # Milvus Lite lists those with one, and cannot make it again
            shutil.rmtree(collection)
    return any(folder.glob("collections/*/wal/*.arrow"))
