"""Metrics again from a file of features."""

import functools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from retrieval import FeatureSet, LabelNames, RetrievalTask, TrialRows, evaluate_task, k_reciprocal_distance
from tools.evaluate import main

TOOL = Path(__file__).parents[2] / "tools" / "evaluate.py"


def drawn(count, seed):
    generator = torch.Generator().manual_seed(seed)
    pids = torch.arange(count) % 6
    centres = torch.randn(6, 4, generator=torch.Generator().manual_seed(9))
    features = centres[pids] + 0.7 * torch.randn(count, 4, generator=generator)
    features *= torch.linspace(0.2, 5, count)[:, None]
    return FeatureSet(features, pids, torch.full((count,), seed), [f"{seed}/{i}.jpg" for i in range(count)])


QUERY, GALLERY = drawn(12, 0), drawn(30, 1)
TASK = RetrievalTask.between(QUERY, GALLERY)


@pytest.fixture
def file(tmp_path):
    RetrievalTask(TASK.images, TASK.trials, {"model": "toy"}).save(tmp_path / "features.npz")
    return tmp_path / "features.npz"


def lines(metrics):
    ranks = (f"CMC curve, Rank-{k:<3}:{metrics.rank(k):.1%}" for k in (1, 5, 10))
    return [f"mAP: {metrics.mAP:.1%}", *ranks, f"mINP: {metrics.mINP:.1%}"]


def shown(out):
    return [line.partition("INFO: ")[2] for line in out.splitlines()][-5:]


def test_prints_the_published_lines(file, capsys):
    assert main(["--features", str(file)]) == 0
    out = capsys.readouterr().out
    assert re.match(r"\d{4}-.* transreid INFO: Validation Results of 1 trial\n", out)
    assert shown(out) == lines(evaluate_task(TASK.normalized()))


def test_features_as_they_are(file, capsys, tmp_path):
    assert evaluate_task(TASK).mAP != pytest.approx(evaluate_task(TASK.normalized()).mAP, abs=0.01)
    main(["--features", str(file), "--normalize", "no"])
    assert shown(capsys.readouterr().out) == lines(evaluate_task(TASK))
    # What the test did is the default.
    RetrievalTask(TASK.images, TASK.trials, {"normalize": False}).save(tmp_path / "raw.npz")
    main(["--features", str(tmp_path / "raw.npz")])
    assert shown(capsys.readouterr().out) == lines(evaluate_task(TASK))


def test_what_was_done_is_written(file, tmp_path):
    main(["--features", str(file), "--normalize", "no", "--out", str(tmp_path / "m.json")])
    assert json.loads((tmp_path / "m.json").read_text())["normalize"] is False


@pytest.mark.parametrize(
    ("info", "of_gallery", "is_refused"),
    [
        ({"size": [8, 4], "resize": "bilinear"}, {"size": [8, 4], "resize": "bicubic"}, True),
        ({"size": [8, 4]}, {"size": [8, 4], "resize": "bicubic"}, True),  # of an earlier version: bilinear
        ({"size": [8, 4], "resize": "bilinear"}, {"size": [8, 4]}, False),
        ({"size": [8, 4], "resize": "bicubic"}, {"size": [8, 4], "resize": "bicubic"}, False),
        ({}, {"size": [8, 4], "resize": "bicubic"}, False),  # of somebody's own program: not known
    ],
)
def test_files_of_images_that_were_resized_otherwise(tmp_path, capsys, info, of_gallery, is_refused):
    QUERY.save(tmp_path / "query.npz", info)
    GALLERY.save(tmp_path / "gallery.npz", of_gallery)
    files = ["--features", str(tmp_path / "query.npz"), "--gallery", str(tmp_path / "gallery.npz")]
    if not is_refused:
        assert main(files) == 0
        return
    with pytest.raises(SystemExit):
        main(files)
    assert "different settings, resize bilinear and bicubic" in capsys.readouterr().err


def test_features_of_other_settings_are_not_compared(tmp_path, capsys):
    QUERY.save(tmp_path / "query.npz", {"neck_feature": "before", "weight": "a.pth"})
    GALLERY.save(tmp_path / "gallery.npz", {"neck_feature": "after", "weight": "./a.pth"})
    with pytest.raises(SystemExit):
        main(["--features", str(tmp_path / "query.npz"), "--gallery", str(tmp_path / "gallery.npz")])
    assert "different settings, neck_feature before and after" in capsys.readouterr().err


def test_features_of_two_views_are_not_compared_with_those_of_one(tmp_path, capsys):
    QUERY.save(tmp_path / "query.npz", {"size": [8, 4], "augment": "flip"})
    for info, refused in (({"augment": "flip"}, False), ({"augment": "none"}, True), ({}, True)):
        GALLERY.save(tmp_path / "gallery.npz", {"size": [8, 4]} | info)
        files = ["--features", str(tmp_path / "query.npz"), "--gallery", str(tmp_path / "gallery.npz")]
        if not refused:
            assert main(files) == 0
            continue
        with pytest.raises(SystemExit):
            main(files)
        assert "different settings, augment flip and none" in capsys.readouterr().err


def test_re_ranking_and_the_written_file(file, capsys, tmp_path):
    out = tmp_path / "metrics.json"
    options = ["--rerank", "--k1", "6", "--k2", "3", "--lam", "0.5", "--max_rank", "7", "--out", str(out)]
    main(["--features", str(file), *options])
    rerank = functools.partial(k_reciprocal_distance, k1=6, k2=3, lam=0.5)
    expected = evaluate_task(TASK.normalized(), 7, rerank)
    assert shown(capsys.readouterr().out) == lines(expected)
    written = json.loads(out.read_text())
    assert written["cmc"] == expected.cmc.tolist() and len(written["cmc"]) == 7
    assert written["rerank"] == {"k1": 6, "k2": 3, "lam": 0.5} and written["model"] == "toy"
    assert written["mAP"] == expected.mAP


def test_two_files_and_a_file_of_its_own_gallery(tmp_path, capsys):
    QUERY.save(tmp_path / "query.npz")
    GALLERY.save(tmp_path / "gallery.npz")
    main(["--features", str(tmp_path / "query.npz"), "--gallery", str(tmp_path / "gallery.npz")])
    assert shown(capsys.readouterr().out) == lines(evaluate_task(TASK.normalized()))
    all_images = GALLERY.with_cameras([-1] * 30)
    all_images.save(tmp_path / "all.npz")
    main(["--features", str(tmp_path / "all.npz")])
    printed = shown(capsys.readouterr().out)
    expected = evaluate_task(RetrievalTask.all_against_all(all_images).normalized())
    assert printed == lines(expected) and expected.num_valid == 30


@pytest.mark.slow
def test_it_needs_neither_model_nor_another_folder(file):
    """The towers' library alone takes seconds to import."""
    code = f"import runpy, sys; sys.argv = ['evaluate.py', '--features', {str(file)!r}]\n"
    code += f"try: runpy.run_path({str(TOOL)!r}, run_name='__main__')\n"
    code += "except SystemExit as end: assert end.code == 0\n"
    code += "assert not {'open_clip', 'timm', 'model'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=file.parent, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "mAP: " in done.stdout


@pytest.mark.parametrize(
    ("write", "options", "told"),
    [
        (lambda path: None, [], "no such file"),
        (lambda path: path.write_text("no"), [], "is not a feature file"),
        (lambda path: path.write_text("{}"), [], "is not a feature file, an .npz with features, pids"),
        (TASK.save, ["--k1", "4"], "--k1 needs --rerank"),
        (TASK.save, ["--max_rank", "0"], "max_rank must be at least 1, got 0"),
        (TASK.save, ["--rerank", "--lam", "2"], "lam must be in 0..1, got 2.0"),
        (
            TASK.save,
            ["--out", "gone/metrics.json"],
            "--out gone/metrics.json: no file can be written in gone",
        ),
        (
            FeatureSet(torch.ones(3, 2), [-1] * 3, [-1] * 3, ["a", "b", "c"]).save,
            [],
            "none of the 3",
        ),
        (
            FeatureSet(torch.zeros(2, 2), [0, 0], [-1] * 2, ["a", "b"]).save,
            [],
            "row 0 (a): its L2 norm is 0.0",
        ),
    ],
)
def test_errors_in_one_line(tmp_path, capsys, monkeypatch, write, options, told):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "features.npz")
    with pytest.raises(SystemExit) as end:
        main(["--features", "features.npz", *options])
    out, error = capsys.readouterr()
    assert "mAP" not in out  # found before anything is computed
    assert end.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert told in error


def test_two_files_are_searched_under_the_queries_rule(tmp_path, capsys):
    """Sentences about images keep these images in their gallery; several rules are an error."""
    images = FeatureSet(torch.eye(2), [1, 2], [-1, -1], ["a.jpg", "b.jpg"])
    texts = FeatureSet(torch.eye(2), [1, 2], [-1, -1], ["a.jpg", "b.jpg"], ["a.jpg#0", "b.jpg#0"])
    images.save(tmp_path / "images.npz")
    rows = torch.arange(2)
    trials = [TrialRows(rows, texts.camids, rows, texts.camids, rule) for rule in ("all", "cross_camera")]
    words = ["--features", str(tmp_path / "texts.npz"), "--gallery", str(tmp_path / "images.npz")]
    RetrievalTask(texts, tuple(trials[:1])).save(tmp_path / "texts.npz")
    main(words)
    assert "mAP: 100.0%" in capsys.readouterr().out
    RetrievalTask(texts, tuple(trials)).save(tmp_path / "texts.npz")
    with pytest.raises(SystemExit):
        main(words)
    assert "rules all, cross_camera; allowed with --gallery: one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"identities": {1: "bob"}}, ["1", "'ann'", "'bob'"]),
        ({"cameras": {0: "east"}}, ["0", "'c1'", "'east'"]),
    ],
)
def test_files_whose_numbers_mean_different_labels_are_refused(file, tmp_path, capsys, other, named):
    """By their numbers, people of one site would be taken for those of another."""
    mine = LabelNames(identities={1: "ann"}, cameras={0: "c1"})
    for name, names in (("a.npz", mine), ("b.npz", LabelNames(**other)), ("c.npz", LabelNames())):
        replace(TASK, names=names).save(tmp_path / name)
    for gallery in ("a.npz", "c.npz"):
        assert main(["--features", str(tmp_path / "a.npz"), "--gallery", str(tmp_path / gallery)]) == 0
    with pytest.raises(SystemExit) as end:
        main(["--features", str(tmp_path / "a.npz"), "--gallery", str(tmp_path / "b.npz")])
    told = capsys.readouterr().err
    assert end.value.code == 2 and all(text in told for text in ["a.npz", "b.npz", *named])
