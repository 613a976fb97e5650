"""Models: CLIP's towers, the re-id heads, prompts, and the files they come from."""

from model.clip import build_clip, clip_config, load_clip, model_label
from model.dual import DualModel
from model.files.card import ModelCard, TextSearchCard, read_card, read_text_search_card
from model.files.clip_file import load_starting_clip
from model.files.info import CheckpointInfo
from model.files.reid_file import load_reid_model
from model.files.stage1 import load_stage1
from model.files.text_search_file import load_text_search_model
from model.files.text_search_info import TextSearchInfo
from model.make_model import adopt_card, make_card, make_model, make_teacher, make_test_model
from model.make_text_search import (
    adopt_text_search_card,
    make_text_search_card,
    make_text_search_model,
    make_text_search_test_model,
)
from model.masked_words import NO_LABEL, mask_words, predict_words
from model.reid import ReIDModel, ReIDOutput, SideInformation
from model.teacher import Teacher
from model.tokenizers import ClipTokenizer, Tokenizer, cut_to_longest, tokenize_captions
from model.towers.attention import attention_map
from model.towers.dropout import other_seeds
from model.towers.image import make_backbone
from model.towers.text import TextTower
from model.zero_shot import class_features, warn_of_other_text

__all__ = [
    "NO_LABEL",
    "CheckpointInfo",
    "ClipTokenizer",
    "DualModel",
    "ModelCard",
    "ReIDModel",
    "ReIDOutput",
    "SideInformation",
    "Teacher",
    "TextSearchCard",
    "TextSearchInfo",
    "TextTower",
    "Tokenizer",
    "adopt_card",
    "adopt_text_search_card",
    "attention_map",
    "build_clip",
    "class_features",
    "clip_config",
    "cut_to_longest",
    "load_clip",
    "load_reid_model",
    "load_stage1",
    "load_starting_clip",
    "load_text_search_model",
    "make_backbone",
    "make_card",
    "make_model",
    "make_teacher",
    "make_test_model",
    "make_text_search_card",
    "make_text_search_model",
    "make_text_search_test_model",
    "mask_words",
    "model_label",
    "other_seeds",
    "predict_words",
    "read_card",
    "read_text_search_card",
    "tokenize_captions",
    "warn_of_other_text",
]
