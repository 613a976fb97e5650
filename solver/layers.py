"""Learning rates by layer: the further below its features a layer of a tower is, the slower it learns.

Layer-wise decay of BEiT (Bao, Dong, Piao, Wei, ICLR 2022). With CLIP's pretrained towers the lower layers
change least.
"""

import re
from collections.abc import Iterable, Sequence

_IMAGE, _TEXT = r"^visual\.", r"^encode_text\."
# Each tower's blocks, with their number, and what lies below the first one.
_TOWERS = {
    "image": (
        re.compile(_IMAGE + r"(?:transformer\.resblocks\.|layer)(\d+)\."),
        re.compile(_IMAGE + r"(?:class_embedding|positional_embedding|conv\d|bn\d|ln_pre)\b"),
    ),
    "text": (
        re.compile(_TEXT + r"(?:transformer\.resblocks|(?:roberta|transformer)\.encoder\.layer)\.(\d+)\."),
        re.compile(_TEXT + r"(?:token_embedding|positional_embedding|(?:roberta|transformer)\.embeddings)\b"),
    ),
}


def tower_layers(names: Iterable[str]) -> dict[str, list[list[str]]]:
    """Parameter names of the layers of each tower, 'image' and 'text', from the input up.

    The embeddings are the layer below the first block; a ResNet's blocks are its four stages, and its stem is
    below them. Norms behind the last block, projections and heads belong to no layer. A tower without blocks
    among the names is left out.
    """
    found, names = {}, list(names)
    for tower, (block, below) in _TOWERS.items():
        of_block = [(int(match[1]), name) for name in names if (match := block.search(name))]
        if of_block:
            layers = [[name for name in names if below.search(name)]]
            for index in sorted({index for index, _ in of_block}):
                layers.append([name for other, name in of_block if other == index])
            found[tower] = layers
    return found


def layer_factors(names: Sequence[str], decay: float, text_factor: float = 1.0) -> dict[str, float]:
    """Factors of the rate by parameter name; what is not in it has the whole rate.

    The last block of a tower has `decay`, the block below it `decay`², and so on; `text_factor` is of the
    whole text tower, its head included.
    """
    text = re.compile(_TEXT)
    factors = {name: text_factor for name in names if text.search(name)} if text_factor != 1 else {}
    if decay != 1:
        for layers in tower_layers(names).values():
            for depth, layer in enumerate(reversed(layers), start=1):
                factors |= {name: decay**depth * factors.get(name, 1.0) for name in layer}
    return factors


def layer_rates(names: Sequence[str], decay: float, text_factor: float, rate: float) -> str:
    """The rates of the layers of each tower, from the embeddings to what is behind the last block.

    `rate` is that of the heads.
    """
    rows = []
    for tower, layers in tower_layers(names).items():
        top = rate * text_factor if tower == "text" else rate
        rates = [top * decay**depth for depth in range(len(layers), -1, -1)]
        rows.append(f"{tower} {' '.join(f'{each:.3g}' for each in rates)}")
    return "; ".join(rows)
