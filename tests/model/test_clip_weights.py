"""CLIP weights from files and by tag, and what is refused."""

import json
import re
import shutil
import urllib.error
import urllib.request
import warnings

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from model import make_model
from model.clip import load_clip
from tests.conftest import GOLDEN


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


# ---- files


def assert_equal(clip, wanted):
    assert list(clip.state_dict()) == list(wanted)
    assert all(torch.equal(value, wanted[key]) for key, value in clip.state_dict().items())


FORMS = {
    "plain": lambda w: w,
    "wrapped": lambda w: {"epoch": 1, "state_dict": w},
    "module": lambda w: {f"module.{key}": value for key, value in w.items()},
    "compiled": lambda w: {"net": {f"module._orig_mod.{key}": value for key, value in w.items()}, "epoch": 1},
    "lightning": lambda w: {"state_dict": {f"model.{key}": w[key] for key in w} | {"f1": torch.ones(3)}},
    "copy": lambda w: {"model_ema": {key: value + 1 for key, value in w.items()}, "model": w},
    "old": lambda w: {key: value for key, value in w.items() if not key.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("name", ["toy-vit", "toy-resnet"])
@pytest.mark.parametrize("form", FORMS)
def test_weights_from_a_file(toy_clip, tmp_path, name, form):
    wanted = toy_clip(name).state_dict()
    path = tmp_path / "clip.pt"
    torch.save(FORMS[form](wanted), path)
    assert_equal(load_clip(name, "clip", str(path), "openai"), wanted)


@pytest.mark.parametrize("prefix", ["", "module.", "clip_model."])
def test_weights_from_safetensors(toy_clip, tmp_path, prefix):
    wanted = toy_clip().state_dict()
    save_file({f"{prefix}{key}": value for key, value in wanted.items()}, tmp_path / "clip.safetensors")
    assert_equal(load_clip("toy-vit", "clip", str(tmp_path / "clip.safetensors"), "openai"), wanted)


# ---- Hugging Face's names; the files were written by transformers 5.24

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 60, "width": 16, "heads": 2, "layers": 1},
    "quick_gelu": True,
}


@pytest.fixture
def hugging_face(tmp_path, golden):
    """A folder with a model of `transformers`, and a description of its towers."""
    for path in (GOLDEN / "hugging_face").glob("[cm]*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    return tmp_path


@pytest.mark.parametrize("form", ["safetensors", "bin", "old names"])
def test_weights_in_hugging_faces_names(hugging_face, golden, caplog, form):
    path = hugging_face / "model.safetensors"
    weights = load_file(path)
    if form != "safetensors":
        path = hugging_face / "pytorch_model.bin"
        ids = {f"{side}_model.embeddings.position_ids": torch.arange(12)[None] for side in ("text", "vision")}
        names = {key: key.replace("layrnorm", "layernorm") if form == "old names" else key for key in weights}
        torch.save(
            {"state_dict": {f"model.{names[key]}": value for key, value in weights.items()} | ids}, path
        )
    with caplog.at_level("INFO", "transreid.model"):
        clip = load_clip(str(hugging_face / "tiny.json"), "clip", str(path), "openai").eval()
    stored = {key: torch.from_numpy(value) for key, value in golden("hugging_face/features.npz").items()}
    with torch.no_grad():
        image, text = clip.encode_image(stored["images"], True), clip.encode_text(stored["tokens"], True)
    torch.testing.assert_close(image, stored["image"])
    torch.testing.assert_close(text, stored["text"])
    assert torch.equal(clip.logit_scale, weights["logit_scale"])
    assert f"{path}: Hugging Face's names; activation quick_gelu, config.json says so" in caplog.text


@pytest.mark.parametrize(("stated", "quick"), [("gelu", True), ("quick_gelu", False), ("gelu_new", False)])
def test_hugging_faces_activation_must_be_that_of_the_name(hugging_face, stated, quick):
    (hugging_face / "tiny.json").write_text(json.dumps(TINY | {"quick_gelu": quick}))
    settings = json.loads((hugging_face / "config.json").read_text())
    settings["vision_config"]["hidden_act"] = stated
    (hugging_face / "config.json").write_text(json.dumps(settings))
    path = hugging_face / "model.safetensors"
    with pytest.raises(ValueError, match=r"tiny\.json computes ") as error:
        load_clip(str(hugging_face / "tiny.json"), "clip", str(path), "openai")
    assert str(path) in one_line(error)


def test_other_models_of_hugging_face_are_refused(hugging_face):
    weights = load_file(hugging_face / "model.safetensors")
    weights["vision_model.head.attention.in_proj_weight"] = torch.ones(2)
    del weights["vision_model.encoder.layers.1.self_attn.k_proj.weight"]
    save_file(weights, hugging_face / "other.safetensors")
    with pytest.raises(
        ValueError, match=r"other\.safetensors .*resblocks\.1\.attn\.in_proj_weight is missing"
    ):
        load_clip(str(hugging_face / "tiny.json"), "clip", str(hugging_face / "other.safetensors"), "openai")


@pytest.mark.parametrize(
    ("lacks", "named"),
    [
        ("vision_model.embeddings.class_embedding", "SigLIP"),
        ("text_model", "CLIPVisionModel"),
        ("vision_model", "logit_scale, text_model."),
    ],
)
def test_other_kinds_of_models_are_named(hugging_face, lacks, named):
    weights = load_file(hugging_face / "model.safetensors")
    kept = {key: value for key, value in weights.items() if not key.startswith(lacks)}
    save_file(kept, hugging_face / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors") as error:
        load_clip(str(hugging_face / "tiny.json"), "clip", str(hugging_face / "other.safetensors"), "openai")
    assert named in one_line(error)


def test_averaged_weights_of_torch(toy_clip, tmp_path):
    clip = toy_clip()
    torch.save(torch.optim.swa_utils.AveragedModel(clip).state_dict(), tmp_path / "clip.pt")
    loaded = load_clip("toy-vit", "clip", str(tmp_path / "clip.pt"), "openai")
    assert torch.equal(loaded.visual.proj, clip.visual.proj)


class Archive(nn.Module):
    """A module tree with CLIP's names and the three numbers that OpenAI's archives hold besides."""

    def __init__(self, clip):
        super().__init__()
        for name, module in clip.named_children():
            setattr(self, name, module)
        for name in ("positional_embedding", "text_projection", "logit_scale"):
            setattr(self, name, getattr(clip, name))
        for name, number in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 49408)):
            self.register_buffer(name, torch.tensor(number))

    def forward(self, images):
        return self.visual(images)


@pytest.fixture
def archive(toy_clip, tmp_path):
    """OpenAI's form: a traced TorchScript archive in half precision."""
    clip = toy_clip("toy-vit-quickgelu")
    with warnings.catch_warnings():  # a form of the past, but the form of the published files
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Archive(clip), torch.zeros(1, 3, 32, 32)).half()
    traced.save(tmp_path / "archive.pt")
    return tmp_path / "archive.pt", clip.state_dict()


def test_weights_from_openais_archive(archive):
    path, wanted = archive
    clip = load_clip("toy-vit-quickgelu", "clip", str(path), "openai")
    assert_equal(clip, {key: value.half().float() for key, value in wanted.items()})


def test_openais_archive_is_refused_for_gelu(archive):
    path, _ = archive
    with pytest.raises(ValueError, match=r"name toy-vit computes GELU, but .*use toy-vit-quickgelu") as error:
        load_clip("toy-vit", "clip", str(path), "openai")
    assert str(path) in one_line(error)


def test_temperature_may_be_missing(toy_clip, tmp_path):
    weights = toy_clip().state_dict()
    torch.save({key: value for key, value in weights.items() if key != "logit_scale"}, tmp_path / "clip.pt")
    clip = load_clip("toy-vit", "clip", str(tmp_path / "clip.pt"), "openai")
    assert torch.equal(clip.visual.conv1.weight, weights["visual.conv1.weight"])


def test_first_mismatches_are_named(toy_clip, tmp_path):
    weights = toy_clip().state_dict()
    weights["visual.proj"] = torch.zeros(64, 17)
    weights["extra"] = torch.zeros(1)
    del weights["ln_final.bias"]
    torch.save(weights, tmp_path / "clip.pt")
    with pytest.raises(ValueError, match=r"clip\.pt") as error:
        load_clip("toy-vit", "clip", str(tmp_path / "clip.pt"), "openai")
    message = one_line(error)
    assert "(`name` toy-vit) does not fit this architecture: ln_final.bias is missing; " in message
    assert "visual.proj is [64, 17] instead of [64, 16]; extra is not expected" in message


def test_many_mismatches_are_counted(toy_clip, tmp_path):
    torch.save(toy_clip("toy-resnet").state_dict(), tmp_path / "clip.pt")
    with pytest.raises(ValueError, match=r"visual\.class_embedding is missing; .* and \d+ more") as error:
        load_clip("toy-vit", "clip", str(tmp_path / "clip.pt"), "openai")
    assert one_line(error).count(";") == 2


def test_reid_checkpoints_are_no_clip_weights(toy_model, toy_config, save_weights):
    path = save_weights(toy_model().state_dict())
    config = toy_config("MODEL.PRETRAIN_CHOICE", "imagenet", "MODEL.PRETRAIN_PATH", str(path))
    with pytest.raises(ValueError, match=r"is a re-id checkpoint, which test.py, ") as error:
        make_model(config, 5, 6, 1)
    assert f"MODEL.PRETRAIN_PATH {path}" in one_line(error)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file at .*gone\.pt"):
        load_clip("ViT-B-32", "clip", str(tmp_path / "gone.pt"), "openai")


def test_random_weights_need_no_file(toy_towers, monkeypatch):
    monkeypatch.setattr(open_clip, "download_pretrained", None)
    torch.manual_seed(1)
    first = load_clip("toy-vit", "none", "/nowhere", "no such tag")
    second = load_clip("toy-vit", "none", "", "openai")
    assert not torch.equal(first.visual.proj, second.visual.proj)


# ---- tags


def test_unknown_tag_lists_the_allowed_ones():
    with pytest.raises(ValueError, match=r"tag is 'opnai' for RN50-quickgelu; allowed: ") as error:
        load_clip("RN50", "imagenet", "", "opnai")
    assert one_line(error).partition("allowed: ")[2].split(", ") == ["openai", "yfcc15m", "cc12m"]


def test_model_without_published_weights(toy_towers):
    with pytest.raises(ValueError, match="for toy-vit; allowed: none, open_clip publishes no weights"):
        load_clip("toy-vit", "imagenet", "", "openai")


def test_weights_of_the_other_activation_are_refused():
    with pytest.raises(ValueError, match=r"ViT-B-32 computes GELU, but .*'openai'.* use ViT-B-32-quickgelu$"):
        load_clip("ViT-B-32", "imagenet", "", "openai")


def test_tag_is_downloaded_by_open_clip(toy_clip, tmp_path, monkeypatch):
    wanted = toy_clip("toy-vit-quickgelu").state_dict()
    torch.save(wanted, tmp_path / "toy.pt")
    description = {"url": "https://example.org/toy.pt", "quick_gelu": True}
    asked = []
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: ["openai"])
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: description)
    monkeypatch.setattr(
        open_clip,
        "download_pretrained",
        lambda cfg, prefer_hf_hub: asked.append((cfg, prefer_hf_hub)) or tmp_path / "toy.pt",
    )
    assert_equal(load_clip("toy-vit-quickgelu", "imagenet", "", "openai"), wanted)
    assert asked == [(description, False)]  # the original file, whose hash open_clip knows


@pytest.mark.parametrize(
    ("name", "tag", "file", "place"),
    [
        (
            "ViT-B-16",
            "openai",
            "https://openaipublic.azureedge.net/.*/ViT-B-16.pt",
            r"\.cache/clip/ViT-B-16.pt",
        ),
        ("RN50", "openai", "https://openaipublic.azureedge.net/.*/RN50.pt", r"\.cache/clip/RN50.pt"),
        (
            "ViT-B-32",
            "laion2b_s34b_b79k",
            "laion/CLIP-ViT-B-32-.* on the Hugging Face hub",
            "the Hugging Face cache",
        ),
    ],
)
@pytest.mark.parametrize(
    "failure",
    [
        urllib.error.URLError("[Errno -2] Name or service\nnot known"),
        FileNotFoundError("Failed to download file"),
        RuntimeError("Model has been downloaded but the SHA256 checksum does not not match"),
    ],
)
def test_weights_that_cannot_be_had(monkeypatch, name, tag, file, place, failure):
    def fail(*args, **options):
        raise failure

    monkeypatch.setattr(open_clip, "download_pretrained", fail)
    with pytest.raises(FileNotFoundError) as error:
        load_clip(name, "imagenet", "", tag)
    message = one_line(error)
    assert re.search(f"CLIP weights '{tag}' of {name}.* are not at .*{place}", message)
    assert re.search(f"fetch {file} on a machine with network", message)
    assert "name the file in `path`" in message and " ".join(str(failure).split()) in message


def test_offline_the_error_comes_at_once(tmp_path, monkeypatch):
    """Nothing of open_clip faked: an empty home folder and a proxy that refuses."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxies of its first use
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match="CLIP weights 'openai' of ViT-B-16-quickgelu are not at"
    ) as error:
        load_clip("ViT-B-16", "imagenet", "", "openai")
    assert str(tmp_path / ".cache/clip/ViT-B-16.pt") in one_line(error)
