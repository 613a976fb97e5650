"""The cases of prompt learning, both versions of Multimodal-ReID: names, features, losses, gradients."""

import json

import numpy as np
import pytest
import torch

from config import cfg
from config.load import load_config
from loss import make_loss, supcon_loss
from model import load_reid_model, make_model, make_teacher
from processor.averaging import average_states
from solver import gaussian_weights, make_optimizer, make_schedule, stage_parameters

SIZE, CLASSES = (64, 32), 6
TYPES = ["sedan", "suv", "van", "hatchback", "mpv", "sedan"]
SUBJECTS = [f"{name}, a type of vehicle" for name in TYPES]
# ViT-B/16 with three text blocks
TOWER = {
    "embed_dim": 512,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 3},
}
CASES = {  # file, tokens in the image tower, in the text tower, blocks
    "coop": ("coop", 0, 0, 12),
    "coop_types": ("coop", 0, 0, 12),
    "coop_main": ("coop_main", 0, 0, 12),
    "ivlp_2": ("ivlp", 2, 2, 12),
    "ivlp_4": ("ivlp", 4, 4, 12),
    "ivlp_6": ("ivlp", 6, 6, 12),
    "ivlp_main": ("ivlp_main", 2, 2, 12),
    "text_only": ("ivlp", 0, 4, 2),
    "vpt": ("vpt", 4, 0, 12),
    "vpt_main": ("vpt_main", 2, 0, 5),
    "promptsrc": ("promptsrc", 4, 4, 12),
    "promptsrc_main": ("promptsrc_main", 2, 2, 12),
    "adapter_main": ("adapter_main", 0, 0, 12),
}


def assert_close(got, want, tolerance):
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= tolerance * max(np.abs(want).max(), 1e-12)


def norms(parameters, names, gradients=False):
    """Norm of each named parameter, or of its gradient; 0 for what the model does not have."""
    values = [parameters.get(str(name)) for name in names]
    values = [value if value is None or not gradients else value.grad for value in values]
    return [0.0 if value is None else value.detach().norm().item() for value in values]


@torch.no_grad()
def draw(model, fill):
    """Give what CLIP does not have its golden values."""
    for name, value in model.state_dict().items():
        shape = tuple(value.shape)
        if name.endswith(("token_prefix", "token_suffix", "num_batches_tracked")):
            continue
        if "VPT" in name:
            value.copy_(fill(name, shape, 0.1))
        elif name.startswith("bottleneck"):
            scale = 0.0 if name.endswith("bias") else 0.2 if name.endswith("running_mean") else 0.05
            value.copy_(fill(name, shape, scale, 1.0 if name.endswith(("weight", "running_var")) else 0.0))
        elif not name.startswith(("image_encoder", "text_encoder")):
            value.copy_(fill(name, shape, 0.05 if name.startswith(("classifier", "adapter")) else 0.02))


@pytest.fixture
def setting(repository, golden, fill, drawn_clip, tmp_path):
    """setting(case) -> configuration, model with golden weights, stored arrays."""

    def build(case):
        file, vision, text, depth = CASES[case]
        (tmp_path / "small.json").write_text(json.dumps(TOWER))
        torch.save(drawn_clip(TOWER), tmp_path / "clip.pt")
        options = [
            "MODEL.NAME",
            str(tmp_path / "small.json"),
            "MODEL.PRETRAIN_PATH",
            str(tmp_path / "clip.pt"),
        ]
        options += ["INPUT.SIZE_TRAIN", str(SIZE), "INPUT.SIZE_TEST", str(SIZE)]
        options += ["MODEL.PROMPT.DEEP_VISION", vision, "MODEL.PROMPT.DEEP_TEXT", text]
        options += ["MODEL.PROMPT.DEPTH", depth]
        if case == "promptsrc_main":
            torch.save(drawn_clip(TOWER, "teacher/"), tmp_path / "teacher.pt")
            options += ["MODEL.TEACHER.PRETRAIN_PATH", str(tmp_path / "teacher.pt")]
        config = load_config(cfg, str(repository / f"configs/prompts/{file}.yml"), options)
        model = make_model(config, CLASSES, 6, 1, subjects=SUBJECTS if case == "coop_types" else None)
        draw(model, fill)
        return config, model, golden(f"prompts/{case}.npz")

    return build


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_case_is_reproduced(case, setting, fill):
    config, model, stored = setting(case)
    names = sorted([name, list(value.shape)] for name, value in model.state_dict().items())
    assert names == json.loads(str(stored["state_dict_keys"]))
    images = fill("images", (8, 3, *SIZE), 1.0)
    with torch.no_grad():
        model.eval()
        assert_close(model(images), stored["feat_before"], 1e-4)
        assert_close(model.encode_image(images), stored["stage1_image_features"], 1e-4)
        assert_close(model.encode_prompts(torch.arange(CLASSES)), stored["text_features"], 1e-4)
    learn_prompts(config, model, stored, fill)
    with torch.no_grad():
        texts = model.eval().encode_prompts(torch.arange(CLASSES))
    assert_close(texts, stored["trained_text_features"], 1e-3)
    learn_images(config, model, stored, fill, texts)
    with torch.no_grad():
        assert_close(model.eval()(images), stored["feat_before_after_training"], 1e-3)


def learn_prompts(config, model, stored, fill):
    """Four epochs of stage 1."""
    node, parameters = config.SOLVER.STAGE1, dict(model.named_parameters())
    trained = stage_parameters(config, model.named_parameters(), "stage1")
    assert sorted(name for name, _ in trained) == json.loads(str(stored["stage1_trained"]))
    optimizer, rate = make_optimizer(config, trained, "stage1"), make_schedule(config, "stage1")
    images, pids = fill("stage1_images", (12, 3, *SIZE), 1.0), torch.arange(12) // 2
    model.train()
    with torch.no_grad():
        cached = None if node.ONLINE_FEATURES else model.encode_image(images)
    losses, rates, states = [], [], []
    for epoch in range(1, 5):
        order = torch.from_numpy(np.random.RandomState(epoch).permutation(12))
        rates.append(rate(epoch))
        for group in optimizer.param_groups:
            group["lr"] = rate(epoch) * group["lr_scale"]
        for rows in (order[:8], order[8:]):
            optimizer.zero_grad()
            features = model.encode_image(images[rows]) if cached is None else cached[rows]
            texts, own = model.encode_prompts(pids[rows]), pids[rows]
            loss = supcon_loss(features, texts, own, own) + supcon_loss(texts, features, own, own)
            loss.backward()
            if not losses:
                got = norms(parameters, stored["stage1_grad_norm_names"], gradients=True)
                assert_close(got, stored["stage1_grad_norms"], 1e-3)
            optimizer.step()
            losses.append(loss.item())
        states.append({name: parameter.detach().clone() for name, parameter in trained})
    assert_close(losses, stored["stage1_losses"], 3e-4)
    assert_close(rates, stored["stage1_lrs"], 1e-6)
    assert_close(model.prompt_learner.cls_ctx.detach(), stored["stage1_cls_ctx"], 1e-3)
    got = norms(parameters, stored["stage1_grad_norm_names"])
    assert_close(got, stored["stage1_param_norms"], 1e-3)
    if node.GAUSS_STD:
        mean = average_states(states, gaussian_weights(4, node.GAUSS_MEAN, node.GAUSS_STD))
        assert_close(norms(mean, stored["stage1_grad_norm_names"]), stored["stage1_average_norms"], 1e-3)
        model.load_state_dict(mean, strict=False)


def learn_images(config, model, stored, fill, texts):
    """Three steps of stage 2."""
    parameters = dict(model.named_parameters())
    trained = stage_parameters(config, model.named_parameters(), "main")
    assert sorted(name for name, _ in trained) == json.loads(str(stored["stage2_trained"]))
    optimizer, rate = make_optimizer(config, trained), make_schedule(config)
    loss, teacher = make_loss(config, CLASSES), make_teacher(config)
    assert (teacher is not None) == ("teacher_feature" in stored.files)
    model.train()
    losses = []
    for epoch in range(1, 4):
        for group in optimizer.param_groups:
            group["lr"] = rate(epoch) * group["lr_scale"]
        pids, images = (
            (torch.arange(8) // 4 + epoch) % CLASSES,
            fill(f"train_images_{epoch}_0", (8, 3, *SIZE), 1.0),
        )
        optimizer.zero_grad()
        output, taught = model(images), None if teacher is None else teacher(images)
        terms = loss(output, pids, texts, taught)
        total = sum(terms.values())
        total.backward()
        if epoch == 1:
            for name, logits in zip(("train_score", "train_score_proj"), output.logits, strict=True):
                assert_close(logits.detach(), stored[name], 3e-4)
            for index, feature in enumerate(output.metric):
                assert_close(feature.detach(), stored[f"train_feat_{index}"], 1e-4)
            if taught is not None:
                assert_close(taught, stored["teacher_feature"], 1e-4)
                assert_close(terms["teacher"].detach(), stored["teacher_loss"], 3e-4)
            got = norms(parameters, stored["grad_norm_names"], gradients=True)
            assert_close(got, stored["grad_norms"], 2e-3)
        optimizer.step()
        losses.append(total.item())
    assert_close(losses, stored["stage2_losses"], 1e-3)
    assert_close(norms(parameters, stored["grad_norm_names"]), stored["stage2_param_norms"], 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["ivlp_2", "adapter_main"])
def test_a_file_in_published_names_is_read(case, setting, fill, tmp_path):
    _, model, stored = setting(case)
    renamed = {
        name.replace("bottleneck", "vision_bottleneck").replace("classifier", "vision_classifier"): value
        for name, value in model.state_dict().items()
        if not name.startswith("text_encoder")
    }
    torch.save(renamed | {"logit_scale": torch.tensor(4.6)}, tmp_path / "clip_model_weight_59.pth")
    loaded, _ = load_reid_model(tmp_path / "clip_model_weight_59.pth", SIZE)
    with torch.no_grad():
        assert_close(loaded(fill("images", (8, 3, *SIZE), 1.0)), stored["feat_before"], 1e-4)


@pytest.mark.parametrize("mean, std, epochs", [(60, 45, 120), (60, 45, 10), (30, 30, 60), (60, 45, 4)])
def test_weights_of_epochs(mean, std, epochs, golden):
    stored = golden("prompts/schedules.npz")[f"gauss_{mean}_{std}_{epochs}"]
    assert_close(gaussian_weights(epochs, mean, std), stored, 1e-6)


def test_rates_of_all_files(golden, repository):
    stored = golden("prompts/schedules.npz")
    for path in sorted((repository / "configs/prompts").glob("*.yml")):
        for epochs in (120, 10):
            config = load_config(cfg, path, ["SOLVER.STAGE1.MAX_EPOCHS", epochs])
            rates = [make_schedule(config, "stage1")(epoch) for epoch in range(1, epochs + 1)]
            assert_close(rates, stored[f"stage1_lrs_{epochs}"], 1e-6)
        assert_close([make_schedule(config)(epoch) for epoch in range(1, 61)], stored["stage2_lrs_60"], 1e-6)
