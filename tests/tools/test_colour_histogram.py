import runpy
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import colour_histogram
from tools.colour_histogram import main

TOOL = Path(__file__).parents[2] / "tools" / "colour_histogram.py"
RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def save(path: Path, upper, lower, height: int = 12):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.empty((height, 6, 3), np.uint8)
    image[: height // 2], image[height // 2 :] = upper, lower
    Image.fromarray(image).save(path)


def test_each_stripe_has_the_roots_of_its_shares():
    image = np.empty((12, 8, 3), np.uint8)
    image[:], image[:2, :2] = RED, WHITE
    feature = colour_histogram(image).reshape(6, 16, 4, 4)
    assert feature.dtype == np.float32
    assert feature[0, 0, 3, 3] == pytest.approx(np.sqrt(0.75))  # hue 0, full saturation, full value
    assert feature[0, 0, 0, 3] == pytest.approx(0.5)
    assert np.count_nonzero(feature[0]) == 2
    np.testing.assert_allclose(feature[1:, 0, 3, 3], 1)
    np.testing.assert_allclose((feature**2).sum(axis=(1, 2, 3)), 1, rtol=1e-6)


@pytest.fixture
def tree(tmp_path):
    for pid, upper, lower in (("a", RED, GREEN), ("b", GREEN, RED), ("c", WHITE, GREEN)):
        save(tmp_path / "query" / pid / f"{pid}_c1.png", upper, lower)
        save(tmp_path / "gallery" / pid / f"{pid}_c2.png", upper, lower)
    return tmp_path


def test_it_ranks_and_prints_rank1_and_map(tree, capsys):
    # c has changed clothes and looks like b: its own picture comes last of three.
    save(tree / "query" / "c" / "c_c1.png", RED, WHITE)
    save(tree / "gallery" / "c" / "c_c2.png", GREEN, RED)
    assert main(["DATASETS.NAMES", "folder", "DATASETS.ROOT_DIR", str(tree)]) == 0
    rank1, mean_ap = 2 / 3, (1 + 1 + 1 / 3) / 3
    assert (
        capsys.readouterr().out == f"folder: Rank-1 {rank1:.1%}, mAP {mean_ap:.1%} (HSV colour histogram)\n"
    )


def test_it_runs_as_a_program_from_another_folder(tree, monkeypatch, capsys):
    monkeypatch.chdir(tree)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if Path(entry) != TOOL.parents[1]])
    monkeypatch.setattr(sys, "argv", [str(TOOL), "DATASETS.NAMES", "folder", "DATASETS.ROOT_DIR", "."])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert end.value.code == 0
    assert sys.path[0] == str(TOOL.parents[1])
    assert capsys.readouterr().out == "folder: Rank-1 100.0%, mAP 100.0% (HSV colour histogram)\n"


def test_an_unknown_data_set_ends_in_one_line_and_status_2(tree, capsys):
    with pytest.raises(SystemExit) as end:
        main(["DATASETS.NAMES", "nowhere", "DATASETS.ROOT_DIR", str(tree)])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "'nowhere'" in error
    assert error.count("\n") == 1


def test_an_image_of_too_few_rows_is_named(tree, capsys):
    save(tree / "gallery" / "a" / "a_c2.png", RED, GREEN, height=4)
    with pytest.raises(SystemExit) as end:
        main(["DATASETS.NAMES", "folder", "DATASETS.ROOT_DIR", str(tree)])
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("a_c2.png: 4 pixels high; allowed: 6 or more\n")


def test_large_images_take_memory_as_the_file_does_and_keep_their_features():
    from skimage.color import rgb2hsv

    image = np.random.default_rng(0).integers(0, 256, (1500, 1000, 3), dtype=np.uint8)
    wanted = []
    for stripe in np.array_split(rgb2hsv(image), 6):
        counts, _ = np.histogramdd(stripe.reshape(-1, 3), (16, 4, 4), range=((0, 1),) * 3)
        wanted.append(np.sqrt(counts.ravel() / (250 * 1000)))
    tracemalloc.start()
    found = colour_histogram(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(found, np.concatenate(wanted).astype(np.float32))
    assert peak < 12e6  # bytes, of which an image needs none; 145e6 when it was converted as a whole


@pytest.mark.parametrize(("setting", "rank1"), [("auto", 1), ("exif", 1), ("stored", 0.5)])
def test_photographs_on_their_side_are_turned(tmp_path, capsys, setting, rank1):
    exif = Image.Exif()
    exif[274] = 3  # upside down
    for pid, upper, lower in (("a", RED, GREEN), ("b", GREEN, RED)):
        save(tmp_path / "query" / pid / f"{pid}_c1.png", upper, lower)
        save(
            tmp_path / "gallery" / pid / f"{pid}_c2.png", *((lower, upper) if pid == "a" else (upper, lower))
        )
    path = tmp_path / "gallery" / "a" / "a_c2.png"
    Image.open(path).save(path, exif=exif)
    words = ["DATASETS.NAMES", "folder", "DATASETS.ROOT_DIR", str(tmp_path), "INPUT.ORIENTATION", setting]
    assert main(words) == 0
    assert f"Rank-1 {rank1:.1%}" in capsys.readouterr().out
