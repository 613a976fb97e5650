"""gallery.py search: rankings, nobody, filters, pages and JSON."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("pymilvus")

import clipreid
from retrieval import Gallery
from tests.tools.pages import Page
from tests.toys import save_noise


@pytest.fixture
def search(run, weights):
    def run_search(*words):
        return run("search", "g.db", *words, "--weight", weights[0], "--text-weight", weights[2])

    return run_search


@pytest.fixture
def answers(search):
    """answers('--image', …) -> the answers of --json -, and nothing else is printed."""
    return lambda *words: json.loads(search(*words, "--json", "-"))["answers"]


def test_rankings_are_those_of_the_features(answers, weights):
    save_noise(Path("who.png"), 900)
    model = clipreid.load_model(weights[0], device="cpu")
    text_model = clipreid.load_text_model(weights[2], device="cpu")
    features = {
        "reid": model.encode_image(["who.png"]).features,
        "text": text_model.encode_text(["a man"]).features,
    }
    found = answers("a man", "--image", "who.png", "--top", "4")
    assert [answer["space"] for answer in found] == ["reid", "text"]
    assert found[0]["image"] == "who.png" and found[1]["sentence"] == "a man"
    with Gallery.open("g.db") as gallery:
        keys = [entry.key for entry in gallery.entries()]
        for answer in found:
            stored = gallery.features(keys, answer["space"])
            distances = ((stored - features[answer["space"]]) ** 2).sum(dim=1)
            nearest = distances.argsort()[:4].tolist()
            assert [hit["key"] for hit in answer["hits"]] == [keys[row] for row in nearest]
            shown = torch.tensor([hit["distance"] for hit in answer["hits"]])
            torch.testing.assert_close(shown, distances[nearest], atol=1e-5, rtol=0)


def test_it_prints_who_and_where(search):
    lines = search("--image", "people/ben/ben_c2.png", "--top", "2").splitlines()
    (place,) = (number for number, line in enumerate(lines) if line == "image people/ben/ben_c2.png")
    rank, name, camera, time, distance, path = lines[place + 1].split()
    assert (rank, name, camera, time) == ("1", "ben", "c2", "?") and float(distance) < 1e-5
    assert path.endswith("people/ben/ben_c2.png") and lines[place + 2].split()[0] == "2"


def test_an_entry_is_not_among_its_own_and_needs_no_model(run, entries):
    key = entries()["ben_c2.png"].key
    (answer,) = json.loads(run("search", "g.db", "--key", key, "--top", "20", "--json", "-"))["answers"]
    assert answer["key"] == key and len(answer["hits"]) == 8
    assert key not in [hit["key"] for hit in answer["hits"]]


def test_an_entry_may_ask_for_the_most_hits(run, entries):
    key = entries()["anna_c1.png"].key
    assert run("search", "g.db", "--key", key, "--top", "16384").count("people/") == 8


def test_nobody(search, answers):
    save_noise(Path("who.png"), 900)
    (answer,) = answers("--image", "who.png", "--threshold", "0")
    assert answer["nobody"] and answer["hits"] == [] and answer["nearest_distance"] > 0
    assert "  nobody within 0; the nearest entry is at " in search("--image", "who.png", "--threshold", "0")
    (answer,) = answers("--image", "people/ben/ben_c2.png", "--threshold", "1e-4")
    assert not answer["nobody"] and answer["hits"][0]["identity"] == "ben"
    shown = search("a man", "--camera", "c9")
    assert "  nobody: no entry meets the conditions" in shown


def test_the_threshold_of_a_file(answers):
    save_noise(Path("who.png"), 900)
    report = {"unit_norm": True, "accept": [{"far": 0.1, "threshold": 4.0}, {"far": 0.01, "threshold": 0.0}]}
    Path("threshold.json").write_text(json.dumps(report))
    question = ("--image", "who.png", "--threshold", "threshold.json")
    assert len(answers(*question, "--far", "0.1")[0]["hits"]) == 9
    assert answers(*question, "--far", "0.01")[0]["nobody"]


def test_sentences_have_a_threshold_of_their_own(answers):
    words = ("a man", "--image", "people/ben/ben_c2.png", "--text-threshold", "0", "--threshold", "4")
    found = answers(*words)
    assert [answer["threshold"] for answer in found] == [4, 0]
    assert [answer["nobody"] for answer in found] == [False, True]


def test_filters(answers, run, weights):
    run("add", "g.db", "people/ben", "--time", "2026-05-04T08:00", "--weight", weights[0], "--workers", "0")

    def cameras(*words):
        (answer,) = answers("--image", "people/ben/ben_c2.png", *words)
        return sorted(hit["camera"] for hit in answer["hits"])

    assert cameras("--exclude-camera", "c2") == ["c1"] * 3 + ["c3"] * 3
    assert cameras("--camera", "c1", "c3", "--exclude-camera", "c3") == ["c1"] * 3
    assert cameras("--since", "2026-05-04") == ["c1", "c2", "c3"]
    assert cameras("--since", "2026-05-04", "--until", "2026-05-04") == ["c1", "c2", "c3"]
    assert cameras("--until", "2026-05-03") == [] == cameras("--since", "2026-05-04T08:00:01")


def test_the_page(search, entries):
    pytest.importorskip("matplotlib")
    save_noise(Path("who.png"), 900)
    Path("people/anna/anna_c1.png").write_text("gone")
    key = entries()["ben_c2.png"].key
    search("a man & <b>", "--image", "who.png", "--key", key, "--html", "found/here", "--top", "9")
    page = Page(Path("found/here/ranking.html").read_text("utf-8"))
    assert [text for _, text in page.all("p", "text")] == ["a man & <b>"]
    assert page.labels()[:2] == ["query", "1 ?"] and "no threshold" in page.source
    assert any(text.startswith("ben · c2") for _, text in page.all("span", "origin"))
    search("--image", "who.png", "--threshold", "0", "--html", "found")
    page = Page(Path("found/ranking.html").read_text("utf-8"))
    assert page.labels()[1] == "1 ✗" and "nobody within the threshold" in page.source
    assert "beyond the threshold" in page.source and "trial" not in page.source


def test_json_in_a_file(search):
    shown = search("a man", "--json", "found.json")
    assert "sentence a man" in shown and shown.endswith("found.json\n")
    assert json.loads(Path("found.json").read_text())["answers"][0]["sentence"] == "a man"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "nothing is asked; needed: sentences, --image FILE or --key KEY"),
        (("a man",), "'a man' is a sentence, which needs --text-weight"),
        (("--image", "people/anna/anna_c1.png"), "--image is given without a model"),
        (("--key", "gone"), "no entry with the key 'gone'"),
        (("a man", "--text-weight", "{2}", "--threshold", "1"), "--threshold is given with sentences only"),
        (("--key", "a", "--text-threshold", "1"), "--text-threshold is given without a sentence"),
        (("--key", "a", "--far", "0.1"), "--far is 0.1; needed with it: --threshold"),
        (("--key", "a", "--threshold", "-1"), "threshold '-1'; allowed: a distance from 0 on"),
        (("--key", "a", "--threshold", "gone.json"), "gone.json: no such file"),
        (("--image", "gone.png", "--weight", "{0}"), "gone.png: no such image file"),
        (("--image", "people/anna/anna_c1.png", "--weight", "{1}"), "not of toy-vit"),
        (("...", "--text-weight", "{2}"), "sentence '...' has no words"),
        (("a man", "--text-weight", "{2}", "--top", "20000"), "k is 20000; allowed: 1 to 16,384"),
        (("a man", "--text-weight", "{2}", "--json", "gone/a.json"), "--json gone/a.json: no file can be"),
    ],
)
def test_refusals(refused, weights, words, told):
    assert told in refused("search", "g.db", *(word.format(*weights) for word in words))
