"""Memory of a training step of AltCLIP at its real size, with the settings that save some.

`make bench-memory`, or: python -m benchmarks.training.memory [--ways WAY ...] [--batch N ...] [--amp bf16]

The step is that of configs/tbps/vit_tbps_simplified.yml with AdamW, on towers of the sizes of BAAI/AltCLIP:
ViT-L/14 at 224 x 224 and XLM-R large, with captions of up to 40 tokens. Nothing is computed: the step runs on
tensors that have shapes but no numbers, and the bytes of all that are alive at a time are counted. A device
needs some more, for its libraries, for what its kernels use inside, and for gaps between blocks.
"""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from yacs.config import CfgNode

from benchmarks.measure import ROOT
from config import cfg_tbps
from config.arguments import Parser
from config.load import load_config
from model import make_text_search_model
from processor import make_plan, make_text_search_objective
from utils.memory import LiveBytes
from utils.precision import training_precision

CONFIG = ROOT / "configs/tbps/vit_tbps_simplified.yml"
# config.json of BAAI/AltCLIP, as far as sizes go.
ALTCLIP = {
    "model_type": "altclip",
    "projection_dim": 768,
    "text_config": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "vocab_size": 250_002,
        "max_position_embeddings": 514,
        "project_dim": 768,
    },
    "vision_config": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "image_size": 224,
        "patch_size": 14,
    },
}
_CHECKPOINT, _FREEZE = {"SOLVER.GRAD_CHECKPOINT": True}, {"MODEL.FREEZE_TEXT": True}
_MICRO = {"SOLVER.MICRO_BATCH": 4}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "GRAD_CHECKPOINT": _CHECKPOINT,
    "MICRO_BATCH 4": _MICRO,
    "both": _CHECKPOINT | _MICRO,
    "FREEZE_TEXT": _FREEZE,
    "FREEZE_TEXT and both": _FREEZE | _CHECKPOINT | _MICRO,
}
TOKENS = 40  # of the longest caption in a batch
STEPS = 2  # the first one makes the optimizer's state


def count_step(
    keys: Mapping[str, Any], batch: int, amp: str, sizes: Mapping[str, Any] = ALTCLIP
) -> dict[str, float]:
    """GB (10^9 bytes) of weights, of the optimizer's state, and at the peak of a step on `batch` pairs."""
    counter = LiveBytes()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        # The weights next to it are not read.
        (Path(folder) / "config.json").write_text(json.dumps(sizes))
        config = configuration(folder, batch, sizes, keys)
        stack.enter_context(FakeTensorMode())
        stack.enter_context(counter)
        weights, state, peak = _train(config, counter, batch, amp, sizes)
    return {"weights": weights / 1e9, "state": (state - weights) / 1e9, "peak": peak / 1e9}


def _train(
    config: CfgNode, counter: LiveBytes, batch: int, amp: str, sizes: Mapping[str, Any]
) -> tuple[int, int, int]:
    """Bytes of the weights, these with the optimizer's state, and at the peak of the last step."""
    model = make_text_search_model(config).train()
    weights, counter.weights = counter.now, {parameter.shape for parameter in model.parameters()}
    plan = make_plan(config, "main", iterations=1)
    optimizer = plan.make_optimizer(model.named_parameters())
    objective = make_text_search_objective(config, model).train()
    precision, given = training_precision(amp, torch.device("cpu")), blank_batch(batch, sizes)
    state = 0
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        state = counter.peak = counter.now
        with precision.autocast():
            terms = objective.losses(**given, second_images=None, views=None, soft_weight=0.5)
            loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        del terms, loss
        optimizer.step()
    return weights, state, counter.peak


def configuration(folder: str, batch: int, sizes: Mapping[str, Any], keys: Mapping[str, Any]) -> CfgNode:
    """The simplified text search with a random AltCLIP of the sizes that `folder` states."""
    vision = sizes["vision_config"]
    size, patch = ([vision[name]] * 2 for name in ("image_size", "patch_size"))
    values = {
        "MODEL.NAME": "AltCLIP",
        "MODEL.PRETRAIN_CHOICE": "none",
        "MODEL.PRETRAIN_PATH": f"{folder}/model.safetensors",
        "MODEL.STRIDE_SIZE": patch,
        "MODEL.TEXT_LENGTH": TOKENS,
        "INPUT.SIZE_TRAIN": size,
        "INPUT.SIZE_TEST": size,
        "SOLVER.IMS_PER_BATCH": batch,
        **keys,
    }
    return load_config(cfg_tbps, CONFIG, [word for pair in values.items() for word in pair])


def blank_batch(batch: int, sizes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Images, tokens, identities and seeds of a batch, as the objective takes them."""
    side = sizes["vision_config"]["image_size"]
    return {
        "images": torch.zeros(batch, 3, side, side),
        "tokens": torch.full((batch, TOKENS), 3),
        "pids": torch.arange(batch) // 2,
        "seeds": torch.arange(batch),
    }


def count_all(
    ways: Sequence[str], batches: Sequence[int], amps: Sequence[str], sizes: Mapping[str, Any] = ALTCLIP
) -> Iterator[dict[str, Any]]:
    """A record for each way, precision and batch."""
    for way in ways:
        for amp in amps:
            for batch in batches:
                yield {"way": way, "amp": amp, "batch": batch, **count_step(WAYS[way], batch, amp, sizes)}


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table in GB (10^9 bytes), a row for each way; shares are of the first way."""
    columns = list(dict.fromkeys((each["amp"], each["batch"]) for each in records))
    peaks = {(each["way"], (each["amp"], each["batch"])): each["peak"] for each in records}
    heads = [f"{'float32' if amp == 'off' else amp}, {batch} pairs" for amp, batch in columns]
    lines = [f"| settings | weights | state of AdamW | {' | '.join(heads)} |"]
    lines.append("|---" * (3 + len(columns)) + "|")
    first = records[0]["way"]
    for each in {each["way"]: each for each in records}.values():
        cells = [each["way"], f"{each['weights']:.1f}", f"{each['state']:.1f}"]
        for column in columns:
            peak = peaks[each["way"], column]
            cells.append(f"{peak:.1f} ({peak / peaks[first, column]:.0%})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON line for each count and the table at the end."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help=f"of {', '.join(WAYS)}")
    add("--batch", type=int, nargs="+", default=[16, 64], metavar="N", help="pairs (default: %(default)s)")
    add("--amp", nargs="+", choices=("off", "bf16"), default=["off", "bf16"], help="(default: %(default)s)")
    args = parser.parse_args(argv)
    records = []
    for record in count_all(args.ways, args.batch, args.amp):
        records.append(record)
        print(json.dumps(record), flush=True)
    print(f"\n{table(records)}")


if __name__ == "__main__":
    main()
