"""Accessors of a configuration of any method: its data set, and the node of a stage."""

from typing import Any

from yacs.config import CfgNode


def single_name(names: Any) -> Any:
    """The one data set in a value of DATASETS.NAMES, also of a tuple of one; other kinds of values as given.

    Raises ValueError for several names, as a tuple or with commas between them.
    """
    given = names.split(",") if isinstance(names, str) else names
    if not isinstance(given, list | tuple) or not given:
        return names
    if len(given) > 1:
        raise ValueError(
            f"DATASETS.NAMES has {len(given)} names, {', '.join(map(str, given))}; allowed: one data set (of "
            "images, further training sets in DATASETS.TRAIN_ALSO, another test set in DATASETS.TEST)"
        )
    return str(given[0]).strip()


def main_solver(cfg: CfgNode) -> CfgNode:
    """The node of the main stage: stage 2 where there are two stages, SOLVER itself where there is one."""
    return cfg.SOLVER.get("STAGE2", cfg.SOLVER)


def solver_node(cfg: CfgNode, stage: str = "main") -> CfgNode:
    """The node of the main stage, or of another one by name: 'stage1' is SOLVER.STAGE1."""
    return main_solver(cfg) if stage == "main" else cfg.SOLVER[stage.upper()]
