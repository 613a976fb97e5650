"""A pretended GPU, and whole runs on toy models."""

import pytest
import torch

from tests.processor.conftest import market_tree, toy_config, trained  # noqa: F401
from tests.rehearsal.pretence import GPU, Pretence


@pytest.fixture
def gpu(monkeypatch):
    """Where the driver would be asked, an answer; while it lasts, 'cuda' is the pretended GPU."""
    group = torch.optim.Optimizer._group_tensors_by_device_and_dtype

    def group_on_device(lists, *args):
        return {(lists[0][0].device, kind): found for (_, kind), found in group(lists, *args).items()}

    def choose(kind, index):
        return GPU if kind == "cuda" else torch.device(kind)

    for target, value in {
        "processor.make_session.select_device": choose,
        "torch.cuda.mem_get_info": lambda device=None: (1 << 34, 1 << 34),
        "torch.cuda.get_device_name": lambda device=None: "a pretended GPU",
        "torch.cuda.default_generators": (torch.default_generator,),
        "torch.cuda.make_graphed_callables": lambda module, inputs: module,
        "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
        "torch.autocast": lambda kind, **options: torch.amp.autocast("cpu", **options),
        "torch.optim.Optimizer._group_tensors_by_device_and_dtype": staticmethod(group_on_device),
        "torch.__future__.get_swap_module_params_on_conversion": lambda: True,
    }.items():
        monkeypatch.setattr(target, value)
    with Pretence() as pretence:
        yield pretence
