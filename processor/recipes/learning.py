"""What learns in a stage, as a table in the log."""

import logging
from collections import Counter

from torch import nn

from processor.engine import Stage
from utils.text import Lines

_logger = logging.getLogger("transreid.train")
_DEEP = "VPT"  # in the names of deep prompts


def log_learning(stage: Stage, model: nn.Module) -> None:
    """Log for each part of the model how many of its numbers the optimizer of a stage trains."""
    trained = {id(parameter) for group in stage.optimizer.param_groups for parameter in group["params"]}
    total, learning = Counter[str](), Counter[str]()
    for name, parameter in model.named_parameters():
        part = name.partition(".")[0] + (", deep prompts" if _DEEP in name else "")
        total[part] += parameter.numel()
        learning[part] += parameter.numel() * (id(parameter) in trained)
    rows = [f"{part:30}{learning[part]:>14,}{total[part] - learning[part]:>14,}" for part in total]
    head = f"{stage.name + ' trains':30}{'learns':>14}{'is frozen':>14}"
    _logger.info("%s", Lines("\n".join([head, *rows])))
