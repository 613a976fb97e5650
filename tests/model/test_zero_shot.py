"""Class features of sentences."""

import json
import logging

import open_clip
import pytest
import torch
import torch.nn.functional as F

from model import build_clip, class_features, clip_config
from model import zero_shot as room
from tests.conftest import GOLDEN

# ViT-B/16's text tower with three blocks
TOWER = {
    "embed_dim": 512,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 3},
}


@pytest.fixture
def toy_clip(toy_towers):
    torch.manual_seed(0)
    return build_clip(clip_config("toy-vit"), None).eval()


def test_golden(golden, drawn_clip):
    clip, stored = build_clip(TOWER, drawn_clip(TOWER)), golden("prompts/zero_shot.npz")
    sentences = json.loads((GOLDEN / "prompts" / "sentences.json").read_text())
    cases = {
        "classes_plain": [[text] for text in sentences["plain"][:6]],
        "classes_augmented": sentences["augmented_first"],
    }
    for name, texts in cases.items():
        got, want = class_features(clip, texts), torch.from_numpy(stored[name]).float()
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * want.abs().max().item())


def test_batches_and_gradients_do_not_matter(toy_clip, monkeypatch):
    """As open_clip encodes them, whole, in small batches and in training mode."""
    texts = [[f"a {size} {colour} coat" for size in ("long", "short")] for colour in ("red", "blue", "green")]
    want = torch.stack(
        [
            F.normalize(F.normalize(toy_clip.encode_text(open_clip.tokenize(some)), dim=1).mean(dim=0), dim=0)
            for some in texts
        ]
    ).detach()
    for count in (256, 1, 5):
        monkeypatch.setattr(room, "_AT_ONCE", count)
        got = class_features(toy_clip.train(), texts)
        assert got.shape == (3, 16) and not got.requires_grad
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_cut_sentences_are_counted(toy_clip, caplog):
    texts = [["a short one", "a b " * 60], ["c d " * 60, "one"], ["e", "f"]]
    with caplog.at_level(logging.WARNING):
        class_features(toy_clip, texts)
    (record,) = caplog.records
    assert "2 of 6 sentences" in record.getMessage() and "77" in record.getMessage()
    assert "a b a b" in record.getMessage()


@pytest.mark.parametrize("texts", [[], [[]], [["a"], ["b", "c"]]])
def test_classes_need_equally_many_sentences(toy_clip, texts):
    with pytest.raises(ValueError, match="equally many"):
        class_features(toy_clip, texts)
