"""Stages whose final file is in the folder of the run, which may be left out."""

from collections.abc import Mapping
from pathlib import Path


def missing_stages(folder: str | Path, files: Mapping[str, str]) -> list[str]:
    """The stages to run, by name: those after the latest one whose file is there.

    `files` are the names of the final files in `folder` by stage, in the order of the stages.
    """
    names = list(files)
    there = [place for place, name in enumerate(names) if (Path(folder) / files[name]).is_file()]
    return names[max(there, default=-1) + 1 :]
