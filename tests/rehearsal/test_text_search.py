"""Text search on a pretended GPU: one device, no wait within a step, and the numbers of the CPU."""

import argparse

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from config import cfg_tbps
from config.load import load_config
from processor import METHODS, make_text_search_objective, train
from tests.several_processes.courses import assert_same_course, records
from tests.toys import TEXT_SETTINGS, draw_captions, words, write_tower
from utils.precision import Precision

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, on which the programs run")

ARGS = argparse.Namespace(config_file="", local_rank=0, traceback=False, opts=[], resume=False)


@pytest.fixture
def settings(tmp_path):
    tower = write_tower(tmp_path / "toy.json")
    return TEXT_SETTINGS | {"MODEL.NAME": str(tower), "DATASETS.ROOT_DIR": str(draw_captions(tmp_path))}


@pytest.mark.parametrize(
    "more",
    [
        {"SOLVER.MICRO_BATCH": 3, "SOLVER.AMP": "off", "MODEL.TEXT_DROPOUT": 0},
        {"SOLVER.AMP": "fp16", "MODEL.ID_LOSS_WEIGHT": 1},
    ],
)
def test_a_run(gpu, settings, tmp_path, more):
    courses = []
    for device in ("cpu", "cuda"):
        given = settings | more | {"MODEL.DEVICE": device, "OUTPUT_DIR": str(tmp_path / device)}
        assert not gpu.waits
        train(load_config(cfg_tbps, "", words(given)), ARGS, method=METHODS["tbps"])
        courses.append(records(tmp_path / device))
    assert_same_course(*courses, tolerance=2e-3)
    waits = {at[0] for at in gpu.waits if "_run_epoch" in at and not {"begin_epoch", "set_epoch"} & {*at}}
    assert waits == {"_judge", "means", "not_finite"}
    assert {at[0] for at in gpu.waits if "extract" in at} <= {"move_module"}


def test_a_step_under_the_autocast_of_cuda(monkeypatch, settings):
    config, row = load_config(cfg_tbps, "", words(settings)), METHODS["tbps"]
    dataset = row.data(config)
    model = row.model(config, dataset, pretrained=False)
    loaders = row.loaders(config, dataset, model)
    objective = make_text_search_objective(config, model).train()
    loaders.train.batch_sampler.set_epoch(1)
    batch = next(iter(loaders.train))
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    monkeypatch.setattr("processor.recipes.text_search.cut_to_longest", lambda tokens, mask: tokens)
    with FakeTensorMode(allow_non_fake_inputs=True), Precision("cuda", torch.float16).autocast():
        for module in objective.modules():
            for held in (module._parameters, module._buffers):
                held.update({name: it.to("cuda") for name, it in held.items() if it is not None})
        step = objective(batch.to("cuda"))
        for value in (*step.losses.values(), *step.report.values()):
            assert (value.device.type, value.dtype) == ("cuda", torch.float32)
        features = model.encode_image(batch.to("cuda").images)
        assert (features.device.type, features.dtype) == ("cuda", torch.float16)
