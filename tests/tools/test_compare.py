"""Runs next to each other: metrics, differences on the same queries, settings, or one line why not."""

import json
import os
import re
from datetime import datetime, timezone

import pytest
import torch
import yaml

from retrieval import (
    FeatureSet,
    RetrievalTask,
    evaluate_task,
    k_reciprocal_blocks,
    metric_intervals,
    paired_differences,
)
from tests.tools.pages import Page
from tools.compare import main
from tools.comparing.sheet import Table, as_page, as_text

SETTINGS = {"SOLVER": {"BASE_LR": 0.5, "SEED": 1}, "MODEL": {"NAME": "toy"}, "OUTPUT_DIR": "logs/a"}
RERANK = {"k1": 6, "k2": 3, "lam": 0.5}


def task_of(noise, root="data", order=range(24)):
    """24 queries in a gallery of 36 images, in files below `root`."""
    pids = torch.arange(60) % 12
    centres, rest = (torch.randn(n, 6, generator=torch.Generator().manual_seed(n)) for n in (12, 60))
    paths = [f"{root}/{'query' if row < 24 else 'gallery'}/{row}.jpg" for row in range(60)]
    images = FeatureSet(centres[pids] + noise * rest, pids, torch.arange(60) // 24, paths)
    return RetrievalTask.between(
        images.select(list(order)), images.select(range(24, 60)), {"normalize": True}
    ).with_pictures()


@pytest.fixture
def save(tmp_path, monkeypatch):
    """save('a', task, settings, test) -> the folder of a run, in the working directory."""
    monkeypatch.chdir(tmp_path)

    def save_run(name, task=None, settings=None, test=None, epochs=(), receipt=None):
        folder = tmp_path / name
        folder.mkdir()
        if task:
            task.save(folder / "features.npz")
        if settings:
            (folder / "config.yml").write_text(yaml.safe_dump(settings))
        if test:
            (folder / "metrics.json").write_text(json.dumps(test))
        if receipt:
            (folder / "receipt.json").write_text(json.dumps(receipt))
        if epochs:
            (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(epoch)}\n" for epoch in epochs))
        return name

    return save_run


def table(out, first):
    """The cells of the rows under the heading that begins with `first`."""
    lines = out[out.index(f"\n{first}") :].split("\n\n")[1].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if "---" not in line]


def shown(value, interval):
    return f"{100 * value:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def change(found):
    low, high = (100 * end for end in found.interval)
    return f"{100 * found.value:+.1f} [{low:+.1f}, {high:+.1f}]{' *' if low > 0 or high < 0 else ''}"


def test_metrics_and_differences_of_two_tests(save, capsys):
    """In the second run data lies elsewhere, and the queries are in another order."""
    order = [*range(12, 24), *range(12)]
    tasks = task_of(1.1), task_of(0.8, "/elsewhere/data", order)
    assert main([save("a", tasks[0]), f"B={save('b', tasks[1])}", "--bootstrap", "200", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    metrics = [evaluate_task(task.normalized()) for task in tasks]
    rows = table(f"\n{out}", "Metrics in %")
    assert [row[0] for row in rows] == ["run", "a", "B"] and rows[1][-1] == "features.npz"
    for row, found in zip(rows[1:], metrics, strict=True):
        ranges = metric_intervals(found.scores, rounds=200, seed=3)
        assert row[1:3] == [shown(found.mAP, ranges["mAP"]), shown(found.rank(1), ranges["rank1"])]
    in_order = [type(metrics[1].scores[0])(*(part[order] for part in metrics[1].scores[0]))]
    expected = paired_differences(metrics[0].scores, in_order, rounds=200, seed=3)
    row = table(out, "Difference to a on the same queries")[1]
    assert row == ["B", *(change(expected[n]) for n in ("mAP", "rank1", "rank5", "rank10", "mINP")), "24"]
    assert row[1].startswith("+") and row[1].endswith("*")
    assert "Settings are not compared" in out
    told = "Queries of B are in /elsewhere/data/query, those of a in data/query: they count as the same"
    assert told in out


def test_a_re_ranked_test_is_compared_as_it_was_tested(save, capsys):
    task = task_of(1.1)
    again = evaluate_task(task.normalized(), rerank=lambda *pair: k_reciprocal_blocks(*pair, **RERANK))
    plain = evaluate_task(task.normalized())
    assert abs(again.mAP - plain.mAP) > 0.01
    test = {"mAP": again.mAP, "cmc": again.cmc.tolist(), "rerank": RERANK}
    folders = [save("a", task, test=test), save("b", task, test={**test, "rerank": None})]
    main([*folders, "--bootstrap", "50"])
    out = capsys.readouterr().out
    rows = table(f"\n{out}", "Metrics in %")
    assert [row[1].split()[0] for row in rows[1:]] == [f"{100 * each.mAP:.1f}" for each in (again, plain)]
    assert [row[-1] for row in rows[1:]] == ["features.npz, re-ranked", "features.npz"]
    (warning,) = re.findall(r"WARNING: (.*)", out)
    assert warning.startswith("b/metrics.json: mAP is") and "the features count" in warning


def test_runs_without_features(save, capsys):
    """A test without its features, a training with evaluations, and one without; none can be paired."""
    epoch = {"stage": "stage2", "lr": 0.1, "loss": 1.0}
    evaluated = {**epoch, "epoch": 2, "mAP": 0.5, "rank1": 0.75, "mINP": 0.25}
    folders = [
        save("tested", test={"mAP": 0.4375, "cmc": [0.5, 0.625, 0.75]}),
        save("trained", epochs=[{**evaluated, "epoch": 1, "mAP": 0.1}, evaluated, {**epoch, "epoch": 3}]),
        save("begun", settings=SETTINGS, epochs=[{**epoch, "epoch": 1}]),
    ]
    main(folders)
    out = capsys.readouterr().out
    assert table(f"\n{out}", "Metrics in %")[1:] == [
        ["tested", "43.8", "50.0", "75.0", "75.0", "–", "metrics.json"],
        ["trained", "50.0", "75.0", "–", "–", "25.0", "metrics.jsonl, stage2 epoch 2"],
        ["begun", "–", "–", "–", "–", "–", "no test, no evaluation"],
    ]
    reasons = [row[-1] for row in table(out, "Difference to tested")[1:]]
    assert reasons[0] == "not compared: tested and trained without features.npz, the scores of single queries"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda: task_of(1, order=range(20)), "the queries differ: 24 and 20, not in both 20.jpg, "),
        (
            lambda: RetrievalTask(task_of(1).images, task_of(1).trials * 2),
            "not compared: 1 and 2 trials",
        ),
    ],
)
def test_other_queries_are_not_compared(save, capsys, change, told):
    main([save("a", task_of(1)), save("b", change()), "--bootstrap", "10"])
    assert told in table(capsys.readouterr().out, "Difference to a")[1][-1]


def test_another_gallery_is_named(save, capsys):
    task = task_of(1)
    smaller = RetrievalTask.between(task.images.select(range(24)), task.images.select(range(24, 59)))
    main([save("a", task), save("b", smaller), "--bootstrap", "10"])
    assert "a and b have different galleries." in capsys.readouterr().out


def test_settings_that_differ(save, capsys):
    others = {
        **SETTINGS,
        "SOLVER": {"BASE_LR": 0.25, "SEED": 1},
        "CLUSTER": {"EPS": 0.6},
        "OUTPUT_DIR": "logs/b",
    }
    main([save("a", settings=SETTINGS), save("b", settings=others), save("c", task_of(1))])
    out = capsys.readouterr().out
    assert "1 of 3 settings differ" in out and "No config.yml and no receipt.json: c." in out
    assert table(out, "1 of 3 settings")[1:] == [["SOLVER.BASE_LR", "0.5", "0.25"]]
    assert "Not listed: 1 keys that not all runs have, in CLUSTER." in out
    main([save("d", settings=SETTINGS), "a"])
    assert "0 of 3 settings differ" in capsys.readouterr().out


def test_keys_of_another_method_are_listed_where_its_own_runs_differ(save, capsys):
    others = {**SETTINGS, "CLUSTER": {"EPS": 0.6, "MIN": 4}}
    more = {**SETTINGS, "CLUSTER": {"EPS": 0.5, "MIN": 4}}
    main([save("a", settings=SETTINGS), save("b", settings=others), save("c", settings=more)])
    assert table(capsys.readouterr().out, "1 of 4")[1:] == [["CLUSTER.EPS", "–", "0.6", "0.5"]]


def of_a_test(path):
    """A receipt of a test of the weights at `path`, with all settings of the test program."""
    config = {"SOLVER.BASE_LR": 0.125, "MODEL.NAME": "of the command", "TEST.AMP": "off"}
    weights = {"test": {"path": str(path), "sha256": ""}}
    test = section(0.5, config=config, weights=weights, started="2026-05-04T09:00:00+00:00")
    return {"format": 1, "train": None, "test": test}


def test_a_test_in_a_folder_of_its_own_has_the_settings_of_its_training(save, capsys, tmp_path):
    """Those of the test program count only where no training lies next to the weights."""
    train = section(0.25, started="2026-05-04T08:00:00+00:00", config={"SOLVER.BASE_LR": 0.5})
    save("run", receipt={"format": 1, "train": train, "test": None})
    other = {"SOLVER.BASE_LR": 0.25, "TEST.AMP": "bf16"}
    save("other", receipt={"format": 1, "train": section(0.25, config=other), "test": None})
    save("test", receipt=of_a_test(tmp_path / "run/toy_2.pth"))
    main(["other", "test"])
    out = capsys.readouterr().out
    assert table(f"\n{out}", "Metrics in %")[2][-1] == "receipt.json, test of toy_2.pth"
    assert table(out, "2 of 2 settings")[1:] == [
        ["SOLVER.BASE_LR", "0.25", "0.5"],
        ["TEST.AMP", "bf16", "off"],
    ]
    assert f"test was trained in {tmp_path / 'run'}." in out and "was trained in other" not in out
    save("old", test={"mAP": 0.5, "cmc": [0.5], "weight": str(tmp_path / "run/toy_2.pth")})
    main(["other", "old"])
    out = capsys.readouterr().out
    assert table(out, "1 of 1 settings")[1:] == [["SOLVER.BASE_LR", "0.25", "0.5"]]
    assert table(f"\n{out}", "Metrics in %")[2][-1] == "metrics.json of toy_2.pth"


def test_a_test_of_another_folders_file_has_the_settings_of_that_training(save, capsys, tmp_path):
    """Not those of the training in the folder that it wrote to; a folder that has moved keeps its own."""
    train = section(0.25, started="2026-05-04T08:00:00+00:00", config={"SOLVER.BASE_LR": 0.5})
    save("run", receipt={"format": 1, "train": train, "test": None})
    (tmp_path / "run/toy_2.pth").write_bytes(b"weights of run")
    own = section(0.25, started="2026-05-04T08:00:00+00:00", config={"SOLVER.BASE_LR": 0.25})
    both = of_a_test(tmp_path / "run/toy_2.pth") | {"train": own}
    save("both", receipt=both)
    for content, rate, note in ((b"its own", "0.5", True), (b"weights of run", "0.25", False)):
        (tmp_path / "both/toy_2.pth").write_bytes(content)
        main(["run", "both"])
        out = capsys.readouterr().out
        assert (f"both was trained in {tmp_path / 'run'}." in out) == note
        assert ("SOLVER.BASE_LR" in out) == (rate == "0.25")


@pytest.mark.parametrize(
    ("where", "started"),
    [("gone", ""), ("run", "2026-05-04T10:00:00+00:00"), ("run", "2026-05-04T10:00:00")],
)
def test_without_its_training_only_settings_of_a_test_are_compared(save, capsys, tmp_path, where, started):
    """No folder is there, or the training in it began after the test."""
    train = section(0.25, started=started, config={"SOLVER.BASE_LR": 0.5})
    save("run", receipt={"format": 1, "train": train, "test": None})
    save("test", receipt=of_a_test(tmp_path / where / "toy_2.pth"))
    save("other", receipt={"format": 1, "train": section(0.25, config={"TEST.AMP": "bf16"}), "test": None})
    main(["other", "test"])
    out = capsys.readouterr().out
    assert table(out, "1 of 1 settings")[1:] == [["TEST.AMP", "bf16", "off"]]
    assert "test is a test; no training was found next to its weights." in out
    assert "No receipt of a training: test." in out


def section(mAP, **changes):
    """What a run writes into its receipt."""
    splits = {"query": {"images": 24, "identities": 12, "cameras": 1, "sha256": "0123456789abcdef"}}
    content = {"method": "clipreid", "commit": "1a2b", "versions": {"torch": "2.9"}, "device": "cpu"}
    content |= {"data": {"name": "msmt17", "release": "V1", "splits": splits, "left_out": {"junk": 3}}}
    content |= {"metrics": {"mAP": mAP, "rank1": 0.5}, "intervals": {"mAP": [mAP - 0.1, mAP + 0.1]}}
    return content | {"config": {"TEST.AMP": "off", "MODEL.NAME": "toy"}, "seconds": 12.4} | changes


def test_files_of_a_former_run_are_left_out(save, capsys, tmp_path):
    """A training that has begun in the folder since has no evaluation yet: none of theirs is its own."""
    train = section(0.25, metrics={}, intervals={}, started="2026-05-04T08:00:00+00:00")
    epoch = {"stage": "baseline", "epoch": 1, "mAP": 0.5, "rank1": 0.5}
    test = {"mAP": 0.5, "cmc": [0.5] * 10}
    save("a", task_of(0.5), test=test, epochs=[epoch], receipt={"format": 1, "train": train, "test": None})
    began = datetime(2026, 5, 4, 8, tzinfo=timezone.utc).timestamp()
    for seconds, source in ((60, "features.npz"), (-60, "no test, no evaluation")):
        for name in ("features.npz", "metrics.json"):
            os.utime(tmp_path / "a" / name, (began + seconds, began + seconds))
        assert main(["a"]) == 0
        out = capsys.readouterr().out
        assert table(f"\n{out}", "Metrics")[1][-1] == source
        assert ("older than the training" in out) == (seconds < 0)


def test_receipts(save, capsys):
    """Metrics with the receipt's intervals, the settings of a test with those of its training, and facts."""
    data = section(0)["data"] | {"release": "V2", "left_out": {}}
    tested = section(0.75, data=data, config={"TEST.AMP": "bf16", "MODEL.NAME": "read of the file"})
    weights = {"clip": {"path": "cache/ViT-B-16.pt", "sha256": "f" * 64}}
    save("a", receipt={"format": 1, "train": section(0.25), "test": section(0.5)}, settings=SETTINGS)
    save("b", receipt={"format": 1, "train": section(0.25, weights=weights), "test": tested})
    save("c", receipt={"format": 1, "train": section(0.25, status="finished"), "test": None})
    main(["a", "b", "c"])
    out = capsys.readouterr().out
    assert [[row[1], row[2], row[-1]] for row in table(f"\n{out}", "Metrics in %")[1:]] == [
        ["50.0 [40.0, 60.0]", "50.0", "receipt.json, test"],
        ["75.0 [65.0, 85.0]", "50.0", "receipt.json, test"],
        ["25.0 [15.0, 35.0]", "50.0", "receipt.json, last evaluation"],
    ]
    settings = {row[0]: row[1:] for row in table(out, "1 of 2 settings differ")[1:]}
    assert settings == {"TEST.AMP": ["off", "bf16", "off"]}
    out = re.sub(r"\n\d+ of \d+ facts", "\nfacts", out)
    test = {row[0]: row[1:] for row in table(out, "facts of the test differ")}
    assert test["fact of the test"] == ["a", "b"] and "No receipt of a test: c." in out
    assert test["data"] == ["msmt17 V1", "msmt17 V2"] and test["data, left out"] == ["3 junk", "–"]
    training = {row[0]: row[1:] for row in table(out, "facts of the training differ")[1:]}
    assert training == {
        "weights, clip": ["–", "ViT-B-16.pt ffffffffffff", "–"],
        "status": ["running", "running", "finished"],
    }


@pytest.mark.parametrize("suffix", [".md", ".html"])
def test_the_tables_are_written(save, capsys, tmp_path, suffix):
    """Names of others are text: they draw nothing, and break no table."""
    settings = {**SETTINGS, "MODEL": {"NAME": "<script>alert(1)</script>\x1b[1m|"}}
    odd = save("<b>", task_of(1), settings)
    file = tmp_path / f"out{suffix}"
    main([save("a", task_of(0.8), SETTINGS), odd, "--bootstrap", "50", "--out", str(file)])
    printed, written = capsys.readouterr().out, file.read_text(encoding="utf-8")
    assert f"Written: {file}" in printed and "\x1b" not in printed + written
    if suffix == ".md":
        assert written.strip() in printed and r"</script>\x1b[1m\|" in written
        return
    page = Page(written)
    assert page.all("script") == [] and page.all("b") == []
    cells = [text for _, text in page.all("td")]
    assert r"<script>alert(1)</script>\x1b[1m|" in cells and "<b>" in cells
    assert len(page.all("table")) == 3


def test_a_cell_is_cut_where_a_file_holds_pages():
    tables = [Table("runs", [["|" * 700], ["x" * 5000]])]
    for text in (as_text(tables), as_page("runs", tables)):
        assert "xxx…xxx" in text and "x" * 600 not in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["gone"],
            "gone has no config.yml, features.npz, metrics.json, receipt.json or metrics.jsonl; allowed: the",
        ),
        (["a", "x/../a"], "a second 'a'; write another name before it, as in NAME="),
        (["a", "--out", "a.txt"], "--out is a.txt; allowed: a file name that ends in .md, .html"),
        (["a", "--out", "gone/a.md"], "--out gone/a.md: no file can be written in gone"),
        (["a", "--bootstrap", "-1"], "bootstrap rounds must be 0 to 1,000,000, got -1"),
        (["a", "--bootstrap", "1000001"], "bootstrap rounds must be 0 to 1,000,000, got 1000001"),
        (["damaged"], "damaged/features.npz"),
        (["typed"], "typed/metrics.json: rerank: k1 is '6'"),
    ],
)
def test_errors_in_one_line(save, capsys, tmp_path, words, told):
    save("a", task_of(1), SETTINGS)
    (tmp_path / "x").mkdir()
    (tmp_path / save("damaged", settings=SETTINGS) / "features.npz").write_bytes(b"no")
    save("typed", task_of(1), test={"mAP": 0.5, "cmc": [0.5], "rerank": {**RERANK, "k1": "6"}})
    with pytest.raises(SystemExit) as end:
        main(words)
    out, error = capsys.readouterr()
    assert end.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert told in error and "mAP" not in out
