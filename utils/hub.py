"""Weights in folders as a Hugging Face Hub has them: found by reference, fetched, and uploaded.

huggingface_hub is imported where it is used: it reads HF_ENDPOINT, HF_HOME and its other settings then.
"""

import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.text import one_line, printable

WEIGHTS, CARD, README = "model.safetensors", "config.json", "README.md"
_HUB, _FOLDER = "hf-hub:", "local-dir:"
_MESSAGE = 200  # characters of the hub's own words in an error
_logger = logging.getLogger("transreid.weights")


def find_weights(path: str | Path) -> Path:
    """The weights file that `path` stands for.

    `hf-hub:org/name` and `hf-hub:org/name@revision` are repositories, fetched once a process and kept in
    huggingface_hub's cache; `local-dir:folder`, like a folder that has such a file, is its model.safetensors.
    Another path is returned as it is. Raises FileNotFoundError for what is not there, PermissionError,
    OSError where the hub is not reached, ValueError for what is no repository's name; each names it in one
    line.
    """
    text = str(path)
    if text.startswith(_HUB):
        return _fetch(text.removeprefix(_HUB))
    folder = text.removeprefix(_FOLDER)
    file = os.path.join(folder, WEIGHTS)
    if folder and os.path.isfile(file):
        return Path(file)
    if text.startswith(_FOLDER):
        raise FileNotFoundError(f"{printable(text)} has no {WEIGHTS}")
    return Path(path)


@functools.lru_cache(maxsize=64)
def _fetch(name: str) -> Path:
    """Card and weights are those of one revision, however often they are asked for."""
    from huggingface_hub import constants, snapshot_download

    repo, _, revision = name.partition("@")
    what = f"{_HUB}{printable(name)}"
    with _errors_in_one_line(what):
        folder = Path(snapshot_download(repo, revision=revision or None, allow_patterns=[CARD, WEIGHTS]))
    if not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"{what} has no {WEIGHTS} at {constants.ENDPOINT}")
    _logger.info("%s is revision %s", what, folder.name)
    return folder / WEIGHTS


def push_folder(folder: str | Path, repo: str, *, private: bool = False) -> str:
    """Upload weights, card and README of a folder to repository `repo` ('org/name'); others in it stay here.

    The repository is made where there is none, for its owner only if `private`. The login is that of
    `hf auth login` or HF_TOKEN. Returns the address of the commit. Raises FileNotFoundError for a file that
    the folder lacks, else as `find_weights`.
    """
    names = [WEIGHTS, CARD, README]
    for name in names:
        if not (Path(folder) / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}; needed for {repo}: {', '.join(names)}")
    from huggingface_hub import create_repo, upload_folder

    with _errors_in_one_line(printable(repo)):
        create_repo(repo, private=private, exist_ok=True)
        commit = upload_folder(
            repo_id=repo, folder_path=folder, allow_patterns=names, commit_message="Upload the model"
        )
    return commit.commit_url


@contextmanager
def _errors_in_one_line(what: str) -> Iterator[None]:
    """The errors of huggingface_hub, of many lines and types, as those of this file; `what` is in all."""
    from huggingface_hub import constants, errors

    place = constants.ENDPOINT
    try:
        yield
    except errors.HFValidationError as error:
        raise ValueError(f"{what} is no repository's name for {place}; allowed: org/name") from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{what}: no such repository at {place}, or one that needs another login (`hf auth login`)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f"{what}: no such revision at {place}") from error
    except errors.LocalEntryNotFoundError as error:
        reason = one_line(error.__cause__ or error, _MESSAGE)
        raise OSError(f"{what} is not in the cache, and {place} gives none: {reason}") from error
    except (OSError, ValueError, errors.HTTPError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise PermissionError(
                f"{what}: {place} refuses (status {status}); needed: a login that may do so (`hf auth login`)"
            ) from error
        raise OSError(f"{what} at {place}: {one_line(error, _MESSAGE)}") from error
