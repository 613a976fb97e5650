"""Data that end a program before any training, in one line that names the file or folder."""

import shutil

import pytest

from tests.toys import save_noise

MARKET = "Market-1501-v15.09.15"


@pytest.mark.parametrize("program", ["train_clipreid.py", "test_clipreid.py"])
def test_missing_folders(refused, own_market, tmp_path, program):
    refused(program, "DATASETS.ROOT_DIR", "/nowhere", told=["/nowhere: no such folder", "market1501"])
    refused(
        program,
        "DATASETS.ROOT_DIR",
        str(tmp_path),
        told=[tmp_path / MARKET, "no such folder, expected there"],
    )
    shutil.rmtree(own_market / MARKET / "query")
    refused(program, "DATASETS.ROOT_DIR", str(own_market), told=[own_market / MARKET / "query"])


@pytest.mark.parametrize(
    ("program", "pairs"),
    [
        ("train_clipreid.py", ("DATASETS.ROOT_DIR", "/nowhere")),
        ("test_clipreid.py", ("DATASETS.ROOT_DIR", "/nowhere")),
        ("test_clipreid.py", ("TEST.WEIGHT", "gone.pth")),
    ],
)
def test_no_settings_are_printed_before_what_is_missing(start, tmp_path, program, pairs):
    status, out, err = start(program, *pairs)
    assert status == 2 and pairs[1] in err and "Running with config:" not in out and "Running on:" not in out
    (log,) = (tmp_path / "logs").glob("*_log.txt")
    assert "Running with config:" in log.read_text() and "Running on:" in log.read_text()


@pytest.mark.parametrize("folder", ["bounding_box_train", "query", "bounding_box_test"])
def test_empty_splits(refused, own_market, folder):
    for path in (own_market / MARKET / folder).iterdir():
        path.unlink()
    told = [own_market / MARKET / folder, "0 images in the", "at least 1 is needed"]
    refused("train_clipreid.py", "DATASETS.ROOT_DIR", str(own_market), told=told)


@pytest.mark.parametrize("folder", ["bounding_box_train", "query", "bounding_box_test"])
@pytest.mark.parametrize(
    "damage", [lambda content: content[:300], lambda content: b"", lambda content: b"text"]
)
def test_damaged_images(refused, own_market, folder, damage):
    path = min((own_market / MARKET / folder).iterdir())
    path.write_bytes(damage(path.read_bytes()))
    told = [path, "1 of 12 image files are damaged"]
    refused("train_clipreid.py", "DATASETS.ROOT_DIR", str(own_market), told=told)


def test_damaged_test_images_with_the_check_switched_off(start, own_market, tmp_path):
    assert start("train_clipreid.py")[0] == 0
    path = min((own_market / MARKET / "query").iterdir())
    path.write_bytes(path.read_bytes()[:300])
    weight = ("TEST.WEIGHT", str(tmp_path / "logs" / "toy-vit_1.pth"), "DATASETS.ROOT_DIR", str(own_market))
    for switch, told in (("True", "1 of 8 image files are damaged"), ("False", "cannot be read as an image")):
        status, _, err = start("test.py", *weight, "DATASETS.CHECK_IMAGES", switch)
        assert status == 2 and str(path) in err and told in err and err.count("\n") == 1


@pytest.fixture
def write_csv(tmp_path):
    """write_csv() -> the pairs that name a data set of the kind csv, in `tmp_path`."""

    def write(*, cameras=True, gallery_pid=3):
        lines = ["path,pid,split" + (",camid" if cameras else "")]
        for split, pids in (("train", (1, 2)), ("query", (3,)), ("gallery", (gallery_pid,))):
            for pid in pids:
                for camera in (1, 2):
                    name = f"{split}_{pid}_{camera}.jpg"
                    save_noise(tmp_path / name, len(lines))
                    lines.append(f"{name},{pid},{split}" + (f",{camera}" if cameras else ""))
        (tmp_path / "dataset.csv").write_text("\n".join(lines))
        return "DATASETS.NAMES", "csv", "DATASETS.ROOT_DIR", str(tmp_path)

    return write


@pytest.mark.parametrize("program", ["train.py", "train_clipreid.py"])
def test_listed_images_that_are_absent(refused, write_csv, tmp_path, program):
    pairs = write_csv()
    (tmp_path / "train_2_1.jpg").unlink()
    batch = ("SOLVER.IMS_PER_BATCH", "4") if program == "train.py" else ()
    refused(program, *pairs, *batch, told=["1 of 8 image files are missing", tmp_path / "train_2_1.jpg"])


def test_listed_vehicles_that_are_absent(refused, tmp_path):
    folder = tmp_path / "VehicleID_V1.0"
    for image, vehicle in ((1, 10), (2, 10), (3, 11), (4, 11), (5, 20), (6, 20)):
        save_noise(folder / "image" / f"{image:07d}.jpg", vehicle)
    (folder / "train_test_split").mkdir()
    lists = {
        "train_list.txt": "0000001 10\n0000002 10\n0000003 11\n0000004 11\n",
        "test_list_800.txt": "0000005 20\n0000006 20\n",
    }
    for name, text in lists.items():
        (folder / "train_test_split" / name).write_text(text)
    (folder / "image" / "0000004.jpg").unlink()
    pairs = ("DATASETS.NAMES", "VehicleID", "DATASETS.ROOT_DIR", str(tmp_path))
    refused("train_clipreid.py", *pairs, told=[folder / "image" / "0000004.jpg", "missing"])


def test_queries_without_a_match(refused, write_csv, tmp_path):
    pairs = write_csv(gallery_pid=4)
    told = ["none of the 2 queries has an image of its identity from another camera", "2 gallery images"]
    told += ["identities are the reason", tmp_path / "query_3_1.jpg", tmp_path / "gallery_4_1.jpg"]
    refused("train_clipreid.py", *pairs, told=told)


def test_side_information_without_cameras(refused, write_csv, tmp_path):
    pairs = write_csv(cameras=False)
    told = [
        "MODEL.SIE_CAMERA is True but no camera is known of",
        tmp_path / "train_1_1.jpg",
        "allowed: False",
    ]
    refused("train_clipreid.py", *pairs, "MODEL.SIE_CAMERA", "True", told=told)
