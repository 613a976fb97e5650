"""Features by a ReID backend of boxmot: boxmot_features.py KIND WEIGHTS FRAME.npy BOXES.npy OUT.npy [OPENAI]

KIND is onnx or pytorch. boxmot 21 reads OpenAI's file before ours; OPENAI stands for it.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from boxmot.utils.checks import RequirementsChecker

RequirementsChecker.check_packages = lambda *_, **__: None  # it installs packages of its own choice
kind, weights, frame, boxes, out, *openai = sys.argv[1:]
if kind == "onnx":
    from boxmot.reid.backends.onnx_backend import ONNXBackend as Backend
else:
    from boxmot.reid.backbones.clip.clip import clip
    from boxmot.reid.backends.pytorch_backend import PyTorchBackend as Backend

    clip._download = lambda *_, **__: openai[0]
backend = Backend(Path(weights), torch.device("cpu"), False)
np.save(out, backend.get_features(np.load(boxes), np.load(frame)))
