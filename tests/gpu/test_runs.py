"""Programs on a GPU: the numbers of the CPU, and bits that repeat where the settings promise it."""

import functools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import clipreid
from config import cfg_tbps
from config.load import load_config
from model import ReIDModel, build_clip, clip_config
from processor import METHODS, train
from processor import test as run_test
from processor.engine.finite import is_finite
from processor.make_evaluation import Evaluator
from tests.processes import run_program
from tests.processor.conftest import MAIN_KEYS, STAGE1_KEYS, market_tree, toy_config, trained  # noqa: F401
from tests.processor.running import assert_same_run
from tests.rehearsal.test_cuda import ARGS, MEANS, PROMPTS, method, results, settings  # noqa: F401
from tests.rehearsal.test_text_search import settings as text_settings  # noqa: F401
from tests.retrieval.conftest import draw_whole_numbers
from tests.several_processes.courses import assert_same_course, records
from tests.toys import SETTINGS, words, write_tower

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
ON_GPU = ("MODEL.DEVICE", "cuda")
# Noise of erased rectangles is drawn on the device, by a generator of its own.
SAME_PIXELS = {"INPUT.RE_MODE": "constant"}


@pytest.fixture(autouse=True)
def whole_float32(monkeypatch):
    """Convolutions and products without TF32, whose 10 bits the CPU's numbers are not compared with."""
    for backend in (torch.backends.cudnn, torch.backends.cuda.matmul):
        monkeypatch.setattr(backend, "allow_tf32", False)


@pytest.fixture
def cut_and_resumed(trained, monkeypatch):  # noqa: F811
    """cut_and_resumed(run, KEY, VALUE, …) -> the folder of a run that ended in its first evaluation."""

    def do(run, *pairs):
        with monkeypatch.context() as patch, pytest.raises(StopIteration):
            patch.setattr(Evaluator, "__call__", lambda self: next(iter(())))  # after the first epoch
            run(*pairs)
        return run(*pairs, resume=True)[1]

    return do


def test_a_run_cut_resumed_and_tested(trained, cut_and_resumed, toy_config, tmp_path, method, settings):  # noqa: F811
    run = functools.partial(trained, method, *words(settings | SAME_PIXELS))
    _, expected = run("OUTPUT_DIR", str(tmp_path / "cpu"))
    on_gpu = (*ON_GPU, "OUTPUT_DIR", str(tmp_path / "gpu"))
    folder = cut_and_resumed(run, *on_gpu)
    assert_same_course(records(folder), records(expected), tolerance=5e-3)

    weight = ("TEST.WEIGHT", str(folder / f"{Path(settings['MODEL.NAME']).stem}_2.pth"))
    row = METHODS[method]
    run_test(toy_config(*words(settings), *on_gpu, *weight, tree=row.tree), ARGS, method=row)
    tested = json.loads((folder / "metrics.json").read_text())
    assert tested["mAP"] == pytest.approx(records(expected)[-1]["mAP"])


def test_deterministic_runs_resume_bit_for_bit(trained, cut_and_resumed, tmp_path, method, settings):  # noqa: F811
    run = functools.partial(trained, method, *words(settings), *ON_GPU, "SOLVER.DETERMINISTIC", True)
    _, whole = run("OUTPUT_DIR", str(tmp_path / "whole"))
    folder = cut_and_resumed(run, "OUTPUT_DIR", str(tmp_path / "resumed"))
    assert_same_run(folder, whole)


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_the_texts_of_stage_1_are_a_graph(trained, monkeypatch, tmp_path, amp):  # noqa: F811
    given = ("MODEL.NAME", "toy-vit", "SOLVER.AMP", amp, *ON_GPU)
    captures, capture = [], torch.cuda.make_graphed_callables

    def counted(*args, **options):
        captures.append(args)
        return capture(*args, **options)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", counted)
    _, captured = trained("clipreid", *given, "OUTPUT_DIR", str(tmp_path / "graph"))
    assert len(captures) == 1
    monkeypatch.setattr("processor.recipes.prompt_stage.PromptObjective.prepare", lambda *args: None)
    _, plain = trained("clipreid", *given, "OUTPUT_DIR", str(tmp_path / "plain"))
    assert_same_course(records(captured), records(plain), tolerance=1e-4 if amp == "off" else 2e-2)


def test_a_capture_that_fails_leaves_a_run_without_a_graph(trained, monkeypatch, tmp_path):  # noqa: F811
    encode = ReIDModel.encode_prompts

    def reading(self, labels):
        labels.tolist()  # waits for the device, which a capture does not allow
        return encode(self, labels)

    monkeypatch.setattr(ReIDModel, "encode_prompts", reading)
    _, plain = trained("clipreid", *ON_GPU, "OUTPUT_DIR", str(tmp_path / "plain"))
    assert "runs without a CUDA graph" in (plain / "train_log.txt").read_text()
    monkeypatch.undo()
    _, captured = trained("clipreid", *ON_GPU, "OUTPUT_DIR", str(tmp_path / "graph"))
    assert_same_course(records(captured), records(plain), tolerance=2e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_step_that_is_not_finite_is_seen(dtype, bad):
    weights = [torch.nn.Parameter(torch.zeros(size, device="cuda", dtype=dtype)) for size in (3, 70_000)]
    optimizer = torch.optim.SGD(weights)
    loss = torch.zeros((), device="cuda")
    assert is_finite(loss, optimizer) and not is_finite(loss + bad, optimizer)
    for weight in weights:
        weight.grad = torch.full_like(weight, torch.finfo(dtype).max)
    assert is_finite(loss, optimizer)
    weights[1].grad[-1] = bad
    assert not is_finite(loss, optimizer)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("amp", ["off", "auto"])
def test_a_program_prints_no_warnings(market_tree, tmp_path, workers, amp):  # noqa: F811
    given = SETTINGS | STAGE1_KEYS | {f"SOLVER.STAGE2.{key}": value for key, value in MAIN_KEYS.items()}
    given |= {"MODEL.NAME": str(write_tower(tmp_path / "toy.json")), "MODEL.DEVICE": "cuda"}
    given |= {"DATASETS.ROOT_DIR": str(market_tree), "OUTPUT_DIR": str(tmp_path / "run")}
    given |= {"SOLVER.AMP": amp, "TEST.AMP": amp, "TEST.RE_RANKING": True, "DATALOADER.NUM_WORKERS": workers}
    program = ["train_clipreid.py", "--config_file", "", *map(str, words(given))]
    done = run_program(program, CUDA_VISIBLE_DEVICES="0")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("tower", ["toy-vit", "toy-resnet"])
def test_a_compiled_run(trained, tmp_path, tower):  # noqa: F811
    given = ("MODEL.NAME", tower, "SOLVER.AMP", "off", *ON_GPU)
    courses = []
    for compiles in (False, True):
        keys = ("SOLVER.COMPILE", compiles, "OUTPUT_DIR", str(tmp_path / str(compiles)))
        courses.append(records(trained("clipreid", *given, *keys)[1]))
    assert_same_course(*courses, tolerance=2e-3)


@pytest.mark.parametrize("means", [{}, MEANS], ids=["last", "mean"])
@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
def test_prompt_learning(trained, tmp_path, toy_towers, prompts, means):  # noqa: F811
    torch.save(build_clip(clip_config("toy-vit"), None).state_dict(), tmp_path / "clip.pt")
    start = {"MODEL.PRETRAIN_CHOICE": "clip", "MODEL.PRETRAIN_PATH": str(tmp_path / "clip.pt")}
    given = words({"MODEL.NAME": "toy-vit", "SOLVER.AMP": "off"} | start | prompts | means | SAME_PIXELS)
    _, expected = trained("clipreid", *given, "OUTPUT_DIR", str(tmp_path / "cpu"))
    _, folder = trained("clipreid", *given, *ON_GPU, "OUTPUT_DIR", str(tmp_path / "gpu"))
    assert_same_course(records(folder), records(expected), tolerance=5e-3)


@pytest.mark.parametrize(
    "more",
    [
        {"SOLVER.MICRO_BATCH": 3, "SOLVER.AMP": "off", "MODEL.TEXT_DROPOUT": 0},
        {"SOLVER.AMP": "fp16", "MODEL.ID_LOSS_WEIGHT": 1, "MODEL.TEXT_DROPOUT": 0},
    ],
    ids=["micro", "fp16"],
)
def test_text_search(text_settings, tmp_path, more):  # noqa: F811
    courses = []
    for device in ("cpu", "cuda"):
        given = text_settings | more | {"MODEL.DEVICE": device, "OUTPUT_DIR": str(tmp_path / device)}
        train(load_config(cfg_tbps, "", words(given)), ARGS, method=METHODS["tbps"])
        courses.append(records(tmp_path / device))
    assert_same_course(*courses, tolerance=1e-2)


@pytest.mark.parametrize("rule", ["cross_camera", "all"])
def test_retrieval(rule):
    task = draw_whole_numbers(rule=rule)
    features = task.images.features.to("cuda")
    on_gpu = replace(task, images=replace(task.images, features=features))
    # Sums are made in any order.
    torch.testing.assert_close(results(on_gpu), results(task), rtol=1e-6, atol=1e-6, equal_nan=True)


def test_a_model_of_the_package(trained, tmp_path):  # noqa: F811
    _, folder = trained("clipreid", "OUTPUT_DIR", str(tmp_path / "run"))
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 16, 3), dtype=np.uint8)
    features = []
    for device in ("cpu", "cuda"):
        model = clipreid.load_model(folder / "toy-vit_2.pth", device=device)
        features.append(model.encode_image([Image.fromarray(image) for image in images]).features)
        model.export(tmp_path / f"{device}.onnx")
    cosines = torch.nn.functional.cosine_similarity(*(each.cpu() for each in features))
    assert cosines.min() > 0.999
