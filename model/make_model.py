"""From the configuration to re-id models and their cards."""

import dataclasses
import functools
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import open_clip
from open_clip.model import VisionTransformer
from torch import nn
from yacs.config import CfgNode

from config.errors import as_keys
from config.nodes import single_name
from config.subject import prompt_subject
from model.adapter import Adapter
from model.clip import KNOWN_NAMES, build_clip, clip_config, model_label
from model.files.card import ModelCard, read_card
from model.files.clip_file import load_starting_clip
from model.files.info import CheckpointInfo, read_info
from model.files.reid_file import build_reid_model
from model.files.sides import side_information_for, trained_side_information
from model.files.stage1 import warn_of_stage1
from model.names import our_names
from model.prompts.deep import KNOWN_NAMES as PROMPT_NAMES
from model.prompts.deep import add_image_prompts, add_text_prompts, start_deep_prompts
from model.prompts.identity import PromptLearner
from model.reid import ReIDModel, SideInformation
from model.teacher import Teacher
from model.towers.image import Backbone, make_backbone
from model.towers.text import ClipText
from utils.weights import read_state_dict

_SHARED_KEYS = {
    "name": "MODEL.NAME",
    "stride": "MODEL.STRIDE_SIZE",
    "neck_feature": "TEST.NECK_FEAT",
}
_TRAINING_KEYS = _SHARED_KEYS | {
    "path": "MODEL.PRETRAIN_PATH",
    "tag": "MODEL.PRETRAIN_TAG",
    "recompute_blocks": "SOLVER.GRAD_CHECKPOINT",
    "deep_vision": "MODEL.PROMPT.DEEP_VISION",
    "deep_text": "MODEL.PROMPT.DEEP_TEXT",
    "subjects": "MODEL.PROMPT.SUBJECTS",
    "micro_batch": "SOLVER.MICRO_BATCH",
}
_TEST_KEYS = _SHARED_KEYS | {"size": "INPUT.SIZE_TEST"}
# Facts of a card about images, and the keys that say the same of a test.
IMAGE_KEYS = {
    "size": "INPUT.SIZE_TEST",
    "stride": "MODEL.STRIDE_SIZE",
    "mean": "INPUT.PIXEL_MEAN",
    "std": "INPUT.PIXEL_STD",
    "resize": "INPUT.TEST_RESIZE",
}
_CARD_KEYS = IMAGE_KEYS | {"neck": "TEST.NECK_FEAT"}
_logger = logging.getLogger("transreid.model")


@as_keys(_TRAINING_KEYS)
def make_model(
    cfg: CfgNode,
    num_class: int,
    camera_num: int,
    view_num: int,
    *,
    pretrained: bool = True,
    subjects: str | Sequence[str] | None = None,
) -> ReIDModel:
    """The model that training starts from, on the CPU, in training mode.

    CLIP's weights come from MODEL.PRETRAIN_PATH, or MODEL.PRETRAIN_TAG by name, or are random
    (MODEL.PRETRAIN_CHOICE 'none', or not `pretrained`, where others will be loaded). MODEL.TEXT 'prompts'
    adds prompts of `num_class` identities and a text tower. `num_class` 0 gives no classifiers. `subjects` is
    the noun of the prompts, or the noun phrase of each identity; None asks the configuration.
    """
    node = cfg.MODEL
    if not pretrained:
        clip = build_clip(clip_config(node.NAME), None)
    else:
        warn_of_unused_path(cfg)
        clip = load_starting_clip(node.NAME, node.PRETRAIN_CHOICE, node.PRETRAIN_PATH, node.PRETRAIN_TAG)
    backbone = training_backbone(cfg, clip.visual)
    adapter = None
    if node.ADAPTER_RATIO:
        if backbone.width < node.ADAPTER_REDUCTION:
            raise ValueError(
                f"MODEL.ADAPTER_REDUCTION is {node.ADAPTER_REDUCTION}; allowed: up to {backbone.width}, the "
                "width of the feature"
            )
        adapter = Adapter(backbone.width, node.ADAPTER_RATIO, inner=backbone.width // node.ADAPTER_REDUCTION)
    texts = None
    if node.TEXT == "prompts":
        texts = _training_texts(cfg, clip, num_class, subjects or prompt_subject(cfg))
    model = ReIDModel(
        backbone,
        num_class,
        joint_classifier=node.CLASSIFIER == "joint",
        side_information=_training_side(cfg, backbone, camera_num, view_num),
        neck_feature=cfg.TEST.NECK_FEAT,
        texts=texts,
        micro_batch=cfg.SOLVER.MICRO_BATCH,
        adapter=adapter,
        prompt_in_captions=node.TEXT == "prompts" and node.PROMPT.IN_CAPTIONS,
    )
    if node.TEXT == "prompts":
        _add_deep_prompts(cfg, model, pretrained=pretrained)
    return model


def _training_texts(
    cfg: CfgNode, clip: open_clip.CLIP, num_class: int, subjects: str | Sequence[str]
) -> tuple[PromptLearner, ClipText]:
    """Prompts of identities and the text tower, which is frozen unless a stage trains it.

    With captions it keeps its table of word embeddings.
    """
    trained = cfg.SOLVER.STAGE1.TRAIN_TEXT or cfg.SOLVER.STAGE0.MAX_EPOCHS > 0
    tower = ClipText(clip, token_table=bool(cfg.DATASETS.CAPTIONS)).requires_grad_(trained)
    table: Any = clip.token_embedding
    node = cfg.MODEL.PROMPT
    learner = PromptLearner(
        num_class,
        table,
        tower.tokenizer,
        subjects,
        fixed_words=node.FIXED_WORDS,
        num_tokens=node.NUM_TOKENS,
    )
    return learner, tower


def _add_deep_prompts(cfg: CfgNode, model: ReIDModel, *, pretrained: bool) -> None:
    """Deep prompts in the towers, from MODEL.PROMPT.WEIGHT or random; warns of those that stay so."""
    node = cfg.MODEL.PROMPT
    if node.DEEP_VISION:
        add_image_prompts(model.image_encoder, node.DEEP_VISION, node.DEPTH)
    if node.DEEP_TEXT:
        tower, end = cast("ClipText", model.text_encoder), int(model.prompt_learner.ends.min())
        add_text_prompts(tower, node.DEEP_TEXT, node.DEPTH, end)
    if node.WEIGHT and pretrained and (node.DEEP_VISION or node.DEEP_TEXT):
        with as_keys({"path": "MODEL.PROMPT.WEIGHT"}):
            count = start_deep_prompts(
                model, read_state_dict(node.WEIGHT, PROMPT_NAMES), f"path {node.WEIGHT}"
            )
        _logger.info("%d deep prompts start from %s", count, node.WEIGHT)
    trained = cfg.SOLVER.STAGE1.ONLINE_FEATURES or cfg.SOLVER.STAGE2.PROMPTS != "none"
    if node.DEEP_VISION and not (trained or node.WEIGHT):
        _logger.warning(
            "MODEL.PROMPT.DEEP_VISION %d: these prompts stay random, because neither "
            "SOLVER.STAGE1.ONLINE_FEATURES nor SOLVER.STAGE2.PROMPTS trains them",
            node.DEEP_VISION,
        )


@as_keys(
    {"name": "MODEL.TEACHER.NAME", "path": "MODEL.TEACHER.PRETRAIN_PATH", "tag": "MODEL.TEACHER.PRETRAIN_TAG"}
)
def make_teacher(cfg: CfgNode) -> Teacher | None:
    """The frozen image tower of CLIP whose features a model stays near; None without its loss.

    Its weights are those that the model starts from where neither MODEL.TEACHER.PRETRAIN_PATH nor _TAG names
    others. It has no deep prompts, and patches that do not overlap. Raises ValueError where CLIP is random.
    """
    node = cfg.MODEL
    own = node.TEACHER
    if not own.LOSS_WEIGHT:
        return None
    path, tag = own.PRETRAIN_PATH, own.PRETRAIN_TAG
    if not (path or tag):
        path, tag = node.PRETRAIN_PATH, node.PRETRAIN_TAG
        if node.PRETRAIN_CHOICE == "none":
            raise ValueError(
                "MODEL.TEACHER.PRETRAIN_PATH and PRETRAIN_TAG are empty; allowed with MODEL.PRETRAIN_CHOICE "
                "'none': one of them, because the teacher needs weights"
            )
    clip = load_starting_clip(own.NAME or node.NAME, "clip", path, tag)
    stride = tuple(node.STRIDE_SIZE)
    if isinstance(clip.visual, VisionTransformer):
        stride = tuple(clip.visual.conv1.kernel_size)
    tower = make_backbone(
        clip.visual, tuple(cfg.INPUT.SIZE_TRAIN), (stride[0], stride[1]), position_resize=node.POSITION_RESIZE
    )
    return Teacher(tower, own.FEATURE)


def warn_of_unused_path(cfg: CfgNode) -> None:
    """Warn of a file of weights that random ones take the place of."""
    path = cfg.MODEL.PRETRAIN_PATH
    if cfg.MODEL.PRETRAIN_CHOICE == "none" and path:
        _logger.warning("MODEL.PRETRAIN_PATH %s is not used: MODEL.PRETRAIN_CHOICE is 'none'", path)


def training_backbone(cfg: CfgNode, tower: nn.Module) -> Backbone:
    """CLIP's image tower for the size and stride of training, with its patches frozen where keys say so."""
    node = cfg.MODEL
    backbone = make_backbone(
        tower,
        tuple(cfg.INPUT.SIZE_TRAIN),
        tuple(node.STRIDE_SIZE),
        recompute_blocks=cfg.SOLVER.GRAD_CHECKPOINT,
        position_resize=node.POSITION_RESIZE,
    )
    if node.FREEZE_PATCHES:
        if backbone.patch_projection is not None:
            backbone.patch_projection.requires_grad_(False)
        else:
            _logger.warning("MODEL.FREEZE_PATCHES is not used: %s has no patch projection", node.NAME)
    return backbone


def _training_side(cfg: CfgNode, backbone: Backbone, cameras: int, views: int) -> SideInformation | None:
    node = cfg.MODEL
    if not (node.SIE_CAMERA or node.SIE_VIEW):
        return None
    if not backbone.supports_side_information:
        _logger.warning("MODEL.SIE_CAMERA and SIE_VIEW are not used: %s has no class token", node.NAME)
        return None
    return SideInformation(cameras if node.SIE_CAMERA else 0, views if node.SIE_VIEW else 0, node.SIE_COE)


@as_keys(_TEST_KEYS)
def make_test_model(
    cfg: CfgNode, cameras: int, views: int, *, data: str = ""
) -> tuple[ReIDModel, CheckpointInfo]:
    """The model in TEST.WEIGHT for test set `data` of that many cameras and views (highest id + 1).

    Stride and size are adopted from the file where they differ from the configuration, and the numbers of
    its SIE rows from its model card. Warns of a PCL-CLIP file where features or resizing are not those of its
    own test.
    """
    path, node = cfg.TEST.WEIGHT, cfg.MODEL
    if not path:
        raise ValueError(
            "TEST.WEIGHT is empty; allowed: the path of a checkpoint, e.g. logs/run/ViT-B-16_60.pth"
        )
    weights = our_names(read_state_dict(path, KNOWN_NAMES), path)
    info = read_info(weights, path)
    _warn_of_other_test(cfg, info)
    warn_of_stage1(weights, path)
    card = info.card
    if card is not None and card.sie is not None:
        table, rows = card.sie._replace(scale=node.SIE_COE), weights["cv_embed"]
        trained = card.cameras or {card.data: card.sie.cameras}
        side, summary, weights["cv_embed"] = trained_side_information(
            table, rows, trained, data, cameras=cameras, views=views
        )
    elif info.side_rows and (cfg.DATASETS.TRAIN_ALSO or data not in ("", single_name(cfg.DATASETS.NAMES))):
        side = SideInformation(1, 0, node.SIE_COE if node.SIE_CAMERA or node.SIE_VIEW else info.sie_scale)
        summary = f"SIE by the mean row: without a model card the rows of {data} are not known"
    else:
        side, summary = side_information_for(
            info.side_rows,
            cameras=cameras,
            views=views,
            use_camera=node.SIE_CAMERA,
            use_view=node.SIE_VIEW,
            # The plain configuration does not know the scale of the file's training.
            scale=node.SIE_COE if node.SIE_CAMERA or node.SIE_VIEW else info.sie_scale,
        )
    if side is not None and cfg.TEST.SIE == "mean":
        side, summary = SideInformation(1, 0, side.scale), "SIE by the mean row, as TEST.SIE asks"
    if summary:
        _logger.info("%s: %s", path, summary)
    info = dataclasses.replace(
        info,
        name=node.NAME,
        mean=tuple(cfg.INPUT.PIXEL_MEAN),
        std=tuple(cfg.INPUT.PIXEL_STD),
        resize=cfg.INPUT.TEST_RESIZE,
        neck=cfg.TEST.NECK_FEAT,
        adapter_ratio=node.ADAPTER_RATIO or info.adapter_ratio,
    )
    if info.card is None and info.adapter_width:
        _logger.warning(
            "%s has no model card: its adapter's share is taken as %g, which MODEL.ADAPTER_RATIO can change",
            *(path, info.adapter_ratio),
        )
    if info.card is None:
        _logger.info(
            "%s has no model card: mean %s, std %s, resize %s and neck %s are the configuration's",
            *(path, info.mean, info.std, info.resize, info.neck),
        )
        if side is not None and (cameras < side.cameras > 1 or views < side.views > 1):
            _logger.warning(
                "%s has no model card and more rows of SIE (%d) than cameras or views here (%d, %d): "
                "the first are taken, which are wrong for another site; TEST.SIE mean takes the mean row",
                *(path, info.side_rows, cameras, views),
            )
    return build_reid_model(weights, info, tuple(cfg.INPUT.SIZE_TEST), tuple(node.STRIDE_SIZE), side)


def _warn_of_other_test(cfg: CfgNode, info: CheckpointInfo) -> None:
    chosen = cfg.TEST.NECK_FEAT, cfg.INPUT.TEST_RESIZE
    if info.joint_classifier and chosen != ("after", "bicubic"):
        _logger.warning(
            "%s has the one classifier of PCL-CLIP, but TEST.NECK_FEAT is %r and INPUT.TEST_RESIZE %r; "
            "PCL-CLIP's own test has 'after' and 'bicubic', the defaults of test_pcl.py",
            info.path,
            *chosen,
        )


def adopt_card(cfg: CfgNode, given: Collection[str]) -> CfgNode:
    """The configuration with the settings in the model card of TEST.WEIGHT, if there is one, frozen.

    These are how images are prepared, the test feature and the scale of SIE. Keys in `given`, those of the
    command line, stay as they are. Each replacement is logged.
    """
    card = read_card(cfg.TEST.WEIGHT) if cfg.TEST.WEIGHT else None
    numbered = cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW or (card is not None and card.sie is not None)
    if "MODEL.SIE_COE" in given and not numbered:
        _logger.warning("MODEL.SIE_COE is not used: without a card it needs MODEL.SIE_CAMERA or SIE_VIEW")
    if card is None:
        return cfg
    values = {key: getattr(card, field) for field, key in _CARD_KEYS.items()}
    if card.sie is not None:
        values["MODEL.SIE_COE"] = card.sie.scale
    if card.adapter_ratio:
        values["MODEL.ADAPTER_RATIO"] = card.adapter_ratio
    return adopt_values(cfg, values, given)


def adopt_values(cfg: CfgNode, values: Mapping[str, Any], given: Collection[str]) -> CfgNode:
    """The configuration with the `values` of a model card for their keys, except those `given`, frozen."""
    adopted = cfg.clone()
    adopted.defrost()
    for key, value in values.items():
        node, name = functools.reduce(getattr, key.split(".")[:-1], adopted), key.split(".")[-1]
        value = list(value) if isinstance(value, tuple) else value
        if key not in given and node[name] != value:
            _logger.warning("%s %s is replaced by %s of the model card", key, node[name], value)
            node[name] = value
    adopted.freeze()
    return adopted


def image_facts(cfg: CfgNode) -> dict[str, Any]:
    """How images are prepared for a test, by the names in model cards."""
    return {
        "size": tuple(cfg.INPUT.SIZE_TEST),
        "stride": tuple(cfg.MODEL.STRIDE_SIZE),
        "mean": tuple(cfg.INPUT.PIXEL_MEAN),
        "std": tuple(cfg.INPUT.PIXEL_STD),
        "resize": cfg.INPUT.TEST_RESIZE,
    }


def make_card(
    cfg: CfgNode,
    model: ReIDModel,
    method: str,
    *,
    data: str,
    versions: Mapping[str, str],
    cameras: Mapping[str, int] | None = None,
) -> ModelCard:
    """The card of a model that was made from the configuration and trained by `method` on `data`.

    `cameras` are those of each data set in `data`, which follow each other in the table of side information.
    """
    node = cfg.MODEL
    tower = clip_config(node.NAME)
    return ModelCard(
        name=model_label(node.NAME),
        method=method,
        **image_facts(cfg),
        neck=cfg.TEST.NECK_FEAT,
        sie=model.side_information,
        classes=model.num_classes,
        tokenizer=model.text_encoder.tokenizer.name if hasattr(model, "text_encoder") else None,
        quick_gelu=tower.get("quick_gelu", False),
        head_width=tower["vision_cfg"].get("head_width", 64),
        data=data,
        versions=versions,
        cameras=cameras or {},
        adapter_ratio=node.ADAPTER_RATIO,
    )
