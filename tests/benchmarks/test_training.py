"""The training benchmark with a tiny tower: whatever is timed, ours and the textbook's results agree."""

import contextlib
import functools
import io
import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import measure
from benchmarks.measure import run_alone
from benchmarks.training import __main__ as training
from benchmarks.training import prompts, text_search, textbook_tbps
from benchmarks.training.__main__ import JOBS, WORK, jobs, main, require_equal, table, textbook_of
from benchmarks.training.inputs import draw_pictures
from benchmarks.training.textbook import TEXT_SIDE, TextModel, make_optimizer
from loss import make_loss
from model import tokenize_captions
from model.clip import build_clip, clip_config
from processor import make_text_search_objective
from processor.make_recipes import make_plan
from processor.recipes import OnlinePromptObjective
from tests.toys import write_tower

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
COMPILED = "stage2-bf16-compile"  # takes a compiler and a minute
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Of a tiny tower, with pictures that are drawn once."""
    folder = tmp_path_factory.mktemp("training")
    write_tower(folder / "tiny.json", quick_gelu=True)
    draw_pictures(folder, batch=8, seed=0)
    shape = ["--size", "32", "16", "--batch", "8", "--steps", "1"]
    return ["--model", str(folder / "tiny.json"), "--data", str(folder), *shape]


@pytest.fixture(scope="module")
def record(options):
    """record('stage1') -> what a process prints that measures it alone; each is measured once."""

    @functools.cache
    def run(work, quantity="time"):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            main([*options, "--here", work, "--quantity", quantity])
        return json.loads(printed.getvalue())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "_SIDES", {"cpu": 64})
        patch.setattr(training, "map_blocks", lambda: None)  # of other tests' memory, too
        yield run


@pytest.fixture
def settings(options):
    folder = Path(options[options.index("--data") + 1])
    return jobs.Settings(str(folder / "tiny.json"), (32, 16), 8, 1, 0, CPU, folder)


@pytest.mark.parametrize("work", [work for work in WORK if work != COMPILED])
def test_a_timing_alone(record, work):
    result = record(work)
    assert (result["work"], result["device"], result["batch"]) == (work, "CPU", 8)
    assert result["seconds"] > 0
    own = {"train-loader": "means", "test-loader": "digest", "extract": "features", "tbps-texts": "features"}
    own["tbps-loader"] = "images"
    kind = next((kind for kind in own if work.startswith(kind)), None)
    assert result["images"] == {"extract": 16, "tbps-texts": 16, None: 8}.get(kind, 32)
    assert own.get(kind, "losses") in result
    if kind in (None, "extract", "tbps-texts"):
        assert result["flops"] > 0 and 0 < result["share"] == pytest.approx(
            result["flops"] / result["seconds"] / result["matmul_rate"]
        )


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
@pytest.mark.parametrize("name", [name for name in JOBS if name != COMPILED])
def test_ours_and_the_textbook_agree(record, name, device_type):
    require_equal(record(name), record(textbook_of(name, device_type)))


@pytest.mark.parametrize("work", [name for name, job in JOBS.items() if not job.needs_gpu])
def test_memory_alone(record, work):
    timed, result = record(work), record(work, "memory")
    assert "seconds" not in result and result["megabytes"] >= 0
    shared = result.keys() & timed.keys()
    assert {"work", "images"} < shared and all(result[name] == timed[name] for name in shared - {"means"})


def test_the_textbook_does_more(record):
    flops = {work: record(work)["flops"] for work in ("stage1", "stage2", "stage2-micro", "extract")}
    assert record("stage1-textbook")["flops"] > 10 * flops["stage1"]
    assert record("stage2-textbook")["flops"] > 1.1 * flops["stage2"]
    assert record("extract-textbook")["flops"] > 1.1 * flops["extract"]
    assert record("online-textbook")["flops"] > 1.5 * record("online")["flops"]
    assert record("online-texts-textbook")["flops"] > 10 * record("online-texts")["flops"]
    assert record("tbps-textbook")["flops"] > 1.2 * record("tbps")["flops"]
    assert record("tbps-simplified-textbook")["flops"] > 1.4 * record("tbps-simplified")["flops"]
    assert record("tbps-texts-textbook")["flops"] > 2 * record("tbps-texts")["flops"]
    assert flops["stage2-micro"] == pytest.approx(4 / 3 * flops["stage2"], rel=0.05)
    # Two losses and gradients are near, not the same: the two passes are different ones.
    assert 0 < record("stage2-micro")["gradient_error"] < 1e-5


def test_gradients_of_the_image_side_are_the_textbooks(settings):
    config = jobs.configuration(settings)
    loss = make_loss(config, jobs.CLASSES)
    ours, theirs = jobs.build_model(config).train(), jobs.textbook_image_model(config).train()
    batch, texts = jobs._drawn_images(ours.image_encoder.projected_width, settings)
    for model in (ours, theirs):
        sum(loss(model(batch.images), batch.pids, texts).values()).backward()
    expected = {name: p.grad for name, p in theirs.named_parameters() if p.requires_grad}
    found = {name: p.grad for name, p in ours.named_parameters() if p.requires_grad}
    assert found.pop("prompt_learner.cls_ctx") is None
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_texts_are_the_textbooks_where_every_weight_gets_a_gradient(settings):
    ours = jobs.build_model(jobs.configuration(settings))
    clip = build_clip(clip_config(settings.model), None)
    theirs = TextModel(clip, ours.state_dict(), ours.prompt_learner.length - 1)
    pids = torch.tensor([3, 0, 3])
    features = ours.encode_text(pids), theirs(pids)
    torch.testing.assert_close(*features)
    for value in features:
        value.square().sum().backward()
    found, expected = ours.prompt_learner.cls_ctx.grad, theirs.cls_ctx.grad
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    assert all(p.grad is not None for p in theirs.parameters())
    assert not any(p.grad is not None for p in ours.text_encoder.parameters())


def test_gradients_of_deep_prompts_are_the_textbooks_where_every_weight_gets_one(settings):
    config, batch = prompts.configuration(settings), prompts.drawn_images(settings)
    objective = prompts.make_stage(OnlinePromptObjective, batch, config).objective.train()
    ours, theirs = objective.model, prompts.textbook_model(config).train()
    terms = objective(batch).losses
    sum(terms.values()).backward()
    frozen = [p for name, p in ours.named_parameters() if "VPT" not in name and "cls_ctx" not in name]
    assert not any(p.requires_grad or p.grad is not None for p in frozen)
    features = theirs.encode_images(batch.images), theirs.encode_texts(batch.pids)
    expected = jobs.prompt_losses(*features, batch.pids)
    torch.testing.assert_close(terms, expected)
    sum(expected.values()).backward()
    own_names = {"images.": "", "texts.cls_ctx": "prompt_learner.cls_ctx", "texts.": "text_encoder."}

    def own_name(name):
        return next(
            to + name.removeprefix(start) for start, to in own_names.items() if name.startswith(start)
        )

    found = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    wanted = {own_name(name): p.grad for name, p in theirs.prompts()}
    assert found.keys() == wanted.keys() and len(found) == 1 + 3 + 1
    for name, gradient in wanted.items():
        assert (found[name] - gradient).abs().max() < 1e-4 * gradient.abs().max(), name
    towers = theirs.images.image_encoder, theirs.texts
    assert all(p.grad is not None for tower in towers for p in tower.parameters())


def test_the_textbooks_optimizer_has_our_rates_and_a_group_for_each_weight(settings):
    config = jobs.configuration(settings)
    node, model = config.SOLVER.STAGE2, jobs.build_model(config)
    named = [(name, p) for name, p in model.named_parameters() if not name.startswith(TEXT_SIDE)]
    theirs = make_optimizer(named, node.BASE_LR, node.BIAS_LR_FACTOR, node.WEIGHT_DECAY)
    ours = make_plan(config, "main").make_optimizer(named)

    def rules(optimizer):
        groups = optimizer.param_groups
        return {p: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}

    assert rules(theirs) == rules(ours)
    assert all(len(group["params"]) == 1 for group in theirs.param_groups)
    assert len({rate for rate, _ in rules(ours).values()}) == 2


@pytest.mark.parametrize("kind", text_search.CONFIGS)
def test_gradients_of_text_search_are_the_textbooks(settings, kind):
    config = text_search.configuration(settings, kind, {"MODEL.TEXT_DROPOUT": 0.0})
    ours, theirs = text_search.build_model(config).train(), text_search.textbook_model(config).train()
    objective = make_text_search_objective(config, ours)
    batch = text_search.drawn_pairs(settings)
    tokens = tokenize_captions(batch.captions)
    objective.steps.fill_(1)
    terms = objective(batch).losses, theirs.losses(batch, tokens, objective.weights, objective.weights.soft)
    torch.testing.assert_close(terms[0], terms[1], rtol=1e-5, atol=1e-6)
    for each in terms:
        sum(each.values()).backward()
    found, expected = (
        {name: p.grad for name, p in model.named_parameters() if p.requires_grad} for model in (ours, theirs)
    )
    assert "visual.conv1.weight" not in found and ("simclr_mlp.0.weight" in found) == (kind == "full")
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_text_search_is_compared_without_dropout_and_measured_with_it(settings, monkeypatch):
    rates = []
    drop = torch.nn.functional.dropout
    monkeypatch.setattr(
        torch.nn.functional, "dropout", lambda x, p, *given: rates.append(p) or drop(x, p, *given)
    )
    text_search.step_textbook(settings, "simplified", "off")
    assert (rates[0], rates[-1]) == (0.0, 0.05) and rates == sorted(rates)
    without = text_search.step(settings, "simplified", {"SOLVER.AMP": "off", "MODEL.TEXT_DROPOUT": 0.0})
    assert WORK["tbps-simplified"](settings)["flops"] > 1.02 * without["flops"]  # soft texts


def test_captions_are_as_long_as_those_of_public_data_sets():
    counts = (tokenize_captions(text_search.drawn_captions(200, seed=0)) > 0).sum(dim=1)
    assert (counts.min(), counts.max()) == (text_search.SHORTEST, text_search.LONGEST)
    assert text_search.drawn_captions(3, seed=0) != text_search.drawn_captions(3, seed=1)


def test_both_optimizers_of_text_search_have_the_same_rules(settings):
    config = text_search.configuration(settings, "full")
    model = text_search.build_model(config)
    theirs = textbook_tbps.make_optimizer(model.named_parameters(), config.SOLVER)
    ours = make_plan(config, "main", 1).make_optimizer(model.named_parameters())

    def rules(optimizer):
        names = ("lr", "weight_decay", "betas", "eps")
        groups = [(tuple(group[name] for name in names), group["params"]) for group in optimizer.param_groups]
        return {p: rule for rule, parameters in groups for p in parameters}

    assert rules(theirs) == rules(ours)
    assert len(ours.param_groups) == 2 and len(theirs.param_groups) == len(rules(ours))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("stage1", {"losses": [{"i2t": 2.0, "t2i": 3.0}] * 2}, "losses of stage1-textbook are apart by"),
        ("stage2-micro", {"gradient_error": 1e-4}, r"gradient_error .* apart by 0.0001, allowed is 1e-05"),
        ("stage2-micro", {"loss_error": float("nan")}, "loss_error .* apart by nan"),
        ("train-loader", {"images": 31}, "images of train-loader-textbook are apart by 1"),
        ("train-loader", {"means": [0.0] * 32}, "means"),
        ("test-loader", {"digest": "0"}, "digest"),
        ("extract-bf16", {"features": [[1.0] * 80] * 8}, "features"),
    ],
)
def test_results_that_differ_end_the_run(record, monkeypatch, name, change, message):
    monkeypatch.setattr(
        training,
        "run_alone",
        lambda module, options: record(options[-1]) | (change if options[-1] == name else {}),
    )
    with pytest.raises(ValueError, match=message):
        main(["--jobs", name, "--repeats", "1", "--data", "."])


@pytest.mark.slow
def test_a_process_alone(options, record):
    result = run_alone("benchmarks.training", [*options, "--here", "test-loader"])
    assert result["seconds"] > 0 and result["digest"] == record("test-loader")["digest"]


def test_every_measurement_is_printed_and_the_table(record, monkeypatch, capsys):
    processes = []

    def run_here(module, options):
        given = dict(zip(options[-6::2], options[-5::2], strict=True))
        processes.append((given["--here"], given["--quantity"], given["--batch"]))
        return record(given["--here"], given["--quantity"])

    monkeypatch.setattr(training, "run_alone", run_here)
    main(["--jobs", "stage2", "stage2-micro", "--repeats", "2"])
    works = ["stage2", "stage2-textbook", "stage2-micro"]
    expected = [(work, quantity, "16") for quantity in ("time", "time", "memory") for work in works]
    assert processes == expected
    *measured, empty, header, _, first, second = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["work"] for line in measured] == [work for work, *_ in expected]
    assert not empty and header.startswith("| job | device | speed | memory | to reach |")
    assert first.startswith("| stage2, batch 8 | CPU |") and "| ≥ 1.08× |" in first
    assert second.startswith("| stage2-micro, batch 8 | CPU |") and "| ≤ 35 % of the memory |" in second


def test_table():
    common = {"device": "CPU", "batch": 16, "images": 16}
    ours = {"work": "stage2-micro", **common, "seconds": 2.0, "megabytes": 30.4, "share": 0.5}
    theirs = {"work": "stage2-textbook", **common, "seconds": 3.0, "megabytes": 100.0, "share": 0.404}
    rows = [line.strip("| ").split(" | ") for line in table([(ours, theirs)]).splitlines()]
    target = "≤ 35 % of the memory"
    expected = ["1.50×", "30%", target, "8.0", "5.3", "50%", "40%", "30", "100"]
    assert rows[2] == ["stage2-micro, batch 16", "CPU", *expected]
    del ours["share"]
    gpu = table([(ours | {"device": "NVIDIA H100"}, theirs)]).splitlines()[2]
    assert "| NVIDIA H100 | 1.50× | 30% | – | 8.0 | 5.3 | – | 40% |" in gpu


def test_textbooks_of_a_gpu_train_in_fp16():
    assert textbook_of("stage2-bf16", "cpu") == textbook_of("stage2", "cuda") == "stage2-textbook"
    assert textbook_of("stage2-bf16", "cuda") == textbook_of("stage2-fp16", "cuda") == "stage2-textbook-fp16"
    assert textbook_of("extract-bf16", "cuda") == "extract-textbook"


def test_compiled_steps_are_compiled(settings, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
    WORK["stage2"](settings)
    assert not compiled
    WORK[COMPILED](settings)
    assert compiled == ["ImageObjective"]
