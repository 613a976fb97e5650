"""CLIP weights in Hugging Face's names (`transformers.CLIPModel`), turned into OpenAI's."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from utils.untrusted.forms import Form, read_json

PATCHES = "vision_model.embeddings.patch_embedding.weight"
_NAMES = {
    r"^vision_model\.embeddings\.class_embedding$": "visual.class_embedding",
    r"^vision_model\.embeddings\.patch_embedding\.": "visual.conv1.",
    r"^vision_model\.embeddings\.position_embedding\.weight$": "visual.positional_embedding",
    r"^vision_model\.pre_lay(?:er|r)norm\.": "visual.ln_pre.",
    r"^vision_model\.post_layernorm\.": "visual.ln_post.",
    r"^visual_projection\.weight$": "visual.proj",
    r"^text_model\.embeddings\.token_embedding\.": "token_embedding.",
    r"^text_model\.embeddings\.position_embedding\.weight$": "positional_embedding",
    r"^text_model\.final_layer_norm\.": "ln_final.",
    r"^text_projection\.weight$": "text_projection",
    r"^vision_model\.encoder\.layers?\.": "visual.transformer.resblocks.",  # AltCLIP's by transformers 5
    r"^text_model\.encoder\.layers\.": "transformer.resblocks.",
    r"\.self_attn\.": ".attn.",
    r"\.layer_norm([12])\.": r".ln_\1.",
    r"\.mlp\.fc1\.": ".mlp.c_fc.",
    r"\.mlp\.fc2\.": ".mlp.c_proj.",
}
_TRANSPOSED = ("visual.proj", "text_projection")


class _Tower(Form):
    hidden_act: str = "quick_gelu"


class _Settings(Form):
    """`config.json` of a model; only the activation is not in the weights."""

    vision_config: _Tower = _Tower()


def require_clip(weights: Mapping[str, Tensor], where: str) -> None:
    """Raise ValueError, which begins with `where`, for other models that have the image tower's names."""
    kind = ""
    if "vision_model.embeddings.class_embedding" not in weights:
        kind = "another model without a class token, such as SigLIP"
    elif "text_model.embeddings.token_embedding.weight" not in weights:
        kind = "the image tower alone, a CLIPVisionModel"
    if kind:
        raise ValueError(f"{where} is Hugging Face's file of {kind}; allowed: a whole CLIPModel")


def openai_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights in OpenAI's names: with q, k and v in one, and projections that multiply from the right.

    Constants are left out; names that are not known stay.
    """
    renamed = {}
    for key, value in weights.items():
        name = key
        for pattern, new in _NAMES.items():
            name = re.sub(pattern, new, name)
        if not key.endswith(".position_ids"):
            renamed[name] = value.T.contiguous() if name in _TRANSPOSED and value.dim() == 2 else value
    for name in list(renamed):
        stem, found, kind = name.partition(".attn.q_proj.")
        names = [f"{stem}.attn.{part}_proj.{kind}" for part in "qkv"]
        if found and all(
            each in renamed and renamed[each].shape == renamed[name].shape != () for each in names
        ):
            renamed[f"{stem}.attn.in_proj_{kind}"] = torch.cat([renamed.pop(each) for each in names])
    return renamed


def activation_of(path: Path) -> str | None:
    """The activation in the `config.json` next to a weights file, e.g. 'quick_gelu'; None without that file.

    Raises ValueError that names the file when it is damaged.
    """
    settings = path.with_name("config.json")
    return read_json(settings, _Settings).vision_config.hidden_act if settings.exists() else None
