"""Sentences and names of any script: how they are sent, what is the same, and that no log has them."""

import json
import logging
import unicodedata
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from retrieval import Gallery, Metadata
from service import Finder, Sentence
from service.api import Limits, make_app
from tests.sentences import SENTENCES
from tests.service.conftest import draw


@pytest.fixture
def client(finder):
    with TestClient(make_app(finder, Limits(rate=0)), base_url="http://localhost") as client:
        for seed, (identity, camera) in enumerate(
            [("王小明", "大厅"), ("דנה", "שער 2"), ("نیلوفر\u200cجان", "دوربین\u200cها"), ("Анна", "")]
        ):
            fields = {"identity": identity, "camera": camera}
            assert client.post("/images", files={"image": ("a", draw(seed))}, data=fields).status_code == 201
        yield client


def asked(client, body, kind="application/json"):
    answer = client.post("/search", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_is_the_same_however_it_is_sent(client, finder, language):
    text = SENTENCES[language]
    found = asked(client, json.dumps({"sentence": text}, ensure_ascii=False).encode())
    assert len(found["hits"]) == 4 and found["space"] == "text"
    distances = {hit.key: hit.distance for hit in finder.search(Sentence(text)).hits}
    assert {hit["key"]: hit["distance"] for hit in found["hits"]} == pytest.approx(distances, abs=1e-5)
    decomposed = unicodedata.normalize("NFD", text)
    for body, kind in (
        (json.dumps({"sentence": text}).encode(), "application/json"),
        (urlencode({"sentence": text}).encode(), "application/x-www-form-urlencoded"),
        (json.dumps({"sentence": decomposed}).encode(), "application/json"),
    ):
        assert asked(client, body, kind) == found
    answer = client.post("/search", files={"sentence": (None, text.encode())})
    assert answer.status_code == 200 and answer.json() == found


def test_names_of_any_script_are_sent_and_come_back(client):
    found = asked(client, json.dumps({"sentence": "a man", "cameras": ["שער 2", "دوربین\u200cها"]}).encode())
    assert {hit["identity"] for hit in found["hits"]} == {"דנה", "نیلوفر\u200cجان"}
    found = asked(client, json.dumps({"sentence": "a man", "exclude_camera": "大厅"}).encode())
    assert {hit["identity"] for hit in found["hits"]} == {"דנה", "نیلوفر\u200cجان", "Анна"}
    for camera in ("hall\u202e", "hall\n", "hall\u2066"):
        answer = client.post("/search", json={"sentence": "a man", "cameras": [camera]})
        assert answer.status_code == 422 and "allowed: text that can be printed" in answer.json()["error"]


def test_the_answer_says_that_a_sentence_was_cut(client):
    assert client.post("/search", json={"sentence": SENTENCES["zh"]}).json()["cut"]  # 16 tokens are read
    assert not client.post("/search", json={"sentence": SENTENCES["zh"][:3]}).json()["cut"]
    assert not client.post("/search", files={"image": ("a", draw(0))}).json()["cut"]


def test_limits_count_letters(client):
    asked(client, json.dumps({"sentence": "红" * 1000}).encode())
    asked(client, urlencode({"sentence": "红" * 1000}).encode(), "application/x-www-form-urlencoded")
    answer = client.post("/search", json={"sentence": "红" * 1001})
    assert answer.status_code == 422 and "sentence: " in answer.json()["error"]


@pytest.mark.parametrize("language", ["zh", "ar", "th"])
def test_no_log_or_metric_has_what_was_asked(client, caplog, language):
    text = SENTENCES[language]
    words = [text[:8], *(part for part in text.split() if len(part) > 3)]
    with caplog.at_level(logging.DEBUG):
        asked(client, json.dumps({"sentence": text * 8}).encode())  # too long for the model
        assert client.post("/search", json={"sentence": text, "k": 0}).status_code == 422
        assert client.post("/search", json={"sentence": "...", "threshold": 1}).status_code == 422
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert "only the first 16 tokens of a sentence are read" in logged
    metrics = client.get("/metrics").text
    assert not any(word in logged or word in metrics for word in words)


def test_a_sentence_that_is_cut_is_named_elsewhere(text_model, caplog):
    with caplog.at_level(logging.WARNING):
        text_model.encode_text([SENTENCES["zh"]])
    assert SENTENCES["zh"] in caplog.text


@pytest.mark.parametrize("kind", ["text_model", "multilingual_model"])
def test_the_same_sentence_composed_or_not_has_the_same_features(request, kind):
    text_model = request.getfixturevalue(kind)
    for text in SENTENCES.values():
        composed, decomposed = (
            text_model.encode_text([unicodedata.normalize(form, text)]) for form in ("NFC", "NFD")
        )
        assert composed.keys == decomposed.keys == (unicodedata.normalize("NFC", text),)
        assert composed.features.equal(decomposed.features) and composed.pictures == decomposed.pictures


def test_a_multilingual_model_behind_the_api(multilingual_model, tmp_path):
    models = {"text": multilingual_model.space_model}
    with Gallery.create(tmp_path / "gallery.db", models) as gallery:
        finder = Finder(gallery, None, multilingual_model, tmp_path / "pictures")
        assert finder.takes_many_languages
        for seed in range(4):
            finder.add(draw(seed), Metadata(identity=str(seed)))
        stored = {entry.key: gallery.features([entry.key], "text")[0] for entry in gallery.entries()}
        features = multilingual_model.encode_text(list(SENTENCES.values())).features
        with TestClient(make_app(finder, Limits(rate=0)), base_url="http://localhost") as client:
            for text, feature in zip(SENTENCES.values(), features, strict=True):
                found = asked(client, json.dumps({"sentence": text}, ensure_ascii=False).encode())
                distances = {hit["key"]: hit["distance"] for hit in found["hits"]}
                wanted = {key: float(((feature - row) ** 2).sum()) for key, row in stored.items()}
                assert distances == pytest.approx(wanted, abs=1e-5)
                assert found["cut"] == multilingual_model.are_cut([text])[0]
            assert asked(client, json.dumps({"sentence": SENTENCES["zh"] * 4}).encode())["cut"]


def test_what_a_model_knows(text_model, multilingual_model):
    assert multilingual_model.is_multilingual and not text_model.is_multilingual
    assert text_model.are_cut(["a man", SENTENCES["zh"]]) == [False, True]
    assert multilingual_model.are_cut(["红色", SENTENCES["zh"] * 4]) == [False, True]
    with pytest.raises(ValueError, match=r"sentence '\.\.\.' has no words"):
        text_model.are_cut(["..."])
