"""Toy models and their exported files, each written once."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from config import cfg, cfg_base
from model import (
    Graph,
    image_graph,
    load_reid_model,
    load_text_search_model,
    make_text_search_card,
    text_graph,
    write_graph,
)

SIZE = (64, 32)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
DEEP = ("MODEL.TEXT", "prompts", "MODEL.PROMPT.DEEP_VISION", 2, "MODEL.PROMPT.DEPTH", 2)
ADAPTER = ("MODEL.ADAPTER_RATIO", 0.2, "MODEL.ADAPTER_REDUCTION", 4)
BOTH = ("MODEL.SIE_CAMERA", True, "MODEL.SIE_VIEW", True)
# Settings, arguments of the loader, arguments of the graph.
CASES: dict[str, tuple[tuple, dict, dict]] = {
    "overlap": (
        ("MODEL.STRIDE_SIZE", [4, 4], "MODEL.SIE_CAMERA", True),
        {"stride": (4, 4), "sie_scale": 3.0},
        {"pixels": "imagenet"},
    ),
    "deep": (("MODEL.NAME", "toy-vit-quickgelu", *DEEP, *ADAPTER), {"neck_feature": "after"}, {}),
    "resnet": (("MODEL.NAME", "toy-resnet"), {}, {"raw": True}),
    "sides": (BOTH, {"sie": (3, 2), "sie_scale": 3.0}, {"sides": True, "pixels": "normalised"}),
}


class Exported(NamedTuple):
    """A model, its facts, its graph and the file of that."""

    model: Any
    info: Any
    graph: Graph
    path: Any


@pytest.fixture(scope="session")
def loaded(toy_model, tmp_path_factory):
    """loaded('deep') -> a re-id model from a file, and its facts."""

    def load(case):
        pairs, options, _ = CASES[case]
        model = toy_model(*pairs, tree=cfg if case == "deep" else cfg_base, cameras=3, views=2)
        path = tmp_path_factory.mktemp("weights") / "toy_60.pth"
        torch.save(model.state_dict(), path)
        name = dict(zip(pairs[::2], pairs[1::2], strict=True)).get("MODEL.NAME", "toy-vit")
        return load_reid_model(path, SIZE, name=name, mean=MEAN, std=STD, **options)

    return load


@pytest.fixture(scope="session")
def dual(text_search_config, text_search_model, tmp_path_factory):
    """A text search model from a file with a card, and its facts."""
    path = tmp_path_factory.mktemp("weights") / "toy-vit_3.pth"
    model = text_search_model()
    torch.save(model.state_dict(), path)
    card = make_text_search_card(text_search_config(), model, "tbps", data="cuhk_pedes", versions={})
    card.write(path)
    return load_text_search_model(path)


@pytest.fixture(scope="session")
def exported(loaded, dual, tmp_path_factory):
    """exported('sides') -> an `Exported`; also of 'dual' and 'text'."""
    known = {}

    def export(case):
        if case not in known:
            model, info = loaded(case) if case in CASES else dual
            if case == "text":
                graph = text_graph(model, info)
            else:
                graph = image_graph(model, info, **CASES.get(case, ((), {}, {}))[2])
            path = tmp_path_factory.mktemp("exported") / "toy.onnx"
            write_graph(graph, path)
            known[case] = Exported(model, info, graph, path)
        return known[case]

    return export


@pytest.fixture
def small_graph():
    """small_graph(forward) -> a graph of one layer of 4 x 3, or of another function of it and an input."""

    class Small(nn.Module):
        def __init__(self, forward):
            super().__init__()
            torch.manual_seed(0)
            self.layer, self.calls, self.run = nn.Linear(4, 3), 0, forward

        def forward(self, x):
            return self.layer(x) if self.run is None else self.run(self, x)

    def draw(count):
        return (torch.rand(count, 4, generator=torch.Generator().manual_seed(count)),)

    return lambda forward=None: Graph(Small(forward).eval(), ("input",), draw)
