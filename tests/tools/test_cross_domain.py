"""A table of weights against data sets, from toy files and drawn people."""

import json

import pytest
import torch

from config import cfg
from config.load import load_config
from datasets.drawn import draw_market1501
from model import make_card, make_model
from tests.toys import SETTINGS, words
from tools.cross_domain import main, table

SIZES = ("INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST")


@pytest.fixture(scope="module")
def place(toy_towers, tmp_path_factory):
    """A folder with two drawn data sets of the same people's form, and two files of weights."""
    folder = tmp_path_factory.mktemp("cross")
    for seed in (1, 2):
        draw_market1501(
            folder / f"data{seed}",
            train_ids=1,
            test_ids=3,
            images_per_camera=2,
            cameras=2,
            distractors=1,
            size=(32, 16),
            seed=seed,
        )
        torch.manual_seed(seed)
        pairs = words(SETTINGS) + (["MODEL.SIE_CAMERA", "True"] if seed == 2 else [])
        model = make_model(load_config(cfg, "", pairs), 3, 2, 1)
        torch.save(model.state_dict(), folder / f"toy-vit_{seed}.pth")
    return folder


@pytest.fixture
def run(place, tmp_path, capsys, repository, monkeypatch):
    monkeypatch.chdir(repository)

    def start(*options, **changes):
        settings = SETTINGS | {"DATASETS.ROOT_DIR": place / "data1", "OUTPUT_DIR": tmp_path} | changes
        settings = {key: value for key, value in settings.items() if value is not None}
        status = 0
        try:
            main([*map(str, [*options, *words(settings)])])
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return start


def test_every_weight_on_every_data_set(run, place, tmp_path):
    options = ["--weight", f"one={place / 'toy-vit_1.pth'}", "--weight", place / "toy-vit_2.pth"]
    options += ["--data", "market1501", "--data", f"market1501={place / 'data2'}"]
    status, out, err = run(*options)
    assert (status, err) == (0, "")
    results = json.loads((tmp_path / "cross_domain.json").read_text())
    names = ["one", str(place / "toy-vit_2.pth")], ["market1501", f"market1501={place / 'data2'}"]
    assert [(r["weight"], r["data"]) for r in results] == [(w, d) for w in names[0] for d in names[1]]
    assert len({r["mAP"] for r in results}) == 4  # each a job of its own
    assert out.endswith(f"\n{table(results)}\n")
    log = (tmp_path / "cross_domain_log.txt").read_text()
    assert log.count("Validation Results of ") == 4 and f"Validation Results of one on {names[1][1]}" in log
    assert "SIE by camera (2 rows)" in log  # of the second file, whose cameras the data sets have


def test_a_cell_is_what_the_test_program_says(run, place, tmp_path):
    from processor import METHODS
    from processor import test as run_test

    others = {"DATASETS.TEST": "veri", "DATASETS.TRAIN_ALSO": "msmt17"}  # of the training: --data counts
    run("--weight", place / "toy-vit_1.pth", "--data", "market1501", **others)
    (cell,) = json.loads((tmp_path / "cross_domain.json").read_text())
    settings = SETTINGS | {"DATASETS.ROOT_DIR": str(place / "data1"), "OUTPUT_DIR": str(tmp_path / "test")}
    settings |= {"TEST.WEIGHT": str(place / "toy-vit_1.pth")}
    config = load_config(cfg, "configs/person/vit_clipreid.yml", words(settings))
    run_test(config, type("Args", (), {"config_file": "", "opts": []})(), method=METHODS["clipreid"])
    written = json.loads((tmp_path / "test" / "metrics.json").read_text())
    assert {name: written[name] for name in ("mAP", "mINP", "rank1")} == {
        name: cell[name] for name in ("mAP", "mINP", "rank1")
    }


def test_a_card_states_a_size_that_is_not_common(run, tmp_path):
    """Of the model, which differs from the configuration's."""
    config = load_config(cfg, "", words(SETTINGS | dict.fromkeys(SIZES, "[48, 40]")))
    path = tmp_path / "toy-vit_1.pth"
    model = make_model(config, 3, 2, 1)
    torch.save(model.state_dict(), path)
    make_card(config, model, "base", data="", versions={}).write(path)
    status, _, err = run("--weight", path, "--data", "market1501", **{"INPUT.SIZE_TEST": None})
    assert (status, err) == (0, "")
    log = (tmp_path / "cross_domain_log.txt").read_text()
    assert log.count("INPUT.SIZE_TEST [256, 128] is replaced by [48, 40] of the model card") == 1


def test_table():
    results = [
        {"weight": weight, "data": data, "mAP": mean, "rank1": rank1}
        for weight, data, mean, rank1 in (("a", "x", 0.5, 0.625), ("a", "y", 1, 1), ("b", "x", 0, 0.1))
    ]
    results.append({"weight": "b", "data": "y", "mAP": 0.25, "rank1": 0.3333})
    assert table(results).splitlines() == [
        "| mAP / Rank-1 in % | x | y |",
        "| --- | --- | --- |",
        "| a | 50.0 / 62.5 | 100.0 / 100.0 |",
        "| b | 0.0 / 10.0 | 25.0 / 33.3 |",
    ]


@pytest.mark.parametrize(
    ("weights", "data", "told"),
    [
        (["toy-vit_1.pth", "gone.pth"], ["market1501"], "gone.pth"),
        (["toy-vit_1.pth"], ["market1501", "nowhere"], "'nowhere'"),
        (["toy-vit_1.pth"], ["market1501", "msmt17"], "MSMT17"),
        (["toy-vit_1.pth"], ["market1501=gone"], "gone"),
        (["toy-vit_1.pth"], ["market1501", "market1501"], "--data 'market1501' is given twice"),
    ],
)
def test_everything_is_looked_at_before_the_first_extraction(run, place, weights, data, told):
    options = [word for name in weights for word in ("--weight", place / name)]
    options += [word for name in data for word in ("--data", name)]
    status, out, err = run(*options)
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1 and told in err
    assert "Validation Results" not in out


def test_the_results_need_a_folder(run, place):
    status, _, err = run("--weight", place / "toy-vit_1.pth", "--data", "market1501", OUTPUT_DIR="")
    assert status == 2 and err == "error: OUTPUT_DIR is empty; allowed: a folder for the table and the log\n"


def test_weights_and_data_are_needed(run):
    status, _, err = run("--data", "market1501")
    assert status == 2 and "--weight" in err
