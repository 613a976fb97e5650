"""Steps of both stages for benchmarks/training, ours and the textbook's, from equal weights and inputs.

A job measures itself in the process it is called in and returns its record: seconds (median of steps) or peak
megabytes, images of a step, and what must agree between ours and the textbook.
"""

import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from yacs.config import CfgNode

from benchmarks.measure import ROOT, count_flops, matmul_rate, measure, time_each
from benchmarks.training import textbook
from config import cfg
from config.load import load_config
from datasets import ImageBatch
from loss import make_loss, supcon_loss
from model import ReIDModel, build_clip, clip_config, make_model
from processor import make_plan
from processor.engine import Objective, Stage, prepare, train_step
from processor.recipes import CachedFeatures, ImageObjective, PromptObjective
from utils.precision import Precision, training_precision
from utils.seed import seed_everything

CLASSES, IMAGES_PER_CLASS = 751, 17  # of Market-1501
INSTANCES = 4  # images of an identity in a batch
WARM_UPS = 2
FEATURE_SCALE = 0.4  # gives features the norm of CLIP's, about 10
PARTS = 4  # of a batch, with SOLVER.MICRO_BATCH
CONFIG = ROOT / "configs/person/vit_clipreid.yml"

Record = dict[str, Any]


class Settings(NamedTuple):
    """Of one timing: MODEL.NAME, image size (H, W), images in a batch, timed steps, seed, device, pictures.

    `data` is DATASETS.ROOT_DIR of a Market-1501, which loaders and extraction need; `quantity` what is
    measured, 'time' or 'memory'.
    """

    model: str
    size: tuple[int, int]
    batch: int
    steps: int
    seed: int
    device: torch.device
    data: Path | None = None
    quantity: str = "time"


class Training(NamedTuple):
    """A training step: `advance` makes one and returns losses by name.

    `loss` is its forward pass without compiler or captured graph, whose arithmetic can be counted.
    """

    advance: Callable[[], Mapping[str, Tensor]]
    loss: Callable[[], Tensor]
    dtype: torch.dtype


def configuration(settings: Settings, keys: Mapping[str, Any] | None = None, file: Path = CONFIG) -> CfgNode:
    """The file's settings with random weights, patches that do not overlap and the settings, then the keys.

    The default file is the published configuration of ViT CLIP-ReID.
    """
    patch = clip_config(settings.model)["vision_cfg"]["patch_size"]
    values = {
        "MODEL.NAME": settings.model,
        "MODEL.PRETRAIN_CHOICE": "none",
        "MODEL.STRIDE_SIZE": [patch, patch],
        "INPUT.SIZE_TRAIN": list(settings.size),
        "INPUT.SIZE_TEST": list(settings.size),
        "DATASETS.NAMES": "market1501",
        "DATASETS.ROOT_DIR": str(settings.data),
        "DATALOADER.NUM_INSTANCE": INSTANCES,
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.SEED": settings.seed,
        "SOLVER.STAGE1.IMS_PER_BATCH": settings.batch,
        "SOLVER.STAGE2.IMS_PER_BATCH": settings.batch,
        "TEST.IMS_PER_BATCH": settings.batch,
        **(keys or {}),
    }
    return load_config(cfg, file, [word for pair in values.items() for word in pair])


def build_model(config: CfgNode) -> ReIDModel:
    """Our model; its random weights depend only on the seed."""
    seed_everything(config.SOLVER.SEED)
    return make_model(config, CLASSES, 1, 1)


def textbook_image_model(config: CfgNode) -> textbook.ImageModel:
    """The textbook's image side with our model's weights."""
    clip = build_clip(clip_config(config.MODEL.NAME), None)
    return textbook.ImageModel(clip, build_model(config).state_dict(), tuple(config.MODEL.STRIDE_SIZE))


# ---- stage 1


def stage1(settings: Settings, amp: str) -> Record:
    """Prompt steps as the loop makes them."""
    config = configuration(settings, {"SOLVER.AMP": amp})
    model, plan = build_model(config), make_plan(config, "stage1")
    batches = _cached_features(model.image_encoder.projected_width, settings)
    prompts = [(name, p) for name, p in model.named_parameters() if name.startswith("prompt_learner.")]
    objective = PromptObjective(model, capture=[batches.num_labels])
    stage = Stage("stage1", objective, batches, batches, plan.make_optimizer(prompts), plan)
    return measure_training(our_training(stage, PromptObjective(model), config, settings), settings)


def stage1_textbook(settings: Settings, amp: str) -> Record:
    """The same features and identities, every image with a prompt of its own."""
    config = configuration(settings)
    ours, node = build_model(config), config.SOLVER.STAGE1
    clip = build_clip(clip_config(settings.model), None)
    model = textbook.TextModel(clip, ours.state_dict(), ours.prompt_learner.length - 1).to(settings.device)
    batches = _endless(_cached_features(ours.image_encoder.projected_width, settings))
    prompts = [("cls_ctx", model.cls_ctx)]
    optimizer = textbook.make_optimizer(prompts, node.BASE_LR, 1, node.WEIGHT_DECAY)

    def losses() -> dict[str, Tensor]:
        batch = next(batches)
        return prompt_losses(batch.features, model(batch.pids), batch.pids)

    return measure_training(textbook_training(losses, optimizer, amp, settings), settings)


def prompt_losses(images: Tensor, texts: Tensor, pids: Tensor) -> dict[str, Tensor]:
    """Terms of image features and text features, both (B, P), of identities (B,)."""
    return {
        "i2t": supcon_loss(images, texts, pids, pids),
        "t2i": supcon_loss(texts, images, pids, pids),
    }


def _cached_features(width: int, settings: Settings) -> CachedFeatures:
    generator = torch.Generator().manual_seed(settings.seed)
    pids = torch.arange(CLASSES).repeat(IMAGES_PER_CLASS)
    features = FEATURE_SCALE * torch.randn(len(pids), width, generator=generator)
    tensors = (tensor.to(settings.device) for tensor in (features, pids))
    paths = [f"{index}.jpg" for index in range(len(pids))]
    return CachedFeatures(*tensors, settings.batch, settings.seed, paths)


# ---- stage 2


def stage2(settings: Settings, keys: Mapping[str, Any]) -> Record:
    """Steps of the image tower as the loop makes them."""
    config = configuration(settings, keys)
    model, plan = build_model(config), make_plan(config, "main")
    loss = make_loss(config, CLASSES)
    batch, texts = _drawn_images(model.image_encoder.projected_width, settings)
    image_side = [(n, p) for n, p in model.named_parameters() if not n.startswith(textbook.TEXT_SIDE)]
    stage = Stage(
        "stage2",
        ImageObjective(model, loss, texts),
        [batch],
        [batch],
        plan.make_optimizer(image_side),
        plan,
    )
    training = our_training(stage, ImageObjective(model, loss, texts), config, settings)
    record = measure_training(training, settings)
    if model.micro_batch and settings.quantity == "time":
        record |= _micro_batch_errors(model, training.loss)
    return record


def stage2_micro(settings: Settings) -> Record:
    """The same, holding the activations of a part of the batch; also how far that changes the gradients."""
    return stage2(settings, {"SOLVER.AMP": "off", "SOLVER.MICRO_BATCH": max(settings.batch // PARTS, 1)})


def stage2_textbook(settings: Settings, amp: str) -> Record:
    """The same images and losses through every token of every block."""
    config = configuration(settings)
    model = textbook_image_model(config).to(settings.device).train()
    loss, node = make_loss(config, CLASSES), config.SOLVER.STAGE2
    batch, texts = _drawn_images(model.image_encoder.proj.shape[1], settings)
    optimizer = textbook.make_optimizer(
        model.named_parameters(), node.BASE_LR, node.BIAS_LR_FACTOR, node.WEIGHT_DECAY
    )

    def losses() -> dict[str, Tensor]:
        return loss(model(batch.images), batch.pids, texts)

    return measure_training(textbook_training(losses, optimizer, amp, settings), settings)


def _drawn_images(width: int, settings: Settings) -> tuple[ImageBatch, Tensor]:
    """A batch of noise with identities, on the device, and texts (C, `width`)."""
    generator = torch.Generator().manual_seed(settings.seed)
    images = torch.randn(settings.batch, 3, *settings.size, generator=generator)
    texts = FEATURE_SCALE * torch.randn(CLASSES, width, generator=generator)
    pids = torch.arange(settings.batch) // INSTANCES
    batch = ImageBatch(images, pids, torch.zeros_like(pids), torch.zeros_like(pids), [])
    return batch.to(settings.device), texts.to(settings.device)


def _micro_batch_errors(model: ReIDModel, loss: Callable[[], Tensor]) -> Record:
    """Relative differences of losses and gradients to those of a pass over the whole batch."""
    weights = [weight for weight in model.parameters() if weight.grad is not None]

    def run() -> tuple[Tensor, tuple[Tensor, ...]]:
        value = loss()
        return value.detach(), torch.autograd.grad(value, weights)

    value, gradients = run()
    model.micro_batch = 0
    whole_value, whole = run()
    largest = max(gradient.abs().max() for gradient in whole)
    difference = max((a - b).abs().max() for a, b in zip(gradients, whole, strict=True))
    return {
        "loss_error": float((value - whole_value).abs() / whole_value),
        "gradient_error": float(difference / largest),
    }


# ---- how a training step is measured


def our_training(stage: Stage, plain: Objective, config: CfgNode, settings: Settings) -> Training:
    """The step of processor/engine/loop.py, prepared as `fit` does; `plain` is the objective made again."""
    precision = training_precision(config.SOLVER.AMP, settings.device)
    prepare(stage, settings.device, precision)
    stage.objective.train()
    plain.to(settings.device).train()
    batches = _endless(stage.loader)

    def advance() -> Mapping[str, Tensor]:
        return train_step(stage, next(batches).to(settings.device), precision).step.losses

    def loss() -> Tensor:
        with precision.autocast():
            terms = plain(next(batches).to(settings.device)).losses
        return sum(terms.values())

    return Training(advance, loss, precision.dtype)


def textbook_training(
    losses: Callable[[], dict[str, Tensor]], optimizer: torch.optim.Optimizer, amp: str, settings: Settings
) -> Training:
    """A step of the textbook's, `amp` 'off' or 'fp16'."""
    precision: Precision = training_precision(amp, settings.device)

    def loss() -> Tensor:
        with precision.autocast():
            return sum(losses().values())

    advance = partial(textbook.train_step, losses, optimizer, precision)
    return Training(advance, loss, precision.dtype)


def measure_training(training: Training, settings: Settings) -> Record:
    """Losses of the first steps, and what `measure_steps` gives of those that follow."""
    return first_losses(training, settings) | measure_steps(training, settings)


def first_losses(training: Training, settings: Settings) -> Record:
    """Images of a step and the losses of the first ones, after which time and memory are as they stay."""
    losses = []
    for _ in range(WARM_UPS):
        terms = training.advance()
        losses.append({name: float(value.detach()) for name, value in terms.items()})
    return {"images": settings.batch, "losses": losses}


def measure_steps(training: Training, settings: Settings) -> Record:
    """Time or memory above weights, gradients and optimizer state.

    The memory is the peak of a whole step. It begins by freeing the gradients, as both versions do, so what
    they leave free is used before it counts.
    """
    device = settings.device
    if settings.quantity == "memory":
        _, measured = measure(training.advance, device)
        return {"megabytes": measured.megabytes}
    seconds = statistics.median(time_each(training.advance, settings.steps, device))
    flops = count_flops(lambda: training.loss().backward())
    return {"seconds": seconds, **arithmetic(flops, seconds, training.dtype, device)}


def arithmetic(flops: int, seconds: float, dtype: torch.dtype, device: torch.device) -> Record:
    """FLOP/s, the rate of matrix products of that dtype here and now, and the share that was reached."""
    rate = matmul_rate(device, dtype)
    return {"flops": flops, "matmul_rate": rate, "share": flops / seconds / rate}


def _endless(batches: Iterable[Any]) -> Iterator[Any]:
    return itertools.chain.from_iterable(itertools.repeat(batches))
