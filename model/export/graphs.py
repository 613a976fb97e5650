"""Models as graphs from inputs to features, with the preparation of their inputs inside.

The weights are shared with the model, which stays as it is.
"""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from model.dual import DualModel
from model.files.info import CheckpointInfo, TowerInfo
from model.files.text_search_info import TextSearchInfo
from model.reid import ReIDModel
from model.tokenizers import ClipTokenizer, SentencePieceTokenizer
from model.towers.image import ViTBackbone
from model.towers.multilingual import BEGIN, END, PAD, MultilingualText
from model.towers.text import ClipText
from utils.export_forms import PIXELS, Pixels
from utils.files import sha256_of_file
from utils.weights import split_choice

_RGB = tuple[float, ...]
_HALF = (0.5, 0.5, 0.5)
# Of a re-id model, in training only.
_UNUSED = ("classifier", "classifier_proj", "prompt_learner", "text_encoder")
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Graph:
    """A module that can be exported, from inputs of a batch to features (B, D); on the CPU.

    `inputs` names its arguments in order, and `draw(B)` gives random ones, the same in each call. `facts`
    go into exported files, as the key `clipreid.{name}` of their metadata.
    """

    module: nn.Module
    inputs: tuple[str, ...]
    draw: Callable[[int], tuple[Tensor, ...]]
    facts: Mapping[str, str] = field(default_factory=dict)


def image_graph(
    model: ReIDModel | DualModel,
    info: TowerInfo,
    pixels: Pixels = "unit",
    *,
    raw: bool = False,
    sides: bool = False,
) -> Graph:
    """The graph from `images` (B, 3, H, W) float32 RGB to the test features (B, D) of a model.

    `info` has size, mean and std, as the loaders give it. `pixels` is what the client has done to 0..1:
    nothing ('unit'), the model's own normalisation ('normalised'), or ImageNet's ('imagenet'). Features have
    L2 norm 1; with `raw` they are as trained. With `sides`, cameras and views are further inputs,
    `camera_label` and `view_label` (B,) int64, in which unknown ids mean the mean row of the table; without,
    the mean row stands for all images. Raises ValueError for unknown `pixels`, and `sides` where the model
    has no table or only one row of it.
    """
    given = client_statistics(pixels, info)
    labels = tuple(_side_labels(model)) if sides else ()
    if sides and not labels:
        raise ValueError(
            "sides is True; allowed: False, because the model has no rows of cameras or views to choose from"
        )
    if isinstance(model, ReIDModel) and not sides:
        model = bake_mean_row(model)
    affine = None if pixels == "normalised" else (given, (info.mean, info.std))
    module = _ImageModule(model, labels, affine, raw=raw)
    return Graph(
        module.eval(),
        ("images", *labels),
        _draw_images(model, info.size, labels, given),
        {"kind": "image", "input": pixels, "output": "raw" if raw else "l2", "card": _card(info)},
    )


def client_statistics(pixels: Pixels, info: TowerInfo) -> tuple[_RGB, _RGB]:
    """Mean and std by which a client normalises RGB of 0..1. Raises ValueError for unknown `pixels`."""
    if pixels not in PIXELS:
        raise ValueError(f"pixels is {pixels!r}; allowed: {', '.join(map(repr, PIXELS))}")
    return {
        "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        "normalised": (info.mean, info.std),
        "imagenet": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    }[pixels]


def text_graph(model: DualModel, info: TextSearchInfo, *, raw: bool = False) -> Graph:
    """The graph from `tokens` (B, L) int64, L = `info.text_length`, to features (B, P) of their texts.

    The tokens are those of the tower's tokenizer: CLIP's has 0 after the end of text, XLM-R's 1. `raw` is
    that of `image_graph`.
    """
    tower = _twin(model.encode_text)
    facts = {"kind": "text", "input": "tokens", "output": "raw" if raw else "l2", "card": _card(info)}
    return Graph(_TextModule(tower, raw=raw).eval(), ("tokens",), _draw_tokens(tower), facts)


def published_graph(model: ReIDModel, size: tuple[int, int]) -> Graph:
    """The graph as CLIP-ReID models are published: normalised `input` (B, 3, H, W), features before L2.

    With a table of side information that has rows to choose from, `camera_label` and `view_label` (B,) int64
    are further inputs, as its rows are numbered.
    """
    labels = tuple(_side_labels(model))
    model = model if labels else bake_mean_row(model)
    module = _ImageModule(model, labels, None, raw=True)
    facts = {"kind": "image", "input": "normalised", "output": "raw"}
    return Graph(module.eval(), ("input", *labels), _draw_images(model, size, labels, (_HALF, _HALF)), facts)


def bake_mean_row(model: ReIDModel) -> ReIDModel:
    """The model in evaluation mode, on the CPU, with the mean row of its table in its class token.

    It has no table any more, and the same test features as the model where no camera and view is known; the
    features of `encode_image` are others. All other weights are shared with the model, which stays as it is.
    Without a table it is the model's copy.
    """
    baked = _twin(model)
    if baked.side_information is not None:
        row = baked.side_information.scale * baked.cv_embed.mean(dim=0)
        if isinstance(baked.image_encoder, ViTBackbone):
            token = baked.image_encoder.class_embedding
            baked.image_encoder.class_embedding = nn.Parameter(token + row, requires_grad=False)
        del baked.cv_embed
        baked.side_information = None
    return baked


class _ImageModule(nn.Module):
    """Images, and ids of cameras or views as `labels` names them, to features."""

    pixel_scale: Tensor
    pixel_shift: Tensor

    def __init__(
        self,
        model: ReIDModel | DualModel,
        labels: tuple[str, ...],
        affine: tuple[tuple[_RGB, _RGB], tuple[_RGB, _RGB]] | None,
        *,
        raw: bool,
    ) -> None:
        """`affine`: mean and std of the pixels as they come, and as the model wants them."""
        super().__init__()
        if isinstance(model, ReIDModel):
            self.network = _twin(model)
            for name in _UNUSED:
                if hasattr(self.network, name):
                    setattr(self.network, name, None)
        else:
            self.network = _twin(model.visual)
        self.labels, self.raw, self.prepares = labels, raw, affine is not None
        if affine is not None:
            (given_mean, given_std), (mean, std) = (map(_per_channel, each) for each in affine)
            # Not `mean` and `std`: onnxscript's folding of a mean over rows takes that name, too.
            self.register_buffer("pixel_scale", given_std / std)
            self.register_buffer("pixel_shift", (given_mean - mean) / std)

    def forward(self, images: Tensor, first: Tensor | None = None, second: Tensor | None = None) -> Tensor:
        if self.prepares:
            images = images * self.pixel_scale + self.pixel_shift
        if isinstance(self.network, ReIDModel):
            ids = dict(zip(self.labels, (first, second), strict=False))
            features = self.network(images, ids.get("camera_label"), ids.get("view_label"))
        else:
            features = self.network(images).feat_proj
        return features if self.raw else F.normalize(features, dim=1)


class _TextModule(nn.Module):
    def __init__(self, tower: ClipText | MultilingualText, *, raw: bool) -> None:
        super().__init__()
        self.tower, self.raw = tower, raw

    def forward(self, tokens: Tensor) -> Tensor:
        features = self.tower(tokens)
        return features if self.raw else F.normalize(features, dim=1)


def _twin(module: Module) -> Module:
    """A copy in evaluation mode on the CPU, which shares the weights with a module that is there."""
    memo: dict[int, Any] = {
        id(each): nn.Parameter(each.detach().cpu(), requires_grad=False) for each in module.parameters()
    }
    memo |= {id(each): each.cpu() for each in module.buffers()}
    return copy.deepcopy(module, memo).eval()


def _side_labels(model: ReIDModel | DualModel) -> Iterator[str]:
    side = model.side_information if isinstance(model, ReIDModel) else None
    if side is None or side.rows == 1 or not isinstance(model.image_encoder, ViTBackbone):
        return
    if side.cameras:
        yield "camera_label"
    if side.views:
        yield "view_label"


def _per_channel(values: _RGB) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


def _draw_images(
    model: ReIDModel | DualModel, size: tuple[int, int], labels: tuple[str, ...], given: tuple[_RGB, _RGB]
) -> Callable[[int], tuple[Tensor, ...]]:
    """Patches of colours, so that features of two images differ, and ids of which some are unknown."""
    side = model.side_information if isinstance(model, ReIDModel) else None
    mean, std = map(_per_channel, given)

    def draw(count: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(count)
        images = F.interpolate(torch.rand(count, 3, 8, 4, generator=generator), size)
        most = {} if side is None else {"camera_label": side.cameras, "view_label": side.views}
        ids = (torch.randint(-1, most[label] + 1, (count,), generator=generator) for label in labels)
        return (images - mean) / std, *ids

    return draw


def _draw_tokens(tower: ClipText | MultilingualText) -> Callable[[int], tuple[Tensor]]:
    """Random words between the start and the end of text, of all lengths."""
    length = tower.tokenizer.context_length
    if isinstance(tower, ClipText):
        words, start, end, pad = range(1, tower.vocabulary - 2), tower.vocabulary - 2, tower.vocabulary - 1, 0
    else:
        words, start, end, pad = range(END + 1, tower.sizes.words), BEGIN, END, PAD

    def draw(count: int) -> tuple[Tensor]:
        generator = torch.Generator().manual_seed(count)
        tokens = torch.randint(words.start, words.stop, (count, length), generator=generator)
        tokens[:, 0] = start
        ends = torch.randint(2, length, (count, 1), generator=generator)
        places = torch.arange(length)
        return (torch.where(places == ends, end, tokens).masked_fill(places > ends, pad),)

    return draw


def _card(info: TowerInfo) -> str:
    """The model card as JSON, with the facts of the model as it was built and the SHA-256 of its file."""
    names = ["name", "size", "stride", "mean", "std", "resize"]
    facts = {} if info.card is None else info.card.model_dump()
    if isinstance(info, CheckpointInfo):
        names.append("neck")
    if isinstance(info, TextSearchInfo):
        names.append("text_length")
        facts["tokenizer"] = (ClipTokenizer if info.text is None else SentencePieceTokenizer).name
    facts |= {name: getattr(info, name) for name in names}
    if info.card is None:
        file = split_choice(info.path)[0]
        facts["sha256"] = sha256_of_file(file) if file.is_file() else ""
    return json.dumps(facts)
