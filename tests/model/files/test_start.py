"""A model that starts with the image side of a re-id file gives the file's own features."""

import logging
import re

import pytest
import torch

from config import cfg, cfg_base, cfg_pcl
from model import make_card, make_model, start_from_reid

pytestmark = pytest.mark.usefixtures("no_download")
SIE, VIEWS = ("MODEL.SIE_CAMERA", True), ("MODEL.SIE_VIEW", True)
ADAPTER, DEEP = ("MODEL.ADAPTER_RATIO", 0.3), ("MODEL.PROMPT.DEEP_VISION", 2)


@pytest.fixture
def saved(toy_config, toy_model, save_weights):
    """saved(KEY, VALUE, card='market1501') -> a model and its file, with a card unless that is ''."""

    def save(*pairs, card="market1501", cameras=None, **options):
        model = toy_model(*pairs, **options)
        model.bottleneck.num_batches_tracked.fill_(3)
        if model.side_information is not None:
            with torch.no_grad():
                model.cv_embed.normal_()  # rows that can be told apart
        path = save_weights(model.state_dict())
        if card:
            config = toy_config(*pairs, tree=options.get("tree", cfg))
            make_card(config, model, "clipreid", data=card, versions={}, cameras=cameras).write(path)
        return model, path

    return save


@pytest.fixture
def begin(toy_config, caplog):
    """begin(path, KEY, VALUE) -> another model of 7 identities with the file's image side."""

    def start(path, *pairs, tree=cfg, cameras=None, views=1, classes=7):
        caplog.set_level(logging.INFO, "transreid")
        torch.manual_seed(9)
        config = toy_config("MODEL.REID_WEIGHT", str(path), *pairs, tree=tree)
        cameras = {"market1501": 6} if cameras is None else cameras
        model = make_model(config, classes, sum(cameras.values()), views, pretrained=False)
        start_from_reid(config, model, cameras, views)
        return model.eval()

    return start


def features(model, images, *ids):
    with torch.no_grad():
        return model(images, *(torch.tensor(each) for each in ids))


@pytest.mark.parametrize("name", ["toy-vit", "toy-resnet"])
@pytest.mark.parametrize("former", [cfg, cfg_base, cfg_pcl])
@pytest.mark.parametrize("tree", [cfg, cfg_base, cfg_pcl])
def test_features_are_the_files_whichever_method_goes_on(
    saved, begin, toy_images, caplog, name, former, tree
):
    named = ("MODEL.NAME", name)
    trained, path = saved(*named, tree=former, classes=5)
    model = begin(path, *named, tree=tree)
    assert torch.equal(features(model, toy_images()), features(trained, toy_images()))
    assert torch.equal(model.encode_neck(toy_images()), trained.encode_neck(toy_images()))
    assert model.num_classes == 7 and len(model.classifier.weight) == 7
    one, both = "classifier 1", "classifier 1, classifier_proj 1"
    told = caplog.text
    parts = r"taken over: bottleneck 5, bottleneck_proj 5, image_encoder \d+$"
    assert re.search(f"{re.escape(str(path))}: {parts}", told, re.MULTILINE)
    assert f"new: {one if tree is cfg_pcl else both}" in told
    assert f"left out: {one if former is cfg_pcl else both}" in told
    assert (re.search(r"new: .*prompt_learner \d+, text_encoder \d+", told) is not None) == (tree is cfg)
    assert (re.search(r"left out: .*prompt_learner \d+, text_encoder", told) is not None) == (former is cfg)
    assert "WARNING" not in told.replace("WARNING  transreid.model:make_model.py", "")


def test_prompts_and_texts_stay_those_of_the_new_model(saved, begin, toy_config):
    _, path = saved(classes=7)
    torch.manual_seed(9)
    untouched = make_model(toy_config(), 7, 6, 1, pretrained=False).state_dict()
    for name, value in begin(path).state_dict().items():
        if name.startswith(("prompt_learner.", "text_encoder.", "classifier")):
            assert torch.equal(value, untouched[name])


def test_parts_that_both_have_are_taken(saved, begin, toy_images):
    trained, path = saved(*ADAPTER, *DEEP)
    model = begin(path, *ADAPTER, *DEEP)
    assert torch.equal(features(model, toy_images()), features(trained, toy_images()))


def test_parts_that_the_model_has_not_are_named(saved, begin, caplog):
    _, path = saved(*ADAPTER, *DEEP)
    begin(path)
    assert "left out: adapter 2, classifier 1, classifier_proj 1, deep prompts 3" in caplog.text
    assert f"{path} has deep prompts in its image tower, which the model has not" in caplog.text
    assert f"{path} has an adapter, which the model has not" in caplog.text


def test_parts_that_the_file_has_not_are_new(saved, begin, caplog):
    _, path = saved()
    begin(path, *ADAPTER, *DEEP)
    assert re.search(r"new: adapter 2, .*deep prompts 3", caplog.text)


def test_deep_prompts_of_their_own_file_stay(saved, begin, toy_model, tmp_path):
    trained, path = saved(*DEEP)
    model = begin(path, *DEEP, "MODEL.PROMPT.WEIGHT", "prompts.pth")
    assert not torch.equal(model.image_encoder.VPT, trained.image_encoder.VPT)
    assert torch.equal(model.image_encoder.conv1.weight, trained.image_encoder.conv1.weight)


def test_another_size_and_stride_resize_the_positions(saved, begin, toy_images, caplog):
    trained, path = saved()
    model = begin(path, "INPUT.SIZE_TRAIN", [32, 32], "MODEL.STRIDE_SIZE", [4, 4])
    assert "positions of 8x4 patches resized to 7x7" in caplog.text
    one, other = (each.image_encoder.positional_embedding for each in (model, trained))
    assert torch.equal(one[0], other[0]) and len(one) == 50
    assert torch.allclose(one[1:].mean(0), other[1:].mean(0), atol=0.01)
    assert features(model, toy_images(size=(32, 32))).shape == (2, 80)


@pytest.mark.parametrize("card", ["market1501", ""])
def test_rows_of_the_same_cameras_are_taken(saved, begin, toy_images, card):
    trained, path = saved(*SIE, card=card)
    model = begin(path, *SIE)
    assert torch.equal(features(model, toy_images(), [0, 5]), features(trained, toy_images(), [0, 5]))


@pytest.mark.parametrize(
    ("card", "cameras", "told"),
    [
        ("market1501", {"csv": 3}, "the mean row: the table is of market1501, not of csv"),
        ("market1501", {"market1501": 9}, "the mean row: market1501 had 6 cameras in training, here 9"),
        ("", {"market1501": 9}, "the mean row of side information, because its 6 rows have no model card"),
    ],
)
def test_cameras_of_another_site_begin_with_the_mean_row(
    saved, begin, toy_images, caplog, card, cameras, told
):
    trained, path = saved(*SIE, card=card)
    model = begin(path, *SIE, cameras=cameras)
    assert len(model.cv_embed) == sum(cameras.values())
    wanted = features(trained, toy_images())  # of a camera that is not known
    assert torch.allclose(features(model, toy_images(), [0, 2]), wanted, atol=1e-5)
    assert told in caplog.text


def test_the_scale_of_the_file_is_kept(saved, begin, toy_images):
    trained, path = saved(*SIE, "MODEL.SIE_COE", 3.0)
    model = begin(path, *SIE, "MODEL.SIE_COE", 0.5)
    wanted = features(trained, toy_images(), [0, 5])
    assert torch.allclose(features(model, toy_images(), [0, 5]), wanted, atol=1e-5)


def test_without_rows_of_its_own_the_mean_row_is_within_the_class_token(saved, begin, toy_images, caplog):
    trained, path = saved(*SIE, "MODEL.SIE_COE", 3.0)
    model = begin(path)
    assert torch.allclose(features(model, toy_images()), features(trained, toy_images()), atol=1e-5)
    assert "the mean of 6 rows of side information within the class token" in caplog.text
    assert "cv_embed" not in caplog.text


def test_rows_of_cameras_and_views(saved, begin, toy_images):
    trained, path = saved(*SIE, *VIEWS, views=3)
    ids = [0, 5], [2, 1]
    both = begin(path, *SIE, *VIEWS, views=3)
    assert torch.equal(features(both, toy_images(), *ids), features(trained, toy_images(), *ids))
    fewer = begin(path, *SIE, *VIEWS, cameras={"market1501": 2}, views=2)
    ids = [0, 1], [1, 0]
    assert torch.equal(features(fewer, toy_images(), *ids), features(trained, toy_images(), *ids))
    table = trained.cv_embed.unflatten(0, (6, 3))
    assert torch.allclose(begin(path, *SIE, views=3).cv_embed, table.mean(1))
    assert torch.allclose(begin(path, *VIEWS, views=3).cv_embed, table.mean(0))


def test_data_sets_that_are_joined_have_rows_of_their_own(saved, begin, caplog):
    trained, path = saved(*SIE, card="market1501+msmt17", cameras={"market1501": 2, "msmt17": 4})
    rows = trained.cv_embed
    model = begin(path, *SIE, cameras={"csv": 3, "msmt17": 4})
    assert torch.allclose(model.cv_embed[:3], rows.mean(0).expand(3, -1))
    assert torch.equal(model.cv_embed[3:], rows[2:])
    assert "of msmt17 from camera 2 on" in caplog.text and "not of csv" in caplog.text


def test_rows_are_new_and_of_no_effect_where_the_file_has_none(saved, begin, toy_images, caplog):
    trained, path = saved()
    model = begin(path, *SIE)
    assert torch.equal(features(model, toy_images(), [0, 5]), features(trained, toy_images()))
    assert model.cv_embed.requires_grad
    assert re.search(r"new: .*cv_embed 1", caplog.text)


@pytest.mark.parametrize(
    ("key", "value", "here", "there"),
    [
        ("INPUT.PIXEL_MEAN", [0.5, 0.5, 0.5], "(0.5, 0.5, 0.5)", "(0.485, 0.456, 0.406)"),
        ("MODEL.NAME", "toy-vit-quickgelu", "True", "False"),
    ],
)
def test_other_facts_than_the_cards_are_warned_of(saved, begin, caplog, key, value, here, there):
    _, path = saved()
    begin(path, key, value)
    name = key if key.startswith("INPUT") else "quick_gelu of MODEL.NAME"
    said = f"{name} is {here}, but MODEL.REID_WEIGHT {path} was trained with {there}, says its model card"
    assert said in caplog.text


def test_a_file_of_stage_1_is_warned_of(begin, toy_config, save_weights, caplog):
    begin(save_weights(make_model(toy_config(), 5, 6, 1).state_dict()))
    assert "is a file of stage 1: its batch norms have seen no images" in caplog.text
    assert "has no model card: whether its images had the mean" in caplog.text


def test_other_files_are_refused_and_nothing_is_loaded(saved, begin, save_weights):
    trained, _ = saved()

    def refused(told, weights, *pairs, name="toy-vit_4.pth"):
        with pytest.raises(ValueError, match=told) as caught:
            begin(save_weights(weights, name), *pairs)
        assert "\n" not in str(caught.value) and name in str(caught.value)

    weights = trained.state_dict()
    deep = ("MODEL.NAME", "toy-vit-deep", "MODEL.STRIDE_SIZE", [4, 4])
    refused(r"MODEL.REID_WEIGHT .* \(whose model MODEL.NAME does not describe\) does not fit", weights, *deep)
    refused("MODEL.REID_WEIGHT .* does not fit this architecture", weights, "MODEL.NAME", "toy-resnet")
    refused("is no re-id checkpoint", {"visual.conv1.weight": weights["image_encoder.conv1.weight"]})
    refused("image_encoder.proj is missing", {k: v for k, v in weights.items() if "proj" not in k[-6:]})
    with pytest.raises(FileNotFoundError, match=r"gone\.pth, which MODEL.REID_WEIGHT names"):
        begin("no/such/gone.pth")


def test_published_names_of_prompt_learning(toy_model, begin, save_weights, toy_images):
    trained = toy_model()
    weights = {
        re.sub(r"^(?=bottleneck|classifier)", "vision_", k): v for k, v in trained.state_dict().items()
    }
    weights["prompt_learner.ctx"] = weights.pop("prompt_learner.cls_ctx")
    model = begin(save_weights({**weights, "logit_scale": torch.tensor(4.6)}))
    assert torch.equal(features(model, toy_images()), features(trained, toy_images()))
