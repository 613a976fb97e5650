"""CLIP models by open_clip's names, and their weights: by tag (downloaded, checked) or from a file."""

import difflib
import logging
import os
from pathlib import Path

import open_clip
import torch
from torch import Tensor

from model import hugging_face
from model.description import check_towers, read_description
from model.names import REID, TEXT_SEARCH, has_text_tower
from utils.notes import reads_weights
from utils.package import find_shipped
from utils.untrusted.torchscript import is_torchscript
from utils.weights import read_state_dict, split_choice

_logger = logging.getLogger("transreid.model")

# The published names mean OpenAI's towers, whose activation is QuickGELU; open_clip's plain names mean GELU.
OPENAI_NAMES = {"ViT-B-16": "ViT-B-16-quickgelu", "RN50": "RN50-quickgelu"}
# By which weights are found in a file: those of re-id models, of CLIP, and of CLIP in Hugging Face's names.
KNOWN_NAMES = ("image_encoder.conv1.weight", "visual.conv1.weight", hugging_face.PATCHES)
_COUNTER = "num_batches_tracked"  # of a batch norm: no file of torch before 0.4.1 has it
_NEEDED = ("embed_dim", "vision_cfg", "text_cfg")
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # numbers in OpenAI's archives


def clip_config(name: str) -> dict:
    """open_clip's description of a CLIP model: embed_dim, vision_cfg, text_cfg, quick_gelu.

    `name` is a name that open_clip knows, or a `.json` file with such a description. Raises ValueError for an
    unknown name, or a model without CLIP's own kinds of towers; FileNotFoundError for a missing file.
    """
    file = find_shipped(name) if name.endswith(".json") else None
    config = read_description(file) if file else _description_of(name)
    vision, text = config["vision_cfg"], config["text_cfg"]
    if config.get("custom_text") or "timm_model_name" in vision or "hf_model_name" in text:
        raise ValueError(
            f"name is {name!r}, which has no plain CLIP towers; allowed: e.g. 'ViT-B-16', 'RN50'"
        )
    plain = {key: config[key] for key in (*_NEEDED, "quick_gelu") if key in config}
    if file:
        check_towers(plain, str(file))
    return plain


def _description_of(name: str) -> dict:
    known = {model.lower(): model for model in open_clip.list_models()}
    if name not in known.values():
        near = [known[low] for low in difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4)]
        raise ValueError(
            f"name is {name!r}; allowed: 'ViT-B-16', 'RN50' and open_clip's other ViTs and ResNets"
            + (f", e.g. {', '.join(near)}" if near else "")
        )
    return open_clip.get_model_config(OPENAI_NAMES.get(name, name)) or {}


def model_label(name: str) -> str:
    """A model's name as it stands in file names: without folder and suffix where it is a description file."""
    return Path(name).stem if name.endswith(".json") else name


def build_clip(config: dict, seed_weights: dict[str, Tensor] | None, source: str = "") -> open_clip.CLIP:
    """A CLIP model on the CPU, random or filled strictly from a state dict in OpenAI's names.

    `source` names the state dict in the ValueError that is raised when it does not fit.
    """
    clip = open_clip.CLIP(**config)
    if seed_weights is not None:
        weights = {key: value for key, value in seed_weights.items() if key not in _NOT_WEIGHTS}
        # Some files leave out the temperature, which a re-id model does not use.
        weights.setdefault("logit_scale", clip.logit_scale.detach())
        load_strictly(clip, weights, source)
    return clip


def load_strictly(module: torch.nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Fill a module from float tensors of exactly its names and shapes; counters of batches may be missing.

    Raises ValueError that names `source` and the first mismatches.
    """
    own = module.state_dict()
    check_fit(own, weights, source)
    counters = {key: torch.zeros_like(value) for key, value in own.items() if key not in weights}
    if counters:
        _logger.info(
            "%s has no %s for its %d batch norms: they count from 0", source, _COUNTER, len(counters)
        )
    module.load_state_dict({key: value.to(own[key].dtype) for key, value in (weights | counters).items()})


def check_fit(own: dict[str, Tensor], weights: dict[str, Tensor], source: str) -> None:
    """Raise ValueError that names `source` and the first differences in names and shapes, if any."""
    problems = [f"{key} is missing" for key in own if key not in weights and not key.endswith(_COUNTER)]
    problems += [
        f"{key} is {list(weights[key].shape)} instead of {list(own[key].shape)}"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    problems += [f"{key} is not expected" for key in weights if key not in own]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(f"{source} does not fit this architecture: {'; '.join(problems[:3])}{more}")


def require_clip(weights: dict[str, Tensor], path: str | Path) -> None:
    """Raise ValueError unless the weights in file `path` have the names of a CLIP model."""
    if has_text_tower(weights):
        raise ValueError(f"path {path} is {TEXT_SEARCH}; allowed: CLIP weights")
    if KNOWN_NAMES[0] in weights:
        raise ValueError(f"path {path} is {REID}; allowed: CLIP weights")
    if weights.keys().isdisjoint(KNOWN_NAMES):
        raise ValueError(
            f"path {path} has no CLIP weights in OpenAI's, open_clip's or Hugging Face's names; it holds "
            f"e.g. {', '.join(list(weights)[:3])}"
        )
    if hugging_face.PATCHES in weights:
        hugging_face.require_clip(weights, f"path {path}")


def openai_weights(
    weights: dict[str, Tensor], path: str | Path, name: str, config: dict
) -> dict[str, Tensor]:
    """CLIP's weights from file `path` in OpenAI's names; raises ValueError if of another activation."""
    file, _ = split_choice(path)
    if is_torchscript(file) and not config.get("quick_gelu"):
        _refuse_gelu(name, f"`path` {path} (OpenAI's)")
    if hugging_face.PATCHES in weights:
        _check_activation(file, name, config)
        weights = hugging_face.openai_names(weights)
    return {key: value for key, value in weights.items() if key not in _NOT_WEIGHTS}


def _check_activation(file: Path, name: str, config: dict) -> None:
    """Raise ValueError when the file's settings name another activation than `name` computes."""
    stated, own = hugging_face.activation_of(file), "quick_gelu" if config.get("quick_gelu") else "gelu"
    if stated == "quick_gelu" != own:
        _refuse_gelu(name, f"`path` {file}")
    if stated not in (own, None):
        raise ValueError(
            f"name {name} computes {own}, but `path` {file} was trained with {stated}, says its config.json; "
            "use a model with that activation, e.g. a description file without 'quick_gelu'"
        )
    source = "config.json says so" if stated else f"as `name` {name} has it; no config.json says so"
    _logger.info("%s: Hugging Face's names; activation %s, %s", file, own, source)


def clip_weights_by_tag(name: str, tag: str, config: dict) -> tuple[dict[str, Tensor], str]:
    """CLIP weights that open_clip names by a tag, from its cache or downloaded and checked by open_clip.

    Returns the state dict and the file it came from. Raises ValueError for an unknown tag, FileNotFoundError
    (which file, where it is looked for, how to bring it) when it is neither in the cache nor downloadable.
    """
    name = OPENAI_NAMES.get(name, name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags:
        allowed = ", ".join(tags) if tags else "none, open_clip publishes no weights of this model"
        raise ValueError(f"tag is {tag!r} for {name}; allowed: {allowed}")
    description = open_clip.get_pretrained_cfg(name, tag)
    if description.get("quick_gelu") and not config.get("quick_gelu"):
        _refuse_gelu(name, f"`tag` {tag!r}")
    try:
        # The original file, whose SHA-256 open_clip checks, before a converted copy of it.
        path = open_clip.download_pretrained(description, prefer_hf_hub=False)
    except (OSError, RuntimeError) as error:
        url = description.get("url")
        where = (
            Path("~/.cache/clip").expanduser() / os.path.basename(url) if url else "the Hugging Face cache"
        )
        what = url or f"{description.get('hf_hub')} on the Hugging Face hub"
        reason = " ".join(str(error).split())[:120]
        raise FileNotFoundError(
            f"CLIP weights {tag!r} of {name} are not at {where} and could not be downloaded ({reason}): "
            f"fetch {what} on a machine with network and put it there, "
            "or name the file in `path`"
        ) from error
    return read_state_dict(path, KNOWN_NAMES), str(path)


def _refuse_gelu(name: str, weights: str) -> None:
    """Raise ValueError. The reverse, QuickGELU with weights of GELU, does not occur in open_clip."""
    other = "'quick_gelu': true in that file" if name.endswith(".json") else f"{name}-quickgelu"
    raise ValueError(f"name {name} computes GELU, but {weights} was trained with QuickGELU; use {other}")


def load_clip(name: str, choice: str, path: str, tag: str) -> open_clip.CLIP:
    """The CLIP model of that name: random if `choice` is 'none', else from file `path` or by `tag`."""
    if choice == "none":
        _logger.info("CLIP %s starts from random weights", name)
        return build_clip(clip_config(name), None)
    if path:
        return clip_from_file(read_state_dict(path, KNOWN_NAMES), path, name)
    config = clip_config(name)
    weights, source = clip_weights_by_tag(name, tag, config)
    return _start(weights, source, name, config)


def clip_from_file(weights: dict[str, Tensor], path: str, name: str) -> open_clip.CLIP:
    """The CLIP model with the weights in file `path`, in the names of OpenAI, open_clip or Hugging Face."""
    config = clip_config(name)
    require_clip(weights, path)
    return _start(openai_weights(weights, path, name, config), path, name, config)


def _start(weights: dict[str, Tensor], source: str, name: str, config: dict) -> open_clip.CLIP:
    _logger.info("CLIP %s starts from the weights in %s", name, source, extra=reads_weights("clip", source))
    return build_clip(config, weights, f"{source} (`name` {name})")


def image_tower(config: dict) -> torch.nn.Module:
    """The image side of a CLIP model with random weights, which a re-id file fills."""
    empty_text = {"context_length": 1, "vocab_size": 1, "width": 1, "heads": 1, "layers": 1}
    return open_clip.CLIP(**{**config, "text_cfg": empty_text}).visual
