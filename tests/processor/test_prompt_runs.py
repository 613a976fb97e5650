"""Whole runs of prompt learning on toy towers: what learns, resume, means of epochs, phrases, files."""

import argparse
import json

import pytest
import torch

from config import cfg
from config.load import load_config
from model import build_clip, load_reid_model
from processor import METHODS, train
from processor import test as run_test
from processor.averaging import average_states
from solver import gaussian_weights
from tests.processor.running import Killed, assert_same_run, checkpoints, kill_at_step, records
from tests.toys import SETTINGS, TOWERS, draw_market, words, write_tower

ARGS = {"config_file": "", "local_rank": 0, "traceback": False, "opts": []}
STAGES = {
    f"SOLVER.{stage}.{key}": value
    for stage in ("STAGE1", "STAGE2")
    for key, value in {"IMS_PER_BATCH": 4, "MAX_EPOCHS": 2, "CHECKPOINT_PERIOD": 1, "BASE_LR": 1e-3}.items()
}
DEEP = {"MODEL.PROMPT.DEEP_VISION": 2, "MODEL.PROMPT.DEEP_TEXT": 6, "SOLVER.STAGE1.ONLINE_FEATURES": True}
MEANS = {f"SOLVER.{stage}.GAUSS_{key}": 1.0 for stage in ("STAGE1", "STAGE2") for key in ("MEAN", "STD")}
TEACHER = {"MODEL.TEACHER.LOSS_WEIGHT": 1.0}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    write_tower(folder / "toy.json")
    torch.manual_seed(5)

    torch.save(build_clip(TOWERS["toy-vit"], None).state_dict(), folder / "clip.pt")
    return draw_market(folder, range(1, 6), range(10, 13))


@pytest.fixture
def run(place, tmp_path):
    """run('a', {KEY: value}, resume=False) -> its output folder."""

    def run(name, settings, resume=False, program=train):
        given = SETTINGS | STAGES | {"SOLVER.SAVE_EVERY_MIN": 1e-9}
        given |= {"MODEL.NAME": str(place / "toy.json"), "DATASETS.ROOT_DIR": str(place)}
        given |= {"MODEL.PRETRAIN_CHOICE": "clip", "MODEL.PRETRAIN_PATH": str(place / "clip.pt")}
        given |= {"OUTPUT_DIR": str(tmp_path / name)} | dict(settings)
        args = argparse.Namespace(**ARGS, resume=resume)
        program(load_config(cfg, "", words(given)), args, method=METHODS["clipreid"])
        return tmp_path / name

    return run


def moved(before, after):
    """Names of what differs, without running statistics."""
    return {
        name for name in before if not torch.equal(before[name], after[name]) and "bottleneck" not in name
    }


def test_deep_prompts_learn_in_stage_1_where_features_are_online(run):
    files = checkpoints(run("whole", DEEP))
    learned = moved(files["toy_stage1_1.pth"], files["toy_stage1_2.pth"])
    later = "transformer.resblocks.{}.VPT_shallow"
    image = {"image_encoder.VPT", *(f"image_encoder.{later.format(i)}" for i in (1, 2))}
    assert learned == {"prompt_learner.cls_ctx", *image, f"text_encoder.{later.format(1)}"}
    assert not any("VPT" in name for name in moved(files["toy_1.pth"], files["toy_2.pth"]))


@pytest.mark.parametrize("prompts, learned", [("none", 0), ("input", 1), ("all", 3)])
def test_stage_2_trains_the_deep_prompts_that_it_is_told(run, prompts, learned):
    settings = {"MODEL.PROMPT.DEEP_VISION": 2, "SOLVER.STAGE2.PROMPTS": prompts}
    files = checkpoints(run("whole", settings))
    assert not any("VPT" in name for name in moved(files["toy_stage1_1.pth"], files["toy_stage1_2.pth"]))
    names = moved(files["toy_1.pth"], files["toy_2.pth"])
    assert sum("VPT" in name for name in names) == learned
    assert "image_encoder.conv1.weight" in names


@pytest.mark.parametrize("step", [2, 3, 5, 8])
def test_it_resumes_bit_for_bit_with_its_sums(run, monkeypatch, step):
    settings = DEEP | MEANS | TEACHER | {"MODEL.ADAPTER_RATIO": 0.2}
    whole = run("whole", settings)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, step)
        run("cut", settings)
    assert_same_run(run("cut", settings, resume=True), whole)
    assert any("loss_teacher" in line for line in records(whole))


def test_a_stage_ends_with_the_mean_of_its_epochs(run):
    last, mean = (checkpoints(run(name, DEEP | means)) for name, means in (("last", {}), ("mean", MEANS)))
    states = [last[f"toy_stage1_{epoch}.pth"] for epoch in (1, 2)]
    wanted = average_states(states, gaussian_weights(2, 1.0, 1.0))
    for name, value in mean["toy_stage1_2.pth"].items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-5, atol=1e-6)
    assert moved(last["toy_stage1_2.pth"], mean["toy_stage1_2.pth"])


def test_the_mean_is_right_when_a_resumed_run_has_more_epochs(run, monkeypatch):
    more = {"SOLVER.STAGE1.MAX_EPOCHS": 3, "SOLVER.STAGE1.SCHEDULE": "multistep"}
    whole = run("whole", DEEP | MEANS | more)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, 4)
        run("cut", DEEP | MEANS | more | {"SOLVER.STAGE1.MAX_EPOCHS": 2})
    cut = run("cut", DEEP | MEANS | more, resume=True)
    one, other = (checkpoints(folder)["toy_stage1_3.pth"] for folder in (whole, cut))
    assert not moved(one, other)


def test_average_of_states():
    states = [
        {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)},
        {"w": torch.tensor([5.0, 6.0]), "n": torch.tensor(4)},
    ]
    mean = average_states(states, torch.tensor([0.25, 0.75]))
    assert mean["w"].tolist() == [4.0, 5.0] and mean["n"].item() == 4


def test_a_file_is_tested_by_itself(run):
    folder = run("whole", DEEP | {"MODEL.ADAPTER_RATIO": 0.5, "MODEL.ADAPTER_REDUCTION": 8})
    tested = run("test", {"TEST.WEIGHT": str(folder / "toy_2.pth")}, program=run_test)
    metrics, line = json.loads((tested / "metrics.json").read_text()), records(folder)[-1]
    assert metrics["mAP"] == pytest.approx(line["mAP"])
    model, info = load_reid_model(folder / "toy_2.pth")
    assert info.deep_prompts == (2, 3) and model.adapter.ratio == 0.5
    (folder / "toy_2.json").unlink()
    assert load_reid_model(folder / "toy_2.pth", (32, 16))[0].adapter.ratio == 0.2
    given = {"TEST.WEIGHT": str(folder / "toy_2.pth"), "MODEL.ADAPTER_RATIO": 0.5, "TEST.NECK_FEAT": "after"}
    again = json.loads((run("again", given, program=run_test) / "metrics.json").read_text())
    assert again["mAP"] == pytest.approx(metrics["mAP"])


@pytest.mark.parametrize(
    "name, value, told",
    [
        ("image_encoder.VPT", torch.zeros(2, 32), "VPT"),
        ("image_encoder.VPT", torch.zeros(64), "VPT"),
        ("image_encoder.transformer.resblocks.1.VPT_shallow", torch.zeros(3, 64), "VPT_shallow"),
        ("image_encoder.transformer.resblocks.7.VPT_shallow", torch.zeros(2, 64), "resblocks"),
        ("image_encoder.VPT", None, "VPT_shallow"),
        ("image_encoder.transformer.resblocks.1.VPT_shallow", None, "VPT_shallow"),
        ("adapter.fc.0.weight", torch.zeros(8, 32), "adapter.fc.0.weight"),
        ("adapter.fc.2.weight", None, "adapter.fc.2.weight"),
        ("adapter.fc.0.weight", torch.full((12, 64), torch.nan), "adapter.fc.0.weight"),
    ],
)
def test_a_file_whose_prompts_or_adapter_do_not_fit_is_told(run, name, value, told):
    adapter = {"MODEL.ADAPTER_RATIO": 0.5, "MODEL.ADAPTER_REDUCTION": 5}
    folder = run("whole", adapter | {"MODEL.PROMPT.DEEP_VISION": 2})
    weights = checkpoints(folder)["toy_2.pth"]
    assert load_reid_model(folder / "toy_2.pth")[0].adapter.fc[0].out_features == 12
    weights = {key: tensor for key, tensor in weights.items() if key != name}
    bad = folder / "bad.pth"
    torch.save(weights if value is None else weights | {name: value}, bad)
    with pytest.raises(ValueError) as error:
        load_reid_model(bad, (32, 16))
    assert "bad.pth" in str(error.value) and told in str(error.value)


def test_phrases_of_identities(run, tmp_path):
    (tmp_path / "phrases.json").write_text(json.dumps({"0001": "tall man", "3": "girl", "77": "nobody"}))
    folder = run("whole", {"MODEL.PROMPT.SUBJECTS": str(tmp_path / "phrases.json")})
    log = (folder / "train_log.txt").read_text()
    assert "2 of 5 identities" in log and "1 phrases are of none" in log
    suffix = checkpoints(folder)["toy_2.pth"]["prompt_learner.token_suffix"]
    assert len(suffix) == 5
    assert torch.equal(suffix[1], suffix[3]) and not torch.equal(suffix[0], suffix[1])


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"MODEL.NAME": "toy-resnet", "MODEL.PROMPT.DEEP_VISION": 2}, ("DEEP_VISION", "2", "ResNet")),
        (TEACHER | {"MODEL.PRETRAIN_CHOICE": "none"}, ("MODEL.TEACHER.PRETRAIN_PATH", "none")),
        ({"MODEL.PROMPT.NUM_TOKENS": 80}, ("prompt", "77")),
        (TEACHER | {"MODEL.TEACHER.NAME": "{other}"}, ("MODEL.TEACHER.NAME", "8", "16")),
        ({"MODEL.ADAPTER_RATIO": 0.2, "MODEL.ADAPTER_REDUCTION": 100}, ("ADAPTER_REDUCTION", "100", "64")),
        ({"MODEL.PROMPT.SUBJECTS": "/nowhere.json"}, ("nowhere.json",)),
        (DEEP | {"MODEL.PROMPT.WEIGHT": "{clip}"}, ("MODEL.PROMPT.WEIGHT", "VPT")),
        (DEEP | {"MODEL.PROMPT.DEEP_TEXT": 40}, ("DEEP_TEXT", "40")),
    ],
)
def test_what_cannot_be_is_told(run, place, settings, told, toy_towers):
    narrow = TOWERS["toy-vit"] | {"embed_dim": 8}
    other = write_tower(place / "other.json", embed_dim=8)
    torch.save(build_clip(narrow, None).state_dict(), place / "other.pt")
    given = {"{clip}": str(place / "clip.pt"), "{other}": str(other)}
    settings = {key: given.get(str(value), str(value)) for key, value in settings.items()}
    if "MODEL.TEACHER.NAME" in settings:
        settings |= {"MODEL.TEACHER.PRETRAIN_PATH": str(place / "other.pt")}
    if settings.get("MODEL.NAME") == "toy-resnet":
        settings |= {
            "MODEL.PRETRAIN_CHOICE": "none",
            "INPUT.SIZE_TRAIN": "[64, 32]",
            "INPUT.SIZE_TEST": "[64, 32]",
        }
    with pytest.raises((ValueError, OSError)) as error:
        run("bad", settings)
    assert all(part in str(error.value) for part in told), error.value


def test_deep_prompts_start_from_a_file(run):
    first = run("first", DEEP)
    second = run(
        "second",
        DEEP
        | {
            "MODEL.PROMPT.WEIGHT": str(first / "toy_stage1_2.pth"),
            "SOLVER.STAGE1.BASE_LR": 0.0,
            "SOLVER.STAGE1.LR_MIN": 0.0,
            "SOLVER.STAGE1.WARMUP_LR_INIT": 0.0,
        },
    )
    one, other = checkpoints(first)["toy_stage1_2.pth"], checkpoints(second)["toy_stage1_1.pth"]
    assert all(torch.equal(one[name], other[name]) for name in one if "VPT" in name)
