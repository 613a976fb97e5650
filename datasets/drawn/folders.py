"""Folders of drawn data sets: the numbers they are drawn with, and the record that marks them."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

PICTURE_LIMITS = {"height": (32, 1024), "width": (16, 1024), "seed": (0, 2**32 - 1)}
RECORD = "drawn.json"  # a file with the arguments, which marks a folder as drawn


def check_numbers(arguments: Mapping[str, int], limits: Mapping[str, tuple[int, int]]) -> None:
    """Raise ValueError for an argument outside its limits, both included."""
    for name, (low, high) in limits.items():
        if not low <= arguments[name] <= high:
            raise ValueError(f"{name} is {arguments[name]}; allowed: {low} to {high}")


def new_folder(folder: Path, arguments: Mapping[str, int | str | list[str]], *, overwrite: bool) -> Path:
    """Make the folder with a record of the arguments in it, and return it.

    Raises FileExistsError if it exists and either `overwrite` is not set or it holds no drawn data set.
    """
    if folder.exists():
        if not overwrite:
            raise FileExistsError(f"{folder} exists already and is not overwritten unless asked to")
        if not (folder / RECORD).is_file():
            raise FileExistsError(
                f"{folder} has no file {RECORD}: it was not drawn here and is never overwritten"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps(arguments, indent=1) + "\n", encoding="utf-8")
    return folder
