"""Loading re-id checkpoints of the published form: the file and images are enough, no CLIP download."""

import logging
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from model.adapter import Adapter
from model.clip import KNOWN_NAMES, check_fit, image_tower, load_strictly
from model.files.architecture import describe_towers
from model.files.geometry import adopt_geometry
from model.files.info import CheckpointInfo, read_info, warn_of_assumptions, warn_of_other_facts
from model.files.stage1 import warn_of_stage1
from model.names import TOWER, image_side, our_names
from model.prompts.deep import MARK, add_image_prompts
from model.reid import ReIDModel, SideInformation
from model.towers.image import make_backbone
from utils.weights import read_state_dict

_Pair = tuple[int, int]
_RGB = tuple[float, float, float]
_logger = logging.getLogger("transreid.model")


def load_reid_model(
    path: str | Path,
    size: _Pair | None = None,
    *,
    name: str | None = None,
    stride: _Pair | None = None,
    sie: _Pair | None = None,
    sie_scale: float | None = None,
    neck_feature: str | None = None,
    mean: _RGB | None = None,
    std: _RGB | None = None,
    resize: str | None = None,
) -> tuple[ReIDModel, CheckpointInfo]:
    """A model in evaluation mode from a re-id file; arguments that are None come from its model card.

    An argument that differs from the card is named in a warning, and so is, without a card, all that is
    assumed.

    Args:
        path: a file of the published form; text tower and prompts in it are not loaded.
        size: (H, W) of the images; without a card the sizes in common use are tried.
        name: the model's name for `clip_config`; without a card it is read from the file name
            (`ViT-B-16_60.pth`) or else the shapes decide, with OpenAI's QuickGELU for a ViT.
        stride: of the patches. Where the file has another size or stride, that one is adopted and logged.
        sie: counts of cameras and views that number the rows of the file's table; (1, 0): the mean row
            stands for all. Without a card every row is one camera.
        sie_scale: factor of the table's rows; without a card 1.
        neck_feature: 'before' or 'after' the BNNeck; without a card 'before'.
        mean, std: of pixels, for the facts; without a card those of the published settings.
        resize: 'bilinear' or 'bicubic', for the facts; without a card 'bilinear'.

    Returns the model and the facts about it. Raises FileNotFoundError, or ValueError that names the first
    mismatches when the file is no re-id checkpoint or of another architecture than `name`.
    """
    weights = our_names(read_state_dict(path, KNOWN_NAMES), str(path))
    info = read_info(weights, str(path))
    warn_of_stage1(weights, str(path))
    given = {"size": size, "stride": stride, "neck": neck_feature, "mean": mean, "std": std, "resize": resize}
    given = {key: value for key, value in (given | {"sie_scale": sie_scale}).items() if value is not None}
    card = info.card
    if card is not None:
        size, stride = size or card.size, stride or card.stride
        stated = {**dict(card), "sie_scale": info.sie_scale}
        used = {key: given[key] for key in given if key != "sie_scale" or info.side_rows}
        warn_of_other_facts(info, used, stated)
    info = replace(info, name=name or "", **{k: given[k] for k in given if k not in ("size", "stride")})
    side = None
    if info.side_rows:
        if sie is None:
            sie = (info.side_rows, 0) if card is None or card.sie is None else card.sie[:2]
        side = SideInformation(*sie, info.sie_scale)
    model, info = build_reid_model(weights, info, size, stride, side)
    if card is None:
        factor = ["sie_scale"] if info.side_rows else []
        share = ["adapter_ratio"] if info.adapter_width else []
        names = ("mean", "std", "resize", "neck", "size", "stride", *factor, *share)
        warn_of_assumptions(info, names, given)
    return model, info


def build_reid_model(
    weights: dict[str, Tensor],
    info: CheckpointInfo,
    size: _Pair | None,
    stride: _Pair | None,
    side: SideInformation | None,
) -> tuple[ReIDModel, CheckpointInfo]:
    """`load_reid_model` for weights that were read already; `info` has the `name` and `neck` to build."""
    path = info.path
    weights = image_side(weights, path)
    fitted_size, fitted_stride = adopt_geometry(info, size, stride)
    name, config = describe_towers(info)
    source = f"{path} (`name` {name})" if name else path
    # Before all else, because stride and grid of another architecture would be complained about instead; and
    # without memory for it, because a hostile file may have any shapes.
    with torch.device("meta"):
        check_fit(_unresized(image_tower(config).state_dict(prefix=TOWER)), _unresized(weights), source)
    if side is not None and side.rows == 1 < info.side_rows:
        weights["cv_embed"] = weights["cv_embed"].mean(dim=0, keepdim=True)
    backbone = make_backbone(image_tower(config), fitted_size, fitted_stride)
    if info.deep_prompts and info.kind == "ViT":
        add_image_prompts(backbone, *info.deep_prompts)
    adapter = None
    if info.adapter_width:
        adapter = Adapter(info.width, info.adapter_ratio, info.adapter_width)
    model = ReIDModel(
        backbone,
        info.num_classes,
        joint_classifier=info.joint_classifier,
        side_information=side,
        neck_feature=info.neck,
        adapter=adapter,
    )
    load_strictly(model, weights, source)
    return model.eval(), replace(
        info,
        name=name or (info.card.name if info.card else ""),
        size=fitted_size,
        stride=fitted_stride,
        sie_scale=info.sie_scale if side is None else side.scale,
    )


def _unresized(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tower's tensors that do not depend on image size, stride and prompts."""
    others = ("positional_embedding", MARK)
    return {k: v for k, v in weights.items() if k.startswith(TOWER) and not any(part in k for part in others)}
