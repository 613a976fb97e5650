"""Readers of weight files that run no code."""

import copy
import logging
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from utils.hub import find_weights
from utils.text import printable, shortened
from utils.untrusted.pickles import check_archive, check_claims, check_state_dict, is_mappable
from utils.untrusted.plain import require_plain
from utils.untrusted.torchscript import is_torchscript, read_torchscript
from utils.untrusted.wrappers import Found, find_state_dicts

_EXAMPLES = 5  # in a line of the log
_LONGEST = 160  # characters of a reader's message
_logger = logging.getLogger("transreid.weights")


class _EasyDict:
    """Stands in for `easydict.EasyDict`, whose settings published files hold: an OrderedDict is made."""

    __module__, __qualname__ = "easydict", "EasyDict"  # by which torch finds it

    def __new__(cls) -> OrderedDict:  # one of the dicts that torch's unpickler fills
        return OrderedDict()


torch.serialization.add_safe_globals([_EasyDict])


def split_choice(path: str | Path) -> tuple[Path, str]:
    """A path such as `best.pth#model_ema` as the file and the state dict in it that is meant; '' for none.

    A file whose own name has a `#` is found, too, and so are references such as `hf-hub:org/name`, for which
    this raises as `find_weights` does.
    """
    file, _, choice = str(path).rpartition("#")
    return (
        (find_weights(path), "") if not Path(file).is_file() or Path(path).exists() else (Path(file), choice)
    )


def read_state_dict(path: str | Path, known: Sequence[str] = ()) -> dict[str, Tensor]:
    """Read a state dict on the CPU: a `torch.save` file, a TorchScript archive, or a `.safetensors` file.

    It is found in dicts and behind prefixes, see `find_state_dicts`; `known` are names of tensors by which it
    is recognised. What is taken, renamed and left out is logged; of several state dicts the first is taken,
    or the one that the path names, as in `best.pth#model_ema`. Nothing that the file contains is executed.
    Raises FileNotFoundError, or ValueError if the file is not a checkpoint, is damaged, holds pickled code,
    or does not have the state dict that the path names.
    """
    file, choice = split_choice(path)
    content = _read(file, mapped=True)
    found = find_state_dicts(content, known)
    if not found:
        check_state_dict(content, file)
    taken = _chosen(found, file, choice)
    weights = taken.state_dict()
    check_state_dict(weights, file)
    _state(taken, found, file, choice)
    # Off the mapped file, which may be written to later; numbers that are shared stay shared.
    return copy.deepcopy(weights) if is_mappable(file) else weights


def _chosen(found: Sequence[Found], file: Path, choice: str) -> Found:
    if not choice:
        return found[0]
    fits = [each for each in found if each.place == choice]
    fits = fits or [each for each in found if choice in each.place.split(".")]
    if len(fits) != 1:
        places = ", ".join(repr(each.place) for each in found[:10])
        raise ValueError(f"{file} holds {len(fits) or 'no'} weights {choice!r}; allowed: {places}")
    return fits[0]


def _state(taken: Found, found: Sequence[Found], file: Path, choice: str) -> None:
    """Log what is taken, renamed and left out."""
    if len(found) > 1 and not choice:
        places = [_shown(each.place or "(no prefix)") for each in found]
        _logger.warning(
            "%s holds %d sets of weights: %s. The first is taken; for another, write e.g. %s#%s",
            *(file, len(found), ", ".join(places[:_EXAMPLES]), file, places[1]),
        )
    elif taken.place:
        _logger.info("%s: the weights under %s are taken", file, _shown(taken.place))
    renamed = [pair for pair in taken.names.items() if pair[0] != pair[1]]
    if renamed:
        _logger.info("%s: %d names are cut, e.g. %s to %s", file, len(renamed), *map(_shown, renamed[0]))
    left = taken.left_out()
    if left:
        shown = ", ".join(map(_shown, left[:_EXAMPLES]))
        _logger.info("%s: %d other entries are left out, e.g. %s", file, len(left), shown)


def _shown(name: str) -> str:
    return shortened(printable(name), 60)


def read_entry(path: str | Path, name: str) -> object:
    """An entry of the dict in a `torch.save` file, whose tensors stay on the disk; None where it has none.

    Files in other forms have none, nor has one whose weights the path names, as in `last.pt#beside`, other
    than 'model'. Raises ValueError or OSError as `read_checkpoint` does.
    """
    file, choice = split_choice(path)
    if choice not in ("", "model") or not file.is_file() or file.suffix == ".safetensors":
        return None
    try:
        if not is_mappable(file) or is_torchscript(file):
            return None
    except zipfile.BadZipFile:  # whoever reads its weights says so
        return None
    content = _read(file, mapped=True)
    return content.get(name) if isinstance(content, dict) else None


def read_checkpoint(path: str | Path) -> object:
    """Read a file of `save_torch` on the CPU: dicts, lists, numbers, text and tensors.

    Nothing that the file contains is executed. Raises FileNotFoundError, or ValueError if it is another file,
    is damaged or holds pickled code.
    """
    return _read(Path(path))


def _read(path: Path, *, mapped: bool = False) -> object:
    """The content of a file; where `mapped` may be, a tensor is read from the disk when it is used."""
    if not path.exists():
        raise FileNotFoundError(f"no weights file at {path}")
    require_plain(path)
    try:
        with warnings.catch_warnings():  # about deprecated forms of files, which still exist
            warnings.simplefilter("ignore")
            if path.suffix == ".safetensors":
                content: object = safetensors.torch.load_file(path)
            else:
                check_archive(path)
                if is_torchscript(path):
                    content = read_torchscript(path)
                else:
                    mapped = mapped and is_mappable(path)
                    content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            check_claims(content, path)
            return content
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror or _reason(error)}") from error
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {_reason(error)}") from error
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is no checkpoint of plain tensors (pickled code is never run): {_reason(error)}"
        ) from error
    except Exception as error:  # readers raise many types, all due to the file
        raise ValueError(f"{path} is no checkpoint: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The line of a reader's message that says what is wrong; the others are advice to developers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = next((line for line in lines if "Unsupported" in line), [*lines, type(error).__name__][0])
    return printable(line[:_LONGEST])
