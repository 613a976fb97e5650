"""The stages of each method."""

from processor.recipes.image_objective import ImageObjective
from processor.recipes.prompt_stage import CachedFeatures, PromptObjective

__all__ = ["CachedFeatures", "ImageObjective", "PromptObjective"]
