"""The stages of each method."""

from processor.recipes.clipreid import encode_identities
from processor.recipes.image_objective import ImageObjective
from processor.recipes.prompt_stage import (
    CachedFeatures,
    FeatureBatch,
    OnlinePromptObjective,
    PromptObjective,
)
from processor.recipes.text_search import LossWeights, TextSearchObjective

__all__ = [
    "CachedFeatures",
    "FeatureBatch",
    "ImageObjective",
    "LossWeights",
    "OnlinePromptObjective",
    "PromptObjective",
    "TextSearchObjective",
    "encode_identities",
]
