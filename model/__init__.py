"""Models: CLIP's towers, the re-id heads, prompts, and the files they come from."""

from model.clip import model_label
from model.files.reid_file import CheckpointInfo, load_reid_model
from model.files.stage1 import load_stage1
from model.make_model import make_model, make_test_model
from model.reid import ReIDModel, ReIDOutput, SideInformation
from model.towers.attention import attention_map

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
