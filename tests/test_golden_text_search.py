"""Three training steps of the published text search: terms, gradients, moved weights, features."""

import pytest
import torch

from config import cfg_tbps
from config.load import load_config
from model import make_text_search_model
from processor import make_text_search_objective
from solver import make_iteration_schedule, make_optimizer
from tests.toys import words

pytestmark = pytest.mark.slow

CASES = {"full": ("vit_tbps", (64, 32), 32), "simplified": ("vit_tbps_simplified", (96, 96), 40)}
FROZEN = "visual.conv1.weight"


@pytest.fixture
def make(repository, clip_file, fill):
    """make('full', stored) -> configuration, model with its golden weights, sizes of images."""

    def make(case, stored):
        file, size, length = CASES[case]
        given = {
            "MODEL.PRETRAIN_PATH": clip_file("ViT-B-16"),
            "MODEL.TEXT_LENGTH": length,
            "MODEL.TEXT_DROPOUT": 0.0,
            "INPUT.SIZE_TRAIN": list(size),
            "INPUT.SIZE_TEST": list(size),
            "SOLVER.WEIGHT_DECAY": float(stored["weight_decay"]),
        }
        config = load_config(cfg_tbps, repository / f"configs/tbps/{file}.yml", words(given))
        model = make_text_search_model(config).train()
        with torch.no_grad():
            model.logit_scale.fill_(float(stored["log_scale"]))
            for name, value in model.named_parameters():
                if name.startswith("simclr_mlp"):
                    scale = 0.02 if name.endswith("bias") else value.shape[-1] ** -0.5
                    value.copy_(fill(name, tuple(value.shape), scale))
        return config, model, size

    return make


def assert_close(got, want, tolerance, floor=1e-12):
    """Largest error relative to the largest wanted value, or to `floor`."""
    got, want = (torch.as_tensor(each, dtype=torch.float64) for each in (got, want))
    assert got.shape == want.shape
    assert (got - want).abs().max() <= tolerance * max(want.abs().max(), floor)


@pytest.mark.parametrize("case", CASES)
def test_case_is_reproduced(case, golden, fill, make):
    stored = golden(f"tbps/objective_{case}.npz")
    config, model, size = make(case, stored)
    objective, named = make_text_search_objective(config, model).train(), dict(model.named_parameters())
    names = [str(name) for name in stored["grad_names"]]
    before = {name: named[name].detach().clone() for name in (*names, FROZEN)}
    optimizer = make_optimizer(config, named.items())
    rate = make_iteration_schedule(config, int(stored["iterations_per_epoch"]))
    tokens, pids = (torch.from_numpy(stored[name]) for name in ("tokens", "pids"))

    def images(kind, step):
        return fill(f"{kind}_{step}", (len(pids), 3, *size), 1)

    for step in range(3):
        assert rate(step) == pytest.approx(stored["rates"][step], rel=1e-9)
        for group in optimizer.param_groups:
            group["lr"] = rate(step) * group["lr_scale"]
        terms = objective.losses(
            images=images("images", step),
            second_images=images("second_images", step),
            views=(images("view_1", step), images("view_2", step)),
            tokens=tokens,
            pids=pids,
            soft_weight=float(stored["alphas"][step]),
        )
        assert sorted(terms) == [str(name) for name in stored["term_names"]]
        for name, wanted in zip(stored["term_names"], stored["terms"][step], strict=True):
            assert_close(terms[str(name)].detach(), wanted, 1e-4 if step == 0 else 5e-4, 1e-3)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        if step == 0:
            check_gradients(named, names, stored)
        optimizer.step()

    for name, moved, norm in zip(names, stored["delta_norms"], stored["norms_after"], strict=True):
        value = named[name].detach()
        assert_close((value - before[name]).norm(), moved, 2e-2)
        assert_close(value.norm(), norm, 1e-5)
    assert torch.equal(named[FROZEN], before[FROZEN]) and named[FROZEN].grad is None
    model.eval()
    with torch.no_grad():
        assert_close(model.encode_image(images("images", 0)), stored["image_after"], 2e-3)
        assert_close(model.encode_text(tokens), stored["text_after"], 2e-3)


def check_gradients(named, names, stored):
    """Of the first step, before any weight has moved."""
    for name, wanted in zip(names, stored["grad_norms"], strict=True):
        gradient = named[name].grad
        assert_close(0.0 if gradient is None else gradient.norm(), wanted, 1e-3)
    # The parameter is above the bound of the scale, whose derivative is not cut.
    assert_close(named["logit_scale"].grad, stored["grad_log_scale"], 1e-3)
    assert_close(named["visual.class_embedding"].grad, stored["grad_class_embedding"], 1e-3)
    assert_close(named["encode_text.ln_final.bias"].grad, stored["grad_ln_final_bias"], 1e-3)
