"""From the configuration to a model: the one place of this room that reads keys."""

import logging

from yacs.config import CfgNode

from config.subject import prompt_subject
from model.clip import build_clip, clip_config, load_clip
from model.files.reid_file import CheckpointInfo, build_reid_model, read_info
from model.files.sides import side_information_for
from model.prompts.identity import PromptLearner
from model.reid import ReIDModel, SideInformation
from model.towers.image import make_backbone
from model.towers.text import ClipText
from utils.files import read_state_dict

_logger = logging.getLogger("transreid.model")


def make_model(
    cfg: CfgNode, num_class: int, camera_num: int, view_num: int, *, pretrained: bool = True
) -> ReIDModel:
    """The model that training starts from, on the CPU, in training mode.

    CLIP's weights come from MODEL.PRETRAIN_PATH, or MODEL.PRETRAIN_TAG by name, or are random
    (MODEL.PRETRAIN_CHOICE 'none', or not `pretrained`, where others will be loaded). A two-stage tree adds
    prompts of `num_class` identities and texts. With CLUSTER.METHOD the model has no classifiers.
    """
    node = cfg.MODEL
    if pretrained:
        clip = load_clip(node.NAME, node.PRETRAIN_CHOICE, node.PRETRAIN_PATH, node.PRETRAIN_TAG)
    else:
        clip = build_clip(clip_config(node.NAME), None)
    backbone = make_backbone(
        clip.visual,
        tuple(cfg.INPUT.SIZE_TRAIN),
        tuple(node.STRIDE_SIZE),
        recompute_blocks=cfg.SOLVER.GRAD_CHECKPOINT,
    )
    side = None
    if node.SIE_CAMERA or node.SIE_VIEW:
        if backbone.supports_side_information:
            cameras, views = (
                n if on else 0 for n, on in ((camera_num, node.SIE_CAMERA), (view_num, node.SIE_VIEW))
            )
            side = SideInformation(cameras, views, node.SIE_COE)
        else:
            _logger.warning("MODEL.SIE_CAMERA and SIE_VIEW are not used: %s has no class token", node.NAME)
    if node.FREEZE_PATCHES:
        if backbone.patch_projection is not None:
            backbone.patch_projection.requires_grad_(False)
        else:
            _logger.warning("MODEL.FREEZE_PATCHES is not used: %s has no patch projection", node.NAME)
    text = {}
    if "STAGE1" in cfg.SOLVER:
        tower = ClipText(clip, token_table=False).requires_grad_(False)
        text["text_encoder"] = tower
        text["prompt_learner"] = PromptLearner(
            num_class, clip.token_embedding, tower.tokenizer, prompt_subject(cfg)
        )
    return ReIDModel(
        backbone,
        num_class if cfg.CLUSTER.METHOD == "none" else 0,
        joint_classifier=node.CLASSIFIER == "joint",
        side_information=side,
        neck_feature=cfg.TEST.NECK_FEAT,
        micro_batch=cfg.SOLVER.MICRO_BATCH,
        **text,
    )


def make_test_model(cfg: CfgNode, cameras: int, views: int) -> tuple[ReIDModel, CheckpointInfo]:
    """The model in TEST.WEIGHT for a test set of that many cameras and views (highest id + 1).

    Stride and size are adopted from the file where they differ from the configuration. Of a PCL-CLIP file
    there is a warning where features or resizing are not those of its own test.
    """
    path, node = cfg.TEST.WEIGHT, cfg.MODEL
    if not path:
        raise ValueError(
            "TEST.WEIGHT is empty; allowed: the path of a checkpoint, e.g. logs/run/ViT-B-16_60.pth"
        )
    weights = read_state_dict(path)
    info = read_info(weights, path)
    _warn_of_other_test(cfg, info)
    rows = info.side_rows
    side, told = side_information_for(
        rows,
        cameras=cameras,
        views=views,
        use_camera=node.SIE_CAMERA,
        use_view=node.SIE_VIEW,
        # A file tested with the plain configuration was trained with somebody else's: the published scale.
        scale=node.SIE_COE if node.SIE_CAMERA or node.SIE_VIEW else 1.0,
    )
    if rows and cfg.TEST.SIE == "mean":
        side, told = SideInformation(1, 0, side.scale), "SIE by the mean row, as TEST.SIE asks"
    if told:
        _logger.info("%s: %s", path, told)
    return build_reid_model(
        weights,
        info,
        tuple(cfg.INPUT.SIZE_TEST),
        name=node.NAME,
        stride=tuple(node.STRIDE_SIZE),
        side_information=side,
        neck_feature=cfg.TEST.NECK_FEAT,
    )


def _warn_of_other_test(cfg: CfgNode, info: CheckpointInfo) -> None:
    chosen = cfg.TEST.NECK_FEAT, cfg.INPUT.TEST_RESIZE
    if info.joint_classifier and chosen != ("after", "bicubic"):
        _logger.warning(
            "%s has the one classifier of PCL-CLIP, but TEST.NECK_FEAT is %r and INPUT.TEST_RESIZE %r; "
            "PCL-CLIP's own test has 'after' and 'bicubic', the defaults of test_pcl.py",
            info.path,
            *chosen,
        )
