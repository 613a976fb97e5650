"""Causes that depend on little of a run."""

import pytest

from tools.explaining import causes
from tools.explaining.page import make_case
from tools.explaining.reading import Known
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


def causes_of(train, name):
    """The causes in a test of a file with this name, next to the published recipe."""
    test = Section(method="clipreid", weights={"test": {"path": name}}, config={"MODEL.NAME": "ViT-B-16"})
    return [*causes.tested_file(make_case(Known(train, test, [])))]
