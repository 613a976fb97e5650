import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from retrieval import (
    FeatureSet,
    RetrievalTask,
    accept_rates,
    open_set_points,
    operating_points,
    score_pairs,
)
from tools.threshold import draw, main, report

TOOL = Path(__file__).parents[2] / "tools" / "threshold.py"


def people(identities=10, images=8, seed=0):
    generator = np.random.default_rng(seed)
    pids = np.repeat(np.arange(identities), images)
    features = 3 * generator.normal(size=(identities, 6))[pids] + generator.normal(size=(len(pids), 6))
    camids = np.arange(len(pids)) % 4
    return FeatureSet(features.astype(np.float32), pids, camids, [f"{i}.jpg" for i in range(len(pids))])


@pytest.fixture
def features(tmp_path):
    path = tmp_path / "features.npz"
    people().save(path, {"weight": "model.pth", "normalize": True})
    return path


def run(*words):
    return main([str(word) for word in words])


def tables(text):
    """The cells of each Markdown table in a text, its rule left out."""
    found = []
    for block in text.split("\n\n"):
        if block.startswith("|"):
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
            assert all(set(cell) == {"-"} for cell in rows[1])
            assert len({len(line) for line in block.splitlines()}) == len({len(row) for row in rows}) == 1
            found.append([rows[0], *rows[2:]])
    return found


def test_the_report_is_the_librarys(features, tmp_path, capsys):
    out = tmp_path / "made" / "here"
    fars = [0.1, 0.01, 1e-6]
    assert run("--features", features, "--out", out, "--far", *fars, "--bootstrap", 50, "--seed", 4) == 0
    found = json.loads((out / "threshold.json").read_text())
    task = RetrievalTask.load(features).normalized()
    scores = score_pairs(task)
    points = operating_points(task, scores, fars, rounds=50, seed=4)
    curve = accept_rates(scores)

    assert found["features"] == str(features)
    assert found["gallery"] is None
    assert found["info"] == {"weight": "model.pth", "normalize": True}
    assert found["unit_norm"] is True
    assert (found["queries"], found["query_identities"], found["queries_with_match"]) == (80, 10, 80)
    assert found["queries_absent_from_gallery"] == 0
    assert found["same_pairs"] == scores.same.sum() == 80 * 6
    assert found["different_pairs"] == scores.different.sum() == 80 * 72
    assert found["bin_width"] == scores.bin_width
    assert (found["bootstrap_rounds"], found["seed"]) == (50, 4)
    assert found["auc"] == curve.area()
    equal = curve.equal_error()
    assert found["equal_error"] == {**equal._asdict(), "cosine": 1 - equal.threshold / 2}
    for entry, point in zip(found["accept"], points, strict=True):
        assert entry["far"] == point.far
        assert entry["threshold"] == point.threshold
        assert entry["true_accept"] == point.true_accept
        assert entry["threshold_interval"] == (point.threshold_interval and list(point.threshold_interval))
        assert entry["reason"] == point.reason
    assert found["accept"][2]["threshold"] is found["accept"][2]["cosine"] is None
    for entry, point in zip(found["open_set"], open_set_points(scores, points), strict=True):
        assert (entry["measure"], entry["rate"]) == (point.measure, point.rate)
        assert entry["threshold"] == point.threshold
        assert entry["rates"] == (point.rates and point.rates._asdict())

    accept, open_set = tables(capsys.readouterr().out)
    first = points[0]
    assert accept[1] == [
        "0.1",
        f"{first.threshold:.4g} (cosine {1 - first.threshold / 2:.3f})",
        "{:.4g} – {:.4g}".format(*first.threshold_interval),
        f"{first.true_accept:.1%}",
        "{:.1%} – {:.1%}".format(*first.true_accept_interval),
    ]
    assert accept[3] == ["1e-06", "not measurable with 5,760 different pairs", "", "", ""]
    assert [row[0] for row in open_set[1:]] == [
        *(f"false accepts {far:g}" for far in fars),
        *(f"false alarms {rate}" for rate in (0.01, 0.05, 0.1)),
    ]
    assert open_set[4][1] == "not measurable with 80 queries"
    rates = open_set_points(scores, points)[-1].rates
    assert open_set[6][2:] == [f"{rate:.1%}" for rate in rates]
    with Image.open(out / "threshold.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 100


def test_features_as_they_are_have_no_cosine(features, tmp_path, capsys):
    assert (
        run("--features", features, "--out", tmp_path, "--normalize", "no", "--far", 0.1, "--bootstrap", 0)
        == 0
    )
    found = json.loads((tmp_path / "threshold.json").read_text())
    assert found["unit_norm"] is False
    assert found["equal_error"]["cosine"] is found["accept"][0]["cosine"] is None
    assert found["accept"][0]["threshold_interval"] is None
    text = capsys.readouterr().out
    assert "cosine" not in text
    assert tables(text)[0][1][2] == ""


@pytest.mark.parametrize("signal", [0, 0.2, 20], ids=["none", "weak", "perfect"])
def test_every_rate_can_be_read_in_the_picture(tmp_path, signal):
    """Also rates near 0 and 1: legends are above the curves, inside their panel, and name all of them."""
    generator = np.random.default_rng(0)
    pids = np.repeat(np.arange(20), 8)
    images = signal * generator.normal(size=(20, 8))[pids] + generator.normal(size=(160, 8))
    names = [f"{i}.jpg" for i in range(160)]
    FeatureSet(images, pids, np.arange(160) % 4, names).save(tmp_path / "a.npz", {"normalize": True})
    task = RetrievalTask.load(tmp_path / "a.npz").normalized()
    scores = score_pairs(task)
    found = report(task, scores, [1e-2, 1e-3, 5e-2, 1e-1, 2e-1, 3e-1, 4e-1], rounds=0, seed=0)
    figure = draw(found, scores, "images")
    FigureCanvasAgg(figure).draw()
    left, middle, right = figure.axes
    for axes in (middle, right):
        box, top = axes.get_legend().get_window_extent(), axes.transData.transform((0, 1))[1]
        assert axes.bbox.x0 < box.x0 < box.x1 < axes.bbox.x1 and top < box.y0 < box.y1 < axes.bbox.y1
        assert not axes.texts
    box = left.get_legend().get_window_extent()
    assert left.bbox.x0 < box.x0 < box.x1 < left.bbox.x1
    told = [text.get_text() for text in middle.get_legend().get_texts()]
    rates = [f"{point['true_accept']:.1%} at FAR {point['far']:g}" for point in found["accept"]]
    assert len(rates) == 7 and sorted(told[2:]) == sorted(rates)
    best = max(point["rates"]["found"] for point in found["open_set"] if point["rates"])
    (shown,) = re.findall(r"found, at most ([\d.]+)%", right.get_legend().get_texts()[0].get_text())
    assert float(shown) / 100 > best - 0.001


def test_a_second_file_is_the_gallery(features, tmp_path):
    gallery = tmp_path / "gallery.npz"
    images = people(identities=8)
    FeatureSet(images.features, images.pids, images.camids, [f"g{i}.jpg" for i in range(64)]).save(gallery)
    assert run("--features", features, "--gallery", gallery, "--out", tmp_path, "--bootstrap", 20) == 0
    found = json.loads((tmp_path / "threshold.json").read_text())
    assert found["gallery"] == str(gallery)
    assert (found["queries"], found["queries_with_match"], found["queries_absent_from_gallery"]) == (
        80,
        64,
        16,
    )
    assert found["same_pairs"] == 64 * 6


@pytest.mark.filterwarnings("error::UserWarning")
def test_it_draws_where_nothing_is_measurable(tmp_path):
    path = tmp_path / "equal.npz"
    FeatureSet(np.ones((8, 3)), [0, 0, 1, 1, 2, 2, 3, 3], [0, 1] * 4, list("abcdefgh")).save(path)
    assert run("--features", path, "--out", tmp_path) == 0
    found = json.loads((tmp_path / "threshold.json").read_text())
    assert all(entry["threshold"] is None for entry in found["accept"] + found["open_set"])
    assert (tmp_path / "threshold.png").stat().st_size > 10_000


@pytest.mark.slow
def test_it_runs_as_a_program_from_another_folder(features):
    command = [
        sys.executable,
        "-W",
        "error::UserWarning",  # as matplotlib gives for pictures that did not come out
        TOOL,
        "--features",
        features.name,
        "--out",
        "report",
        "--bootstrap",
        "9",
    ]
    result = subprocess.run(command, cwd=features.parent, capture_output=True, text=True, check=True)
    written = [Path("report", f"threshold.{ending}") for ending in ("json", "png")]
    assert result.stdout.endswith(f"\n\nWritten: {written[0]}, {written[1]}\n")
    assert result.stderr == ""
    assert sorted(path.name for path in (features.parent / "report").iterdir()) == [
        path.name for path in written
    ]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--far", "0"], "a false accept rate must be above 0 and below 1, got 0.0"),
        (["--bootstrap", "-1"], "bootstrap rounds must be 0 to 1,000,000, got -1"),
        (["--seed", "-1"], "the seed must be 0 or more, got -1"),
        (["--features", "nowhere.npz"], "nowhere.npz: no such file"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(features, tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as end:
        run("--features", features, "--out", tmp_path, *words)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_unknown_identities_end_in_one_line(tmp_path, capsys):
    images = people()
    path = tmp_path / "features.npz"
    FeatureSet(images.features, np.full(80, -1), images.camids, images.paths).save(path)
    with pytest.raises(SystemExit) as end:
        run("--features", path, "--out", tmp_path)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: a threshold needs queries and gallery images of known identity, got 0")
    assert error.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "report"
    with pytest.raises(SystemExit) as end:
        run("--features", "nowhere.npz", "--out", out)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: --out {out} cannot be written to: Not a directory\n"
