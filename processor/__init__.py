"""Training and testing: the loop, the methods that go through it, and extraction."""

from processor.evaluation.extract import extract, make_task, queries_with_match
from processor.make_processor import train
from processor.make_test import test

__all__ = ["extract", "make_task", "queries_with_match", "test", "train"]
