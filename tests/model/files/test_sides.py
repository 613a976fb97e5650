"""Tables of side information embeddings: how they are used on test sets that may be other sites."""

import logging

import pytest
import torch

from config import cfg
from model import SideInformation, load_reid_model, make_test_model
from model.files.sides import side_information_for

pytestmark = pytest.mark.usefixtures("no_download")
SIE = ("MODEL.SIE_CAMERA", True)


def features(model, images, *ids):
    with torch.no_grad():
        return model(images, *(torch.tensor(each) for each in ids))


@pytest.mark.parametrize(
    ("rows", "cameras", "views", "use", "wanted"),
    [
        # The configuration does not say how the rows are numbered: the counts do.
        (6, 6, 1, "", (6, 0)),
        (15, 15, 1, "", (15, 0)),
        (160, 20, 8, "", (20, 8)),
        (152, 19, 8, "", (19, 8)),
        (8, 1, 8, "", (1, 8)),
        (15, 6, 1, "", (1, 0)),  # another site
        (6, 15, 1, "", (1, 0)),
        (152, 20, 8, "", (1, 0)),  # trained without one of the cameras
        (160, 19, 8, "", (1, 0)),
        (160, 20, 8, "c", (20, 8)),  # half said
        (160, 20, 8, "v", (20, 8)),
        # The configuration says it.
        (6, 6, 1, "c", (6, 0)),
        (15, 6, 1, "c", (15, 0)),
        (6, 15, 1, "c", (1, 0)),
        (8, 20, 8, "v", (0, 8)),
        (8, 20, 5, "v", (0, 8)),
        (4, 20, 8, "v", (1, 0)),
        (160, 20, 8, "cv", (20, 8)),
        (160, 19, 8, "cv", (20, 8)),
        (152, 20, 8, "cv", (1, 0)),
        (150, 20, 8, "cv", (1, 0)),
        (6, 6, 1, "cv", (6, 1)),
    ],
)
def test_how_a_table_is_used(rows, cameras, views, use, wanted):
    side, message = side_information_for(
        rows, cameras=cameras, views=views, use_camera="c" in use, use_view="v" in use, scale=2.0
    )
    assert side == SideInformation(*wanted, 2.0)
    if wanted == (1, 0):
        fit = f"the table's {rows} rows do not fit {cameras} cameras and {views} views here"
        assert message == f"SIE by the mean row: {fit}"
    else:
        assert message.startswith("SIE by ") and "mean" not in message


@pytest.mark.parametrize(
    ("use", "message"), [("", ""), ("c", "SIE is on but the file has no table: tested without")]
)
def test_files_without_a_table(use, message):
    options = {"cameras": 6, "views": 1, "use_camera": "c" in use, "use_view": False, "scale": 1.0}
    assert side_information_for(0, **options) == (None, message)


def test_sie_olp_file_with_the_plain_configuration(toy_model, toy_config, toy_images, save_weights, caplog):
    trained = toy_model(*SIE, "MODEL.STRIDE_SIZE", [6, 6], tree=cfg)
    path = save_weights(trained.state_dict())
    with caplog.at_level(logging.INFO, "transreid.model"):
        model, info = make_test_model(toy_config("TEST.WEIGHT", str(path), "MODEL.SIE_COE", 3.0), 6, 1)
    assert info.stride == (6, 6) and model.side_information == SideInformation(6, 0, 1.0)
    assert "SIE by camera (6 rows)" in caplog.text
    ids = [0, 5]
    assert torch.equal(features(model, toy_images(), ids), features(trained, toy_images(), ids))


def test_the_configured_scale_counts_where_side_information_is_on(
    toy_model, toy_config, toy_images, save_weights
):
    pairs = (*SIE, "MODEL.SIE_COE", 3.0)
    trained = toy_model(*pairs)
    config = toy_config(*pairs, "TEST.WEIGHT", str(save_weights(trained.state_dict())))
    model, _ = make_test_model(config, 6, 1)
    assert torch.equal(features(model, toy_images(), [0, 5]), features(trained, toy_images(), [0, 5]))


@pytest.mark.parametrize(
    ("pairs", "cameras"), [((), 20), (("TEST.SIE", "mean"), 6), ((*SIE, "TEST.SIE", "mean"), 6)]
)
def test_mean_row_for_all(toy_model, toy_config, toy_images, save_weights, caplog, pairs, cameras):
    trained = toy_model(*SIE)
    config = toy_config(*pairs, "TEST.WEIGHT", str(save_weights(trained.state_dict())))
    with caplog.at_level(logging.INFO, "transreid.model"):
        model, _ = make_test_model(config, cameras, 1)
    assert "SIE by the mean row" in caplog.text
    wanted = features(trained, toy_images())  # no camera given
    for ids in ([0, 5], [19, -1]):
        assert torch.allclose(features(model, toy_images(), ids), wanted, atol=1e-6)
    assert not torch.allclose(features(trained, toy_images(), [0, 5]), wanted, atol=1e-4)


@pytest.mark.parametrize("pairs", [("DATASETS.TEST", "csv"), ("DATASETS.TRAIN_ALSO", "msmt17"), ()])
def test_without_a_card_rows_of_joined_or_other_sets_are_not_known(
    toy_model, toy_config, toy_images, save_weights, caplog, pairs
):
    trained = toy_model(*SIE)
    config = toy_config(*SIE, *pairs, "TEST.WEIGHT", str(save_weights(trained.state_dict())))
    with caplog.at_level(logging.INFO, "transreid.model"):
        model, _ = make_test_model(config, 6, 1, data="csv" if "csv" in pairs else "market1501")
    wanted = features(trained, toy_images(), *([[0, 5]] if not pairs else []))
    assert torch.allclose(features(model, toy_images(), [0, 5]), wanted, atol=1e-6)
    assert ("without a model card the rows of" in caplog.text) == bool(pairs)


@pytest.mark.parametrize(("cameras", "warned"), [(6, False), (4, True)])
def test_without_a_card_rows_for_fewer_cameras_are_a_guess(
    toy_model, toy_config, save_weights, caplog, cameras, warned
):
    path = str(save_weights(toy_model(*SIE).state_dict()))
    with caplog.at_level(logging.WARNING, "transreid.model"):
        make_test_model(toy_config(*SIE, "TEST.WEIGHT", path), cameras, 1, data="market1501")
    assert (f"{path} has no model card and more rows of SIE (6)" in caplog.text) == warned


@torch.no_grad()
def test_every_row_is_one_camera_unless_told(toy_model, toy_images, save_weights):
    trained = toy_model(*SIE, "MODEL.SIE_VIEW", True, cameras=2, views=3)
    model, info = load_reid_model(save_weights(trained.state_dict()), (64, 32))
    assert info.side_rows == 6 and model.side_information == SideInformation(6, 0, 1.0)
    ids = torch.tensor([1, 0]), torch.tensor([2, 1])
    assert torch.equal(model(toy_images(), ids[0] * 3 + ids[1]), trained(toy_images(), *ids))


def test_side_information_that_does_not_fit_the_table(toy_model, save_weights):
    path = save_weights(toy_model(*SIE).state_dict())
    with pytest.raises(ValueError, match=r"cv_embed is \[6, 64\] instead of \[7, 64\]"):
        load_reid_model(path, (64, 32), sie=(7, 0))
