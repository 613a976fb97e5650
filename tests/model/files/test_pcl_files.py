"""Files of PCL-CLIP, with one classifier on both features: read, and tested by all programs."""

import logging

import pytest
import torch

from config import cfg, cfg_base, cfg_pcl
from model import SideInformation, load_reid_model, make_test_model
from model.files.info import read_info

pytestmark = pytest.mark.usefixtures("no_download")
TREES = {"cfg": cfg, "cfg_base": cfg_base, "cfg_pcl": cfg_pcl}
SIZE, WIDTH, PROJECTED = (64, 32), {"toy-vit": 64, "toy-resnet": 256}, 16
AFTER = ("TEST.NECK_FEAT", "after")
KINDS = [("toy-vit",), ("toy-resnet",), ("toy-vit", "MODEL.SIE_CAMERA", True)]
OWN = ("TEST.NECK_FEAT", "after", "INPUT.TEST_RESIZE", "bicubic")


@pytest.fixture(params=KINDS, ids=["vit", "resnet", "vit-sie"])
def trained(request, toy_model):
    """A model of PCL-CLIP after training, and the name of its tower."""
    name, *pairs = request.param
    return toy_model("MODEL.NAME", name, *pairs, *AFTER, tree=cfg_pcl), name


@torch.no_grad()
def features(model, images):
    return model(images, torch.tensor([0, 5]))


def warned(caplog):
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def test_what_the_file_says(trained):
    model, name = trained
    weights = model.state_dict()
    assert weights["classifier.weight"].shape == (5, WIDTH[name] + PROJECTED)
    assert "classifier_proj.weight" not in weights
    info = read_info(weights, "x.pth")
    assert info.joint_classifier and info.num_classes == 5 and info.width == WIDTH[name]
    assert info.side_rows == (6 if model.side_information else 0)


@pytest.mark.parametrize("tree", [cfg, cfg_base])
def test_files_of_the_others_have_two_classifiers(toy_model, tree):
    assert not read_info(toy_model(tree=tree).state_dict(), "x.pth").joint_classifier


def test_files_of_training_without_identities_have_none(toy_model, toy_images, save_weights):
    model = toy_model(*AFTER, tree=cfg_pcl, classes=0)
    loaded, info = load_reid_model(save_weights(model.state_dict()), SIZE, neck_feature="after")
    assert not info.joint_classifier and info.num_classes == 0
    assert torch.equal(features(loaded, toy_images()), features(model, toy_images()))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_file_alone(trained, toy_images, save_weights, prefix):
    model, name = trained
    weights = {f"{prefix}{key}": value for key, value in model.state_dict().items()}
    path = save_weights(weights, f"{name}_3.pth")
    loaded, info = load_reid_model(path, SIZE, neck_feature="after")
    assert info.joint_classifier and loaded.joint_classifier and not loaded.training
    assert torch.equal(loaded.classifier.weight, model.classifier.weight)
    assert torch.equal(features(loaded, toy_images()), features(model, toy_images()))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("tree", TREES)
def test_each_program_tests_it(trained, toy_config, toy_images, save_weights, caplog, tree, prefix):
    model, name = trained
    weights = {f"{prefix}{key}": value for key, value in model.state_dict().items()}
    path = save_weights(weights, f"{name}_3.pth")
    config = toy_config("MODEL.NAME", name, *OWN, "TEST.WEIGHT", str(path), tree=TREES[tree])
    loaded, info = make_test_model(config, 6, 1)
    assert info.joint_classifier and loaded.num_classes == 5
    if model.side_information:
        assert loaded.side_information == SideInformation(6, 0, 1.0)
    assert torch.equal(features(loaded, toy_images()), features(model, toy_images()))
    assert not warned(caplog)


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize(
    ("neck", "resize"), [("before", "bicubic"), ("after", "bilinear"), ("before", "bilinear")]
)
def test_a_test_that_is_not_its_own_warns_once(
    toy_model, toy_config, save_weights, caplog, tree, neck, resize
):
    path = save_weights(toy_model(tree=cfg_pcl).state_dict())
    pairs = ("TEST.WEIGHT", str(path), "TEST.NECK_FEAT", neck, "INPUT.TEST_RESIZE", resize)
    make_test_model(toy_config(*pairs, tree=TREES[tree]), 6, 1)
    (message,) = warned(caplog)
    assert message == (
        f"{path} has the one classifier of PCL-CLIP, but TEST.NECK_FEAT is '{neck}' and INPUT.TEST_RESIZE "
        f"'{resize}'; PCL-CLIP's own test has 'after' and 'bicubic', the defaults of test_pcl.py"
    )


@pytest.mark.parametrize("tree", TREES)
def test_other_files_do_not_warn(toy_model, toy_config, save_weights, caplog, tree):
    path = save_weights(toy_model(tree=cfg_base).state_dict())
    for pairs in ((), OWN):
        make_test_model(toy_config("TEST.WEIGHT", str(path), *pairs, tree=TREES[tree]), 6, 1)
    assert not warned(caplog)


def test_the_defaults_of_each_program():
    """The warning names what test_pcl.py has by itself, and the others have not."""
    has_own = {
        name: (tree.TEST.NECK_FEAT, tree.INPUT.TEST_RESIZE) == ("after", "bicubic")
        for name, tree in TREES.items()
    }
    assert has_own == {"cfg": False, "cfg_base": False, "cfg_pcl": True}


@pytest.mark.parametrize("width", [16, 79, 81, 160])
def test_a_joint_classifier_of_a_wrong_width(toy_model, toy_config, save_weights, width):
    weights = toy_model(tree=cfg_pcl).state_dict()
    path = save_weights(weights | {"classifier.weight": torch.zeros(5, width)})
    config = toy_config(*OWN, "TEST.WEIGHT", str(path), tree=cfg_pcl)
    for load in (lambda: load_reid_model(path, SIZE), lambda: make_test_model(config, 6, 1)):
        with pytest.raises(
            ValueError, match=rf"is no re-id checkpoint: classifier\.weight is \[5, {width}\]"
        ) as error:
            load()
        assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_a_joint_classifier_beside_a_second_one(toy_model, save_weights):
    weights = toy_model(tree=cfg_pcl).state_dict()
    path = save_weights(weights | {"classifier_proj.weight": torch.zeros(5, PROJECTED)})
    with pytest.raises(ValueError, match=r"classifier\.weight is \[5, 80\]; allowed: \[5, 64\]"):
        load_reid_model(path, SIZE)
