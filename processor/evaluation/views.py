"""Features averaged over an image and its second view."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from datasets import ImageBatch, SecondView

Encode = Callable[[Any], Tensor]


def image_encoder(model: nn.Module) -> Encode:
    """From a batch to the test feature (B, D) of a re-id model."""
    return lambda batch: model(batch.images, batch.camids, batch.viewids)


def with_second_view(encode: Encode, view: SecondView | None) -> Encode:
    """From a batch to the mean (B, D), in float32, of its features and of those of its images' second views.

    Nothing is normalised before the mean. Without a view it is `encode` itself.
    """
    if view is None:
        return encode

    def mean(batch: ImageBatch) -> Tensor:
        second = batch.replace(images=view(batch.images, batch.keys))
        return (encode(batch).float() + encode(second).float()) / 2

    return mean
