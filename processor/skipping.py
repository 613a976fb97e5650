"""Stages whose final file is in the folder of the run, which may be left out, and the settings beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.files import sha256_of_file, write_atomically
from utils.untrusted.forms import Form, read_json


class Settings(Form):
    """The settings of a finished stage, facts about its data, and the checksum of its file."""

    sha256: str
    config: dict[str, Any]
    data: dict[str, Any]


def missing_stages(folder: str | Path, files: Mapping[str, str]) -> list[str]:
    """The stages to run, by name: those after the latest one whose file is there.

    `files` are the names of the final files in `folder` by stage, in the order of the stages.
    """
    names = list(files)
    there = [place for place, name in enumerate(names) if (Path(folder) / files[name]).is_file()]
    return names[max(there, default=-1) + 1 :]


def settings_file(path: Path) -> Path:
    """Where the settings of a stage are, next to its final file."""
    return path.with_suffix(".settings.json")


def note_settings(path: Path, config: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Leave the settings, values by full key, next to the final file of a stage that has just ended."""
    settings = Settings(sha256=sha256_of_file(path), config=dict(config), data=dict(data))
    text = json.dumps(settings.model_dump(), indent=1)  # which escapes paths that are no text
    write_atomically(settings_file(path), lambda file: file.write_text(text + "\n", "utf-8"))


def read_settings(path: Path) -> Settings:
    """The note next to the final file of a stage.

    Raises ValueError where there are no settings or where they are of another file: the stage is not known to
    be finished then.
    """
    beside = settings_file(path)
    if not beside.is_file():
        raise ValueError(
            f"{path} has no {beside.name} next to it, so it may be from the middle of a stage; allowed to be "
            "left out: stages that ended in this folder"
        )
    settings = read_json(beside, Settings)
    if settings.sha256 != sha256_of_file(path):
        raise ValueError(
            f"{beside} is not of the {path.name} that is there now, which may be from the middle of a stage; "
            "allowed to be left out: stages that ended in this folder"
        )
    return settings


def require_same_data(settings: Settings, data: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError where the stage that ended with `path` was trained on other data than `data` says."""
    for name, now in data.items():
        if settings.data.get(name) != now:
            raise ValueError(
                f"the training split has other {name} ({now}) than {path} was trained on "
                f"({settings.data.get(name)}); allowed with files that are there: the same data"
            )
