"""Models: CLIP's towers, the re-id heads, prompts, and the files they come from."""

from model.clip import build_clip, clip_config, load_clip, model_label
from model.files.card import ModelCard, read_card
from model.files.info import CheckpointInfo
from model.files.reid_file import load_reid_model
from model.files.stage1 import load_stage1
from model.make_model import adopt_card, make_card, make_model, make_test_model
from model.reid import ReIDModel, ReIDOutput, SideInformation
from model.tokenizers import Tokenizer
from model.towers.attention import attention_map
from model.towers.image import make_backbone
from model.towers.text import TextTower

__all__ = [
    "CheckpointInfo",
    "ModelCard",
    "ReIDModel",
    "ReIDOutput",
    "SideInformation",
    "TextTower",
    "Tokenizer",
    "adopt_card",
    "attention_map",
    "build_clip",
    "clip_config",
    "load_clip",
    "load_reid_model",
    "load_stage1",
    "make_backbone",
    "make_card",
    "make_model",
    "make_test_model",
    "model_label",
    "read_card",
]
