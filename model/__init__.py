"""Models: CLIP's towers, the re-id heads, prompts, and the files they come from."""

from model.attention import attention_map
from model.checkpoint import CheckpointInfo, load_reid_model
from model.clip import model_label
from model.make_model import make_model, make_test_model
from model.reid import ReIDModel, ReIDOutput, SideInformation
from model.stage1 import load_stage1

__all__ = [
    "CheckpointInfo",
    "ReIDModel",
    "ReIDOutput",
    "SideInformation",
    "attention_map",
    "load_reid_model",
    "load_stage1",
    "make_model",
    "make_test_model",
    "model_label",
]
