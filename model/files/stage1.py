"""Files of finished stages of two-stage models, from which the next stage can start."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from model.clip import KNOWN_NAMES, load_strictly
from model.names import our_names
from model.reid import ReIDModel
from utils.notes import reads_weights
from utils.weights import read_state_dict, split_choice

_PROMPTS = "prompt_learner.cls_ctx"
_COUNTER = "bottleneck.num_batches_tracked"
_WORDS = "text_encoder.token_embedding.weight"  # in files of runs with captions
_PROMPTS_ONLY = ("cls_ctx", "ctx")  # in `clip_model_prompter_119.pth`
_OF_STAGE2 = re.compile(r"(?:(?!_stage\d).)+_(\d+)\.pth").fullmatch
_logger = logging.getLogger("transreid.model")


def load_stage1(model: ReIDModel, path: str | Path) -> None:
    """Load the whole model of a stage-1 file of the published form, in place; raises as `load_stage`."""
    load_stage(model, path)
    _logger.info("stage 1 is taken from %s", path, extra=reads_weights("stage1", path))


def load_stage(model: ReIDModel, path: str | Path, *, after_stage2: bool = False) -> None:
    """Load the whole model of the file of a stage, in place.

    Raises FileNotFoundError, or ValueError when the file has no prompts or those of another number of
    identities, has been through stage 2 (unless `after_stage2`), or is of another architecture.
    """
    weights = our_names(read_state_dict(path, KNOWN_NAMES), str(path))
    if not weights.keys().isdisjoint(_PROMPTS_ONLY):
        raise ValueError(
            f"path {path} has learned prompts without the model and without the order of its identities, as "
            "published by Multimodal-ReID; allowed: a file of stage 1 with both towers"
        )
    if _PROMPTS not in weights:
        raise ValueError(
            f"path {path} has no learned prompts ({_PROMPTS}); allowed: a file of stage 1, "
            "e.g. ViT-B-16_stage1_120.pth"
        )
    identities = len(weights[_PROMPTS]) if weights[_PROMPTS].dim() else 0
    if identities != model.num_classes:
        raise ValueError(
            f"path {path} has the prompts of {identities} identities; allowed: of the "
            f"{model.num_classes} of the training split"
        )
    if not after_stage2 and weights.get(_COUNTER, torch.tensor(0)).sum() > 0:
        raise ValueError(
            f"path {path} has been through stage 2, its batch norms have seen images; "
            "allowed: a file of stage 1"
        )
    own = model.state_dict()
    if _WORDS in own and _WORDS not in weights:
        _logger.info("%s has no table of word embeddings: it stays as it is", path)
        weights[_WORDS] = own[_WORDS]
    elif _WORDS in weights and _WORDS not in own:
        _logger.info("%s has a table of word embeddings, which is left out: there are no captions", path)
        del weights[_WORDS]
    load_strictly(model, weights, f"path {path}")


def has_seen_no_images(weights: Mapping[str, Tensor]) -> bool:
    """Whether the batch norms of a re-id file count no batch, as after stage 1; False without a count."""
    return _COUNTER in weights and not weights[_COUNTER].sum()


def warn_of_stage1(weights: Mapping[str, Tensor], path: str) -> None:
    """Warn of a file of stage 1 where features are wanted, with the file that was probably meant."""
    if _PROMPTS in weights and has_seen_no_images(weights):
        _logger.warning(
            "%s is a file of stage 1, which learns prompts: its image tower is not trained for re-id yet and "
            "its batch norms have seen no images; %s is what finds people or things again",
            *(path, _file_after(split_choice(path)[0])),
        )


def _file_after(path: Path) -> str:
    """The last file of stage 2 next to a file of stage 1, or what such files are called."""
    found = {int(match[1]): file for file in path.parent.glob("*.pth") if (match := _OF_STAGE2(file.name))}
    label = re.split(r"_stage\d", path.stem)[0] if "_stage" in path.stem else "ViT-B-16"
    return str(found[max(found)]) if found else f"a file of stage 2, such as {label}_60.pth,"
