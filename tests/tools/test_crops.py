"""tools/crops.py and tools/tracks.py on a drawn video: two squares that cross a street."""

import csv
import shutil
import signal
import weakref
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
from tools.video.frames import Frame, count_frames, read_frames
from tools.video.tracks import Tracker

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
    monkeypatch.setattr("tools.video.detectors.make_detector", lambda named: detect)

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
    assert first["class"] == "1"
    assert float(first["time"]) == 0 and int(first["frame"]) == 0 and float(first["score"]) == 0.9
    with Image.open(tmp_path / "out" / first["path"]) as image:
        assert abs(image.width - 20) <= 2 and abs(image.height - 40) <= 2
        assert np.abs(np.asarray(image).mean(axis=(0, 1)) - RED).max() < 30
    times = [float(row["time"]) for row in rows if row["track"] == "2"]
    assert np.diff(times) == pytest.approx(0.5, abs=0.01) and len(times) == 12
    with open(tmp_path / "out/tracks.csv", newline="") as file:
        spans = {row["track"]: (row["first_frame"], row["last_frame"]) for row in csv.DictReader(file)}
    assert spans == {"1": ("0", "19"), "2": ("0", "59"), "3": ("40", "59")}


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
        if len(seen) == 31:  # the first frame is seen twice
            signal.raise_signal(signal.SIGINT)
        return detect(image)

    monkeypatch.setattr("tools.video.detectors.make_detector", lambda named: stopping)
    rows = cut()
    assert rows and max(int(row["frame"]) for row in rows) < 30
    assert "stopped after 30 frames" in "".join(capsys.readouterr())


@pytest.mark.parametrize("option", ["--score", "--iou", "--pause", "--patience"])
def test_numbers_that_mean_nothing(option, capsys):
    for value in ("nan", "-1", "much"):
        with pytest.raises(SystemExit):
            crops.main(["--video", "a", "--detector", "b", "--out", "c", option, value])
        assert option in capsys.readouterr().err


def test_a_file_without_frames_leaves_no_folder(cut, tmp_path, video, capsys):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(SystemExit):
        cut("--video", str(tmp_path / "text.mp4"))
    assert "text.mp4" in capsys.readouterr().err and not (tmp_path / "out").exists()


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
    with open(tmp_path / "out/people.csv", newline="") as file:
        one, two, three = csv.DictReader(file)
    assert one["person"] == three["person"] != two["person"] and one["nearest"].endswith("out/track 3")
    assert float(one["last"]) < 2 < 4 <= float(three["first"]) and two["nearest"] == ""
    page = (tmp_path / "out/ranking.html").read_text()
    assert "track 1, 0.000 to 1.900" in page and "3 tracks" in page
    assert "joined to it" in page and "right identity" not in page
    known = FeatureSet.load(tmp_path / "out/tracks.npz")
    assert [key.removeprefix(str(tmp_path)) for key in known.keys][1:] == ["/out/track 2", "/out/track 3"]
    assert known.pids.tolist()[0] == int(one["person"])


def test_crops_without_features(features, tmp_path, capsys):
    known, options = (
        FeatureSet.load(features),
        ["--crops", str(tmp_path / "out"), "--features", str(features)],
    )
    known.select([0, 1]).save(features)
    tracks.main(options)
    assert f"{len(known) - 2} of {len(known)} crops have no feature" in capsys.readouterr().out
    known.select([]).save(features)
    with pytest.raises(SystemExit):
        tracks.main(options)
    assert f"none of {len(known)} crops has a feature" in capsys.readouterr().err


def test_tracks_at_once_are_apart_whatever_was_kept(tmp_path):
    """Both were seen in frames 1 to 4, though their only crops are from the frames 0 and 5."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "crops.csv").write_text("path,track,score\na.jpg,1,0.9\nb.jpg,2,0.9\n")
    (out / "tracks.csv").write_text(
        "track,camid,first_frame,last_frame,first,last\n1,0,0,4,0,1\n2,0,1,5,0,1\n"
    )
    paths = [str(out / name) for name in ("a.jpg", "b.jpg")]
    FeatureSet(np.ones((2, 3), dtype=np.float32), [-1, -1], [-1, -1], paths).save(tmp_path / "f.npz")
    assert tracks.main(["--crops", str(out), "--features", str(tmp_path / "f.npz"), "--threshold", "1"]) == 0
    assert FeatureSet.load(out / "tracks.npz").pids.unique().numel() == 2


def test_equal_names_and_the_same_folder_twice(features, tmp_path, capsys):
    (tmp_path / "b").mkdir()
    shutil.copytree(tmp_path / "out", tmp_path / "b/out")
    known = FeatureSet.load(features)
    other = [path.replace(f"{tmp_path}/out", f"{tmp_path}/b/out") for path in known.paths]
    twice = FeatureSet(known.features, known.pids, known.camids, other)
    FeatureSet.concat([known, twice]).save(features)
    given = ["--features", str(features), "--out", str(tmp_path), "--crops", str(tmp_path / "out")]
    assert tracks.main([*given, str(tmp_path / "b/out")]) == 0
    assert len(set(FeatureSet.load(tmp_path / "tracks.npz").keys)) == 6
    with pytest.raises(SystemExit):
        tracks.main([*given, str(tmp_path / "b/../out")])
    assert "twice" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["a.jpg,1,nan", "a.jpg,x,0.5", f"{'a' * 200_000},1,0.5"])
def test_a_wrong_line(features, tmp_path, capsys, line):
    (tmp_path / "out/crops.csv").write_text(f"path,track,score\n{line}\n")
    with pytest.raises(SystemExit) as end:
        tracks.main(["--crops", str(tmp_path / "out"), "--features", str(features)])
    error = capsys.readouterr().err
    assert end.value.code == 2 and "crops.csv" in error and "line" in error and "Traceback" not in error


@pytest.mark.parametrize("value", ["nan", "-1"])
def test_a_threshold_that_means_nothing(value, capsys):
    with pytest.raises(SystemExit):
        tracks.main(["--crops", "a", "--features", "b", "--threshold", value])
    assert "--threshold" in capsys.readouterr().err


def test_damaged_frames(monkeypatch):
    """None can be decoded, and only every second one is read."""

    class Capture:
        frames = 6

        def __init__(self, source):
            assert source == "rtsp://camera/1"  # not a file

        def grab(self):
            self.frames -= 1
            return self.frames >= 0

        def retrieve(self):
            return False, None

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    assert count_frames("rtsp://camera/1") is None
    with pytest.raises(ValueError, match="no frame"):
        next(read_frames("rtsp://camera/1", 2))


def test_frames_are_not_kept(video, monkeypatch):
    """One box in each frame, none of which continues a track: nothing of them may stay."""
    kept = []

    def frames():
        for number in range(40):
            image = np.zeros((40, 40, 3), dtype=np.uint8)
            kept.append(weakref.ref(image))
            yield Frame(number, number / 10, image)
            assert sum(each() is not None for each in kept) <= 3

    def scattered(image, count=[0]):  # noqa: B006
        count[0] += 1
        left = 0 if count[0] % 2 else 20
        return Detections(np.array([[left, 0, left + 10.0, 40]]), np.ones(1), np.ones(1, int))

    args = crops._parse(["--video", "a", "--detector", "b", "--out", "c", "--patience", "0"])
    found = list(crops.find_crops(frames(), scattered, Tracker(args.iou, args.patience), args))
    assert found == [] and len(kept) == 40
