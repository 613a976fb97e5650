"""How it learns: parameter groups and learning rates."""

from solver.make_optimizer import make_iteration_schedule, make_optimizer, make_schedule

__all__ = ["make_iteration_schedule", "make_optimizer", "make_schedule"]
