"""Descriptions of CLIP models in open_clip's form, JSON files that may come from anywhere."""

from pathlib import Path
from typing import Annotated, Any

import open_clip
import torch
from open_clip import CLIPTextCfg, CLIPVisionCfg
from pydantic import Field

from utils.untrusted.forms import Form, parse_json
from utils.untrusted.plain import read_plain

_MAX_BYTES = 2**16  # a few hundred are usual
_MAX_PARAMETERS = 5_000_000_000  # 20 GB in float32, twice as many as the largest published CLIP has
Width = Annotated[int, Field(ge=1, le=16_384)]
Depth = Annotated[int, Field(ge=1, le=200)]
Pixels = Annotated[int, Field(ge=1, le=4096)]
Ratio = Annotated[float, Field(gt=0, le=64)]


class _Tower(Form, extra="allow"):
    """The usual fields of a tower; the rest is left to open_clip."""

    width: Width = CLIPVisionCfg.width
    mlp_ratio: Ratio = CLIPVisionCfg.mlp_ratio


class _Vision(_Tower):
    """An image tower; a ResNet has four numbers of layers and no patches."""

    layers: Depth | tuple[Depth, Depth, Depth, Depth] = CLIPVisionCfg.layers
    head_width: Width = CLIPVisionCfg.head_width
    patch_size: Pixels | None = CLIPVisionCfg.patch_size
    image_size: Pixels | tuple[Pixels, Pixels] = CLIPVisionCfg.image_size


class _Text(_Tower):
    layers: Depth = CLIPTextCfg.layers
    heads: Width = CLIPTextCfg.heads
    context_length: int = Field(CLIPTextCfg.context_length, ge=1, le=16_384)
    vocab_size: int = Field(CLIPTextCfg.vocab_size, ge=1, le=2**21)


class _Description(Form, extra="allow"):
    embed_dim: Width
    vision_cfg: _Vision
    text_cfg: _Text
    quick_gelu: bool = False


class _OnHubs(Form):
    model_cfg: _Description | None = None


def read_description(path: Path) -> dict[str, Any]:
    """The description in a file, or under `model_cfg` as on model hubs.

    Raises FileNotFoundError, or ValueError that names the file and the first mistake in it.
    """
    where = f"{path} is no model description of open_clip"
    text = read_plain(path, _MAX_BYTES)
    described = parse_json(text, _OnHubs, where).model_cfg or parse_json(text, _Description, where)
    return described.model_dump(exclude_unset=True)


def check_towers(config: dict[str, Any], where: str) -> None:
    """Raise ValueError, which begins with `where`, about plain CLIP towers that no machine can build."""
    try:
        CLIPVisionCfg(**config["vision_cfg"])
        CLIPTextCfg(**config["text_cfg"])
        with torch.device("meta"):  # shapes without numbers
            parameters = sum(each.numel() for each in open_clip.CLIP(**config).parameters())
    except Exception as error:  # open_clip and torch raise any type about numbers that do not fit together
        raise ValueError(f"{where}: {' '.join(str(error).split())[:200]}") from error
    if parameters > _MAX_PARAMETERS:
        raise ValueError(f"{where}: {parameters:,} parameters; allowed: at most {_MAX_PARAMETERS:,}")
