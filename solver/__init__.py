"""How it learns: parameter groups and learning rates."""

from solver.averages import gaussian_weights
from solver.make_optimizer import make_iteration_schedule, make_optimizer, make_schedule, stage_parameters

__all__ = [
    "gaussian_weights",
    "make_iteration_schedule",
    "make_optimizer",
    "make_schedule",
    "stage_parameters",
]
