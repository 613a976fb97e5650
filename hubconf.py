"""For `torch.hub.load(folder, "clipreid", weight, source="local")`: the models, without an installation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipreid import Model, TextModel

dependencies = ["torch", "torchvision", "open_clip", "timm", "yacs", "pydantic", "safetensors", "scipy"]
_ROOMS = ("utils", "config", "datasets", "loss", "model", "processor", "retrieval", "solver")


def _face() -> Any:
    """`clipreid` of this folder, with its rooms imported: torch.hub takes the folder off the path again."""
    import importlib

    folder = Path(__file__).resolve().parent
    for room in ("clipreid", *_ROOMS):
        module = importlib.import_module(room)
        place = Path(module.__file__ or "").resolve()
        if folder not in place.parents:
            raise ImportError(
                f"{room} is {place} here, needed is that of {folder}: load the model before that one is "
                "imported, or install clipreid, whose folders have other names"
            )
    return sys.modules["clipreid"]


def clipreid(weight: str, **settings: Any) -> Model:
    """The re-id model in a file, a folder or a repository ('hf-hub:org/name'); see `clipreid.load_model`."""
    return _face().load_model(weight, **settings)


def clipreid_text(weight: str, **settings: Any) -> TextModel:
    """The text search model, in the same way; see `clipreid.load_text_model`."""
    return _face().load_text_model(weight, **settings)
