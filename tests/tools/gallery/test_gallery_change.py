"""gallery.py rename, remove, list, stats, export, import, index and compact; and its command line."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("pymilvus")

from retrieval import Gallery, RetrievalTask
from tests.toys import save_noise
from tools import evaluate, extract, gallery


def names(address="g.db"):
    with Gallery.open(address) as gallery:
        return gallery.identities()


@pytest.fixture
def add(run, weights):
    return lambda *words: run("add", "g.db", *words, "--weight", weights[0], "--workers", "0")


def test_rename_and_merge(run, entries):
    assert "3 entries of anna now: Anna B." in run("rename", "g.db", "anna", "Anna B.")
    shown = run("rename", "g.db", "Anna B.", "ben")
    assert "ben had 3 entries before: both are one now" in shown and names() == {"ben": 6, "carla": 3}
    key = entries()["carla_c1.png"].key
    assert "dora now: 1 entry" in run("rename", "g.db", "dora", "--key", key)
    assert "2 entries of carla now: without a name" in run("rename", "g.db", "carla", "")
    assert names() == {"": 2, "ben": 6, "dora": 1}


def test_remove_by_age(run, add):
    for number, (name, time) in enumerate((("old", "2026-05-03T23:59:59"), ("new", "2026-05-04"))):
        save_noise(Path(f"more/{name}_c9.png"), 600 + number)
        add(f"more/{name}_c9.png", "--time", time)
    shown = run("remove", "g.db", "--before", "2026-05-04", "--dry-run")
    assert "old_c9.png\n1 entry would be removed\n9 entries without a time: not removed" in shown
    assert sum(names().values()) == 11
    shown = run("remove", "g.db", "--before", "2026-05-04")
    assert "1 entry removed\n1 picture file left elsewhere" in shown
    assert Path("more/old_c9.png").is_file() and sum(names().values()) == 10


def test_remove_what_meets_all_conditions(run, entries):
    assert "2 entries removed" in run("remove", "g.db", "--identity", "ben", "anna", "--camera", "c2")
    assert names() == {"anna": 2, "ben": 2, "carla": 3}
    keys = [entries()[name].key for name in ("ben_c1.png", "anna_c1.png")]
    assert "1 entry removed" in run("remove", "g.db", *keys, "--identity", "ben")
    assert "1 entry removed" in run("remove", keys[1], "--gallery", "g.db")
    assert names() == {"anna": 1, "ben": 1, "carla": 3}
    with Gallery.open("g.db") as gallery:
        assert gallery.count("reid") == gallery.count("text") == 5


def test_erased_entries_are_not_on_the_disk_and_uploads_go_with_them(run, add, entries):
    Path("g.pictures").mkdir()
    save_noise(Path("sent.png"), 700)
    add("sent.png", "--identity", "Zebulon the unmistakable")
    sent = entries()["sent.png"].key
    Path("sent.png").rename(f"g.pictures/{sent}.png")
    assert "1 updated" in add("g.pictures", "--no-folder-names")
    save_noise(Path("g.pictures/other.png"), 701)
    add("g.pictures/other.png", "--identity", "Zebulon the unmistakable")

    def on_disk():
        files = [path for path in Path("g.db").rglob("*") if path.is_file()]
        return any(b"Zebulon the unmist" in path.read_bytes() for path in files)

    assert on_disk()
    shown = run("remove", "g.db/", "--identity", "Zebulon the unmistakable", "--erase")
    assert "2 entries removed\n1 picture in g.pictures deleted\n1 picture file left" in shown
    assert not on_disk() and [path.name for path in Path("g.pictures").iterdir()] == ["other.png"]
    assert "written afresh" in run("compact", "g.db") and sum(names().values()) == 9


def test_list(run, add, entries):
    save_noise(Path("odd/=1+1, a/x_c9.png"), 610)
    add("odd", "--time", "2026-05-04T08:00:00.500+00:00")
    rows = list(csv.DictReader(io.StringIO(run("list", "g.db", "--form", "csv", "--camera", "c9", "c1"))))
    assert {row["camera"] for row in rows} == {"c9", "c1"} and len(rows) == 4
    (record,) = json.loads(run("list", "g.db", "--form", "json", "--since", "2026-05-04T08:00:00+00:00"))
    assert record["identity"] == "=1+1, a" and record["key"] == entries()["x_c9.png"].key
    assert record["time"].startswith("2026-05-04T08:00:00.5")
    assert json.loads(run("list", "g.db", "--form", "json", "--until", "2026-05-03")) == []
    lines = run("list", "g.db", "--identity", "ben", "--most", "2").splitlines()
    assert len(lines) == 3 and lines[0].split() == ["key", "identity", "camera", "time", "path"]
    assert "all.csv" in run("list", "g.db", "--form", "csv", "--out", "all.csv")
    shutil.rmtree("g.db")


def test_a_list_is_read_again(run, add, weights):
    run("list", "g.db", "--form", "csv", "--out", "all.csv")
    before = json.loads(run("list", "g.db", "--form", "json"))
    run("create", "new.db", "--weight", weights[0])
    run("add", "new.db", "all.csv", "--weight", weights[0], "--workers", "0")
    assert json.loads(run("list", "new.db", "--form", "json")) == before


def test_stats(run, add):
    add("people/ben", "--time", "2026-05-04T08:00:00")
    shown = run("stats", "g.db")
    assert "space reid: 9 entries, index flat; model toy-vit" in shown and "camera c1: 3" in shown
    assert "9 entries in all, 9 with a name, of 3 identities" in shown and "identity ben: 3" in shown
    assert "seen from 2026-05-04 08:00:00" in shown and "; 6 without a time" in shown
    found = json.loads(run("stats", "g.db", "--json"))
    assert found["spaces"]["text"]["entries"] == 9 and found["bytes"] > 0
    assert found["cameras"] == {"c1": 3, "c2": 3, "c3": 3} and found["times"]["unknown"] == 6


def test_stats_say_how_each_space_is_searched(run, weights):
    run("create", "two.db", "--weight", weights[0], "--index", "hnsw")
    run("create", "two.db", "--text-weight", weights[2])
    shown = run("stats", "two.db")
    assert "space reid: 0 entries, index hnsw" in shown and "space text: 0 entries, index flat" in shown
    assert run("index", "two.db") == "index: reid hnsw, text flat\n"


def test_files_of_features(run, weights, capsys):
    assert "9 features written to out.npz" in run("export", "g.db", "--out", "out.npz")
    task = RetrievalTask.load("out.npz")
    assert len(task.images) == 9 and task.names.identity(int(task.images.pids[0])) in names()
    assert evaluate.main(["--features", "out.npz", "--out", "metrics.json"]) == 0
    assert json.loads(Path("metrics.json").read_text())["num_valid"] == 9
    capsys.readouterr()
    before = json.loads(run("list", "g.db", "--form", "json"))
    run("create", "new.db", "--weight", weights[0])
    assert "9 features added" in run("import", "new.db", "out.npz")
    assert json.loads(run("list", "new.db", "--form", "json")) == before


def test_files_of_extract_know_the_same_pictures(run, add, weights, refused):
    Path("people/anna/copy.png").write_bytes(Path("people/anna/anna_c1.png").read_bytes())
    for number, file in enumerate(("own.npz", "other.npz")):
        options = ["--images", "people", "--workers", "0", "--device", "cpu", "--out", file]
        assert extract.main(["--weight", weights[number], *options]) == 0
    run("create", "new.db", "--weight", weights[0])
    assert "9 features added" in run("import", "new.db", "own.npz")
    keys = [{row["key"] for row in json.loads(run("list", f, "--form", "json"))} for f in ("g.db", "new.db")]
    assert keys[0] == keys[1]
    assert "other.npz has features of another model" in refused("import", "new.db", "other.npz")


def test_index_and_recall(run, weights):
    shown = run("index", "g.db", "--recall", "3", "--questions", "5")
    assert "index: flat" in shown and "space text, 3 nearest of 5 entries: 100.00% found" in shown
    assert "index: hnsw" in run("index", "g.db", "hnsw")
    assert "space reid, 3 nearest of 9 entries" in run("index", "g.db", "--recall", "3")
    run("create", "new.db", "--weight", weights[0])
    assert "space reid has no entry to ask for" in run("index", "new.db", "flat", "--recall", "3")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("list", "gone.db"), "gallery gone.db does not exist"),
        (("list", "people"), "gallery people; allowed: a folder whose name ends in .db"),
        (("stats", "g.db", "more"), "'more' follows the address; allowed: options only"),
        (("remove", "g.db"), "nothing says which entries; needed: keys, --identity, --camera or --before"),
        (("remove", "g.db", "gone"), "no entry with the key 'gone'"),
        (("rename", "g.db", "anna"), "1 words follow the address; needed: OLD NEW, or NEW with --key"),
        (("rename", "g.db", "gone", "x"), "no entry is named 'gone'; `stats` shows the names"),
        (("rename", "g.db", "", "x"), "OLD is ''; allowed: a name"),
        (("rename", "g.db", "anna", "a\nb"), "allowed: text that can be printed"),
        (("rename", "g.db", "x", "--key", "gone"), "no entry with the key 'gone'"),
        (("import", "g.db"), "no file is named; needed: feature files"),
        (("import", "g.db", "gone.npz"), "gone.npz"),
        (("import", "g.db", "people/anna/anna_c1.png"), "is not a feature file"),
        (("export", "g.db", "--out", "gone/a.npz"), "--out gone/a.npz: no file can be written in gone"),
        (("index", "g.db", "ivf"), "'ivf' follows the address; allowed: flat, hnsw or nothing"),
    ],
)
def test_refusals(refused, words, told):
    assert told in refused(*words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("find",), "invalid choice: 'find'"),
        (("list",), "the gallery's address is missing"),
        (("list", "g.db", "--since", "noon"), "argument --since: 'noon' is no time; allowed: 2026-05-04"),
        (("list", "g.db", "--until", "0001-01-01"), "argument --until: '0001-01-01' is no time"),
        (("list", "g.db", "--forms", "csv"), "unrecognized arguments: --forms"),
        (("search", "g.db", "a", "--top", "0"), "argument --top: '0'; allowed: 1 or more"),
    ],
)
def test_misspelt_commands(words, told, capsys):
    with pytest.raises(SystemExit) as end:
        gallery.main(list(words))
    error = capsys.readouterr().err
    assert end.value.code == 2 and told in error and "Traceback" not in error


def test_each_command_has_help(capsys):
    for command in gallery.COMMANDS:
        with pytest.raises(SystemExit) as end:
            gallery.main([command, "--help"])
        assert end.value.code == 0 and "ADDRESS" in capsys.readouterr().out


def test_without_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(gallery.require_extra.__globals__["_MODULES"], "index", ("no_such_module",))
    with pytest.raises(SystemExit) as end:
        gallery.main(["list", "g.db"])
    assert end.value.code == 2 and 'pip install "clipreid[index]"' in capsys.readouterr().err
