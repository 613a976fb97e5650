"""Finds the state dicts in the files of other programs, which nest them in dicts and prefix their names."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from torch import Tensor

# Parts of names that DataParallel, torch.compile, FSDP and activation checkpointing put in, at any place.
_PUT_IN = re.compile(r"(?<![^.])(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# In files without any known name: what may stand before all names.
_BEFORE = re.compile(r"(?:(?:module|_orig_mod|model|net|network)\.)+")
_COPY = re.compile(r"ema|teacher|swa|averag|momentum", re.IGNORECASE)
_DEPTH, _MOST = 4, 100  # dicts in dicts, models in a dict
_Dict = Mapping[Any, Any]


class Found(NamedTuple):
    """A state dict in a file. `place`: what it stands under, such as 'model_ema', or '' for nothing.

    `names` are those of its tensors in the file's dict, with those that they get. `around`: the dicts that it
    is in, with the entry that leads to it.
    """

    place: str
    content: _Dict
    names: dict[str, str]
    around: tuple[tuple[_Dict, str], ...]

    def state_dict(self) -> dict[Any, Any]:
        """The tensors by their new names."""
        return {new: self.content[key] for key, new in self.names.items()}

    def left_out(self) -> list[str]:
        """The file's other entries."""
        beside = [str(key) for content, inner in self.around for key in content if key != inner]
        return [*beside, *(str(key) for key in self.content if key not in self.names)]


def find_state_dicts(content: object, known: Sequence[str]) -> list[Found]:
    """The state dicts in a file, in its order, but those without a prefix first and averaged copies last.

    Each state dict has a tensor of one of the `known` names; what precedes that name in the file is taken off
    all names that begin with it. The first known name that occurs counts. Where none does, a usual prefix is
    removed if all tensors have it, and the dict with the most tensors comes first.
    """
    dicts = list(_dicts(content))
    for name in known:
        found = [each for place in dicts for each in _beneath(*place, name)]
        if found:
            return sorted(found, key=lambda each: (bool(_COPY.search(each.place)), each.place != ""))
    found = [_unknown(*place) for place in dicts]
    return sorted(found, key=lambda each: (bool(_COPY.search(each.place)), -len(each.names)))


def _dicts(content: object) -> Iterator[tuple[str, _Dict, tuple[tuple[_Dict, str], ...]]]:
    """Each dict that holds tensors, with its place and the dicts around it; the outer ones first."""
    level: list[tuple[Any, tuple[tuple[_Dict, str], ...]]] = [(content, ())]
    seen: set[int] = set()
    for _ in range(_DEPTH):
        inner = []
        for each, around in level:
            if not isinstance(each, Mapping) or id(each) in seen:
                continue
            seen.add(id(each))
            if any(isinstance(value, Tensor) for value in each.values()):
                yield ".".join(key for _, key in around), each, around
            inner += [(value, (*around, (each, key))) for key, value in each.items() if isinstance(key, str)]
        level = inner


def _beneath(place: str, content: _Dict, around: tuple[Any, ...], known: str) -> Iterator[Found]:
    """The state dicts in one dict: each has the known name, behind a prefix of its own."""
    named = {key: _PUT_IN.sub("", key) for key in _tensors(content)}
    if len(set(named.values())) < len(named):  # a model next to its wrapped copy
        named = {key: key for key in named}
    prefixes = list(
        islice((n.removesuffix(known) for n in named.values() if f".{n}".endswith(f".{known}")), _MOST)
    )
    for prefix in prefixes:
        deeper = tuple(other for other in prefixes if other != prefix and other.startswith(prefix))
        names = {
            key: name.removeprefix(prefix)
            for key, name in named.items()
            if name.startswith(prefix) and not name.startswith(deeper)
        }
        yield Found(f"{place}.{prefix}".strip("."), content, names, around)


def _unknown(place: str, content: _Dict, around: tuple[Any, ...]) -> Found:
    keys = _tensors(content)
    before = _BEFORE.match(keys[0]) if keys else None
    prefix = before[0] if before and all(key.startswith(before[0]) for key in keys) else ""
    return Found(place, content, {key: key.removeprefix(prefix) for key in keys}, around)


def _tensors(content: _Dict) -> list[str]:
    """The keys of tensors, without the counter that torch's averaged models put next to theirs."""
    names = [key for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)]
    return [name for name in names if name.rpartition(".")[2] != "n_averaged"]
