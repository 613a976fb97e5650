"""Which queries tools/rank.py shows, what it refuses, and that it runs as a program."""

import subprocess
import sys

import pytest
import torch
from PIL import Image

from retrieval import FeatureSet, RetrievalTask
from tools.rank import find_query


@pytest.fixture
def without_identities(small):
    FeatureSet(torch.rand(3, 4) + 1, [-1] * 3, [-1] * 3, small.gallery[:3]).save("features.npz")


# ---- which queries


def test_the_worst_come_first(run, capsys):
    assert run("--worst", "2").queries() == ["q0", "q2"]
    assert capsys.readouterr().out.startswith("2 of 3 queries, lowest average precision first, top 10\n")
    run("--worst", "9")
    assert capsys.readouterr().out.startswith("3 of 3 queries (9 were asked for), lowest")


def test_the_worst_are_among_those_with_a_match(small, run, capsys):
    images = small.task().images
    images = FeatureSet(images.features, [1, 2, 5, 1, 2, -1, 1], images.camids, images.paths)
    RetrievalTask(images, small.task().trials, {"normalize": False}).save("features.npz")
    run("--worst", "3")
    told = "2 of 3 queries (3 were asked for, the others have no match), lowest"
    assert capsys.readouterr().out.startswith(told)


def test_random_queries_follow_the_seed(run, capsys):
    chosen = [run("--random", "2", "--seed", seed, "--top", "1").queries() for seed in "01234"]
    assert all(ids == sorted(set(ids)) and len(ids) == 2 for ids in chosen)
    assert len({tuple(ids) for ids in chosen}) > 1
    assert run("--random", "2", "--seed", "3").queries() == chosen[3]
    capsys.readouterr()
    run("--random", "5")
    assert capsys.readouterr().out.startswith(
        "3 of 3 queries (5 were asked for), drawn with seed 0, top 10\n"
    )


def test_queries_named_twice_appear_once(run):
    assert run("--queries", "0", "1_c0.jpg", "0").queries() == ["q0"]


def test_names_of_queries():
    paths = ["a/x.jpg", "b/x.jpg", "b/ax.jpg", "x.png", "c.jpg", "c.jpg"]
    keys = [*paths[:4], "c.jpg#0", "c.jpg#1"]
    query = FeatureSet(torch.zeros(6, 1), [0] * 6, [0] * 6, paths, keys)
    words = ("1", "b/x.jpg", "ax.jpg", "x.png", "c.jpg#1")
    assert [find_query(word, query) for word in words] == [1, 1, 2, 3, 5]
    with pytest.raises(ValueError, match=r"2 queries are called 'x.jpg': .*, e\.g\. a/x\.jpg or 0"):
        find_query("x.jpg", query)
    with pytest.raises(ValueError, match=r"2 queries are called 'c.jpg': .*, e\.g\. c\.jpg#0 or 4"):
        find_query("c.jpg", query)


def test_without_trials_images_are_searched_among_each_other(run, without_identities):
    assert run("--queries", "0").labels() == ["query", "1 ?", "2 ?"]


def test_without_identities_the_first_queries_are_shown(run, without_identities, capsys):
    page = run("--top", "1")
    assert page.labels() == 3 * ["query", "1 ?"]
    told, choice = capsys.readouterr().out.splitlines()[:2]
    assert told.startswith("No query can be scored, the first are shown: none of the 3 queries has ")
    assert (
        choice == "3 of 3 queries, the first ones, top 1" and "3 of 3 queries, the first ones" in page.source
    )


def test_the_first_ten_of_more(run):
    paths = [f"{n}.jpg" for n in range(12)]
    for path in paths:
        Image.new("RGB", (8, 16)).save(path)
    FeatureSet(torch.rand(12, 4) + 1, [-1] * 12, [-1] * 12, paths).save("features.npz")
    shown = [alt for alt in run("--top", "1").alts() if alt.startswith("Query")]
    assert len(shown) == 10 and shown[9].endswith("9.jpg")


def test_another_trial(small, run):
    one = small.task()
    first = one.trials[0]
    second = first._replace(query_rows=first.query_rows[1:2], query_camids=first.query_camids[1:2])
    RetrievalTask(one.images, (first, second), one.info).save("features.npz")
    page = run("--trial", "1", "--queries", "0")
    assert page.alts()[0] == "Query: id 2, cam 0, 2_c0.jpg"
    assert "trial 1 of 2" in page.source
    named = first._replace(name="caption"), second._replace(name="caption_zh")
    RetrievalTask(one.images, named, one.info).save("features.npz")
    assert "trial 1 of 2, caption_zh" in run("--trial", "1", "--queries", "0").source


# ---- refusals


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--queries", "3"], "query 3 does not exist; allowed: 0 to 2"),
        (["--queries", "-1"], "query -1 does not exist; allowed: 0 to 2"),
        (["--queries", "1_c9.jpg"], "no query is called '1_c9.jpg'; nearest: 1_c"),
        (["--trial", "1"], "--trial is 1; allowed: 0 to 0"),
        (["--images", "nowhere"], "--images nowhere: no such folder"),
        (["--weight", "gone.pth"], "no weights file at gone.pth"),
        (["--features", "gone.npz"], "gone.npz: no such file"),
        (["--out", "features.npz"], "features.npz: File exists"),
    ],
)
def test_wrong_values_end_in_one_line(refused, options, told):
    error = refused(*options)
    assert error.startswith(f"error: {told}") and error.count("\n") == 1


def test_without_identities_there_is_no_worst(refused, without_identities):
    error = refused("--worst", "3")
    assert error.startswith("error: none of the 3 queries has ")
    assert "0 known identities of the queries" in error
    assert error.endswith("choose queries by --queries or --random\n") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--top", "0"], "argument --top: '0'; allowed: 1 or more"),
        (["--worst", "x"], "argument --worst: 'x'; allowed: 1 or more"),
        (["--worst", "1", "--random", "1"], "argument --random: not allowed with argument --worst"),
        (["--attention", "last"], "--attention needs --weight"),
        (["--sie_coe", "0"], "--sie_coe needs --weight"),
    ],
)
def test_wrong_options_end_with_the_usage(refused, options, told):
    error = refused(*options)
    assert error.startswith("usage: ") and told in error


@pytest.mark.slow
def test_it_runs_as_a_program_from_another_folder(small, repository):
    command = [sys.executable, repository / "tools/rank.py", "--features", "features.npz", "--out", "a/b"]
    result = subprocess.run(command, cwd=small.folder, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[1:] == ["a/b/ranking.html", "a/b/ranking.png"]
    assert result.stderr == ""
