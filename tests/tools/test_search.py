"""tools/search.py: rankings of sentences, features that are kept, and how it ends."""

import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import torch
from PIL import Image

from config import cfg_base
from config.load import load_config
from datasets import clean_caption, read_image
from datasets import test_transform as plain_transform
from model import load_text_search_model, make_model, tokenize_captions
from tests.sentences import SENTENCES as SCRIPTS
from tests.tools.pages import Page
from tests.toys import MODEL, save_noise, save_text_model, words
from tools import search
from tools.features import images as reading

SENTENCES = ("A man with a blue backpack.", "somebody in 红色")


@pytest.fixture(scope="module")
def weights(toy_towers, tmp_path_factory):
    """Two files of text search models."""
    folder = tmp_path_factory.mktemp("weights")
    return [str(save_text_model(folder / f"toy_{seed}.pth", seed)) for seed in (1, 2)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with images."""
    monkeypatch.chdir(tmp_path)
    for number in range(5):
        save_noise(Path(f"imgs/{number % 2}/{number}.png"), number)
    return tmp_path


@pytest.fixture
def run(folder, weights, capsys):
    """run('a man', '--top', '3') -> what was printed."""

    def run_tool(*options, weight=None):
        fixed = ["--weight", weight or weights[0], "--workers", "0", "--device", "cpu"]
        given = options if "--images" in options else ("--images", "imgs", *options)
        assert search.main([*fixed, *given]) == 0
        return capsys.readouterr().out

    return run_tool


@pytest.fixture
def refused(folder, weights, capsys):
    """refused('...') -> the one line on stderr."""

    def run_tool(*options, weight=None, images="imgs"):
        with pytest.raises(SystemExit) as end:
            search.main(["--weight", weight or weights[0], "--images", images, "--workers", "0", *options])
        error = capsys.readouterr().err
        assert end.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
        return error

    return run_tool


def rankings(printed):
    """Pairs (similarity, path) by sentence."""
    found, ranking = {}, []
    for line in printed.splitlines():
        row = re.fullmatch(r" +(\d+) +(-?[\d.]+)  (.+)", line)
        if row:
            ranking.append((float(row[2]), row[3]))
            assert len(ranking) == int(row[1])
        else:
            ranking = found.setdefault(line, [])
    return {sentence: ranking for sentence, ranking in found.items() if ranking}


def expected(weight, sentence, paths):
    """Similarities by path, from the parts."""
    model, info = load_text_search_model(weight)
    transform = plain_transform(info.size, info.mean, info.std, interpolation=info.resize)
    with torch.no_grad():
        images = model.encode_image(torch.stack([transform(read_image(path)) for path in paths]))
        text = model.encode_text(tokenize_captions([clean_caption(sentence)], info.text_length))
    similarity = torch.nn.functional.cosine_similarity(text, images)
    return dict(sorted(zip(paths, similarity.tolist(), strict=True), key=lambda pair: -pair[1]))


def test_rankings_are_those_of_the_model(run, weights):
    found = rankings(run(*SENTENCES))
    assert list(found) == list(SENTENCES)
    paths = [str(path) for path in sorted(Path("imgs").rglob("*.png"))]
    for sentence, ranking in found.items():
        wanted = expected(weights[0], sentence, paths)
        assert [path for _, path in ranking] == list(wanted)
        assert [value for value, _ in ranking] == pytest.approx(list(wanted.values()), abs=6e-4)


def test_page_and_picture(run):
    printed = run(*SENTENCES, "--top", "3", "--out", "found/here")
    page = Page(Path("found/here/ranking.html").read_text("utf-8"))
    assert [text for _, text in page.all("p", "text")] == list(SENTENCES)
    assert len(page.pictures()) == 2 * 3 and "gallery of 5 images" in page.source
    assert page.labels() == 2 * ["query", "1 ?", "2 ?", "3 ?"]
    assert "cosine similarity" in page.source and "2 sentences" in page.source
    shown = [text for _, text in page.all("span", "number")]
    values = [f"{value:.3f}" for ranking in rankings(printed).values() for value, _ in ranking]
    assert [text for text in shown if text] == values
    assert all(" similarity " in alt for alt in page.alts())
    assert printed.splitlines()[-2:] == ["found/here/ranking.html", "found/here/ranking.png"]
    with Image.open("found/here/ranking.png") as image:
        assert image.width > 800


def test_sentences_of_any_script(run, weights):
    printed = run(*SCRIPTS.values(), *(unicodedata.normalize("NFD", text) for text in SCRIPTS.values()))
    found = rankings(printed)
    # The same sentence in another of Unicode's forms is asked once.
    composed = [unicodedata.normalize("NFC", text) for text in SCRIPTS.values()]
    assert [line for line in printed.splitlines() if line in composed] == composed == list(found)
    page = Page(Path("logs/search/ranking.html").read_text("utf-8"))
    assert [text for _, text in page.all("p", "text")] == composed
    paths = [str(path) for path in sorted(Path("imgs").rglob("*.png"))]
    for text in composed:
        assert {path: value for value, path in found[text]} == pytest.approx(
            expected(weights[0], text, paths), abs=6e-4
        )


@pytest.mark.slow
def test_a_terminal_of_few_letters(folder, weights, repository):
    options = ["--weight", weights[0], "--images", "imgs", "--workers", "0", "--device", "cpu"]
    command = [sys.executable, repository / "tools/search.py", *options, SCRIPTS["zh"], SCRIPTS["fa"]]
    environment = os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, cwd=folder, capture_output=True, env=environment, check=True)
    lines = result.stdout.decode("ascii").splitlines()
    for language in ("zh", "fa"):
        assert SCRIPTS[language].encode("ascii", "backslashreplace").decode() in lines
    assert result.stderr == b"" and SCRIPTS["fa"] in Path("logs/search/ranking.html").read_text("utf-8")


def test_only_what_is_new_is_encoded(run, weights, monkeypatch):
    encoded = []
    loaded = reading.readable_batches
    monkeypatch.setattr(
        reading, "readable_batches", lambda paths, *more: encoded.append(len(paths)) or loaded(paths, *more)
    )
    first = rankings(run("a man"))
    assert rankings(run("a man")) == first and encoded == [5]
    save_noise(Path("imgs/new.png"), 9)
    os.utime("imgs/0/0.png", (1, 1))
    assert len(rankings(run("a man"))["a man"]) == 6 and encoded == [5, 2]
    Path("imgs/new.png").unlink()
    assert "1 are no longer searched" in run("a man") and encoded == [5, 2]
    assert "another weight_sha256" in run("a man", weight=weights[1]) and encoded == [5, 2, 5]
    assert "another orientation" in run("a man", "--orientation", "stored", weight=weights[1])
    assert sorted(path.name for path in Path("logs/search").iterdir()) == [
        "images.npz",
        "ranking.html",
        "ranking.png",
    ]


def test_features_are_kept_where_the_user_says(run):
    run("a man", "--features", "kept.npz")
    assert Path("kept.npz").is_file() and not Path("logs/search/images.npz").exists()
    assert "5 of 5 images are in kept.npz already" in run("a woman", "--features", "kept.npz")


def test_sentences_given_twice_and_cut(run):
    long = "word " * 1000
    printed = run("a man", "a man", long)
    assert len(rankings(printed)) == 2
    assert "only the first 16 tokens of 'word word" in printed


def test_images_that_cannot_be_read_are_left_out(run):
    Path("imgs/broken.png").write_text("x")
    for _ in range(2):
        printed = run("a man")
        assert len(rankings(printed)["a man"]) == 5
        assert "imgs/broken.png: cannot be read as an image" in printed


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([""], "sentence '' has no words"),
        (["a man", "..."], "sentence '...' has no words"),
        (["a man", "--batch", "0"], "--batch is 0; allowed: 1 or more"),
        (["a man", "--out", "imgs/0/0.png"], "imgs/0/0.png: File exists"),
        (["a man", "--features", "gone/a.npz"], "--features gone/a.npz: no file can be written in gone"),
        (["a man", "--features", "imgs/0/0.png"], "imgs/0/0.png is not a feature file"),
        (["a man", "--model", "toy-resnet"], "toy-resnet"),
        (["a man", "--size", "0", "16"], "--size"),
    ],
)
def test_refusals(refused, options, told):
    assert told in refused(*options)


def test_no_images(refused):
    Path("empty").mkdir()
    for images in ("empty", "gone"):
        assert refused("a man", images=images).startswith(
            f"error: --images {images}: no image there; allowed:"
        )
    Path("empty/a.png").write_text("x")
    assert "none of the 1 images could be read" in refused("a man", images="empty")
    assert "empty/a.png: " in refused("a man", "--strict", images="empty")


def test_other_weights(refused, toy_towers):
    model = make_model(load_config(cfg_base, "", words(MODEL | {"INPUT.SIZE_TRAIN": "[32, 16]"})), 2, 2, 1)
    torch.save(model.state_dict(), "toy-vit_60.pth")
    assert "toy-vit_60.pth" in refused("a man", weight="toy-vit_60.pth")
    assert "re-id" in refused("a man", weight="toy-vit_60.pth")
    assert refused("a man", weight="gone.pth").startswith("error: no weights file at gone.pth")
    Path("text.pth").write_text("x")
    assert "text.pth is no checkpoint" in refused("a man", weight="text.pth")


def test_nothing_to_search_for_ends_with_the_usage(folder, weights, capsys):
    with pytest.raises(SystemExit) as end:
        search.main(["--weight", weights[0], "--images", "imgs"])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.startswith("usage: ") and "SENTENCE" in error


@pytest.mark.slow
def test_it_runs_as_a_program_from_another_folder(folder, weights, repository):
    options = ["--weight", weights[0], "--images", "imgs", "--workers", "2", "--device", "cpu", "a man"]
    command = [sys.executable, repository / "tools/search.py", *options]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert len(rankings(result.stdout)["a man"]) == 5 and result.stderr == ""
