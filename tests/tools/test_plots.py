"""Pictures of runs: what is drawn is what the files say, and what cannot be drawn ends in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tools.plots import (
    COLOURS,
    Scores,
    draw_cmc,
    draw_training,
    main,
    parse_sources,
    read_last_run,
    read_scores,
    series,
)

TOOL = Path(__file__).parents[2] / "tools" / "plots.py"
CMC = [0.5, 0.625, 0.75, 0.75, 0.8125, 0.8125, 0.875, 0.875, 0.875, 0.9375, 1.0, 1.0]
UNTRAINED = {"stage": "untrained", "epoch": 0, "mAP": 0.1, "mINP": 0.05, "rank1": 0.125, "num_valid": 8}


def epoch(stage, number, *, loss=1.0, **more):
    """A record as training writes it."""
    return {"stage": stage, "epoch": number, "lr": 0.1 / number, "loss": loss, **more, "seconds": 1.5}


PROMPTS = [epoch("stage1", n, loss=6 / n, loss_i2t=4 / n, loss_t2i=2 / n) for n in (1, 2, 3)]
IMAGES = [
    epoch("stage2", 1, loss=5.0, loss_id=3.0, loss_i2t=2.0, acc=0.25),
    epoch("stage2", 2, loss=4.0, loss_id=2.5, loss_i2t=1.5, acc=0.5, mAP=0.6, rank1=0.75),
    epoch("stage2", 3, loss=3.0, loss_id=2.0, loss_i2t=1.0, acc=0.5),
    epoch("stage2", 4, loss=2.0, loss_id=1.5, loss_i2t=0.5, acc=0.75, mAP=0.8, rank1=1.0),
]
BASELINE = [
    epoch("baseline", n, loss=4 / n, loss_id=4 / n, acc=n / 4, mAP=n / 5, rank1=n / 4) for n in (1, 2)
]


@pytest.fixture
def save_test(tmp_path):
    """save_test('vit', mAP=0.5) -> the folder with its metrics.json."""

    def save(name="vit", **changes):
        folder = tmp_path / name
        folder.mkdir()
        content = {"mAP": 0.4375, "mINP": 0.2, "num_valid": 16, "cmc": CMC, "dataset": "market1501"}
        content |= {"rank1": 0.5, "model": "ViT-B-16", "weight": "a.pth", "rerank": None, **changes}
        (folder / "metrics.json").write_text(json.dumps(content, indent=1))
        return folder

    return save


@pytest.fixture
def save_run(tmp_path):
    """save_run('vit', records) -> the folder with its metrics.jsonl."""

    def save(name="vit", records=(*PROMPTS, *IMAGES)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return folder

    return save


def line_data(axes):
    """Points of the curves of a panel by label; boundaries between stages have none."""
    found = {}
    for line in axes.get_lines():
        if not line.get_label().startswith("_"):
            found.setdefault(line.get_label(), []).append(list(zip(*line.get_data(), strict=True)))
    return found


def panels(figure):
    return {axes.get_title("left") or axes.get_title(): axes for axes in figure.axes}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_cmc_curves_are_the_files(save_test):
    tests = {
        "ours": read_scores(save_test() / "metrics.json"),
        "short": read_scores(save_test("b", cmc=[0.25, 1.0], mAP=0.9, rerank={"k1": 20}) / "metrics.json"),
    }
    figure = draw_cmc(tests)
    told = ["ours: Rank-1 50.0%, mAP 43.8%", "short, re-ranked: Rank-1 25.0%, mAP 90.0%"]
    assert line_data(figure.axes[0]) == {
        told[0]: [list(zip(range(1, 13), CMC, strict=True))],
        told[1]: [[(1, 0.25), (2, 1.0)]],
    }
    assert legend(figure) == told
    ticks = list(figure.axes[0].get_xticks())
    assert ticks[0] == 1 and ticks[-1] == 12
    assert list(panels(figure)) == ["CMC, market1501"]
    colours = {line.get_color() for line in figure.axes[0].get_lines()}
    assert len(colours) == 2


def test_data_sets_stand_in_the_title_once():
    def title(*datasets):
        figure = draw_cmc({str(n): Scores([1.0], 0.5, name, False) for n, name in enumerate(datasets)})
        return figure.axes[0].get_title("left") or figure.axes[0].get_title()

    assert title("veri", "veri") == "CMC, veri"
    assert title("veri", "dukemtmc") == "CMC, dukemtmc, veri"
    assert title("") == "CMC"


def test_many_curves_all_look_different():
    figure = draw_cmc({str(n): Scores([n / 20, 1.0], 0.5, "", False) for n in range(20)})
    assert len({(line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines()}) == 20


def test_training_curves_are_the_records(save_run):
    run = read_last_run(save_run(records=[UNTRAINED, *PROMPTS, *IMAGES]) / "metrics.jsonl")
    found = panels(draw_training({"vit": run}))
    assert list(found) == [
        "Loss, sum of all terms",
        "Loss term i2t",
        "Loss term t2i",
        "Loss term id",
        "Learning rate",
        "Accuracy in training batches",
        "mAP of the test images",
        "Rank-1 of the test images",
    ]
    # Stage 2 goes on after the three epochs of stage 1 where both have the quantity.
    prompts, images = [(1, 6.0), (2, 3.0), (3, 2.0)], [(4, 5.0), (5, 4.0), (6, 3.0), (7, 2.0)]
    assert line_data(found["Loss, sum of all terms"]) == {"vit": [prompts, images]}
    assert line_data(found["Loss term t2i"]) == {"vit": [[(1, 2.0), (2, 1.0), (3, 2 / 3)]]}
    assert line_data(found["Loss term id"]) == {"vit": [[(1, 3.0), (2, 2.5), (3, 2.0), (4, 1.5)]]}
    rates = [0.1, 0.05, 0.1 / 3], [0.1, 0.05, 0.1 / 3, 0.025]
    assert line_data(found["Learning rate"]) == {
        "vit": [list(zip((1, 2, 3), rates[0], strict=True)), list(zip((4, 5, 6, 7), rates[1], strict=True))]
    }
    accuracy = [(1, 0.25), (2, 0.5), (3, 0.5), (4, 0.75)]
    assert line_data(found["Accuracy in training batches"]) == {"vit": [accuracy]}
    assert line_data(found["mAP of the test images"]) == {"vit": [[(0, 0.1), (2, 0.6), (4, 0.8)]]}
    assert line_data(found["Rank-1 of the test images"]) == {"vit": [[(0, 0.125), (2, 0.75), (4, 1.0)]]}


def test_stages_are_named_and_their_boundary_is_marked():
    found = panels(draw_training({"vit": [*PROMPTS, *IMAGES]}))
    loss, accuracy = found["Loss, sum of all terms"], found["Accuracy in training batches"]
    assert [text.get_text() for text in loss.texts] == ["stage1", "stage2"]
    boundaries = [line for line in loss.get_lines() if line.get_label().startswith("_")]
    assert [list(line.get_xdata()) for line in boundaries] == [[3, 3]]
    ticks = dict(zip(loss.get_xticks(), (t.get_text() for t in loss.get_xticklabels()), strict=True))
    assert ticks[3] == "3" and ticks[7] == "4"  # epochs as the log counts them
    assert [text.get_text() for text in accuracy.texts] == ["stage2"]
    assert all(not line.get_label().startswith("_") for line in accuracy.get_lines())


def test_equal_stages_of_several_runs_start_at_one_place():
    figure = draw_training({"long": [*PROMPTS, *IMAGES], "short": [*PROMPTS[:1], *IMAGES], "base": BASELINE})
    loss = line_data(panels(figure)["Loss, sum of all terms"])
    starts = {label: [stage[0][0] for stage in stages] for label, stages in loss.items()}
    assert starts == {"long": [1, 4], "short": [1, 4], "base": [8]}
    assert legend(figure) == ["long", "short", "base"]
    wanted = {handle.get_color() for handle in figure.legends[0].legend_handles}
    assert len(wanted) == 3
    for label, colour in zip(legend(figure), COLOURS, strict=False):  # a run has its colour in every panel
        lines = [line for axes in figure.axes for line in axes.get_lines() if line.get_label() == label]
        assert {line.get_color() for line in lines} == {colour} <= wanted


def test_clusters_of_a_run_without_identities(save_run):
    few = {"stage": "pcl", "epoch": 1, "lr": 0.1, "samples": 0}  # an epoch in which nothing was learned
    told = {"loss": 2.0, "loss_pcl": 2.0, "clusters": 90.0, "outliers": 700.0, "nmi": 0.5, "ari": 0.25}
    run = [few, *({**few, "epoch": epoch, **told} for epoch in (2, 3))]
    found = panels(draw_training({"usl": read_last_run(save_run(records=run) / "metrics.jsonl")}))
    assert line_data(found["Loss, sum of all terms"]) == {"usl": [[(2, 2.0), (3, 2.0)]]}
    wanted = {
        "Clusters of training images": 90.0,
        "Training images in no cluster": 700.0,
        "Clusters and identities, NMI": 0.5,
        "Clusters and identities, ARI": 0.25,
    }
    for title, value in wanted.items():
        assert line_data(found[title]) == {"usl": [[(2, value), (3, value)]]}


def test_untrained_alone_gives_no_panel():
    assert series([UNTRAINED, *PROMPTS], "mAP") == {}
    assert "mAP of the test images" not in panels(draw_training({"a": [UNTRAINED, *PROMPTS]}))


@pytest.mark.parametrize(
    ("earlier", "last"),
    [
        ([], [UNTRAINED, *PROMPTS, *IMAGES]),
        ([*PROMPTS, *IMAGES], [*PROMPTS, *IMAGES[:2]]),
        (PROMPTS[:2], PROMPTS),  # stopped within stage 1
        ([*PROMPTS, *IMAGES[:2]], PROMPTS[:1]),
        (PROMPTS, [UNTRAINED, *PROMPTS, *IMAGES]),
        ([UNTRAINED, *PROMPTS, *IMAGES], [*PROMPTS, *IMAGES]),
        ([UNTRAINED], [UNTRAINED, *BASELINE]),
        (BASELINE, BASELINE),
        ([*PROMPTS, *IMAGES], BASELINE),
        (BASELINE, [*PROMPTS, *IMAGES]),
    ],
)
def test_last_run_of_a_folder_is_read(save_run, earlier, last):
    assert read_last_run(save_run(records=[*earlier, *last]) / "metrics.jsonl") == last


def test_labels_and_folders(tmp_path, monkeypatch):
    for name in ("runs/a", "runs/lr=1", "b"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    words = ["runs/a", "runs/lr=1", "name=b", "x=y=b/other.json", "runs/a/../../b/m.json", "gone/m.json"]
    assert parse_sources(words, "metrics.json") == {
        "a": Path("runs/a/metrics.json"),
        "lr=1": Path("runs/lr=1/metrics.json"),
        "name": Path("b/metrics.json"),
        "x": Path("y=b/other.json"),
        "b": Path("runs/a/../../b/m.json"),
        "gone": Path("gone/m.json"),
    }
    monkeypatch.chdir(tmp_path / "runs" / "a")
    assert parse_sources(["."], "metrics.json") == {"a": Path("metrics.json")}
    assert parse_sources(["metrics.json"], "metrics.json") == {"a": Path("metrics.json")}


@pytest.mark.parametrize("command", ["cmc", "training"])
@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.PDF", b"%PDF"), ("a.svg", b"<?xml")])
def test_pictures_are_written(save_test, save_run, tmp_path, capsys, command, name, start):
    folder = save_test() if command == "cmc" else save_run()
    out = tmp_path / name
    out.write_text("an older picture")
    what = {"cmc": "CMC curves", "training": "training curves"}[command]
    assert main([command, "--out", str(out), str(folder), f"_again={folder}"]) == 0
    assert capsys.readouterr().out == f"{out}: {what} of vit, _again\n"
    assert out.read_bytes().startswith(start)


def test_picture_is_not_empty(save_test, tmp_path):
    assert main(["cmc", "--out", str(tmp_path / "a.png"), str(save_test())]) == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (1200, 840)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert (0x00, 0x72, 0xB2) in colours  # the curve's


@pytest.mark.slow
def test_it_runs_as_a_program_from_another_folder(save_run, tmp_path):
    save_run("vit")
    save_run("base", BASELINE)
    command = [sys.executable, TOOL, "training", "--out", "a.png", "ViT=vit/metrics.jsonl", "base"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == "a.png: training curves of ViT, base\n"
    assert (tmp_path / "a.png").is_file()
