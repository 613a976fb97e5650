"""From the configuration to a zero-shot test, whose features may have probabilities of described people."""

import argparse
import dataclasses
import logging
from typing import Any

import torch
from open_clip import CLIP
from torch import Tensor, nn
from yacs.config import CfgNode

from config.check import check_config
from config.errors import as_keys
from datasets import ReIDDataset, read_attributes, templates
from model import ReIDModel, class_features, load_starting_clip, make_backbone, warn_of_other_text
from processor.engine.journal import log_lines
from processor.evaluation import Evaluation
from processor.make_evaluation import evaluate_as_configured
from processor.make_parts import plain_evaluation
from processor.make_receipt import TestDone, noted_test
from processor.make_session import test_session
from processor.make_test import extract_task, read_test_data, report_test, require_outputs
from processor.methods import METHODS
from retrieval import RetrievalTask, attribute_probabilities, fuse, metrics_lines, metrics_record
from utils.device import move_module
from utils.distributed import is_first

_logger = logging.getLogger("transreid")


def zero_shot(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Evaluate TEST.WEIGHT, or CLIP itself where it is empty, on the test split of DATASETS.TEST or NAMES.

    `args.mm`, the weight of the probabilities, fuses them with the features and reports both; None leaves the
    features as they are. OUTPUT_DIR gets the files of a test. Raises as `test` does, and ValueError for
    options that need another one.
    """
    check_config(cfg)
    sentences = _read_sentences(args)
    method = METHODS["clipreid"]
    if not cfg.TEST.WEIGHT:
        method = dataclasses.replace(method, test=_clip_test)
    with (
        test_session(cfg, args) as (device, output_dir),
        noted_test("zero_shot", device, output_dir) as note,
    ):
        fuses = args.mm is not None
        require_outputs(cfg, output_dir, fused=fuses)
        cfg = method.adopt(cfg, args.opts[::2])
        if fuses and cfg.TEST.NECK_FEAT != "before":
            raise ValueError(
                f"TEST.NECK_FEAT is {cfg.TEST.NECK_FEAT!r}; allowed with --mm: 'before', because texts are "
                "compared with features before the neck"
            )
        if sentences and not fuses:
            text = "--attributes without --mm: nothing is fused, the sentences of %d people have no influence"
            _logger.info(text, len(sentences))
        dataset = read_test_data(cfg, method)
        # Before the images, so that missing weights are noticed at once.
        classes = _encode(cfg, sentences, device) if fuses and is_first() else None
        task = extract_task(cfg, method, dataset, device)
        if classes is not None:
            task = _fused(cfg, args, task, classes)
        if is_first():
            note(TestDone(cfg, dataset, *report_test(cfg, task, output_dir)))


def _read_sentences(args: argparse.Namespace) -> list[list[str]]:
    """The sentences of each person in --attributes."""
    if not args.attributes:
        given = {"--mm": args.mm is not None, "--augmented_template": args.augmented_template}
        for option in (name for name, value in given.items() if value):
            raise ValueError(f"{option} without --attributes; allowed: with a file of attributes")
        return []
    people = read_attributes(args.attributes)
    return [
        templates(person, number, augmented=args.augmented_template) for number, person in enumerate(people)
    ]


def _load_clip(cfg: CfgNode) -> CLIP:
    node = cfg.MODEL
    if node.PRETRAIN_CHOICE == "none":
        raise ValueError(
            "MODEL.PRETRAIN_CHOICE is 'none'; allowed with --mm, and without TEST.WEIGHT: 'clip', because "
            "CLIP needs weights"
        )
    with as_keys({"name": "MODEL.NAME", "path": "MODEL.PRETRAIN_PATH", "tag": "MODEL.PRETRAIN_TAG"}):
        return load_starting_clip(node.NAME, node.PRETRAIN_CHOICE, node.PRETRAIN_PATH, node.PRETRAIN_TAG)


def _clip_test(cfg: CfgNode, dataset: ReIDDataset) -> tuple[nn.Module, Evaluation]:
    """CLIP's image tower as a re-id model, and the images that it is tested on."""
    clip, node = _load_clip(cfg), cfg.MODEL
    _logger.info("TEST.WEIGHT is empty: the image side is CLIP's, without prompts, adapter and SIE")
    size, stride = tuple(cfg.INPUT.SIZE_TEST), tuple(node.STRIDE_SIZE)
    with as_keys({"name": "MODEL.NAME", "stride": "MODEL.STRIDE_SIZE", "size": "INPUT.SIZE_TEST"}):
        tower = make_backbone(clip.visual, size, stride, position_resize=node.POSITION_RESIZE)
    model = ReIDModel(tower, 0, neck_feature=cfg.TEST.NECK_FEAT)
    facts = {
        "weight": node.PRETRAIN_PATH or node.PRETRAIN_TAG,
        "size": list(size),
        "stride": list(stride),
        "neck_feature": cfg.TEST.NECK_FEAT,
        "pixel_mean": list(cfg.INPUT.PIXEL_MEAN),
        "pixel_std": list(cfg.INPUT.PIXEL_STD),
        "resize": cfg.INPUT.TEST_RESIZE,
    }
    return model, plain_evaluation(cfg, dataset, model, facts)


def _encode(cfg: CfgNode, sentences: list[list[str]], device: torch.device) -> Tensor:
    """Class features (C, P) by the text tower of MODEL.PRETRAIN_PATH or _TAG."""
    clip = _load_clip(cfg)
    if cfg.TEST.WEIGHT:
        warn_of_other_text(clip, cfg.TEST.WEIGHT)
    del clip.visual
    move_module(clip, device)
    _logger.info("Encoding %d sentences of %d people", sum(map(len, sentences)), len(sentences))
    return class_features(clip, sentences)


def _fused(cfg: CfgNode, args: argparse.Namespace, task: RetrievalTask, classes: Tensor) -> RetrievalTask:
    """The task with fused features; the metrics at weight 0 are logged and kept in its `info`."""
    images = task.images
    # The test feature is the unprojected and the projected feature side by side.
    width = images.features.shape[1] - classes.shape[1]
    features, projected = images.features[:, :width], images.features[:, width:]
    plain = dataclasses.replace(task, images=dataclasses.replace(images, features=features))
    metrics = evaluate_as_configured(cfg, plain)
    log_lines("Validation Results without fusion ", metrics_lines(metrics))
    fused = fuse(features, attribute_probabilities(projected, classes), args.mm)
    _logger.info("fused with probabilities of %d people, weight %g", len(classes), args.mm)
    about: dict[str, Any] = {
        "attributes": {
            "file": str(args.attributes),
            "people": len(classes),
            "augmented": args.augmented_template,
            "weight": args.mm,
        },
        "without_fusion": metrics_record(metrics),
    }
    return dataclasses.replace(
        task, images=dataclasses.replace(images, features=fused), info={**task.info, **about}
    )
