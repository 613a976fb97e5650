"""Re-id files become the models that were saved, with any configuration, or are refused."""

import logging
import re

import pytest
import torch

from config import cfg, cfg_base
from config.load import load_config
from model import load_reid_model, make_test_model

pytestmark = pytest.mark.usefixtures("no_download")


def features(model, images):
    with torch.no_grad():
        return model(images)


# ---- features are those of the model that was saved


@pytest.mark.parametrize("neck", ["before", "after"])
@pytest.mark.parametrize(
    "pairs",
    [
        (),
        ("MODEL.STRIDE_SIZE", [6, 6]),
        ("MODEL.STRIDE_SIZE", [6, 8]),
        ("MODEL.NAME", "toy-resnet"),
        ("MODEL.NAME", "toy-vit-quickgelu"),
    ],
)
@pytest.mark.parametrize("tree", [cfg, cfg_base])
def test_features_are_those_of_the_training_model(toy_model, toy_images, save_weights, pairs, neck, tree):
    trained = toy_model(*pairs, "TEST.NECK_FEAT", neck, tree=tree)
    name = dict(zip(pairs[::2], pairs[1::2], strict=True)).get("MODEL.NAME", "toy-vit")
    path = save_weights(trained.state_dict(), f"{name}_12.pth")
    model, info = load_reid_model(path, (64, 32), stride=trained_stride(pairs), neck_feature=neck)
    assert info.name == name and info.num_classes == 5
    assert torch.equal(features(model, toy_images()), features(trained, toy_images()))
    assert not hasattr(model, "prompt_learner") and not hasattr(model, "text_encoder")


def trained_stride(pairs):
    return tuple(dict(zip(pairs[::2], pairs[1::2], strict=True)).get("MODEL.STRIDE_SIZE", (8, 8)))


@pytest.mark.parametrize("neck", ["before", "after"])
@pytest.mark.parametrize(("trained_in", "tested_in"), [(cfg, cfg_base), (cfg_base, cfg), (cfg, cfg)])
def test_either_program_tests_the_files_of_both(
    toy_model, toy_config, toy_images, save_weights, trained_in, tested_in, neck
):
    trained = toy_model("TEST.NECK_FEAT", neck, tree=trained_in)
    path = save_weights(trained.state_dict())
    config = toy_config("TEST.WEIGHT", str(path), "TEST.NECK_FEAT", neck, tree=tested_in)
    model, _ = make_test_model(config, 4, 1)
    assert torch.equal(features(model, toy_images()), features(trained, toy_images()))


def prefixed(prefix, weights):
    return {f"{prefix}{key}": value for key, value in weights.items()}


LOST = {"module.n_averaged": torch.tensor(3), "val_acc.total": torch.ones(2)}
WRAPPED = {
    "DataParallel": lambda w: prefixed("module.", w),
    "compiled": lambda w: prefixed("_orig_mod.", w),
    "compiled in parallel": lambda w: prefixed("module._orig_mod.", w),
    "parallel, compiled": lambda w: {"net": prefixed("_orig_mod.module.", w)},
    "tower compiled": lambda w: {k.replace("encoder.", "encoder._orig_mod."): v for k, v in w.items()},
    "averaged by torch": lambda w: {"n_averaged": torch.tensor(3), **prefixed("module.", w)},
    "averaged, with a metric": lambda w: LOST | prefixed("module.model.", w),
    "lightning": lambda w: {
        "state_dict": prefixed("model.", w) | {"val_map.total": torch.ones(2), "loss.centers": torch.ones(3)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
        "hyper_parameters": {"lr": 1e-3},
    },
    "timm": lambda w: {"epoch": 3, "arch": "vit", "state_dict": w, "args": {"lr": 1}, "metric": 0.5},
    **{
        key: lambda w, key=key: {key: w, "epoch": 3}
        for key in ("model", "net", "model_state_dict", "weights")
    },
    **{key: lambda w, key=key: {key: w} for key in ("state_dict_ema", "model_ema", "teacher", "ema")},
    "deep": lambda w: {"epoch": 1, "trainer": {"model": {"state_dict": prefixed("base.model.", w)}}},
    "numbers among tensors": lambda w: {"epoch": 3, **w, "note": "best"},
}


@pytest.mark.parametrize("name", ["toy-vit", "toy-resnet"])
@pytest.mark.parametrize("wrapping", WRAPPED)
def test_wrapped_files(toy_model, toy_images, save_weights, caplog, wrapping, name):
    trained = toy_model("MODEL.NAME", name)
    path = save_weights(WRAPPED[wrapping](trained.state_dict()), f"{name}_3.pth")
    with caplog.at_level(logging.INFO):
        model, _ = load_reid_model(path, (64, 32))
    assert torch.equal(features(model, toy_images()), features(trained, toy_images()))
    told = [record for record in caplog.records if record.name == "transreid.weights"]
    assert told and all(str(path) in record.getMessage() for record in told)
    assert all(record.levelno == logging.INFO for record in told)


def test_what_was_renamed_and_left_out_is_counted(toy_model, save_weights, caplog):
    weights = toy_model().state_dict()
    wrapped = {"epoch": 3, "state_dict": prefixed("module.model.", weights) | {"loss.centers": torch.ones(3)}}
    with caplog.at_level(logging.INFO, "transreid.weights"):
        load_reid_model(save_weights(wrapped), (64, 32))
    key = next(iter(weights))
    assert "the weights under state_dict.model are taken" in caplog.text
    assert f"{len(weights)} names are cut, e.g. module.model.{key} to {key}" in caplog.text
    assert "2 other entries are left out, e.g. epoch, loss.centers" in caplog.text


SEVERAL = {
    "timm": (lambda w, ema: {"state_dict_ema": ema, "state_dict": w}, "state_dict_ema"),
    "model and copy": (lambda w, ema: {"model_ema": {"module": ema}, "model": w}, "model_ema"),
    "teacher": (lambda w, ema: prefixed("teacher.", ema) | prefixed("student.", w), "teacher"),
    "in one dict": (lambda w, ema: prefixed("ema_model.module.", ema) | w, "ema_model"),
    "wrapped next to plain": (lambda w, ema: prefixed("module.", ema) | w, "module"),
    "best": (lambda w, ema: {"last": {"net": w}, "best": {"net": ema}}, "best"),
}


@pytest.mark.parametrize("form", SEVERAL)
def test_of_several_models_one_is_taken_and_named(
    toy_model, toy_config, toy_images, save_weights, caplog, form
):
    wrap, other = SEVERAL[form]
    plain, copy = toy_model(), toy_model()
    copy.image_encoder.proj.data.mul_(2)
    path = save_weights(wrap(plain.state_dict(), copy.state_dict()))
    model, _ = load_reid_model(path, (64, 32))
    assert torch.equal(features(model, toy_images()), features(plain, toy_images()))
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "transreid.weights"]
    assert str(path) in warning and other in warning and f"{path}#" in warning
    for load in (
        lambda place: load_reid_model(place, (64, 32)),
        lambda place: make_test_model(toy_config("TEST.WEIGHT", place), 4, 1),
    ):
        model, info = load(f"{path}#{other}")
        assert torch.equal(features(model, toy_images()), features(copy, toy_images()))
        assert info.name == "toy-vit"
    with pytest.raises(ValueError, match="holds no weights 'gone'; allowed: ") as error:
        load_reid_model(f"{path}#gone", (64, 32))
    assert str(path) in str(error.value) and other in str(error.value)


@pytest.mark.parametrize("key", ["image_encoder.proj", "bottleneck.running_var"])
@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite(toy_model, save_weights, key, number):
    weights = toy_model().state_dict()
    weights[key].view(-1)[3] = number
    path = save_weights(weights)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: {re.escape(key)} .*not finite"):
        load_reid_model(path, (64, 32))


def test_a_folder_with_the_sign_in_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"{tmp_path}/a#b/gone.pth")):
        load_reid_model(tmp_path / "a#b/gone.pth", (64, 32))


def test_a_file_with_the_sign_in_its_name(toy_model, save_weights):
    assert load_reid_model(save_weights(toy_model().state_dict(), "run#3.pth"), (64, 32))[1].num_classes == 5


@pytest.mark.parametrize("name", ["toy-vit", "toy-resnet"])
def test_files_without_counters_of_batches(toy_model, toy_images, save_weights, caplog, name):
    trained = toy_model("MODEL.NAME", name)
    weights = {k: v for k, v in trained.state_dict().items() if not k.endswith("num_batches_tracked")}
    with caplog.at_level(logging.INFO, "transreid.model"):
        model, _ = load_reid_model(save_weights(weights, f"{name}_3.pth"), (64, 32))
    assert torch.equal(features(model, toy_images()), features(trained, toy_images()))
    norms = len(model.state_dict().keys() - weights.keys())
    assert f"no num_batches_tracked for its {norms} batch norms" in caplog.text and norms >= 2


@pytest.mark.parametrize("classes", [1, 576, 1041])
def test_any_number_of_classes(toy_model, toy_config, toy_images, save_weights, classes):
    trained = toy_model(classes=classes)
    model, info = make_test_model(
        toy_config("TEST.WEIGHT", str(save_weights(trained.state_dict()))), cameras=4, views=1
    )
    assert info.num_classes == model.num_classes == classes
    assert torch.equal(features(model, toy_images()), features(trained, toy_images()))


@pytest.mark.parametrize(("name", "pairs"), [("toy-vit", ("MODEL.SIE_CAMERA", True)), ("toy-resnet", ())])
@pytest.mark.filterwarnings("error")
def test_files_cut_down_to_what_trackers_use(toy_model, toy_images, save_weights, name, pairs):
    trained = toy_model("MODEL.NAME", name, *pairs)
    kept = ("image_encoder.", "bottleneck.", "bottleneck_proj.")
    weights = {key: value for key, value in trained.state_dict().items() if key.startswith(kept)}
    model, info = load_reid_model(save_weights(weights, f"{name}_1.pth"), (64, 32))
    assert (info.num_classes, info.side_rows) == (0, 0) and not hasattr(model, "classifier")
    plain = toy_model("MODEL.NAME", name)
    plain.load_state_dict(weights, strict=False)
    assert torch.equal(features(model, toy_images()), features(plain, toy_images()))


def test_foreign_entries_are_left_out_with_a_warning(toy_model, save_weights, caplog):
    weights = toy_model().state_dict() | {"optimizer.step": torch.zeros(1)}
    with caplog.at_level(logging.WARNING, "transreid.model"):
        load_reid_model(save_weights(weights), (64, 32))
    assert "optimizer.step and other entries of that kind are not of a re-id model; ignored" in caplog.text


# ---- facts that the file knows better than the configuration


@pytest.mark.parametrize(
    ("stride", "wanted"), [((6, 6), None), ((6, 6), (8, 8)), ((3, 3), (8, 8)), ((6, 7), (6, 7))]
)
def test_stride_is_adopted(toy_model, toy_images, save_weights, caplog, stride, wanted):
    trained = toy_model("MODEL.STRIDE_SIZE", list(stride))
    with caplog.at_level(logging.WARNING, "transreid.model"):
        model, info = load_reid_model(save_weights(trained.state_dict()), (64, 32), stride=wanted)
    assert info.stride == stride and info.size == (64, 32)
    assert torch.equal(features(model, toy_images()), features(trained, toy_images()))
    assert (f"stride {stride} adopted from the file instead of (8, 8)" in caplog.text) == (wanted == (8, 8))


def test_size_is_adopted(toy_model, toy_config, toy_images, save_weights, caplog):
    """A vehicle file, 256 x 256, tested with a person configuration."""
    square = ("INPUT.SIZE_TRAIN", [256, 256], "MODEL.NAME", "toy-resnet")
    trained = toy_model(*square)
    path = save_weights(trained.state_dict(), "toy-resnet_60.pth")
    config = toy_config("MODEL.NAME", "toy-resnet", "INPUT.SIZE_TEST", [256, 128], "TEST.WEIGHT", str(path))
    with caplog.at_level(logging.WARNING, "transreid.model"):
        model, info = make_test_model(config, 4, 1)
    assert info.size == (256, 256) and info.stride == (16, 16)
    assert "size (256, 256) adopted from the file instead of (256, 128)" in caplog.text
    assert "stride" not in caplog.text
    images = toy_images(1, (256, 256))
    assert torch.equal(features(model, images), features(trained, images))


def test_size_of_a_vit_is_adopted(toy_model, save_weights, caplog):
    trained = toy_model("INPUT.SIZE_TRAIN", [128, 64], "MODEL.STRIDE_SIZE", [4, 4])
    with caplog.at_level(logging.WARNING, "transreid.model"):
        _, info = load_reid_model(save_weights(trained.state_dict()), (64, 32), stride=(4, 4))
    assert info.positions == 31 * 15 and (info.size, info.stride) == ((128, 64), (4, 4))
    assert caplog.text.count("adopted from the file") == 1


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("toy-vit_60.pth", "toy-vit"),
        ("toy-vit_stage1_120.pth", "toy-vit"),
        ("toy-vit.pt", "toy-vit"),
        ("best.pth", ""),
        ("toy-resnet_60.pth", ""),  # the shapes say otherwise
    ],
)
def test_name_from_the_file_name(toy_model, save_weights, file, name):
    assert load_reid_model(save_weights(toy_model().state_dict(), file), (64, 32))[1].name == name


def test_shapes_alone_mean_openais_activation(toy_model, toy_images, save_weights):
    openais = toy_model("MODEL.NAME", "toy-vit-quickgelu")
    model, _ = load_reid_model(save_weights(openais.state_dict(), "best.pth"), (64, 32))
    assert torch.equal(features(model, toy_images()), features(openais, toy_images()))
    resnet = toy_model("MODEL.NAME", "toy-resnet")
    model, _ = load_reid_model(save_weights(resnet.state_dict(), "best.pth"), (64, 32))
    assert torch.equal(features(model, toy_images()), features(resnet, toy_images()))


def test_size_can_be_left_out(toy_model, save_weights):
    """Sizes in common use are tried; a toy of 128 x 64 has one of them."""
    trained = toy_model("INPUT.SIZE_TRAIN", [128, 64])
    model, info = load_reid_model(save_weights(trained.state_dict()))
    assert (info.size, info.stride) == ((128, 64), (8, 8)) and model.image_encoder.grid == (16, 8)


# ---- what is refused


@pytest.mark.parametrize(
    ("trained", "tested", "message"),
    [
        ("toy-vit", "toy-resnet", "image_encoder.bn1.weight is missing"),
        ("toy-resnet", "toy-vit", "image_encoder.class_embedding is missing"),
        ("toy-vit", "toy-vit-deep", "image_encoder.transformer.resblocks.3.ln_1.weight is missing"),
        ("toy-vit-deep", "toy-vit", "image_encoder.conv1.weight is [64, 3, 4, 4] instead of [64, 3, 8, 8]"),
    ],
)
def test_another_architecture(toy_model, toy_config, save_weights, trained, tested, message):
    stride = ("MODEL.STRIDE_SIZE", [4, 4]) if trained == "toy-vit-deep" else ()
    path = save_weights(toy_model("MODEL.NAME", trained, *stride).state_dict(), f"{trained}_60.pth")
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        make_test_model(toy_config("MODEL.NAME", tested, "TEST.WEIGHT", str(path)), 4, 1)
    text = str(error.value)
    assert f"(MODEL.NAME {tested}) does not fit this architecture: " in text and message in text
    assert "\n" not in text and len(text) < 600


def test_clip_weights_are_no_reid_checkpoint(toy_clip, save_weights):
    path = save_weights(toy_clip().state_dict(), "ViT-B-16.pt")
    with pytest.raises(ValueError, match="is no re-id checkpoint but CLIP weights"):
        load_reid_model(path, (64, 32))


@pytest.mark.parametrize(
    ("weights", "missing"),
    [
        ({"fc.weight": torch.zeros(2, 2)}, "image_encoder.conv1.weight"),
        ({"image_encoder.conv1.weight": torch.zeros(2, 2)}, "bottleneck.weight"),
    ],
)
def test_other_state_dicts(save_weights, weights, missing):
    path = save_weights(weights)
    with pytest.raises(
        ValueError, match=f"is no re-id checkpoint but a state dict: {missing} is missing"
    ) as error:
        load_reid_model(path)
    assert str(path) in str(error.value) and f"it holds e.g. {next(iter(weights))}" in str(error.value)


def test_incomplete_files_name_what_is_missing(toy_model, save_weights):
    weights = toy_model().state_dict()
    del weights["image_encoder.ln_post.bias"], weights["classifier_proj.weight"]
    with pytest.raises(ValueError, match=r"image_encoder\.ln_post\.bias is missing"):
        load_reid_model(save_weights(weights), (64, 32))
    weights = toy_model().state_dict()
    del weights["classifier_proj.weight"]
    with pytest.raises(ValueError, match=r"classifier_proj\.weight is missing"):
        load_reid_model(save_weights(weights), (64, 32))


def test_empty_and_missing_paths(toy_config, tmp_path):
    with pytest.raises(ValueError, match=r"TEST\.WEIGHT is empty; allowed: the path of a checkpoint"):
        make_test_model(toy_config(), 4, 1)
    with pytest.raises(FileNotFoundError, match=r"no weights file at .*gone\.pth"):
        make_test_model(toy_config("TEST.WEIGHT", str(tmp_path / "gone.pth")), 4, 1)


def test_unknown_model_name(toy_model, save_weights):
    path = save_weights(toy_model().state_dict())
    config = load_config(cfg_base, "", ["TEST.WEIGHT", str(path), "INPUT.SIZE_TEST", "[64, 32]"])
    with pytest.raises(ValueError, match=r"MODEL\.NAME is 'resnet50'; allowed: "):
        make_test_model(config, 4, 1)
