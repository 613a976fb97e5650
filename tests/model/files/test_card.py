"""Model cards: written next to weights, read as untrusted files, and used wherever a model is loaded."""

import json
import logging

import open_clip
import pytest
import torch

from config import cfg, cfg_base, cfg_pcl
from model import SideInformation, adopt_card, load_reid_model, make_card, make_test_model, read_card

PIXELS = ("INPUT.PIXEL_MEAN", [0.1, 0.2, 0.3], "INPUT.PIXEL_STD", [0.5, 0.6, 0.7])
OTHERS = ("INPUT.TEST_RESIZE", "bicubic", "TEST.NECK_FEAT", "after", "MODEL.STRIDE_SIZE", [6, 6])
SETTINGS = (*PIXELS, *OTHERS)
SIE = ("MODEL.SIE_CAMERA", True, "MODEL.SIE_VIEW", True, "MODEL.SIE_COE", 3.0)


@pytest.fixture
def saved(toy_config, toy_model, save_weights):
    """saved(*SIE, file='best.pth') -> a model, and its file with a card."""

    def save(*pairs, tree=cfg_base, file="toy-vit_3.pth"):
        model = toy_model(*pairs, tree=tree, views=2)
        path = save_weights(model.state_dict(), file)
        config = toy_config(*pairs, tree=tree)
        make_card(config, model, "base", data="dukemtmc", versions={"torch": "2"}).write(path)
        return model, path

    return save


@pytest.fixture
def changed(saved):
    """changed(size=[1]) -> a file whose card has other fields."""

    def change(**fields):
        path = saved()[1]
        card = path.with_suffix(".json")
        card.write_text(json.dumps(json.loads(card.read_text()) | fields))
        return path

    return change


@torch.no_grad()
def features(model, images):
    return model(images, torch.tensor([0, 5]), torch.tensor([1, 0]))


def test_a_card_is_read_as_it_was_written(saved):
    _, path = saved(*SETTINGS, *SIE, tree=cfg)
    card = read_card(path)
    assert (card.name, card.method, card.data, card.versions) == (
        "toy-vit",
        "base",
        "dukemtmc",
        {"torch": "2"},
    )
    assert (card.size, card.stride, card.neck, card.resize) == ((64, 32), (6, 6), "after", "bicubic")
    assert (card.mean, card.std) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    assert (card.sie, card.classes, card.tokenizer) == (SideInformation(6, 2, 3.0), 5, "clip_bpe")
    assert (card.quick_gelu, card.head_width, len(card.sha256)) == (False, 64, 64)
    stored = json.loads((path.parent / "toy-vit_3.json").read_text())
    assert stored["sie"] == {"cameras": 6, "views": 2, "scale": 3.0} and stored["size"] == [64, 32]


def test_files_without_a_card(saved, save_weights):
    path = save_weights({"a": torch.ones(1)})
    assert read_card(path) is None
    path.with_suffix(".json").write_text('{"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}')
    assert read_card(path) is None  # open_clip's description of a model
    _, path = saved("MODEL.NAME", "toy-resnet", file="best.pth")
    card = read_card(path)
    assert card.sie is None and card.tokenizer is None


def test_a_card_of_other_weights_is_not_used(saved, toy_model, toy_images, save_weights, caplog):
    _, path = saved(*SETTINGS)
    other = toy_model()
    save_weights(other.state_dict())
    model, info = load_reid_model(path, (64, 32))
    load_reid_model(path, (64, 32))
    assert caplog.text.count(f"{path.with_suffix('.json')} is the card of another file than {path}") == 1
    assert info.card is None and (info.mean, info.resize, info.neck) == ((0.5,) * 3, "bilinear", "before")
    assert torch.equal(features(model, toy_images()), features(other, toy_images()))


@pytest.mark.parametrize(
    "fields",
    [
        *({"name": value} for value in (3, "a\nb", "a" * 1000)),
        *({"size": value} for value in ([1], [0, 8], [8.0, 8], "8x8", [True, 1], None)),
        *({"stride": value} for value in ([8, -1], 8)),
        *({"mean": value} for value in ([0.5] * 2, [0.5, "0", 1], [float("nan")] * 3, 0.5)),
        *({"std": value} for value in ([0.5, 0, 0.5], [float("inf")] * 3)),
        {"resize": "nearest"},
        {"neck": ["before"]},
        *({"sie": value} for value in (3, [6, 0, 1.0], {}, {"cameras": 0, "views": 0, "scale": 1.0})),
        *({"sie": {"cameras": 6, "views": 0, "scale": value}} for value in ("1", float("nan"), True)),
        *({"sie": {"cameras": value, "views": 3, "scale": 1.0}} for value in (-1, 6.0, True)),
        *({"classes": value} for value in (-1, 1.5, True)),
        *({"cameras": value} for value in ([6], {"a": -1}, {"a": "6"})),
        {"tokenizer": 1},
        {"quick_gelu": 1},
        *({"head_width": value} for value in (0, "64")),
        {"data": {}},
        *({"versions": value} for value in ([], {"torch": 2})),
        {"sha256": None},
    ],
)
def test_wrong_fields_are_named(changed, fields):
    path = changed(**fields)
    with pytest.raises(ValueError, match=rf"is no model card: {next(iter(fields))}[\w.]*( is |: )") as error:
        load_reid_model(path, (64, 32))
    text = str(error.value)
    assert text.startswith(str(path.with_suffix(".json"))) and "\n" not in text
    assert any(words in text for words in ("allowed: ", "should have at ", "Field required"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Invalid JSON"),
        ("[1]", "it is "),
        ("[" * 50_000, "recursion"),
        ('{"name": "a"}', "method: Field required"),
        (b"\xff\xfe", "Invalid JSON"),
    ],
)
def test_files_that_are_no_cards(saved, text, message):
    card = saved()[1].with_suffix(".json")
    card.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"is no model card: .*{message}") as error:
        read_card(card.with_suffix(".pth"))
    assert str(card) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": 10**12}, f"has {10**12} classes, but .* 5"),
        ({"sie": {"cameras": 10**12, "views": 1, "scale": 1.0}}, f"has {10**12} rows of sie, but .* 0"),
        ({"head_width": 48, "name": "mine"}, "has features of 64 numbers; allowed: multiples of 48"),
        ({"head_width": 48}, "has features of 64 numbers; allowed: multiples of 48"),
    ],
)
def test_cards_that_contradict_the_weights(changed, fields, message):
    with pytest.raises(ValueError, match=message):
        load_reid_model(changed(**fields), (64, 32))


def test_the_model_is_that_of_the_card(saved, toy_images):
    trained, path = saved(*SETTINGS, *SIE)
    model, info = load_reid_model(path)
    assert torch.equal(features(model, toy_images()), features(trained, toy_images()))
    assert (info.size, info.stride, info.neck, info.sie_scale) == ((64, 32), (6, 6), "after", 3.0)
    assert (info.mean, info.std, info.resize) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "bicubic")
    other, info = load_reid_model(path, sie=(12, 0), sie_scale=1.0, neck_feature="before")
    assert (info.neck, info.sie_scale) == ("before", 1.0) and other.side_information == (12, 0, 1.0)


def test_what_is_given_against_the_card_is_named(saved, caplog):
    _, path = saved(*SETTINGS, *SIE)
    given = {"mean": (0.5,) * 3, "std": (0.5, 0.6, 0.7), "resize": "bilinear", "neck_feature": "before"}
    caplog.clear()
    _, info = load_reid_model(path, sie_scale=1.0, **given)
    assert (info.mean, info.std, info.resize, info.neck) == tuple(given.values()) and info.sie_scale == 1.0
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 4 and all(line.startswith(f"{path}: ") for line in told)
    for words in (
        "mean (0.5, 0.5, 0.5)",
        "(0.1, 0.2, 0.3)",
        "resize bilinear",
        "neck before",
        "sie_scale 1.0",
    ):
        assert any(words in line and str(path.with_suffix(".json")) in line for line in told)


@pytest.mark.parametrize("stride", [7, 8])
def test_the_card_knows_the_stride(saved, toy_images, caplog, stride):
    """Strides 7 and 8 give images of 41 x 26 pixels as many positions; without the card, 8 is a guess."""
    size = ("INPUT.SIZE_TRAIN", [41, 26], "INPUT.SIZE_TEST", [41, 26], "MODEL.STRIDE_SIZE", [stride, stride])
    trained, path = saved(*size)
    images = toy_images(2, (41, 26))
    caplog.clear()
    model, info = load_reid_model(path)
    assert info.stride == (stride, stride) and not caplog.text
    assert torch.equal(features(model, images), features(trained, images))
    for wanted in ({"stride": (1, 1)}, {"size": (100, 100)}, {"size": (100, 100), "stride": (3, 3)}):
        _, info = load_reid_model(path, **wanted)  # neither fits the file
        assert (info.size, info.stride) == ((41, 26), (stride, stride))
    path.with_suffix(".json").unlink()
    _, info = load_reid_model(path, (41, 26))
    assert info.stride == (8, 8) and "41x26 at stride 7x7" in caplog.text


def test_what_is_assumed_without_a_card_is_said_once(toy_model, save_weights, caplog):
    path = save_weights(toy_model(*SIE[:2], "INPUT.SIZE_TRAIN", [128, 64]).state_dict())
    path.with_name("config.yml").touch()
    load_reid_model(path)
    (line,) = [record.getMessage() for record in caplog.records if "no model card" in record.getMessage()]
    for words in (
        f"{path} ",
        "mean (0.5, 0.5, 0.5)",
        "std (0.5, 0.5, 0.5)",
        "resize bilinear",
        "neck before",
    ):
        assert words in line
    for words in ("size (128, 64)", "stride (8, 8)", "sie_scale 1.0", str(path.with_name("config.yml"))):
        assert words in line
    caplog.clear()
    pixels = {"mean": (0.1,) * 3, "std": (0.2,) * 3, "resize": "bicubic"}
    load_reid_model(path, (128, 64), stride=(8, 8), neck_feature="after", sie_scale=3.0, **pixels)
    assert "no model card" not in caplog.text


@pytest.mark.parametrize("label", ["mine", "toy-vit", "toy-vit-quickgelu"])
@pytest.mark.parametrize("name", ["toy-vit", "toy-vit-quickgelu"])
def test_the_tower_of_a_description_file_is_known(saved, toy_images, tmp_path, name, label):
    """Neither its name nor its activation can be read from shapes; its label may be that of another tower."""
    description = tmp_path / f"{label}.json"
    description.write_text(json.dumps(open_clip.get_model_config(name)))
    trained, path = saved("MODEL.NAME", str(description), file="best.pth")
    description.unlink()
    model, info = load_reid_model(path)
    assert info.name == label
    assert torch.equal(features(model, toy_images()), features(trained, toy_images()))


def test_the_configuration_of_a_test_adopts_the_card(saved, toy_config, toy_images, caplog):
    trained, path = saved(*SETTINGS, *SIE)
    plain = toy_config("TEST.WEIGHT", str(path))
    with caplog.at_level(logging.INFO, "transreid.model"):
        adopted = adopt_card(plain, given=["TEST.WEIGHT"])
    for key, own in zip(SETTINGS[::2], SETTINGS[1::2], strict=True):
        assert f"{key} " in caplog.text and f"is replaced by {own} of the model card" in caplog.text
    assert caplog.text.count("is replaced by") == 6 and adopted.is_frozen()
    assert plain.TEST.NECK_FEAT == "before" and adopted.MODEL.SIE_COE == 3.0
    model, info = make_test_model(adopted, 6, 2)
    assert torch.equal(features(model, toy_images()), features(trained, toy_images()))
    assert (info.mean, info.std, info.resize) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "bicubic")


@pytest.mark.parametrize(
    ("use", "counts", "wanted"),
    [
        ("CAMERA", (3, 2), (6, 0)),  # the counts alone would number pairs
        ("VIEW", (2, 1), (0, 2)),  # they would number cameras
        ("VIEW", (2, 3), (1, 0)),
        ("CAMERA", (7, 1), (1, 0)),
    ],
)
def test_the_card_numbers_the_rows(saved, toy_config, use, counts, wanted):
    _, path = saved(f"MODEL.SIE_{use}", True, "MODEL.SIE_COE", 3.0)
    for more in ((), SIE[:4]):
        given = ["TEST.WEIGHT", "MODEL.SIE_COE"]
        config = adopt_card(toy_config("TEST.WEIGHT", str(path), "MODEL.SIE_COE", 7.0, *more), given)
        model, info = make_test_model(config, *counts)
        assert model.side_information == (*wanted, 7.0) and info.sie_scale == 7.0


def test_a_factor_without_effect_is_told(toy_model, toy_config, save_weights, caplog):
    path = save_weights(toy_model(*SIE[:2]).state_dict())
    pairs = ("TEST.WEIGHT", str(path), "MODEL.SIE_COE", 7.0)
    adopt_card(toy_config(*pairs, *SIE[:2]), pairs[::2])
    assert not caplog.text
    adopt_card(toy_config(*pairs), pairs[::2])
    assert "MODEL.SIE_COE is not used" in caplog.text


def test_keys_of_the_command_line_stay(saved, toy_config, caplog):
    _, path = saved(*SETTINGS)
    plain = toy_config("TEST.WEIGHT", str(path))
    assert adopt_card(plain, given=[*SETTINGS[::2], "INPUT.SIZE_TEST"]) == plain and not caplog.text
    assert adopt_card(toy_config(), given=()) == toy_config()


def test_the_card_of_pcl_clip_is_its_own_test(toy_model, toy_config, save_weights, caplog):
    pairs = ("TEST.NECK_FEAT", "after")
    model = toy_model(*pairs, tree=cfg_pcl)
    path = save_weights(model.state_dict())
    make_card(toy_config(*pairs, tree=cfg_pcl), model, "pcl", data="", versions={}).write(path)
    _, info = load_reid_model(path)
    assert (info.neck, info.resize, info.joint_classifier) == ("after", "bicubic", True)


@pytest.mark.parametrize(
    ("cameras", "data", "first"),
    [
        ({"dukemtmc": 6}, "dukemtmc", 0),
        ({"a": 4, "dukemtmc": 2}, "dukemtmc", 4),
        ({"a": 1, "dukemtmc": 2, "b": 3}, "dukemtmc", 1),
        ({"dukemtmc": 6}, "occ_duke", None),  # as many cameras, but of another site
        ({"a": 5, "dukemtmc": 1}, "dukemtmc", None),  # the test has one that training had not
        (None, "dukemtmc", 0),  # cards of former versions
        (None, "market1501", None),
    ],
)
def test_rows_are_those_of_the_data_set_in_training(saved, toy_config, toy_images, cameras, data, first):
    model, path = saved(*SIE)
    card = json.loads(path.with_suffix(".json").read_text())
    card = {**card, "cameras": cameras} if cameras else {k: card[k] for k in card if k != "cameras"}
    path.with_suffix(".json").write_text(json.dumps(card))
    tested, _ = make_test_model(toy_config("TEST.WEIGHT", str(path), *SIE), 2, 2, data=data)
    camids, views = torch.tensor([0, 1]), torch.tensor([1, 0])
    with torch.no_grad():
        wanted = model.eval()(toy_images(), *(() if first is None else (camids + first, views)))
        torch.testing.assert_close(tested(toy_images(), camids, views), wanted)
        torch.testing.assert_close(tested(toy_images(), camids - 9, views), model(toy_images()))


def test_cameras_are_counted_by_the_table(saved):
    _, path = saved(*SIE)
    file = path.with_suffix(".json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"cameras": {"a": 3, "b": 4}}))
    with pytest.raises(ValueError, match=r"cameras is .*'b': 4.*allowed: 6 cameras in all"):
        read_card(path)
