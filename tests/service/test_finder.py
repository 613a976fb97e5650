"""A gallery with its models: what is asked of it and added to it."""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import torch
from PIL import Image

from retrieval import Gallery, Metadata
from service import Finder, Key, Picture, SearchOptions, Sentence, Settings
from tests.service.conftest import draw

NOON = datetime(2026, 5, 4, 12, tzinfo=timezone.utc)


def fill(finder, count=4):
    """Pictures 0, 1, … of two cameras, an hour apart; names a, b, a, b, …; the entries."""
    return [
        finder.add(
            draw(i), Metadata(identity="ab"[i % 2], camera=f"c{i // 2}", time=NOON + timedelta(hours=i))
        )
        for i in range(count)
    ]


def test_a_picture_is_found_again(finder):
    entries = fill(finder)
    assert [entry.key for entry in entries] == [hashlib.sha256(draw(i)).hexdigest() for i in range(4)]
    answer = finder.search(Picture(draw(2)))
    assert answer.space == "reid" and len(answer.hits) == 4 and not answer.nobody
    assert answer.hits[0].key == entries[2].key and answer.hits[0].distance < 1e-5
    assert answer.hits[0].metadata.identity == "a" and answer.hits[0].metadata.time == NOON + timedelta(
        hours=2
    )
    assert [hit.distance for hit in answer.hits] == sorted(hit.distance for hit in answer.hits)


def test_features_are_those_of_the_tools(finder, model, text_model, tmp_path):
    """The pixels are equal, the features as near as those of batches of another size."""
    for form in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"):
        data = draw(5, (64, 64), form)
        (tmp_path / "picture").write_bytes(data)
        entry = finder.add(data, Metadata())
        for space, each in (("reid", model), ("text", text_model)):
            expected = each.encode_image([tmp_path / "picture"]).features
            found = finder.gallery.features([entry.key], space)
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_key_asks_for_others(finder):
    entries = fill(finder)
    answer = finder.search(Key(entries[1].key), SearchOptions(k=2))
    assert len(answer.hits) == 2 and entries[1].key not in [hit.key for hit in answer.hits]
    expected = finder.search(Picture(draw(1)), SearchOptions(k=3)).hits[1:]
    assert [hit.key for hit in answer.hits] == [hit.key for hit in expected]
    with pytest.raises(KeyError, match="no entry"):
        finder.search(Key("other"))


def test_sentences_ask_the_other_space(finder, text_model):
    fill(finder)
    answer = finder.search(Sentence("A man in a red coat."))
    features = text_model.encode_text(["A man in a red coat."]).features
    expected = finder.gallery.search(features, space="text")[0]
    assert answer.space == "text" and [hit.key for hit in answer.hits] == [hit.key for hit in expected]
    with pytest.raises(ValueError, match="no words"):
        finder.search(Sentence(" "))


def test_options_choose_entries(finder):
    entries = fill(finder)

    def found(**options):
        return {hit.key for hit in finder.search(Picture(draw(0)), SearchOptions(**options)).hits}

    keys = [entry.key for entry in entries]
    assert found(cameras=("c1",)) == found(exclude_camera="c0") == set(keys[2:])
    assert found(cameras=()) == set()
    assert found(since=NOON + timedelta(hours=1), until=NOON + timedelta(hours=2)) == set(keys[1:3])
    assert len(found(k=3)) == 3


def test_options_that_cannot_be(finder):
    for options in (
        {"k": 0},
        {"k": 16_385},
        {"threshold": -1.0},
        {"threshold": float("nan")},
        {"since": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=10)))},
        {"until": datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=10)))},
        {"exclude_camera": "a\nb"},
    ):
        with pytest.raises(ValueError, match="allowed"):
            finder.search(Picture(draw(0)), SearchOptions(**options))


def test_nobody_is_within_the_threshold(gallery, model, text_model, tmp_path):
    settings = Settings(text_threshold=4.0)
    finder = Finder(gallery, model, text_model, tmp_path / "pictures", 1e-4, settings)
    assert finder.search(Picture(draw(0))).nobody and not finder.search(Picture(draw(0))).hits
    fill(finder)
    stranger = finder.search(Picture(draw(9)))
    assert stranger.nobody and len(stranger.hits) == 4 and stranger.threshold == 1e-4
    known = finder.search(Picture(draw(1)))
    assert not known.nobody and [known.accepts(hit) for hit in known.hits] == [True, False, False, False]
    assert not finder.search(Picture(draw(9)), SearchOptions(threshold=4.0)).nobody
    assert finder.search(Sentence("somebody")).threshold == 4.0
    finder.close()


def test_without_a_re_id_model_pictures_are_compared_in_the_other_space(text_model, tmp_path):
    with Gallery.create(tmp_path / "gallery.db", {"text": text_model.space_model}) as gallery:
        finder = Finder(gallery, text_model=text_model, pictures=tmp_path / "pictures")
        (entry,) = fill(finder, 1)
        for question in (Picture(draw(0)), Sentence("somebody")):
            answer = finder.search(question)
            assert answer.space == "text" and answer.hits[0].key == entry.key
        finder.close()


def test_what_does_not_fit_together(model, text_model, tmp_path):
    with Gallery.create(tmp_path / "gallery.db", {"reid": model.space_model}) as gallery:
        with pytest.raises(ValueError, match="neither model nor text_model"):
            Finder(gallery)
        with pytest.raises(ValueError, match="no space 'text'; it has reid"):
            Finder(gallery, model, text_model)
        finder = Finder(gallery, model)
        assert not finder.takes_sentences
        with pytest.raises(ValueError, match="needed: a text search model"):
            finder.search(Sentence("somebody"))
        with pytest.raises(ValueError, match="needed: a folder for pictures"):
            finder.add(draw(0), Metadata())
        finder.close()


def test_questions_of_many_threads_share_passes(finder):
    fill(finder, 2)
    sizes = []
    finder.watch(lambda what, size: sizes.append((what, size)))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(finder.search, [Picture(draw(i % 2)) for i in range(64)]))
    keys = [hashlib.sha256(draw(i)).hexdigest() for i in range(2)]
    assert [answer.hits[0].key for answer in answers] == keys * 32
    assert (
        sum(size for _, size in sizes) == 64 and len(sizes) < 40 and {what for what, _ in sizes} == {"reid"}
    )


def test_a_picture_is_stored_and_really_removed(finder, tmp_path):
    entry = finder.add(draw(0, form="JPEG"), Metadata(identity="a", path="/etc/passwd", picture="other"))
    path = Path(entry.metadata.path)
    assert path == tmp_path / "pictures" / f"{entry.key}.jpg" and entry.metadata.picture == entry.key
    assert finder.picture(entry.key) == path.read_bytes() == draw(0, form="JPEG")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    again = finder.add(draw(0, form="JPEG"), Metadata(identity="b"))
    assert finder.entry(entry.key) == again and finder.gallery.count() == finder.gallery.count("text") == 1
    assert finder.remove(entry.key) and not finder.remove(entry.key)
    assert not path.exists() and finder.gallery.count() == finder.gallery.count("text") == 0
    with pytest.raises(KeyError, match="no entry"):
        finder.picture(entry.key)


def test_a_removed_entry_can_be_erased_from_the_disk(finder, tmp_path):
    kept, removed = (finder.add(draw(i), Metadata(identity=f"somebody {i}")) for i in range(2))

    def on_disk(text):
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        return any(text.encode() in path.read_bytes() for path in files)

    assert on_disk(kept.key) and on_disk(removed.key)
    assert finder.remove(removed.key, erase=True)
    assert on_disk(kept.key) and not on_disk(removed.key) and not on_disk("somebody 1")
    assert [hit.key for hit in finder.search(Picture(draw(1))).hits] == [kept.key]


def test_pictures_of_others_stay(finder, tmp_path):
    own = tmp_path / "own.png"
    own.write_bytes(draw(0))
    features = finder.search(Picture(draw(0))) and finder._encoders["reid"](Image.open(own).convert("RGB"))
    inside = finder.add(draw(1), Metadata()).metadata.path
    sha = hashlib.sha256(draw(0)).hexdigest()
    metadata = [Metadata(path=str(own), picture=sha), Metadata(path=inside, picture=sha)]
    finder.gallery.add(torch.stack([features] * 2), ["own", "../borrowed"], metadata)
    assert finder.picture("own") == draw(0)
    assert finder.remove("own") and finder.remove("../borrowed") and own.exists() and Path(inside).exists()


def test_a_picture_that_is_there_keeps_what_is_not_given(finder):
    finder.add(draw(0), Metadata(identity="anna", camera="hall", time=NOON, more={"a": 1, "b": 1}))
    entry = finder.add(draw(0), Metadata(camera="gate", more={"b": 2}))
    assert finder.entry(entry.key) == entry
    facts = entry.metadata
    assert (facts.identity, facts.camera, facts.time) == ("anna", "gate", NOON)
    assert facts.more == {"a": 1, "b": 2}


def test_only_the_picture_that_was_added_is_shown(finder, tmp_path):
    entry = finder.add(draw(0), Metadata())
    path = Path(entry.metadata.path)
    path.write_bytes(draw(1))
    with pytest.raises(ValueError, match="has changed since"):
        finder.picture(entry.key)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="not there any more"):
        finder.picture(entry.key)
    path.mkdir()
    with pytest.raises(ValueError, match="cannot be read"):
        finder.picture(entry.key)
    finder.gallery.add(torch.ones(1, finder.gallery.models["reid"].width), ["bare"])
    with pytest.raises(ValueError, match="is not known"):
        finder.picture("bare")


def test_a_picture_that_cannot_be_added_leaves_nothing(finder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="cannot be read as an image"):
        finder.add(b"no picture", Metadata())
    monkeypatch.setattr(
        finder.gallery, "add", lambda *args, **options: (_ for _ in ()).throw(OSError("full"))
    )
    with pytest.raises(OSError, match="full"):
        finder.add(draw(0), Metadata())
    assert not list((tmp_path / "pictures").iterdir())


def test_pictures_have_a_limit_of_pixels(gallery, model, text_model):
    finder = Finder(gallery, model, text_model, settings=Settings(pixels=500))
    with pytest.raises(ValueError, match=r"16 x 32 pixels; allowed: at most 500"):
        finder.search(Picture(draw(0)))
    finder.close()


def test_a_turned_picture_is_set_upright(finder):
    finder.add(draw(0), Metadata())
    exif = Image.Exif()
    exif[274] = 6
    turned = io.BytesIO()
    Image.open(io.BytesIO(draw(0))).rotate(90, expand=True).save(turned, "PNG", exif=exif)
    assert finder.search(Picture(turned.getvalue())).hits[0].distance < 1e-5


def test_a_timeline_is_in_order_of_time(finder):
    fill(finder)
    late = finder.add(draw(7), Metadata(identity="a"))
    early = finder.add(draw(8), Metadata(identity="a", time=NOON - timedelta(days=1)))
    timeline = finder.timeline("a")
    assert [timeline[0].key, timeline[-1].key] == [early.key, late.key] and len(timeline) == 4
    assert finder.identities() == {"a": 4, "b": 2} and finder.cameras() == {"": 2, "c0": 2, "c1": 2}
    assert finder.timeline("nobody") == []
