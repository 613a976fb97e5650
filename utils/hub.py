"""Weights in folders as a Hugging Face Hub has them: found by reference, fetched, and uploaded.

huggingface_hub is imported where it is used: it reads HF_ENDPOINT, HF_HOME and its other settings then.
"""

import functools
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from utils.text import one_line, printable

WEIGHTS, CARD, README, TOKENIZER = "model.safetensors", "config.json", "README.md", "tokenizer.json"
SLOW_TOKENIZER = "sentencepiece.bpe.model"  # to say that it is not the other one
# The first that a folder or repository has: ours and transformers', open_clip's, and both before safetensors.
_WEIGHTS = (WEIGHTS, "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
LIBRARY = "clipreid"  # in cards
_HUB, _FOLDER = "hf-hub:", "local-dir:"
_MESSAGE = 200  # characters of the hub's own words in an error
_logger = logging.getLogger("transreid.weights")


def find_weights(path: str | Path) -> Path:
    """The weights file that `path` stands for.

    `hf-hub:org/name` and `hf-hub:org/name@revision` are repositories, fetched once a process and kept in
    huggingface_hub's cache; `local-dir:folder`, like a folder that has such a file, is its model.safetensors,
    or weights under another usual name. A folder of a repository in such a cache (models--org--name), or a
    cache of one repository, is its latest revision there. Another path is returned as it is. Raises
    FileNotFoundError for what is not there, PermissionError, OSError where the hub is not reached, ValueError
    for what is no repository's name or several; each names it in one line.
    """
    text = str(path)
    if text.startswith(_HUB):
        return fetch_weights(text.removeprefix(_HUB))
    folder = text.removeprefix(_FOLDER)
    file = _weights_in(Path(folder)) if folder and os.path.isdir(folder) else None
    if file is not None:
        return file
    if text.startswith(_FOLDER):
        raise FileNotFoundError(f"{printable(text)} has no {WEIGHTS}")
    return Path(path)


def hub_reference(repo: str) -> str:
    """'org/name' as `find_weights` takes it."""
    return f"{_HUB}{repo}"


def _weights_in(folder: Path) -> Path | None:
    """The weights in a folder, or in the latest snapshot of the one repository in it."""
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    repos = [folder] if (folder / "snapshots").is_dir() else sorted(folder.glob("models--*--*/"))
    repos = [repo for repo in repos if (repo / "snapshots").is_dir()]
    if len(repos) > 1:
        names = ", ".join(repo.name for repo in repos[:3])
        raise ValueError(
            f"{printable(folder)} has {len(repos)} repositories; allowed: one of {printable(names)}"
        )
    if not repos:
        return None
    latest, snapshots = repos[0] / "refs" / "main", sorted((repos[0] / "snapshots").iterdir())
    if latest.is_file():
        snapshots = [repos[0] / "snapshots" / latest.read_text(encoding="utf-8").strip()]
    if len(snapshots) != 1:
        names = ", ".join(each.name for each in snapshots[:3]) or "none"
        raise ValueError(f"{printable(repos[0])} has {len(snapshots)} snapshots; allowed: one, of {names}")
    return _weights_in(snapshots[0]) if snapshots[0].is_dir() else None


def fetch_weights(name: str, files: Sequence[str] = ()) -> Path:
    """The first of the weights `files`, by default of those with usual names, of a repository 'org/name'.

    Card, weights and tokenizer are those of one revision, however often they are asked for. Raises as
    `find_weights`.
    """
    return _fetch(name, tuple(files) or _WEIGHTS)


@functools.lru_cache(maxsize=64)
def _fetch(name: str, files: tuple[str, ...]) -> Path:
    from huggingface_hub import constants, snapshot_download

    repo, _, revision = name.partition("@")
    what = f"{_HUB}{printable(name)}"
    small = [CARD, TOKENIZER, SLOW_TOKENIZER]
    for weights in files:
        with _errors_in_one_line(what):
            folder = Path(
                snapshot_download(repo, revision=revision or None, allow_patterns=[*small, weights])
            )
        if (folder / weights).is_file():
            _logger.info("%s is revision %s", what, folder.name)
            return folder / weights
    tried = ", ".join(files)
    raise FileNotFoundError(f"{what} has no {tried}, in the cache or at {constants.ENDPOINT}")


def push_folder(folder: str | Path, repo: str, *, private: bool = False) -> str:
    """Upload weights, card, README and tokenizer of a folder to repository `repo` ('org/name').

    Other files in it stay here.
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
            repo_id=repo,
            folder_path=folder,
            allow_patterns=[*names, TOKENIZER],
            commit_message="Upload the model",
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
        reason = one_line(error.__cause__ or error, _MESSAGE).rstrip(".")
        raise OSError(f"{what} is not in the cache, and {place} gives none: {reason}") from error
    except (OSError, ValueError, errors.HTTPError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise PermissionError(
                f"{what}: {place} refuses (status {status}); needed: a login that may do so (`hf auth login`)"
            ) from error
        raise OSError(f"{what} at {place}: {one_line(error, _MESSAGE)}") from error
