"""Training and testing: the loop, the methods that go through it, and extraction."""

from processor.evaluation import (
    are_cut,
    extract,
    extract_sentences,
    label_names,
    make_task,
    queries_with_match,
)
from processor.make_evaluation import evaluate_as_configured
from processor.make_processor import train
from processor.make_recipes import make_plan, make_text_search_objective
from processor.make_session import start_process
from processor.make_test import extract_task, read_test_data, test
from processor.make_zero_shot import zero_shot
from processor.methods import METHODS, Method

__all__ = [
    "METHODS",
    "Method",
    "are_cut",
    "evaluate_as_configured",
    "extract",
    "extract_sentences",
    "extract_task",
    "label_names",
    "make_plan",
    "make_task",
    "make_text_search_objective",
    "queries_with_match",
    "read_test_data",
    "start_process",
    "test",
    "train",
    "zero_shot",
]
