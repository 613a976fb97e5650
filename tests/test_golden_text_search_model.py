"""Both towers of the published text search, ViT-B/16: positions and features, from its own files as well."""

import pytest
import torch

from config import cfg_tbps
from config.load import load_config
from model import load_text_search_model, make_text_search_model
from model.names import published_names
from tests.toys import words
from tests.untrusted.weight_files import write_published
from utils.weights import read_state_dict

pytestmark = pytest.mark.slow
SIMPLE = "configs/tbps/vit_tbps_simplified.yml"


@pytest.fixture
def stored(golden):
    return {name: torch.from_numpy(value) for name, value in golden("tbps/features.npz").items()}


@pytest.fixture
def make(repository, clip_file):
    """make((384, 128), 77) -> the model that training starts from, in evaluation mode."""

    def make(size, length):
        given = {
            "MODEL.PRETRAIN_PATH": clip_file("ViT-B-16"),
            "MODEL.TEXT_LENGTH": length,
            "INPUT.SIZE_TRAIN": list(size),
            "INPUT.SIZE_TEST": list(size),
        }
        return make_text_search_model(load_config(cfg_tbps, repository / SIMPLE, words(given))).eval()

    return make


@pytest.fixture
def encode(fill):
    """encode(model, (384, 128), 1) -> features of golden images."""

    def encode(model, size, count):
        with torch.no_grad():
            return model.encode_image(fill("images_{}x{}".format(*size), (count, 3, *size), 1))

    return encode


def assert_close(got, want, tolerance=1e-4):
    """Largest error relative to the largest wanted value."""
    assert got.shape == want.shape and (got - want).abs().max() <= tolerance * want.abs().max()


@pytest.mark.parametrize("size", [(224, 224), (384, 128)])
def test_images(stored, make, encode, size):
    name, model = "{}x{}".format(*size), make(size, 77)
    assert_close(
        model.visual.positional_embedding.detach()[:, ::32], stored[f"visual_positions_{name}"], 1e-5
    )
    assert_close(encode(model, size, len(stored[f"image_{name}"])), stored[f"image_{name}"])


@pytest.mark.parametrize("length", [40, 77, 100])
def test_texts(stored, make, length):
    tower, tokens = make((32, 32), length).encode_text, stored[f"tokens_{length}"]
    assert_close(tower.positional_embedding.detach()[:, ::32], stored[f"text_positions_{length}"], 1e-5)
    with torch.no_grad():
        assert_close(tower(tokens), stored[f"text_{length}"])
        alone = torch.cat([tower(tokens[row : row + 1]) for row in range(3)])
    assert_close(alone, stored[f"text_{length}"][:3])


def test_a_published_file(stored, encode, clip_file, fill, tmp_path, caplog):
    weights = published_names(read_state_dict(clip_file("ViT-B-16")))
    weights |= {f"simclr_mlp.{layer}.weight": torch.ones(2, 2) for layer in (0, 2)}
    write_published(tmp_path / "checkpoint_best.pth", weights)
    caplog.set_level("WARNING", "transreid")
    caplog.clear()
    model, info = load_text_search_model(tmp_path / "checkpoint_best.pth")
    assert (info.size, info.stride, info.text_length) == ((224, 224), (16, 16), 77)
    assert_close(encode(model, (224, 224), 2), stored["image_224x224"])
    with torch.no_grad():
        assert_close(model.encode_text(stored["tokens_77"][:4]), stored["text_77"][:4])
    (line,) = [record.getMessage() for record in caplog.records]  # how images are prepared is assumed
    assert "no model card" in line
