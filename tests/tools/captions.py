"""A feature file of captions and images, as a test of text search writes it."""

from collections.abc import Sequence
from pathlib import Path

import torch

from datasets import CaptionRecord, ImageRecord, Trial
from processor import make_task
from retrieval import FeatureSet, RetrievalTask
from tests.toys import save_noise

CAPTIONS = (
    "a man with a blue backpack",
    "the woman in a red coat, with a blue umbrella",
    "一名身穿红色外套的女子背着双肩包",
    "رجل يرتدي سترة حمراء ويحمل حقيبة زرقاء",
    "somebody in white",
    "somebody with a <b>bold</b> $x_{2}$ & {{ 7*7 }}",
)


def caption_task(root: Path, captions: Sequence[str] = CAPTIONS) -> RetrievalTask:
    """Two captions of each person, two images of each of three and one of a fourth person, under `root`."""
    images = []
    for person in (1, 2, 3, 4):
        for shot in range(1 if person == 4 else 2):
            path = save_noise(root / f"{person}_{shot}.png", 10 * person + shot)
            images.append(ImageRecord(str(path), person, -1, 0))
    texts = [
        CaptionRecord(images[2 * (n // 2)].path, n // 2 + 1, text, "", f"{images[2 * (n // 2)].path}#{n % 2}")
        for n, text in enumerate(captions)
    ]
    records = [*texts, *images]
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 8, generator=generator)
    noise = torch.randn(len(records), 8, generator=generator)
    columns = [[getattr(record, name) for record in records] for name in ("pid", "camid", "path", "key")]
    features = FeatureSet(centres[columns[0]] + 1.2 * noise, *columns)
    return make_task(features, [Trial(texts, images, "all")], {"dataset": "captions", "model": "toy-vit"})
