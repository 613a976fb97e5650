"""Facts read from a re-id file: the published layout, and the geometry that fits its positions."""

import json

import pytest
import torch

from model import load_reid_model
from model.files.geometry import fit_geometry
from model.files.info import CheckpointInfo, read_info

pytestmark = pytest.mark.usefixtures("no_download")

# ---- the published layout


@pytest.fixture
def published_file(golden, save_weights):
    """published_file('vit_sie_olp', 'ViT-B-16_60.pth') -> a file of the published names and shapes.

    Rows of a tensor are equal, which keeps the file small.
    """

    def build(case, name):
        layout = json.loads(str(golden(f"models/{case}.npz")["state_dict_keys"]))
        weights = {}
        for key, shape in layout:
            row = torch.tensor(0) if not shape else 0.02 * torch.randn(shape[-1])
            weights[key] = (row.abs() + 0.1 if key.endswith("running_var") else row).expand(shape)
        return save_weights(weights, name)

    return build


@pytest.mark.parametrize(
    ("case", "name", "info", "width"),
    [
        (
            "vit_sie_olp",
            "ViT-B-16_60.pth",
            {
                "kind": "ViT",
                "layers": (12,),
                "patch": (16, 16),
                "positions": 210,
                "num_classes": 10,
                "side_rows": 6,
                "stride": (12, 12),
                "width": 768,
                "projected_width": 512,
            },
            1280,
        ),
        (
            "rn50_person",
            "RN50_120.pth",
            {
                "kind": "ResNet",
                "layers": (3, 4, 6, 3),
                "positions": 128,
                "num_classes": 10,
                "side_rows": 0,
                "stride": (16, 16),
                "width": 2048,
                "projected_width": 1024,
            },
            3072,
        ),
    ],
)
def test_published_layout(published_file, case, name, info, width):
    torch.manual_seed(0)
    path = published_file(case, name)
    model, read = load_reid_model(path, (256, 128))
    assert {key: getattr(read, key) for key in info} == info
    assert (read.path, read.name, read.size) == (str(path), name.partition("_")[0], (256, 128))
    assert model.feature_width == width and not model.training
    with torch.no_grad():
        got = model(torch.zeros(1, 3, 256, 128))
    assert got.shape == (1, width) and torch.isfinite(got).all()


def test_read_info_of_a_resnet(toy_model):
    info = read_info(toy_model("MODEL.NAME", "toy-resnet").state_dict(), "x.pth")
    assert (info.kind, info.layers, info.width, info.projected_width) == ("ResNet", (1, 1, 1, 1), 256, 16)
    assert (info.patch, info.positions, info.name, info.size) == ((16, 16), 8, "", (0, 0))


# ---- geometry


def file_info(positions, kind="ViT", patch=(16, 16)):
    return CheckpointInfo("f.pth", kind, 768, 512, (12,), patch, positions, 1, 0)


SIZES = [(256, 128), (256, 256), (384, 128), (224, 224), (384, 192), (320, 320), (128, 64)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", [16, 12])
@pytest.mark.parametrize("wanted", [None, (256, 128), (256, 256), (384, 128)])
def test_published_strides_at_common_sizes_are_told_by_the_number_of_positions(size, stride, wanted):
    positions = ((size[0] - 16) // stride + 1) * ((size[1] - 16) // stride + 1)
    found = fit_geometry(file_info(positions), wanted, wanted and (16, 16))
    assert found == (size, (stride, stride))


@pytest.mark.parametrize(
    ("positions", "size", "stride", "found"),
    [
        (168, (256, 128), (12, 16), ((256, 128), (12, 16))),  # 21 x 8, as the configuration says
        (168, (256, 128), (16, 16), ((256, 128), (12, 16))),  # nobody said so, but nothing else gives 168
        (180, (256, 128), (14, 12), ((256, 128), (14, 12))),  # 18 x 10
        (162, (256, 128), (16, 16), ((256, 128), (14, 14))),  # 18 x 9
        (98, (224, 112), (16, 16), ((224, 112), (16, 16))),  # 14 x 7, a size of one's own
        (162, (224, 112), (16, 16), ((224, 112), (12, 12))),
    ],
)
def test_other_strides_and_sizes(positions, size, stride, found):
    assert fit_geometry(file_info(positions), size, stride) == found


def test_strides_are_not_guessed_among_several():
    """Strides (11, 16) and (16, 11) give grids of 22 x 8 and 16 x 11."""
    with pytest.raises(ValueError, match=r"176 positions, which no stride gives at 256x128 .* or several"):
        fit_geometry(file_info(176), (256, 128), (16, 16))
    for stride in ((11, 16), (16, 11)):
        assert fit_geometry(file_info(176), (256, 128), stride) == ((256, 128), stride)


@pytest.mark.parametrize(
    ("positions", "size", "stride", "found", "others"),
    [
        (196, None, None, ((224, 224), (16, 16)), ["224x224 at stride 15x15"]),
        (196, (224, 224), None, ((224, 224), (16, 16)), ["224x224 at stride 15x15"]),
        (196, (224, 224), (16, 16), ((224, 224), (16, 16)), ["224x224 at stride 15x15"]),
        (196, (224, 224), (15, 15), ((224, 224), (15, 15)), ["224x224 at stride 16x16"]),
        (32, (128, 64), (16, 16), ((128, 64), (16, 16)), ["128x64 at stride 15x15"]),
        (105, (240, 120), None, ((240, 120), (16, 16)), ["240x120 at stride 15x15"]),
        (105, (240, 120), (15, 15), ((240, 120), (15, 15)), ["240x120 at stride 16x16"]),
        (441, None, None, ((256, 256), (12, 12)), ["224x224 at stride 10x10", "320x320 at stride 15x15"]),
    ],
)
def test_all_that_fits_is_named_where_no_card_decides(caplog, positions, size, stride, found, others):
    assert fit_geometry(file_info(positions), size, stride) == found
    (line,) = [record.getMessage() for record in caplog.records]
    taken = f"{found[0][0]}x{found[0][1]} at stride {found[1][0]}x{found[1][1]}"
    assert line.startswith("f.pth: ") and f"{taken} is taken for its {positions} positions" in line
    assert all(other in line for other in others)


@pytest.mark.parametrize("step", [16, 12])
@pytest.mark.parametrize("size", [(256, 128), (256, 256), (384, 128), (320, 320)])
@pytest.mark.parametrize("wanted", [False, True])
def test_the_published_geometry_at_its_size_is_no_guess(caplog, size, step, wanted):
    positions = ((size[0] - 16) // step + 1) * ((size[1] - 16) // step + 1)
    fit_geometry(file_info(positions), size, (step, step) if wanted else None)
    assert not caplog.text


def test_resnets_have_one_stride():
    assert fit_geometry(file_info(256, "ResNet"), (256, 128), (12, 12)) == ((256, 256), (16, 16))
    assert fit_geometry(file_info(128, "ResNet"), None, None) == ((256, 128), (16, 16))


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("ViT", (256, 128), "at 256x128 or another common size, or several do"),
        ("ViT", None, "at any common size, or several do"),
        ("ResNet", (256, 128), "at 256x128 or another common size, or several do"),
    ],
)
def test_no_geometry_fits(kind, size, message):
    with pytest.raises(ValueError, match=r"^f\.pth has 100003 positions, which no stride gives at") as error:
        fit_geometry(file_info(100003, kind), size, None)
    assert message in str(error.value) and "give the `size` and `stride`" in str(error.value)
