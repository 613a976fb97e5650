"""Training and feature extraction as research code writes them.

Every token goes through every block, every image has its whole prompt encoded, every weight gets a gradient
and an optimizer group of its own, images go through PIL and one transform after the other. Losses and the
order of images are the project's own: they are not what is compared. Li, Sun, Li, AAAI 2023.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from open_clip import CLIP
from PIL import Image
from timm.data.random_erasing import RandomErasing
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms as T

from datasets import ImageBatch, ImageRecord
from model import ReIDOutput
from utils.precision import Precision

Weights = Mapping[str, Tensor]
TEXT_SIDE = ("prompt_learner.", "text_encoder.")


class ImageModel(nn.Module):
    """Image tower and heads with the weights of a ReIDModel, all tokens through the last block too.

    Args:
        clip: any weights; its image tower is taken over.
        weights: state dict of the ReIDModel.
        stride: between patches in pixels, vertical and horizontal.
    """

    def __init__(self, clip: CLIP, weights: Weights, stride: tuple[int, int]) -> None:
        super().__init__()
        tower = clip.visual
        tower.conv1.stride = stride
        tower.positional_embedding = nn.Parameter(weights["image_encoder.positional_embedding"].clone())
        self.image_encoder = tower
        width, projected_width = tower.proj.shape
        num_classes = len(weights["classifier.weight"])
        self.bottleneck, self.bottleneck_proj = nn.BatchNorm1d(width), nn.BatchNorm1d(projected_width)
        self.bottleneck.bias.requires_grad_(False)
        self.bottleneck_proj.bias.requires_grad_(False)
        self.classifier = nn.Linear(width, num_classes, bias=False)
        self.classifier_proj = nn.Linear(projected_width, num_classes, bias=False)
        self.load_state_dict({name: w for name, w in weights.items() if not name.startswith(TEXT_SIDE)})

    def forward(self, images: Tensor) -> ReIDOutput | Tensor:
        """Training mode: ReIDOutput. Evaluation mode: test features (B, D) of images (B, 3, H, W)."""
        tower = self.image_encoder
        x = tower.ln_pre(self.embed(images))
        for block in tower.transformer.resblocks[:-1]:
            x = block(x)
        last = x[:, 0]
        x = tower.ln_post(tower.transformer.resblocks[-1](x))
        feat, projected = x[:, 0], (x @ tower.proj)[:, 0]
        necks = self.bottleneck(feat), self.bottleneck_proj(projected)
        if not self.training:
            return torch.cat([feat, projected], dim=1)
        logits = self.classifier(necks[0]), self.classifier_proj(necks[1])
        return ReIDOutput(logits, (last, feat, projected), projected)

    def embed(self, images: Tensor) -> Tensor:
        """Class token and patches (B, 1 + h·w, D) with their positions."""
        tower = self.image_encoder
        x = tower.conv1(images)
        x = x.reshape(*x.shape[:2], -1).permute(0, 2, 1)  # (B, h·w, D)
        token = tower.class_embedding + x.new_zeros(len(x), 1, x.shape[2])
        return torch.cat([token, x], dim=1) + tower.positional_embedding


class TextModel(nn.Module):
    """Prompts and text tower with the weights of a ReIDModel, at all positions; all of them learn.

    Args:
        clip: any weights; its text tower is taken over.
        weights: state dict of the ReIDModel.
        end: position of the end of text in a prompt.
    """

    def __init__(self, clip: CLIP, weights: Weights, end: int) -> None:
        super().__init__()
        self.end = end
        self.cls_ctx = nn.Parameter(torch.empty_like(weights["prompt_learner.cls_ctx"]))
        for name in ("token_prefix", "token_suffix"):
            self.register_buffer(name, torch.empty_like(weights[f"prompt_learner.{name}"]))
        self.positional_embedding = clip.positional_embedding
        self.transformer, self.ln_final = clip.transformer, clip.ln_final
        self.text_projection = clip.text_projection
        self.register_buffer("attn_mask", clip.attn_mask, persistent=False)
        own = {name.split(".", 1)[1]: w for name, w in weights.items() if name.startswith(TEXT_SIDE)}
        self.load_state_dict(own)

    def forward(self, pids: Tensor) -> Tensor:
        """Text features (B, P) of identities (B,), as often as an identity occurs."""
        x = self.transformer(self.embed(pids), attn_mask=self.attn_mask)
        return self.ln_final(x)[:, self.end] @ self.text_projection

    def embed(self, pids: Tensor) -> Tensor:
        """Word embeddings (B, 77, W) of the prompts of identities (B,) with their positions."""
        prefix = self.token_prefix.expand(len(pids), -1, -1)
        suffix = self.token_suffix.expand(len(pids), -1, -1)
        return torch.cat([prefix, self.cls_ctx[pids], suffix], dim=1) + self.positional_embedding


def make_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]], rate: float, bias_factor: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Adam with a group for each named parameter; the rate of biases is multiplied by `bias_factor`."""
    groups = []
    for name, parameter in parameters:
        if parameter.requires_grad:
            own_rate = rate * bias_factor if "bias" in name else rate
            groups.append({"params": [parameter], "lr": own_rate, "weight_decay": weight_decay})
    return torch.optim.Adam(groups, foreach=False)


def train_step(
    losses: Callable[[], dict[str, Tensor]], optimizer: torch.optim.Optimizer, precision: Precision
) -> dict[str, Tensor]:
    """One step of the optimizer; returns the losses by name."""
    optimizer.zero_grad()
    with precision.autocast():
        terms = losses()
    loss = sum(terms.values())
    precision.scaler.scale(loss).backward()
    precision.scaler.step(optimizer)
    precision.scaler.update()
    loss.item()  # for the running mean, which on a GPU waits for the step to end
    return terms


def train_transform(
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    *,
    flip_prob: float,
    padding: int,
    erase_prob: float,
) -> T.Compose:
    """RGB image → (3, H, W), augmented."""
    return T.Compose(
        [
            T.Resize(size, T.InterpolationMode.BICUBIC),
            T.RandomHorizontalFlip(flip_prob),
            T.Pad(padding),
            T.RandomCrop(size),
            T.ToTensor(),
            T.Normalize(mean, std),
            RandomErasing(erase_prob, mode="pixel", max_count=1, device="cpu"),
        ]
    )


def test_transform(size: tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> T.Compose:
    """RGB image → (3, H, W)."""
    return T.Compose([T.Resize(size, T.InterpolationMode.BILINEAR), T.ToTensor(), T.Normalize(mean, std)])


class Pictures(Dataset[tuple[Tensor, ImageRecord]]):
    """Records as items (image (3, H, W) float, record)."""

    def __init__(self, records: Sequence[ImageRecord], transform: Callable[[Image.Image], Tensor]) -> None:
        self.records, self.transform = records, transform

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, ImageRecord]:
        record = self.records[index]
        with Image.open(record.path) as image:
            return self.transform(image.convert("RGB")), record


def make_loader(
    pictures: Pictures, batch_size: int, sampler: Sampler[int] | None = None
) -> DataLoader[ImageBatch]:
    """Batches of pictures, loaded in this process, in the order of the sampler, or of the records."""
    return DataLoader(
        pictures, batch_size, sampler=sampler, pin_memory=torch.cuda.is_available(), collate_fn=_collate
    )


def _collate(items: list[tuple[Tensor, ImageRecord]]) -> ImageBatch:
    images, records = zip(*items, strict=True)
    labels = (torch.tensor([getattr(r, name) for r in records]) for name in ("pid", "camid", "viewid"))
    return ImageBatch(torch.stack(images), *labels, [record.path for record in records])


@torch.no_grad()
def extract(model: ImageModel, loader: Iterable[ImageBatch], device: torch.device) -> Tensor:
    """Test features (N, D) in the processor's memory."""
    model.to(device).eval()
    features = []
    for batch in loader:
        features.append(model(batch.images.to(device)).cpu())
    return torch.cat(features)
