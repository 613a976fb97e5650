"""Training and testing: the loop, the methods that go through it, and extraction."""

from processor.inference import evaluate_trials, extract
from processor.make_processor import test, train

__all__ = ["evaluate_trials", "extract", "test", "train"]
