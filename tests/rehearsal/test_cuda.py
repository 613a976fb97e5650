"""Methods and retrieval on a pretended GPU: one device, no wait within a step, and the numbers of the CPU.

Not rehearsed: CUDA's kernels, captured graphs, pinned memory, several GPUs.
"""

import argparse
import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from model import build_clip, clip_config
from processor import METHODS
from processor import test as run_test
from processor.engine import Run, Saver
from processor.make_evaluation import Evaluator
from processor.make_parts import Parts
from retrieval import (
    cluster,
    evaluate_task,
    jaccard_graph,
    k_reciprocal_blocks,
    k_reciprocal_distance,
    rank_gallery,
    score_pairs,
    worst_queries,
)
from retrieval.thresholds.pair_scores import BINS, count_by_identity
from tests.rehearsal.pretence import GPU, OnGpu
from tests.retrieval.conftest import draw_whole_numbers
from tests.several_processes.courses import assert_same_course, records
from tests.toys import words, write_tower
from utils.precision import Precision

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, on which the programs run")

SETTINGS = {
    "MODEL.SIE_CAMERA": True,
    "MODEL.METRIC_LOSS_TYPE": "triplet_center",
    "MODEL.PCL_LOSS_WEIGHT": 1.0,
    "MAIN.EVAL_PERIOD": 1,
    "TEST.RE_RANKING": True,
    "TEST.RERANK_K1": 3,
    "TEST.RERANK_K2": 2,
}
TOWERS = {
    "toy-vit": {
        "SOLVER.MICRO_BATCH": 3,
        "SOLVER.AMP": "off",
        "INPUT.RE_MODE": "pixel",
        "MODEL.MEMORY_UPDATE": "all",
    },
    "toy-resnet": {"SOLVER.AMP": "fp16", "INPUT.RE_MODE": "constant", "MODEL.MEMORY_UPDATE": "hard"},
}
CLUSTERS = {"CLUSTER.METHOD": "dbscan", "CLUSTER.MIN_SAMPLES": 2, "CLUSTER.K1": 3, "CLUSTER.K2": 1}
GRAPH = {"DATALOADER.SAMPLER": "graph", "DATALOADER.GRAPH_AFTER": 1}
METHOD_SETTINGS = {
    "baseline": GRAPH,
    "pcl_clusters": CLUSTERS | {"MODEL.ID_LOSS_WEIGHT": 0.0, "MODEL.METRIC_LOSS_TYPE": "triplet"},
}
ARGS = argparse.Namespace(config_file="", local_rank=0, traceback=False, opts=[], resume=False)


@pytest.fixture(params=[name for name in METHODS if name != "tbps"])
def method(request):
    return request.param


@pytest.fixture(params=TOWERS)
def settings(request, method, tmp_path):
    """All that a key switches on, for a method and a tower."""
    tower = request.param
    name = {"MODEL.NAME": str(write_tower(tmp_path / f"{tower}.json", tower, quick_gelu=True))}
    return SETTINGS | name | TOWERS[tower] | METHOD_SETTINGS.get(method, {})


def test_a_run_cut_resumed_and_tested(gpu, trained, toy_config, monkeypatch, tmp_path, method, settings):
    run = functools.partial(trained, method, *words(settings))
    _, expected = run("OUTPUT_DIR", str(tmp_path / "cpu"))
    assert not gpu.waits
    on_gpu = ("MODEL.DEVICE", "cuda", "OUTPUT_DIR", str(tmp_path / "gpu"))
    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr(Evaluator, "__call__", lambda self: next(iter(())))  # after the first epoch
        run(*on_gpu)
    _, folder = run(*on_gpu, resume=True)
    assert_same_course(records(folder), records(expected), tolerance=2e-3)

    # The names of functions at work, the innermost first.
    waits = {at[0] for at in gpu.waits if "_run_epoch" in at and not {"begin_epoch", "set_epoch"} & {*at}}
    by_design = {"_move_by_all"} if settings["MODEL.MEMORY_UPDATE"] == "all" else set()
    # The step before is judged, means are logged, weights are looked at before they are saved.
    assert waits == {"_judge", "means", "not_finite"} | by_design
    assert {at[0] for at in gpu.waits if "extract" in at} <= {"move_module"}

    weight = ("TEST.WEIGHT", str(folder / f"{Path(settings['MODEL.NAME']).stem}_2.pth"))
    row = METHODS[method]
    run_test(toy_config(*words(settings), *on_gpu, *weight, tree=row.tree), ARGS, method=row)
    tested = json.loads((folder / "metrics.json").read_text())
    assert tested["mAP"] == pytest.approx(records(expected)[-1]["mAP"])


PROMPTS = {
    "deep": {"MODEL.PROMPT.DEEP_VISION": 2, "MODEL.PROMPT.DEEP_TEXT": 6},
    "online": {"MODEL.PROMPT.DEEP_VISION": 2, "SOLVER.STAGE1.ONLINE_FEATURES": True},
    "views": {"TEST.AUGMENT": "flip_crop", "MODEL.ADAPTER_RATIO": 0.2},
    "teacher": {"MODEL.TEACHER.LOSS_WEIGHT": 1.0},
    "graph": {
        **GRAPH,
        "DATALOADER.GRAPH_FEATURES": "both",
        "SOLVER.STAGE1.SAMPLER": "graph",
        "SOLVER.STAGE1.IMS_PER_BATCH": 4,
    },
}
CAPTIONS = {
    "SOLVER.STAGE0.MAX_EPOCHS": 1,
    "SOLVER.STAGE0.IMS_PER_BATCH": 3,
    "SOLVER.STAGE1.CAPTIONS": True,
    "SOLVER.STAGE1.SAMPLER": "graph",
    "SOLVER.STAGE1.IMS_PER_BATCH": 4,
    "SOLVER.STAGE2.CAPTIONS": 0.7,
    "DATALOADER.SAMPLER": "graph",
}
MEANS = {f"SOLVER.STAGE{n}.GAUSS_{key}": 1.0 for n in (1, 2) for key in ("MEAN", "STD")}


@pytest.mark.parametrize("means", [{}, MEANS], ids=["last", "mean"])
@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
def test_prompt_learning(gpu, trained, tmp_path, toy_towers, prompts, means):
    torch.save(build_clip(clip_config("toy-vit"), None).state_dict(), tmp_path / "clip.pt")
    start = {"MODEL.PRETRAIN_CHOICE": "clip", "MODEL.PRETRAIN_PATH": str(tmp_path / "clip.pt")}
    settings = words({"MODEL.NAME": "toy-vit", "SOLVER.AMP": "off"} | start | prompts | means)
    _, expected = trained("clipreid", *settings, "OUTPUT_DIR", str(tmp_path / "cpu"))
    _, folder = trained("clipreid", *settings, "MODEL.DEVICE", "cuda", "OUTPUT_DIR", str(tmp_path / "gpu"))
    assert_same_course(records(folder), records(expected), tolerance=2e-3)
    waits = {at[0] for at in gpu.waits if "_run_epoch" in at and not {"begin_epoch", "set_epoch"} & {*at}}
    once = {"move_module"} if prompts is PROMPTS["teacher"] else set()
    assert waits == {"_judge", "means", "not_finite"} | once


@pytest.mark.parametrize("more", [{}, {"MODEL.PROMPT.IN_CAPTIONS": True}], ids=["constant", "beside"])
def test_captions_and_a_stage_0(gpu, trained, market_tree, tmp_path, toy_towers, more):
    names = sorted(path.name for path in market_tree.glob("*/bounding_box_train/*"))[:6]
    file = tmp_path / "captions.json"
    file.write_text(json.dumps({name: [f"person {name[:4]}", "seen from behind"] for name in names}))
    keys = CAPTIONS | more | {"DATASETS.CAPTIONS": str(file)}
    settings = words({"MODEL.NAME": "toy-vit", "SOLVER.AMP": "off"} | keys)
    _, expected = trained("clipreid", *settings, "OUTPUT_DIR", str(tmp_path / "cpu"))
    _, folder = trained("clipreid", *settings, "MODEL.DEVICE", "cuda", "OUTPUT_DIR", str(tmp_path / "gpu"))
    assert_same_course(records(folder), records(expected), tolerance=2e-3)
    waits = {at[0] for at in gpu.waits if "_run_epoch" in at and not {"begin_epoch", "set_epoch"} & {*at}}
    assert waits == {"_judge", "means", "not_finite"}


def test_steps_and_extraction_under_the_autocast_of_cuda(monkeypatch, toy_config, tmp_path, method, settings):
    """It casts other operations than the CPU's; torch's own fake tensors know it, but have no numbers."""
    row, cpu = METHODS[method], Precision("cpu")
    config = toy_config(*words(settings), tree=row.tree)
    dataset = row.data(config)
    model = row.model(config, dataset, pretrained=False)
    run = Run(model, "", torch.device("cpu"), tmp_path, None, cpu, Saver(tmp_path, model, cpu, {}))
    objectives = []
    for stage in row.stages(config, Parts(dataset, model, row.loaders(config, dataset, model), None), run):
        stage.objective.train()
        stage.objective.begin_epoch(1)
        stage.sampler.set_epoch(1)
        objectives.append((stage.objective, next(iter(stage.loader))))
    for target, value in {
        "torch.cuda.default_generators": (torch.default_generator,),
        "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
        "torch.cuda.is_bf16_supported": lambda: True,
    }.items():
        monkeypatch.setattr(target, value)
    with FakeTensorMode(allow_non_fake_inputs=True), Precision("cuda", torch.float16).autocast():
        # Not by `to`, which fails at what the stages share.
        for module in torch.nn.ModuleList(objective for objective, _ in objectives).modules():
            for held in (module._parameters, module._buffers):
                held.update({name: it.to("cuda") for name, it in held.items() if it is not None})
        for objective, batch in objectives:
            step = objective(batch.to("cuda"))
            for value in (*step.losses.values(), *step.report.values()):
                assert (value.device.type, value.dtype) == ("cuda", torch.float32)
        batch = batch.to("cuda")
        model.eval()
        for encode in (model, model.encode_neck):
            assert encode(batch.images, batch.camids, batch.viewids).device.type == "cuda"
        features = [model.encode_image(batch.images)]
        if hasattr(model, "text_encoder"):
            features.append(model.encode_prompts(batch.pids))
        assert all((each.device.type, each.dtype) == ("cuda", torch.float16) for each in features)


def _plain(metrics):
    return {**vars(metrics), "scores": [part.numpy() for trial in metrics.scores for part in trial]}


def results(task):
    """What retrieval computes of a task, as plain values."""
    rerank = functools.partial(k_reciprocal_blocks, k1=4, k2=2)
    trial = next(iter(task))
    pairs, images = score_pairs(task), task.images.features
    return {
        "metrics": [_plain(evaluate_task(task, rerank=each)) for each in (None, rerank)],
        "rankings": [rank_gallery(*trial[:2], [3, 0], 5, each, trial.rule) for each in (None, rerank)],
        "worst": worst_queries(*trial[:2], 4, rule=trial.rule),
        "re-ranked": k_reciprocal_distance(*(part.features for part in trial[:2]), k1=4, k2=2).numpy(),
        "graph": jaccard_graph(images, 4, 2).toarray(),
        "clusters": cluster(images, k1=4, k2=2).numpy(),
        "pairs": vars(pairs),
        "identities": count_by_identity(task, pairs, np.array([BINS // 4, BINS])),
    }


@pytest.mark.parametrize("rule", ["cross_camera", "all"])
def test_retrieval(gpu, rule):
    task = draw_whole_numbers(rule=rule)
    features = task.images.features.to(GPU)
    np.testing.assert_equal(
        results(replace(task, images=replace(task.images, features=features))), results(task)
    )


def test_what_the_pretence_minds(gpu):
    here, there = torch.ones(3), torch.ones(3).to(GPU, non_blocking=True)
    number = torch.tensor(2.0)
    for mixed in (
        lambda: here + there,
        lambda: torch.cat([here, there]),
        lambda: torch.stack([number, there[0]]),
        lambda: there.index_add_(0, torch.tensor([0]), there[:1]),
        lambda: here.index_put_((torch.tensor([0]),), there[:1]),
    ):
        with pytest.raises(RuntimeError, match="is not on the GPU"):
            mixed()
    gpu.waits.clear()
    assert isinstance((there * number).double()[1:], OnGpu) and not gpu.waits
    for waiting in (
        lambda: there[0].item(),
        lambda: bool(there.any()),
        lambda: there.tolist(),
        lambda: there.cpu(),
        lambda: there[there > 0],
        lambda: here.to(GPU),
        lambda: torch.tensor([1.0], device=GPU),
        lambda: there.copy_(here),
        lambda: there.nonzero(),
    ):
        before = len(gpu.waits)
        waiting()
        assert len(gpu.waits) == before + 1
