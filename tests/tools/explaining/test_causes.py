"""Causes that depend on little of a run."""

import pytest

from tools.explaining import causes
from tools.explaining.page import make_case
from tools.explaining.reading import Known
from utils.untrusted.folders import HIDDEN, LINKED
from utils.untrusted.receipts import Section


@pytest.mark.parametrize(
    ("start", "told"),
    [
        ({"config": {}}, "is still CLIP's, and its neck"),
        ({"weights": {"reid": {"path": "other.pth"}}}, "is still that of the re-id file"),
        (None, "is still as before the training"),
    ],
)
def test_what_a_file_of_stage_1_holds_depends_on_the_start(start, told):
    train = Section(method="clipreid", **start) if start else None
    assert causes_of(train, "toy_stage1_1.pth")[0].follows.partition("image side ")[2].startswith(told)


@pytest.mark.parametrize(
    ("name", "epoch"),
    [("ViT-B-16_20.pth", 20), ("Market1501_clipreid_ViT-B-16_20.pth", 20), ("ViT-B-16_60.pth", None)]
    + [(name, None) for name in ("vit_seed_1.pth", "ViT-B-16_60_seed_1.pth", "market_2.pth", "best.pth")],
)
def test_a_number_in_a_files_name_is_an_epoch_behind_the_models_name(name, epoch):
    found = causes_of(None, name)
    assert [cause.here for cause in found] == ([f"{name}, epoch {epoch}"] if epoch else [])


def test_files_that_are_no_images_explain_nothing():
    left_out = {HIDDEN: 8, LINKED: 1, "images of identity -1": 3, "damaged images": 2}
    data = {"name": "csv", "left_out": left_out}
    case = make_case(Known(Section(method="clipreid", data=data), None, []))
    assert [cause.here for cause in causes.data(case)] == ["2 damaged images"]


@pytest.mark.parametrize(
    ("name", "method", "train", "told"),
    [
        ("VehicleID", "clipreid", (100, 6000), ["6,000 identities", "13,164 identities"]),
        ("VehicleID", "clipreid", (100, 13164), []),
        (
            "rstpreid",
            "tbps",
            (9000, 1800),
            ["9,000 images, 1,800 identities", "18,505 images, 3,701 identities"],
        ),
        ("rstpreid", "tbps", (18505, 3701), []),
    ],
)
def test_fewer_data_than_published(name, method, train, told):
    counts = {"images": train[0], "identities": train[1], "cameras": 0, "sha256": ""}
    section = Section(method=method, data={"name": name, "splits": {"train": counts}})
    found = [cause for cause in causes.data(make_case(Known(section, None, []))) if cause.weight == 2]
    assert [text for cause in found for text in (cause.here, cause.published)] == told


def causes_of(train, name):
    """The causes in a test of a file with this name, next to the published recipe."""
    test = Section(method="clipreid", weights={"test": {"path": name}}, config={"MODEL.NAME": "ViT-B-16"})
    return [*causes.tested_file(make_case(Known(train, test, [])))]
