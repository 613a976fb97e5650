"""Files with a multilingual text tower: AltCLIP's folder and cache, open_clip's, and our own of them."""

import functools
import json
import logging
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers")

import clipreid
from config import cfg_tbps
from config.load import load_config
from model import load_text_search_model, make_text_search_card, make_text_search_model, onnx_runner
from model.multilingual import read_altclip_settings
from tests.altclip import SIZES, TEXTS, write_altclip
from tests.hub_server import serving
from tests.toys import words

SIZE = (SIZES["image_size"], SIZES["image_size"])


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The folder, and the model that transformers reads from it."""
    folder = tmp_path_factory.mktemp("hub")
    return folder, write_altclip(folder)


def settings(path, **more):
    found = {
        "MODEL.NAME": "AltCLIP",
        "MODEL.PRETRAIN_PATH": str(path),
        "MODEL.STRIDE_SIZE": [8, 8],
        "MODEL.TEXT_LENGTH": 30,
        "MODEL.SS_LOSS_WEIGHT": 0.0,
        "INPUT.SIZE_TRAIN": list(SIZE),
        "INPUT.SIZE_TEST": list(SIZE),
    }
    return load_config(cfg_tbps, "", words(found | more))


def pictures(count=3):
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_released_weights_give_transformers_features(hub):
    folder, theirs = hub
    model = make_text_search_model(settings(folder)).eval()
    tokens, mask = model.encode_text.tokenizer(TEXTS)
    text = theirs.get_text_features(input_ids=tokens, attention_mask=mask.long())
    image = theirs.get_image_features(pixel_values=pictures())
    text, image = (each if isinstance(each, torch.Tensor) else each.pooler_output for each in (text, image))
    assert torch.allclose(model.encode_text(tokens), text, atol=1e-5)
    assert torch.allclose(model.encode_image(pictures()), image, atol=1e-5)
    assert model.logit_scale == theirs.logit_scale


@torch.no_grad()
def test_image_tower_takes_any_size_and_stride(hub):
    small = {"INPUT.SIZE_TRAIN": [48, 24], "MODEL.STRIDE_SIZE": [6, 4]}
    model = make_text_search_model(settings(hub[0], **small)).eval()
    assert model.encode_image(torch.zeros(2, 3, 48, 24)).shape == (2, SIZES["projected"])
    assert model.visual.grid == (7, 5)


@pytest.mark.parametrize("form", ["file", "folder", "local-dir", "snapshot", "cache", "bin"])
def test_places(hub, tmp_path, form):
    folder = hub[0]
    path = {"file": folder / "model.safetensors", "folder": folder, "local-dir": f"local-dir:{folder}"}.get(
        form
    )
    if form in ("snapshot", "cache"):
        repo = tmp_path / "models--BAAI--AltCLIP"
        (repo / "snapshots").mkdir(parents=True)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text("abc")
        (repo / "snapshots" / "old").mkdir()
        os.symlink(folder, repo / "snapshots" / "abc")
        path = repo if form == "snapshot" else tmp_path
    if form == "bin":
        path = tmp_path
        torch.save(load_file(folder / "model.safetensors"), path / "pytorch_model.bin")
        for name in ("config.json", "tokenizer.json"):
            (path / name).write_bytes((folder / name).read_bytes())
    model = make_text_search_model(settings(path))
    assert model.encode_text.tokenizer(TEXTS)[0].shape == (len(TEXTS), 30)


def test_zero_shot_says_so(hub, caplog):
    with caplog.at_level(logging.INFO, logger="transreid"):
        model, info = load_text_search_model(hub[0], SIZE)
    assert info.name == "AltCLIP" and info.is_clip and info.text.heads == SIZES["heads"]
    assert info.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert "not trained for text search (zero-shot)" in caplog.text
    assert model.encode_text.tokenizer.context_length == 38  # positions, less two


def save(config, model, path):
    torch.save(model.state_dict(), path)
    make_text_search_card(config, model, "tbps", data="own", versions={}).write(path)
    model.encode_text.tokenizer.save(path.parent)


@torch.no_grad()
def test_own_file_needs_nothing_else(hub, tmp_path):
    config = settings(hub[0])
    model = make_text_search_model(config).eval()
    path = tmp_path / "AltCLIP_1.pth"
    save(config, model, path)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["tokenizer"] == "xlm_roberta" and card["text_heads"] == SIZES["heads"]
    loaded, info = load_text_search_model(path, name="AltCLIP")
    assert (info.size, info.stride, info.text_length) == (SIZE, (8, 8), 30)
    tokens, _ = model.encode_text.tokenizer(TEXTS)
    assert torch.equal(loaded.encode_text(tokens), model.encode_text(tokens))
    assert torch.equal(loaded.encode_image(pictures()), model.encode_image(pictures()))
    # and training goes on from it
    again = make_text_search_model(settings(path)).eval()
    assert torch.equal(again.encode_text(tokens), model.encode_text(tokens))


@torch.no_grad()
def test_of_several_state_dicts_the_chosen_one_is_taken(hub, tmp_path):
    config = settings(hub[0])
    model = make_text_search_model(config)
    average = {key: value + 1 for key, value in model.state_dict().items()}
    path = tmp_path / "AltCLIP_1.pth"
    torch.save({"model": model.state_dict(), "model_ema": average}, path)
    make_text_search_card(config, model, "tbps", data="own", versions={}).write(path)
    model.encode_text.tokenizer.save(tmp_path)
    again = make_text_search_model(settings(f"{path}#model_ema"))
    assert torch.equal(again.encode_text.pre_LN.bias, model.encode_text.pre_LN.bias + 1)


def test_own_file_becomes_a_hub_folder(hub, tmp_path):
    config = settings(hub[0])
    save(config, make_text_search_model(config), tmp_path / "AltCLIP_1.pth")
    model = clipreid.load_text_model(tmp_path / "AltCLIP_1.pth", device="cpu")
    folder = model.save_pretrained(tmp_path / "hub")
    assert sorted(os.listdir(folder)) == ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    again = clipreid.load_text_model(folder, device="cpu")
    one, two = (each.encode_text(TEXTS).features for each in (model, again))
    assert torch.equal(one, two)
    # A resumed run, too, finds sizes and tokenizer there.
    resumed = make_text_search_model(settings(folder), pretrained=False)
    assert resumed.encode_text.sizes == model.network.encode_text.sizes


def test_another_tokenizer_next_to_it_is_refused(hub, tmp_path):
    config = settings(hub[0])
    save(config, make_text_search_model(config), tmp_path / "AltCLIP_1.pth")
    content = (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text(content + "\n", encoding="utf-8")
    model = clipreid.load_text_model(tmp_path / "AltCLIP_1.pth", device="cpu")
    with pytest.raises(ValueError, match="is another tokenizer than that of the model"):
        model.encode_text(["a man"])


def write_open_clip(folder):
    """A file as open_clip saves its CLIPs with XLM-R, of tiny sizes."""
    model = make_text_search_model(settings(folder))
    weights = {key: value for key, value in model.state_dict().items() if key.startswith("visual.")}
    stem = "encode_text.roberta."
    for key, value in model.state_dict().items():
        if key.startswith(stem):
            weights[f"text.transformer.{key.removeprefix(stem)}"] = value.clone()
    weights["text.transformer.embeddings.position_ids"] = torch.arange(40)[None]
    weights["text.proj.0.weight"] = torch.randn(28, 64)
    weights["text.proj.2.weight"] = torch.randn(SIZES["projected"], 28)
    weights["logit_scale"] = torch.tensor(4.0)
    path = folder / "open_clip_model.safetensors"
    save_file(weights, path)
    return path, model.visual


@torch.no_grad()
def test_open_clips_file(tmp_path, caplog):
    write_altclip(tmp_path, width=64, heads=1)
    path, visual = write_open_clip(tmp_path)
    name = "xlm-roberta-base-ViT-B-32"
    model = make_text_search_model(settings(path, **{"MODEL.NAME": name})).eval()
    assert model.encode_text.sizes.kind == "xlm-roberta" and model.logit_scale == 4.0
    assert torch.equal(model.visual.conv1.weight, visual.conv1.weight)
    assert "has no model card: activation and heads" in caplog.text  # not the sizes of that name
    (tmp_path / "config.json").write_text('{"model_type": "xlm-roberta"}')
    resumed = make_text_search_model(settings(path, **{"MODEL.NAME": name}), pretrained=False)
    assert resumed.encode_text.sizes == model.encode_text.sizes


def test_another_text_tower_next_to_clips_image_tower(hub, tmp_path):
    tower = {"layers": 1, "width": 32, "patch_size": 8, "image_size": 32}
    text = {"layers": 1, "width": 32, "heads": 2}
    description = tmp_path / "small.json"
    content = {"embed_dim": SIZES["projected"], "vision_cfg": tower | {"head_width": 16}, "text_cfg": text}
    description.write_text(json.dumps(content))
    more = {
        "MODEL.NAME": str(description),
        "MODEL.TEXT": "altclip",
        "MODEL.TEXT_PATH": str(hub[0]),
        "MODEL.PRETRAIN_PATH": "",
        "MODEL.PRETRAIN_CHOICE": "none",
    }
    model = make_text_search_model(settings("", **more))
    theirs = hub[1].state_dict()["text_projection.weight"]
    assert torch.equal(model.encode_text.text_projection.weight, theirs)
    assert len(model.visual.transformer.resblocks) == 1
    # Training goes on from what was joined.
    save(settings("", **more), model, tmp_path / "small_1.pth")
    joined = {**more, "MODEL.PRETRAIN_PATH": str(tmp_path / "small_1.pth"), "MODEL.PRETRAIN_CHOICE": "clip"}
    again = make_text_search_model(settings("", **joined)).state_dict()
    assert all(torch.equal(again[key], value) for key, value in model.state_dict().items())
    content["embed_dim"] = 16
    description.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"has features of 24 numbers; allowed with MODEL.NAME .*: 16"):
        make_text_search_model(settings("", **more))


def test_simclr_follows_the_width(hub, caplog):
    with caplog.at_level(logging.INFO, logger="transreid"):
        model = make_text_search_model(settings(hub[0], **{"MODEL.SS_LOSS_WEIGHT": 0.4}))
    assert [model.simclr_mlp[0].in_features, model.simclr_mlp[2].out_features] == [24, 24]
    assert "MODEL.SIMCLR_MLP [512, 128, 512] becomes [24, 128, 24]" in caplog.text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"MODEL.MLM_LOSS_WEIGHT": 1.0}, "MODEL.MLM_LOSS_WEIGHT is 1.0; allowed with MODEL.NAME 'AltCLIP'"),
        ({"MODEL.TEXT": "xlm-roberta-base-ViT-B-32"}, "allowed with MODEL.NAME 'AltCLIP': ''"),
        ({"MODEL.NAME": "xlm-roberta-base-ViT-B-32"}, "has the text tower of altclip"),
        ({"MODEL.NAME": "ViT-B-16"}, "is a model of its own; allowed as its MODEL.NAME: AltCLIP"),
        ({"MODEL.TEXT_LENGTH": 39}, "MODEL.TEXT_LENGTH is 39; allowed with this text tower: up to 38"),
        ({"MODEL.PRETRAIN_PATH": "/no/such/folder"}, "no weights file at /no/such/folder"),
        ({"MODEL.PRETRAIN_PATH": "logs/mistyped.pth"}, "no weights file at logs/mistyped.pth"),
    ],
)
def test_what_does_not_go_together(hub, more, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make_text_search_model(settings(hub[0], **more))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "clip"}, "model_type is 'clip'; allowed: 'altclip'"),
        ({"text_config": {"hidden_act": "relu"}}, "text_config.hidden_act is 'relu'; allowed: 'gelu'"),
        ({"text_config": {"num_attention_heads": 5}}, "multiples of num_attention_heads, 5"),
        (
            {"vision_config": {"layer_norm_eps": 1e-6}},
            "layer_norm_eps is 1e-06; allowed: 1e-05",
        ),
    ],
)
def test_settings_of_other_models_are_refused(hub, tmp_path, change, message):
    content = json.loads((hub[0] / "config.json").read_text())
    for key, value in change.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_altclip_settings(tmp_path / "model.safetensors")


def test_without_network_the_error_names_the_files(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match=r"AltCLIP is not in.*MODEL\.PRETRAIN_PATH.*tokenizer\.json") as caught:
        make_text_search_model(settings(""))
    assert "\n" not in str(caught.value)


@pytest.mark.service
def test_open_clips_weights_by_tag(tmp_path, repository):
    """In its own process: the address of a hub is read once."""
    write_altclip(tmp_path, width=64, heads=1)
    path, _ = write_open_clip(tmp_path)
    repo = "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k"
    more = {"MODEL.NAME": "xlm-roberta-base-ViT-B-32"}
    code = (
        "from model import make_text_search_model;"
        "from tests.model.files.test_multilingual_file import settings;"
        f"model = make_text_search_model(settings('', **{more!r}));"
        "print(model.encode_text.tokenizer(['a'])[0].shape, model.logit_scale.item())"
    )
    with serving() as hub:
        hub.repos[repo] = {
            "model.safetensors": b"in the names of transformers",
            "open_clip_model.safetensors": path.read_bytes(),
            "tokenizer.json": (tmp_path / "tokenizer.json").read_bytes(),
        }
        environment = {**os.environ, **hub.environment(tmp_path / "home")}
        run = functools.partial(subprocess.run, [sys.executable, "-c", code], cwd=repository, env=environment)
        done = run(capture_output=True, text=True)
    assert done.stdout.strip() == "torch.Size([1, 30]) 4.0", done.stderr
    offline = run(capture_output=True, text=True, env={**environment, "HF_HUB_OFFLINE": "1"})
    assert offline.stdout == done.stdout, offline.stderr


def test_an_unknown_tag_is_refused():
    more = {"MODEL.NAME": "xlm-roberta-base-ViT-B-32", "MODEL.PRETRAIN_TAG": "laion2b"}
    with pytest.raises(ValueError, match=r"PRETRAIN_TAG is 'laion2b' for .*; allowed: laion5b_s13b_b90k"):
        make_text_search_model(settings("", **more))


@torch.no_grad()
@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_the_text_side_is_exported(hub, tmp_path, form):
    config = settings(hub[0])
    save(config, make_text_search_model(config), tmp_path / "AltCLIP_1.pth")
    model = clipreid.load_text_model(tmp_path / "AltCLIP_1.pth", device="cpu")
    image, text = model.export(tmp_path / f"image.{form}", tmp_path / f"text.{form}")
    assert text.inputs == {"tokens": (30,)}
    assert min(image.parity.cosine, text.parity.cosine) > 0.999999
    if form == "onnx":
        run = onnx_runner(tmp_path / "text.onnx")
        tokens, _ = model.network.encode_text.tokenizer(TEXTS)
        wanted = model.encode_text(TEXTS).features
        assert torch.allclose(torch.from_numpy(run((tokens,))), wanted, atol=1e-5)


def test_xlm_r_is_imported_when_it_is_needed(repository):
    """open_clip imports parts of transformers and tokenizers itself, where they are installed."""
    name = "transformers.models.xlm_roberta.modeling_xlm_roberta"
    code = f"import sys; import clipreid, train_tbps, model, processor; print({name!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_an_empty_folder_is_told_what_it_lacks(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no weights; .*MODEL\.PRETRAIN_PATH names a folder"):
        make_text_search_model(settings(tmp_path))


def test_without_the_extra_the_error_names_it(hub, monkeypatch):
    monkeypatch.setattr("utils.package.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "clipreid\[text\]"'):
        make_text_search_model(settings(hub[0]))
