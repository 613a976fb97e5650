"""Models: CLIP's towers, the re-id heads, prompts, and the files they come from."""

from model.clip import build_clip, clip_config, load_clip, model_label
from model.dual import DualModel
from model.export.files import (
    Parity,
    export_onnx,
    measure_parity,
    onnx_runner,
    require_parity,
    write_graph,
)
from model.export.graphs import (
    Graph,
    bake_mean_row,
    client_statistics,
    image_graph,
    text_graph,
)
from model.files.card import ModelCard, TextSearchCard, read_card, read_text_search_card
from model.files.clip_file import load_starting_clip
from model.files.hub import Publication, save_for_hub
from model.files.info import CheckpointInfo
from model.files.reid_file import load_reid_model
from model.files.stage1 import load_stage, load_stage1
from model.files.text_search_file import is_text_search_file, load_text_search_model
from model.files.text_search_info import TextSearchInfo
from model.make_model import adopt_card, make_card, make_model, make_teacher, make_test_model
from model.make_start import start_from_reid
from model.make_text_search import (
    adopt_text_search_card,
    make_text_search_card,
    make_text_search_model,
    make_text_search_test_model,
)
from model.make_tokenizer import make_tokenizer
from model.masked_words import NO_LABEL, mask_words, predict_words
from model.reid import ReIDModel, ReIDOutput, SideInformation
from model.teacher import Teacher
from model.tokenizers import (
    ClipTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    cut_to_longest,
    tokenize_captions,
)
from model.towers.attention import attention_map
from model.towers.dropout import other_seeds
from model.towers.image import make_backbone
from model.towers.multilingual import MultilingualText
from model.towers.text import ClipText, TextTower
from model.zero_shot import class_features, warn_of_other_text
from utils.export_forms import FORMS, OPSET, PIXELS, Form, Pixels

__all__ = [
    "FORMS",
    "NO_LABEL",
    "OPSET",
    "PIXELS",
    "CheckpointInfo",
    "ClipText",
    "ClipTokenizer",
    "DualModel",
    "Form",
    "Graph",
    "ModelCard",
    "MultilingualText",
    "Parity",
    "Pixels",
    "Publication",
    "ReIDModel",
    "ReIDOutput",
    "SentencePieceTokenizer",
    "SideInformation",
    "Teacher",
    "TextSearchCard",
    "TextSearchInfo",
    "TextTower",
    "Tokenizer",
    "adopt_card",
    "adopt_text_search_card",
    "attention_map",
    "bake_mean_row",
    "build_clip",
    "class_features",
    "client_statistics",
    "clip_config",
    "cut_to_longest",
    "export_onnx",
    "image_graph",
    "is_text_search_file",
    "load_clip",
    "load_reid_model",
    "load_stage",
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
    "make_tokenizer",
    "mask_words",
    "measure_parity",
    "model_label",
    "onnx_runner",
    "other_seeds",
    "predict_words",
    "read_card",
    "read_text_search_card",
    "require_parity",
    "save_for_hub",
    "start_from_reid",
    "text_graph",
    "tokenize_captions",
    "warn_of_other_text",
    "write_graph",
]
