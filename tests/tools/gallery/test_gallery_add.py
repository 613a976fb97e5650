"""gallery.py create and add: which pictures become which entries."""

import csv
import hashlib
import signal
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
import torch

pytest.importorskip("pymilvus")

import clipreid
from processor import extract
from retrieval import Gallery
from tests.toys import save_noise
from tools.gallery_commands import adding


@pytest.fixture
def add(run, weights):
    """add('people', '--camera', 'hall') -> the closing line; to the gallery g.db, by the re-id model."""

    def run_add(*words, models=("--weight", 0)):
        options = [weights[word] if isinstance(word, int) else word for word in models]
        return run("add", "g.db", *words, *options, "--workers", "0")

    return run_add


def test_folders_are_names_and_marks_are_cameras(filled, weights):
    with Gallery.open(filled / "g.db") as gallery:
        assert gallery.identities() == {"anna": 3, "ben": 3, "carla": 3}
        assert gallery.cameras() == {"c1": 3, "c2": 3, "c3": 3}
        assert gallery.count("reid") == gallery.count("text") == 9
        entry = next(gallery.entries())
        data = Path(entry.metadata.path).read_bytes()
        assert entry.key == entry.metadata.picture == hashlib.sha256(data).hexdigest()
        for model, space in (
            (clipreid.load_model(weights[0], device="cpu"), "reid"),
            (clipreid.load_text_model(weights[2], device="cpu"), "text"),
        ):
            expected = model.encode_image([entry.metadata.path]).features
            torch.testing.assert_close(gallery.features([entry.key], space), expected, atol=1e-5, rtol=0)


def test_what_is_there_is_not_encoded_again(add, monkeypatch):
    encoded = []
    monkeypatch.setattr("processor.extract", lambda *a, **k: encoded.append(1) or extract(*a, **k))
    save_noise(Path("people/dora/dora_c1.png"), 77)
    assert "10 pictures: 1 new, 9 already there" in add("people")
    assert len(encoded) == 1
    both = ("--weight", 0, "--text-weight", 2)
    assert "0 new, 10 already there (1 encoded by a further model)" in add("people", models=both)
    assert len(encoded) == 2
    assert "0 new, 10 already there, " in add("people", models=both)
    assert len(encoded) == 2


def test_names_and_cameras_can_be_left_out(add, entries):
    save_noise(Path("new/eve/eve_c7.png"), 78)
    save_noise(Path("new/above_c7.png"), 79)
    save_noise(Path("new/-1/stranger.png"), 80)
    assert "3 new" in add("new", "--no-folder-names", "--no-file-cameras")
    assert all(entries()[name].metadata.identity == "" for name in ("eve_c7.png", "above_c7.png"))
    assert entries()["eve_c7.png"].metadata.camera == ""
    assert "1 of them" not in add("new") and entries()["eve_c7.png"].metadata.identity == "eve"
    facts = entries()["above_c7.png"].metadata
    assert (facts.identity, facts.camera) == ("", "c7")
    assert entries()["stranger.png"].metadata.identity == ""


def test_what_is_said_of_them_is_updated_in_every_space(add, run, entries):
    assert "9 already there, 9 updated" in add("people", "--camera", "hall", "--time", "2026-05-04T08:00:00Z")
    with Gallery.open("g.db") as gallery:
        for space in gallery.spaces:
            facts = [entry.metadata for entry in gallery.entries(space)]
            assert {each.camera for each in facts} == {"hall"} and len(facts) == 9
            assert {each.time for each in facts} == {datetime(2026, 5, 4, 8, tzinfo=timezone.utc)}
    assert "9 updated" in add("people", "--camera", "hall", "--identity", "all of them")
    assert {entry.metadata.identity for entry in entries().values()} == {"all of them"}
    assert entries()["ben_c1.png"].metadata.time is not None  # what is not said stays


def test_a_name_given_in_the_gallery_stays_and_a_moved_picture_has_its_new_folders(add, run, entries):
    add("people")  # the paths are those of this copy
    run("rename", "g.db", "anna", "Anna B.")
    assert "0 updated" in add("people")
    assert entries()["anna_c1.png"].metadata.identity == "Anna B."
    Path("people/ben/ben_c1.png").rename("people/carla/ben_c1.png")
    shown = add("people")
    assert "1 updated" in shown and "1 (ben to carla), such as" in shown
    assert entries()["ben_c1.png"].metadata.identity == "carla"


def write_table(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def test_tables(add, entries):
    for number in range(4):
        save_noise(Path(f"table/{number}.png"), 100 + number)
    write_table(
        Path("table/list.csv"),
        ("path", "pid", "camera", "time", "gate", "empty"),
        ("0.png", "7", "hall", "2026-05-04T10:00:00+02:00", "north", ""),
        ("1.png", "-1", "", "12.5", "", ""),
        (str(Path("table/2.png").absolute()), "東\u202e", "-1", "", "", ""),
        ("gone.png", "8", "", "", "", ""),
    )
    shown = add("table/list.csv", "--start", "2026-05-04T00:00:00Z")
    assert "4 pictures: 3 new" in shown and "1 unreadable" in shown and "gone.png: no such" in shown
    first, second, third = (entries()[f"{number}.png"].metadata for number in range(3))
    assert (first.identity, first.camera, first.more) == ("7", "hall", {"gate": "north"})
    assert first.time == datetime(2026, 5, 4, 8, tzinfo=timezone.utc)
    assert (second.identity, second.camera, second.more) == ("", "", {"seconds": "12.5"})
    assert second.time == datetime(2026, 5, 4, 0, 0, 12, 500_000, tzinfo=timezone.utc)
    assert (third.identity, third.camera, third.time) == ("東\\u202e", "", None)


def test_crops_of_a_video(add, run, entries):
    header = ("path", "pid", "split", "camid", "track", "class", "frame", "time", "score")
    rows = [(f"crops/000003/{n:08d}.jpg", "", "train", 2, 3, 0, n, f"{n}.000", "0.9") for n in range(2)]
    for number, row in enumerate(rows):
        save_noise(Path("street") / row[0], 200 + number)
    write_table(Path("street/crops.csv"), header, *rows)
    assert "2 times are seconds" in add("street")
    facts = entries()["00000001.jpg"].metadata
    assert (facts.identity, facts.camera, facts.time) == ("", "2", None)
    assert facts.more["track"] == "3" and facts.more["seconds"] == "1.000"
    assert "2 updated" in add("street/crops", "--tracks", "--start", "2026-05-04T08:00:00Z")
    facts = entries()["00000001.jpg"].metadata
    assert facts.identity == "street track 3"
    assert facts.time == datetime(2026, 5, 4, 8, 0, 1, tzinfo=timezone.utc)
    run("rename", "g.db", "street track 3", "anna")
    assert "0 updated" in add("street", "--tracks", "--start", "2026-05-04T08:00:00Z")
    assert entries()["00000001.jpg"].metadata.identity == "anna"


def test_lists_patterns_and_single_images(add, entries):
    for number in range(4):
        save_noise(Path(f"more/{number}.png"), 300 + number)
    Path("list.txt").write_text("more/0.png\n\nmore/1.png\n")
    assert "4 new" in add("list.txt", "more/*.png", "more/3.png", "--identity", "x")
    assert entries()["0.png"].metadata.identity == "x"


def test_equal_files_and_unreadable_ones_are_counted(add, refused, weights):
    data = Path("people/anna/anna_c1.png").read_bytes()
    for name in ("copy_c1.png", "copy_c9.png"):
        Path(f"people/anna/{name}").write_bytes(data)
    Path("people/anna/broken.png").write_text("x")
    shown = add("people")
    assert "12 pictures: 0 new, 9 already there, 9 updated, 1 unreadable, 2 named twice" in shown
    assert "1 with another name, camera or time: the first one counts" in shown
    assert "people/anna/broken.png: cannot be read as an image" in shown
    line = refused("add", "g.db", "people", "--weight", weights[0], "--workers", "0", "--strict")
    assert "broken.png" in line
    line = refused("add", "g.db", "people/anna/broken.png", "--weight", weights[0], "--workers", "0")
    assert line == "none of the 1 pictures could be read"


def test_a_stop_keeps_what_was_encoded(place, run, weights, monkeypatch, capsys):
    """As Ctrl-C in the middle; the same command goes on."""
    from tools import gallery

    for number in range(6):
        save_noise(Path(f"more/{number}.png"), 400 + number)
    calls = []

    def interrupted(*args, **options):
        features = extract(*args, **options)
        calls.append(len(features))
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return features

    monkeypatch.setattr("processor.extract", interrupted)
    monkeypatch.setattr(adding, "_PORTION", 0.0)
    command = ["add", "g.db", "more", "--weight", weights[0], "--workers", "0", "--batch", "2"]
    with pytest.raises(SystemExit) as end:
        gallery.main(command)
    assert end.value.code == 130
    shown = capsys.readouterr().out
    assert "6 pictures: 4 new" in shown and "stopped with 2 of them to come" in shown
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert "6 pictures: 2 new, 4 already there" in run(*command)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_hostile_names(add, run, entries):
    forged = "2026-01-01 00:00:00,000 transreid INFO: 9 new"
    names = (f"a\x1b[2Jb\n{forged}.png", "b\udcff.png", "\u202egnp.png")
    for number, name in enumerate(names):
        save_noise(Path("odd") / name, 500 + number)
    save_noise(Path("odd") / f"id\x1b[2J\n{forged}" / "c.png", 510)
    save_noise(Path('odd/the "back" \\ door/d.png'), 511)
    save_noise(Path("odd/山田\u3000花子/e.png"), 512)
    shown = add("odd")
    assert "2 new" in shown and "4 (under a path that cannot be printed or is no text)" in shown
    assert not any(line.startswith("2026-01-01") or "\x1b" in line for line in shown.splitlines())
    assert entries()["e.png"].metadata.identity == "山田\u3000花子"
    assert entries()["d.png"].metadata.identity == 'the "back" \\ door'
    assert "1 entry of" in run("rename", "g.db", 'the "back" \\ door', "x'y")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_hostile_addresses(run, refused, weights):
    odd = "a\x1b[2J\n2026-01-01 b"
    Path(odd).mkdir()
    shown = run("create", f"{odd}/g.db", "--weight", weights[0])
    shown += run("add", f"{odd}/g.db", "people", "--weight", weights[0], "--workers", "0")
    shown += run("stats", f"{odd}/g.db")
    assert "9 entries in all" in shown and "\x1b" not in shown and "\n2026-01-01 b" not in shown
    Path("a\udcff").mkdir()
    line = refused("create", "a\udcff/g.db", "--weight", weights[0])
    assert line == "gallery a\\udcff/g.db: its path is no text in UTF-8"
    assert not any(Path("a\udcff").iterdir())
    save_noise(Path("a\udcff/a.png"))
    line = refused("add", "g.db", "a\udcff", "--weight", weights[0], "--workers", "0")
    assert line.startswith("no picture is left to add; not read: 1 (under a path that cannot be printed")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("add", "gone.db", "people", "--weight", "{0}"), "gallery gone.db does not exist"),
        (("add", "g.db", "people"), "no model is given; needed: --weight, --text-weight or both"),
        (("add", "g.db", "--weight", "{0}"), "no pictures are named; allowed: folders"),
        (("add", "g.db", "gone", "--weight", "{0}"), "source gone: no image there; allowed: a folder"),
        (("add", "g.db", "people", "--weight", "{1}"), "not of toy-vit"),
        (("add", "g.db", "people", "--weight", "gone.pth"), "no weights file at gone.pth"),
        (("add", "g.db", "people", "--weight", "{2}"), "text"),
        (("add", "g.db", "people", "--weight", "{0}", "--batch", "0"), "--batch is 0; allowed: 1 or more"),
        (
            ("add", "g.db", "people", "--weight", "{0}", "--text-size", "3", "4"),
            "--text-size is given without",
        ),
        (("add", "g.db", "bad.csv", "--weight", "{0}"), "bad.csv:2: 'noon' is no time; allowed: 2026-05-04"),
        (("add", "g.db", "bad.csv", "--weight", "{0}", "--tracks"), "bad.csv:2: no track; needed"),
        (("create", "g.db", "--weight", "{0}"), "gallery g.db has a space reid already"),
        (("create", "new.db"), "no model is given; needed: --weight for images"),
        (("create", "new", "--weight", "{0}"), "gallery new; allowed: a folder whose name ends in .db"),
        (
            ("create", "new.db", "more", "--weight", "{0}"),
            "'more' follows the address; allowed: options only",
        ),
    ],
)
def test_refusals(refused, weights, words, told):
    Path("bad.csv").write_text("path,time\na.png,noon\n")
    workers = ["--workers", "0"] if words[0] == "add" else []
    assert told in refused(*(word.format(*weights) for word in words), *workers)
    assert not Path("new.db").exists()


def test_a_space_can_come_later(run, add, weights, entries):
    run("create", "two.db", "--weight", weights[0])
    assert "9 new" in run("add", "--gallery", "two.db", "people", "--weight", weights[0], "--workers", "0")
    assert "space text" in run("create", "two.db", "--text-weight", weights[2], "--index", "hnsw")
    shown = run("add", "people", "--gallery", "two.db", "--text-weight", weights[2], "--workers", "0")
    assert "9 already there (9 encoded by a further model)" in shown
