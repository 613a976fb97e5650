"""Programs of others on exported files: their own code gives our model's features."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from config import cfg_base
from config.load import load_config
from model import load_reid_model, make_model
from tests.guests import guest_python, run_guest
from tests.toys import SETTINGS, words
from tools import export

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(torch.__version__ < "2.7", reason="torch is too old"),
]
DRIVERS = Path(__file__).with_name("drivers")
SIZE = (256, 128)
BOXES = np.array([[10, 20, 138, 276], [200, 50, 328, 306], [400, 100, 528, 356]], dtype=np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a random ViT-B/16 with side information, a frame of coloured patches, and boxes in it."""
    folder = tmp_path_factory.mktemp("clients")
    settings = {"MODEL.NAME": "ViT-B-16", "INPUT.SIZE_TRAIN": SIZE, "MODEL.STRIDE_SIZE": (16, 16)}
    settings |= {"MODEL.SIE_CAMERA": True, "TEST.NECK_FEAT": "after"}
    torch.manual_seed(0)
    model = make_model(load_config(cfg_base, "", words(SETTINGS | settings)), 5, 3, 1)
    with torch.no_grad():
        model.cv_embed.normal_(std=0.1)
    torch.save(model.state_dict(), folder / "ViT-B-16_1.pth")
    patches = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0)) * 255
    frame = torch.nn.functional.interpolate(patches, (480, 640), mode="bicubic").clamp(0, 255)
    np.save(folder / "frame.npy", frame[0].permute(1, 2, 0).byte().numpy())  # BGR, as OpenCV reads
    np.save(folder / "boxes.npy", BOXES)
    return folder


@pytest.fixture(scope="module")
def features(place):
    """features(boxes) -> those of our own model, (N, D) of L2 norm 1, after the neck."""
    model = load_reid_model(str(place / "ViT-B-16_1.pth"), SIZE, sie=(1, 0), neck_feature="after")[0].eval()
    frame = torch.from_numpy(np.load(place / "frame.npy")).flip(2).permute(2, 0, 1).float() / 255

    def of(boxes):
        crops = [frame[None, :, y:b, x:r] for x, y, r, b in boxes.astype(int)]
        resized = [torch.nn.functional.interpolate(each, SIZE, mode="bilinear") for each in crops]
        with torch.no_grad():
            return torch.nn.functional.normalize(model((torch.cat(resized) - 0.5) / 0.5)).numpy()

    return of


@pytest.fixture(scope="module")
def write(place):
    """write('boxmot', 'a.onnx') -> the path of the file."""

    def run(client, name, *options):
        wanted = ["--for", client] if client else []
        weight = ["--weight", str(place / "ViT-B-16_1.pth"), "--size", *map(str, SIZE), "--neck", "after"]
        assert export.main([*weight, "--out", str(place / name), *wanted, *options]) == 0
        return place / name

    return run


def run_on_frame(python, driver, place, *before, after=(), **environment):
    """The features that a driver of drivers/ leaves."""
    out = place / f"{driver}.npy"
    given = [*before, place / "frame.npy", place / "boxes.npy", out, *after]
    run_guest(python, DRIVERS / f"{driver}.py", given, OMP_NUM_THREADS="1", **environment)
    found = np.load(out)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize(("form", "least"), [("fp32", 0.9999), ("fp16", 0.999)])
def test_boxmot_reads_onnx(place, write, features, form, least):
    python = guest_python("boxmot", ("boxmot==25.0.0", "onnxruntime"))
    path = write("boxmot", f"{form}.onnx", *[f"--{form}"] * (form != "fp32"))
    found = run_on_frame(python, "boxmot_features", place, "onnx", path)
    assert ((found * features(BOXES)).sum(axis=1) > least).all()


def test_boxmot21_builds_the_model_from_a_checkpoint(place, write, features):
    python = guest_python("boxmot21", ("boxmot==21.0.0",))
    path = write("boxmot21", "clip_market1501.pt")
    stand_in = place / "openai.pt"
    torch.save(open_clip.create_model("ViT-B-16", pretrained=None).state_dict(), stand_in)
    found = run_on_frame(python, "boxmot_features", place, "pytorch", path, after=[stand_in])
    np.testing.assert_allclose(found, features(BOXES), atol=1e-5)


def test_tracks_of_ultralytics(place, write, features):
    python = guest_python("ultralytics", ("ultralytics==8.4.190", "lap"))
    path = write("ultralytics", "yolo.onnx")
    given = [
        path.with_name("botsort_yolo.yaml"),
        place / "frame.npy",
        place / "boxes.npy",
        place / "tracks.npz",
    ]
    offline = {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": str(place)}
    run_guest(python, DRIVERS / "ultralytics_tracks.py", given, OMP_NUM_THREADS="1", **offline)
    tracks = np.load(place / "tracks.npz")
    assert tracks["ids"].shape == (4, 3) and (tracks["ids"] == tracks["ids"][0]).all()
    # Its crops are 2 % and 10 pixels larger than the boxes.
    centres, sizes = (BOXES[:, :2] + BOXES[:, 2:]) / 2, (BOXES[:, 2:] - BOXES[:, :2]) * 1.02 + 10
    larger = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1).clip(0)
    assert ((tracks["features"] * features(larger)).sum(axis=1) > 0.9999).all()


def test_reid_of_roboflow_runs_a_program(place, write, features):
    python = guest_python("roboflow", ("reid==0.1.0rc1",))
    path = write("", "model.pt2")
    found = run_on_frame(python, "roboflow_features", place, path)
    assert ((found * features(BOXES)).sum(axis=1) > 0.9999).all()


def test_triton_knows_every_field(place, write):
    python = guest_python("triton", ("tritonclient", "protobuf"))
    write("triton", "person", "--cameras")
    config = json.loads(run_guest(python, DRIVERS / "triton_config.py", [place / "person/config.pbtxt"]))
    assert config["name"] == "person" and config["backend"] == "onnxruntime"
    images, cameras = config["input"]
    assert images["dims"] == ["3", "256", "128"] and images["format"] == "FORMAT_NCHW"
    assert cameras["data_type"] == "TYPE_INT64" and cameras["reshape"] == {}
    assert config["output"] == [{"name": "features", "data_type": "TYPE_FP32", "dims": ["1280"]}]
