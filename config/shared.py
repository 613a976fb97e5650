"""The nodes that every method reads."""

from yacs.config import CfgNode


def main_solver(cfg: CfgNode) -> CfgNode:
    """The node of the main stage: stage 2 where there are two stages, SOLVER itself where there is one."""
    return cfg.SOLVER.get("STAGE2", cfg.SOLVER)


def solver_node(cfg: CfgNode, stage: str = "main") -> CfgNode:
    """The node of 'stage1' or 'main'."""
    return cfg.SOLVER.STAGE1 if stage == "stage1" else main_solver(cfg)
