"""Models with a multilingual text tower: their names, AltCLIP's settings, and where their files are.

AltCLIP (Chen et al., Findings of ACL 2023) as transformers has it, and open_clip's CLIPs with XLM-R.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
from pydantic import Field

from model.clip import clip_config
from model.description import Depth, Pixels, Width
from model.towers.multilingual import NORM_EPS, PAD, XlmSizes
from utils.hub import CARD, LIBRARY, hub_reference
from utils.untrusted.forms import Form, read_json
from utils.weights import split_choice

ALTCLIP, _ALTCLIP_REPO = "AltCLIP", "BAAI/AltCLIP"
# Models by name and the kinds of their text towers, keys of `towers.multilingual.MULTILINGUAL`.
KINDS = {
    ALTCLIP: "altclip",
    "xlm-roberta-base-ViT-B-32": "xlm-roberta",
    "xlm-roberta-large-ViT-H-14": "xlm-roberta",
}
_REPO = re.compile(rf"{_ALTCLIP_REPO}[\w.-]*(@[\w.-]+)?")  # another path would be a mistyped file


class _Text(Form):
    """The text tower in AltCLIP's config.json; what is not stated is as transformers has it."""

    hidden_size: Width = 1024
    num_hidden_layers: Depth = 24
    num_attention_heads: Width = 16
    intermediate_size: int = Field(default=4096, ge=1, le=65_536)
    vocab_size: int = Field(default=250_002, ge=4, le=2**21)
    max_position_embeddings: int = Field(default=514, ge=6, le=16_384)
    project_dim: Width = 768
    hidden_act: str = "gelu"
    layer_norm_eps: float = NORM_EPS
    pad_token_id: int = PAD
    type_vocab_size: int = 1


class _Vision(Form):
    hidden_size: Width = 768
    num_hidden_layers: Depth = 12
    num_attention_heads: Width = 12
    intermediate_size: int = Field(default=3072, ge=1, le=65_536)
    image_size: Pixels = 224
    patch_size: Pixels = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = NORM_EPS


class _Settings(Form):
    library_name: Any = None
    model_type: str = ""
    projection_dim: Width = 768
    text_config: _Text = _Text()
    vision_config: _Vision = _Vision()


class Described(NamedTuple):
    """Both towers before weights are read: `config` of the image tower for open_clip, sizes of the text's."""

    config: dict[str, Any]
    text: XlmSizes


def is_multilingual(name: str) -> bool:
    """Whether a model of that name has a multilingual text tower."""
    return name in KINDS


def text_model_name(text: str) -> str:
    """The name of the model that has a text tower, such as 'altclip', if it is a multilingual one."""
    return ALTCLIP if text == "altclip" else text


def image_config(name: str) -> dict[str, Any]:
    """open_clip's description of the image tower of a model of that name; raises as `clip_config`."""
    if name == ALTCLIP:
        return clip_config("ViT-L-14-quickgelu")
    if name in KINDS:
        known = open_clip.get_model_config(name) or {}
        return {"embed_dim": known["embed_dim"], "vision_cfg": known["vision_cfg"], "quick_gelu": False}
    return clip_config(name)


def find_model(path: str, name: str | None) -> str:
    """The weights that `path` stands for: a file, a folder or cache, or a repository for `find_weights`.

    AltCLIP's repository may be named without `hf-hub:`; '' is this one for the model of that name.
    """
    if name == ALTCLIP:
        path = path or _ALTCLIP_REPO
    return hub_reference(path) if _REPO.fullmatch(path) and not Path(path).exists() else path


def read_altclip_settings(path: str | Path) -> Described | None:
    """The towers as the config.json next to AltCLIP's weights states them; None without that file.

    Our own model cards of that name are no such file. Raises ValueError that names the file for another
    model, or one that computes otherwise than released.
    """
    file = split_choice(path)[0].with_name(CARD)
    if not file.is_file():
        return None
    settings = read_json(file, _Settings)
    if settings.library_name == LIBRARY:
        return None
    text, vision = settings.text_config, settings.vision_config
    facts = {
        "model_type": (settings.model_type, ("altclip",)),
        "text_config.hidden_act": (text.hidden_act, ("gelu",)),
        "text_config.layer_norm_eps": (text.layer_norm_eps, (NORM_EPS,)),
        "text_config.pad_token_id": (text.pad_token_id, (PAD,)),
        "text_config.type_vocab_size": (text.type_vocab_size, (1,)),
        "vision_config.hidden_act": (vision.hidden_act, ("quick_gelu", "gelu")),
        "vision_config.layer_norm_eps": (vision.layer_norm_eps, (NORM_EPS,)),
    }
    for field, (stated, allowed) in facts.items():
        if stated not in allowed:
            raise ValueError(f"{file}: {field} is {stated!r}; allowed: {' or '.join(map(repr, allowed))}")
    for side, tower in (("text_config", text), ("vision_config", vision)):
        if tower.hidden_size % tower.num_attention_heads:
            raise ValueError(
                f"{file}: {side}.hidden_size is {tower.hidden_size}; allowed: multiples of "
                f"num_attention_heads, {tower.num_attention_heads}"
            )
    sizes = XlmSizes(
        "altclip",
        *(text.hidden_size, text.num_hidden_layers, text.num_attention_heads, text.intermediate_size),
        *(text.vocab_size, text.max_position_embeddings, text.project_dim, settings.projection_dim),
    )
    config = {
        "embed_dim": settings.projection_dim,
        "quick_gelu": vision.hidden_act == "quick_gelu",
        "vision_cfg": {
            "image_size": vision.image_size,
            "layers": vision.num_hidden_layers,
            "width": vision.hidden_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
            "patch_size": vision.patch_size,
        },
    }
    return Described(config, sizes)
