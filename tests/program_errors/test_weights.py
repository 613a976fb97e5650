"""Weights that end a program before any training, in one line that names the file."""

import pickle
import urllib.request

import pytest
import torch


class Payload:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def write_weights(path, kind):
    weights = {"image_encoder.conv1.weight": torch.zeros(2, 2)}
    if kind == "text":
        path.write_text("404: Not Found")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "half":
        torch.save(weights, path)
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "other":
        torch.save({"fc.weight": torch.zeros(2, 2)}, path)
    elif kind == "numbers":
        torch.save({"epoch": 3}, path)
    elif kind == "code":
        torch.save(weights | {"a": Payload(path.with_name("ran"))}, path)
    else:
        path.write_bytes(pickle.dumps({"a": Payload(path.with_name("ran"))}))


@pytest.mark.parametrize("kind", ["text", "empty", "half", "other", "numbers", "code", "pickle"])
@pytest.mark.parametrize(
    ("program", "key"), [("test.py", "TEST.WEIGHT"), ("train_clipreid.py", "MODEL.PRETRAIN_PATH")]
)
def test_files_that_are_no_weights(refused, tmp_path, program, key, kind):
    path = tmp_path / "a.pth"
    write_weights(path, kind)
    refused(program, key, str(path), "MODEL.PRETRAIN_CHOICE", "imagenet", told=[path])
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_architecture(refused, start, tmp_path):
    assert start("train_clipreid.py")[0] == 0
    path = tmp_path / "logs" / "toy-vit_1.pth"
    pairs = ("MODEL.NAME", "toy-resnet", "TEST.WEIGHT", str(path))
    err = refused(
        "test_clipreid.py", *pairs, told=[path, "(MODEL.NAME toy-resnet) does not fit this architecture"]
    )
    assert "image_encoder.bn1.weight is missing; " in err and err.endswith(" more\n")
    pairs = ("MODEL.PRETRAIN_PATH", str(path), "MODEL.PRETRAIN_CHOICE", "imagenet")
    refused(
        "train_clipreid.py",
        *pairs,
        told=[path, "is a re-id checkpoint, which test.py", "allowed: CLIP weights"],
    )


def test_clip_weights_that_are_not_here_and_cannot_be_downloaded(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxies of its first use
    told = [
        tmp_path / ".cache/clip/ViT-B-16.pt",
        "could not be downloaded",
        "ViT-B-16.pt on a machine",
        "MODEL.PRETRAIN_PATH",
    ]
    pairs = ("MODEL.NAME", "ViT-B-16", "MODEL.STRIDE_SIZE", "[16, 16]", "MODEL.PRETRAIN_CHOICE", "imagenet")
    refused("train_clipreid.py", *pairs, told=told)
    told = ["MODEL.PRETRAIN_TAG is 'opnai'", "allowed: openai"]
    refused("train_clipreid.py", *pairs, "MODEL.PRETRAIN_TAG", "opnai", told=told)
