"""tools/crops.py and tools/tracks.py on a drawn video: two squares that cross a street."""

import csv
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.readers.custom import csv_dataset
from datasets.readers.options import ReadOptions
from retrieval import FeatureSet
from tools import crops, tracks
from tools.video.detectors import Detections

RED, BLUE = (220, 30, 30), (30, 30, 220)


def places(frame):
    """Boxes of the red and the blue square; the red one is away from frame 20 to 39."""
    found = {BLUE: (200 - 2 * frame, 60)}
    if not 20 <= frame < 40:
        found[RED] = (10 + 2 * frame, 10)
    return found


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """60 frames of 10 a second."""
    path = tmp_path_factory.mktemp("video") / "street.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (256, 128))
    for frame in range(60):
        image = np.full((128, 256, 3), 128, dtype=np.uint8)
        for colour, (left, top) in places(frame).items():
            image[top : top + 40, left : left + 20] = colour
        writer.write(image[..., ::-1])
    writer.release()
    return path


def detect(image):
    """Boxes of what is red or blue."""
    boxes = []
    for colour in (RED, BLUE):
        rows, columns = np.nonzero((np.abs(image.astype(int) - colour) < 60).all(axis=2))
        if len(rows) > 100:
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return Detections(
        np.array(boxes, float).reshape(-1, 4), np.full(len(boxes), 0.9), np.ones(len(boxes), int)
    )


@pytest.fixture
def cut(video, tmp_path, monkeypatch):
    """cut('--every', '2') -> the rows of crops.csv in tmp_path/out."""
    monkeypatch.setattr(crops, "make_detector", lambda named: detect)

    def run(*options):
        words = ["--video", str(video), "--detector", "yolo=a.onnx", "--out", str(tmp_path / "out")]
        assert crops.main([*words, *options]) == 0
        with open(tmp_path / "out/crops.csv", newline="") as file:
            return list(csv.DictReader(file))

    return run


def test_crops_of_tracks(cut, tmp_path):
    rows = cut("--camera", "3")
    assert {row["track"] for row in rows} == {"1", "2", "3"}  # the red one comes again as another
    assert {row["camid"] for row in rows} == {"3"}
    first = rows[0]
    assert float(first["time"]) == 0 and int(first["frame"]) == 0 and float(first["score"]) == 0.9
    with Image.open(tmp_path / "out" / first["path"]) as image:
        assert abs(image.width - 20) <= 2 and abs(image.height - 40) <= 2
        assert np.abs(np.asarray(image).mean(axis=(0, 1)) - RED).max() < 30
    times = [float(row["time"]) for row in rows if row["track"] == "2"]
    assert np.diff(times) == pytest.approx(0.5, abs=0.01) and len(times) == 12


def test_the_csv_trains_without_identities(cut, tmp_path):
    rows = cut()
    dataset = csv_dataset(tmp_path / "out", ReadOptions(csv="crops.csv", need_test=False, need_labels=False))
    assert [Path(record.path).name for record in dataset.train] == [Path(row["path"]).name for row in rows]


def test_options(cut):
    rows = cut("--every", "3", "--start", "2026-05-04T08:00:00", "--pause", "0", "--least_height", "30")
    assert [int(row["frame"]) % 3 for row in rows] == [0] * len(rows) and len(rows) > 30
    assert rows[0]["time"] == "2026-05-04T08:00:00.000"


@pytest.mark.parametrize("options", [["--score", "0.95"], ["--classes", "0"], ["--least_height", "60"]])
def test_boxes_that_are_not_wanted(cut, options):
    assert cut(*options) == []


def test_short_tracks_are_counted(cut, capsys):
    assert {row["track"] for row in cut("--least_frames", "25")} == {"2"}
    assert "2 tracks have fewer than 25 boxes" in "".join(capsys.readouterr())


def test_a_stop_leaves_what_was_found(cut, monkeypatch, capsys):
    def stopping(image, seen=[]):  # noqa: B006
        seen.append(1)
        if len(seen) == 30:
            signal.raise_signal(signal.SIGINT)
        return detect(image)

    monkeypatch.setattr(crops, "make_detector", lambda named: stopping)
    rows = cut()
    assert rows and max(int(row["frame"]) for row in rows) < 30
    assert "stopped after 29 frames" in "".join(capsys.readouterr())


@pytest.mark.parametrize("name", ["video", "--out", "detector"])
def test_one_line_of_error(video, tmp_path, capsys, name):
    words = {"--video": str(video), "--detector": "yolo=none.onnx", "--out": str(tmp_path / "out")}
    if name == "video":
        words["--video"] = str(tmp_path / "no.mp4")
    if name == "--out":
        words["--out"] = str(video.parent)
    with pytest.raises(SystemExit) as end:
        crops.main([word for pair in words.items() for word in pair])
    error = capsys.readouterr().err
    assert (
        end.value.code == 2 and {"video": "no.mp4", "--out": "--out", "detector": "none.onnx"}[name] in error
    )


@pytest.fixture
def features(cut, tmp_path):
    """features() -> a feature file in which crops of one colour are alike."""
    rows = cut()
    paths = [str(tmp_path / "out" / row["path"]) for row in rows]
    colours = [np.asarray(Image.open(path), dtype=np.float32).mean(axis=(0, 1)) for path in paths]
    unknown = [-1] * len(paths)
    FeatureSet(np.stack(colours), unknown, unknown, paths).save(tmp_path / "features.npz")
    return tmp_path / "features.npz"


@pytest.mark.parametrize("join", ["mean", "best"])
def test_who_is_who(features, tmp_path, capsys, join):
    options = ["--crops", str(tmp_path / "out"), "--features", str(features), "--join", join]
    assert tracks.main([*options, "--threshold", "0.1"]) == 0
    assert "2 people at distances up to 0.1, 1 tracks joined" in capsys.readouterr().out
    with open(tmp_path / "out/tracks.csv", newline="") as file:
        one, two, three = csv.DictReader(file)
    assert one["person"] == three["person"] != two["person"] and one["nearest"] == "out/track 3"
    assert float(one["last"]) < 2 < 4 <= float(three["first"]) and two["nearest"] == ""
    page = (tmp_path / "out/ranking.html").read_text()
    assert "track 1, 0.000 to 1.500" in page and "3 tracks" in page
    assert "joined to it" in page and "right identity" not in page
    known = FeatureSet.load(tmp_path / "out/tracks.npz")
    assert known.keys == ("out/track 1", "out/track 2", "out/track 3") and known.pids.tolist()[0] == int(
        one["person"]
    )


def test_crops_without_features(features, tmp_path, capsys):
    FeatureSet.load(features).select([0, 1]).save(features)
    with pytest.raises(SystemExit):
        tracks.main(["--crops", str(tmp_path / "out"), "--features", str(features)])
    assert "crops have no feature" in capsys.readouterr().err
