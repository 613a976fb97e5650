"""The published RN50 model as an ONNX file, against stored test features of the published implementation."""

import numpy as np
import onnxruntime
import pytest
import torch

from config import cfg
from config.load import load_config
from model import export_onnx, make_model
from tests.test_golden_models import assert_close, draw_heads

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.__version__ < "2.7", reason="torch is too old"),
]


@torch.no_grad()
def test_the_file_is_the_published_one(repository, golden, fill, clip_file, tmp_path):
    stored = golden("onnx.npz")["feat_before"]
    sizes = ["INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]"]
    options = [*sizes, "MODEL.PRETRAIN_PATH", str(clip_file("RN50"))]
    model = make_model(
        load_config(cfg, str(repository / "configs/person/cnn_clipreid.yml"), options), 6, 6, 1
    )
    draw_heads(model, fill)
    model.eval()
    path = tmp_path / "RN50.onnx"
    export_onnx(model, path, (64, 32))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,), (features,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape) == ("input", ["batch_size", 3, 64, 32])
    assert (features.name, features.shape) == ("features", ["batch_size", 3072])
    images = fill("images", (8, 3, 64, 32), 1.0)
    for count in (1, 5, 8):
        found = session.run(None, {"input": images[:count].numpy()})[0]
        assert np.isfinite(found).all()
        assert_close(found, stored[:count])
    assert_close(model(images), stored)  # it stays as it is
