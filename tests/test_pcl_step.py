"""One step of PCL-CLIP on ViT-B/16, weights drawn by name, written out: tower, losses, prototypes, SGD."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from config import cfg_pcl
from config.load import load_config
from datasets import ImageBatch
from loss import make_loss
from model import make_model
from processor.engine.loop import train_step
from processor.recipes.image_objective import ImageObjective
from solver import make_optimizer
from utils.precision import Precision

pytestmark = pytest.mark.slow

CLASSES, RATE, DECAY = 10, 3.5e-4, 5e-4
PIDS = torch.tensor([1, 1, 1, 1, 4, 4, 4, 4])


@pytest.fixture(scope="module")
def config(repository, clip_file):
    options = ["MODEL.PRETRAIN_PATH", str(clip_file("ViT-B-16"))]
    return load_config(cfg_pcl, repository / "configs/pcl/vit_pcl.yml", options)


@pytest.fixture(scope="module")
def model(config, fill):
    model = make_model(config, CLASSES, 6, 1)
    for name, value in model.state_dict().items():
        if name.startswith(("bottleneck", "classifier")) and not name.endswith(("bias", "tracked")):
            scale, shift = {"running_mean": (0.2, 0.0)}.get(name.rpartition(".")[2], (0.05, 1.0))
            value.copy_(
                fill(name, tuple(value.shape), scale, 0.0 if name.startswith("classifier") else shift)
            )
    return model.train()


def layer_norm(x, weights, name):
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def tower(images, weights):
    """(8, 768) and (8, 512) of CLIP's ViT-B/16, block by block (PCL-CLIP reads the class token alone)."""
    x = F.conv2d(images, weights["conv1.weight"], stride=16).flatten(2).transpose(1, 2)
    token = weights["class_embedding"].expand(len(x), 1, -1)
    x = layer_norm(torch.cat([token, x], dim=1) + weights["positional_embedding"], weights, "ln_pre")
    for number in range(12):
        block = {
            name.removeprefix(f"transformer.resblocks.{number}."): value for name, value in weights.items()
        }
        y = layer_norm(x, block, "ln_1")
        parts = (y @ block["attn.in_proj_weight"].T + block["attn.in_proj_bias"]).chunk(3, dim=-1)
        heads = [part.unflatten(-1, (12, 64)).transpose(1, 2) for part in parts]
        attention = (heads[0] @ heads[1].transpose(-1, -2) / 8).softmax(dim=-1) @ heads[2]
        y = attention.transpose(1, 2).flatten(2) @ block["attn.out_proj.weight"].T
        x = x + y + block["attn.out_proj.bias"]
        y = layer_norm(x, block, "ln_2") @ block["mlp.c_fc.weight"].T + block["mlp.c_fc.bias"]
        y = y * torch.sigmoid(1.702 * y)
        x = x + y @ block["mlp.c_proj.weight"].T + block["mlp.c_proj.bias"]
    feature = layer_norm(x[:, 0], weights, "ln_post")
    return feature, feature @ weights["proj"]


def neck(feature, weight):
    """BatchNorm1d in training, whose bias is 0."""
    centred = feature - feature.mean(dim=0)
    return centred / (centred.square().mean(dim=0) + 1e-5).sqrt() * weight


def losses_by_sample(feature, logits, bank):
    """1.0·L_pcl + 0.25·L_id, image by image."""
    total = 0.0
    for x, scores, pid in zip(feature, logits, PIDS.tolist(), strict=True):
        similarity = torch.stack([(x / x.norm()) @ prototype for prototype in bank]) / 0.05
        contrast = similarity.exp().sum().log() - similarity[pid]
        log_probability = scores - scores.exp().sum().log()
        smoothed = -0.9 * log_probability[pid] - 0.1 / CLASSES * log_probability.sum()
        total = total + contrast + 0.25 * smoothed
    return total / len(PIDS)


def moved_bank(bank, feature):
    bank = bank.clone()
    unit = [x / x.norm() for x in feature]
    for pid in (1, 4):
        members = [x for x, label in zip(unit, PIDS.tolist(), strict=True) if label == pid]
        hardest = min(members, key=lambda x: float(x @ bank[pid]))
        mixed = 0.2 * bank[pid] + 0.8 * hardest
        bank[pid] = mixed / mixed.norm()
    return bank


def test_a_step_is_what_is_written_out(model, config, fill):
    images = fill("train_images_1_0", (8, 3, 256, 128), 1.0)
    bank = F.normalize(fill("bank", (CLASSES, 1280), 1.0))
    before = {name: value.clone() for name, value in model.state_dict().items()}

    weights = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    feature, projected = tower(
        images, {k.removeprefix("image_encoder."): v for k, v in weights.items() if k.startswith("image_")}
    )
    necks = neck(feature, weights["bottleneck.weight"]), neck(projected, weights["bottleneck_proj.weight"])
    joint = torch.cat(necks, dim=1)
    wanted = losses_by_sample(joint, joint @ weights["classifier.weight"].T, bank)
    wanted.backward()

    loss = make_loss(config, CLASSES)
    loss.memory.prototypes = bank.clone()
    optimizer = make_optimizer(config, model.named_parameters())
    stage = SimpleNamespace(objective=ImageObjective(model, loss, accuracy=False), optimizer=optimizer)
    trained = train_step(stage, ImageBatch(images, PIDS, None, None, [""] * 8), Precision("cpu"))

    assert trained.loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    proj = model.image_encoder.proj.grad
    assert torch.allclose(proj, weights["image_encoder.proj"].grad, rtol=0, atol=1e-6)
    after = moved_bank(bank, joint.detach())
    assert torch.allclose(loss.memory.prototypes, after, atol=1e-6)
    absent = [pid for pid in range(CLASSES) if pid not in (1, 4)]
    assert torch.equal(loss.memory.prototypes[absent], bank[absent])

    for name, value in model.named_parameters():
        if name.endswith("conv1.weight") or name in ("bottleneck.bias", "bottleneck_proj.bias"):
            assert torch.equal(value, before[name]) and value.grad is None
        else:  # SGD's first step: momentum has nothing to remember yet
            step = RATE * (weights[name].grad + DECAY * weights[name])
            assert (before[name] - value.detach() - step).abs().max() <= 1e-5 * step.abs().max() + 1e-7, name


def test_names_and_sizes_are_the_published_ones(config):
    model = make_model(config, 751, 6, 1, pretrained=False)
    state, parameters = model.state_dict(), list(model.named_parameters())
    assert len(state) == 163 and len(parameters) == 157
    assert sum(p.numel() for _, p in parameters) == 87_104_256
    assert sum(p.numel() for _, p in parameters if p.requires_grad) == 86_513_152
    assert {name for name, p in parameters if not p.requires_grad} == {
        "bottleneck.bias",
        "bottleneck_proj.bias",
        "image_encoder.conv1.weight",
    }
    top = {name for name in state if not name.startswith("image_encoder.")}
    statistics = ("running_mean", "running_var", "num_batches_tracked", "weight", "bias")
    necks = {f"{part}.{name}" for part in ("bottleneck", "bottleneck_proj") for name in statistics}
    assert top == {*necks, "classifier.weight"}
    assert state["classifier.weight"].shape == (751, 1280)
    assert state["image_encoder.positional_embedding"].shape == (129, 768)
    assert state["classifier.weight"].std().item() == pytest.approx(0.001, rel=0.02)


def test_uniform_rate_and_decay(config):
    model = make_model(config, CLASSES, 6, 1, pretrained=False)
    optimizer = make_optimizer(config, model.named_parameters())
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.SGD)
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (RATE, DECAY, 0.9)
    assert (group["dampening"], group["nesterov"]) == (0, False) and len(group["params"]) == 157 - 3
