"""Folders as a Hugging Face Hub has them: model.safetensors, its card config.json, a README with results."""

import html
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor

from model.clip import KNOWN_NAMES, model_label
from model.dual import DualModel
from model.files.architecture import HEAD_WIDTH, describe_towers
from model.files.card import Card, ModelCard, TextSearchCard
from model.files.info import CheckpointInfo, TowerInfo
from model.files.text_search_file import tower_facts
from model.files.text_search_info import TextSearchInfo
from model.names import our_names
from model.reid import ReIDModel, SideInformation
from model.tokenizers import ClipTokenizer
from utils.files import write_atomically
from utils.hub import LIBRARY, README, WEIGHTS
from utils.text import printable, shortened
from utils.untrusted.forms import check_form, read_json
from utils.untrusted.metrics_files import TestMetrics
from utils.weights import read_state_dict

_RANKS = (1, 5, 10)
_NOT_STATED = "not stated"
_WHERE = "the model card"  # in errors
_logger = logging.getLogger("transreid.model")


@dataclass(frozen=True)
class Publication:
    """What a model's file does not say, for its README and card.

    `metrics` is the metrics.json of a test of it; `license` (of the weights) and `data_license` are words
    such as 'mit', those of the card where they are ''; `repo` is the name that the README loads it by.
    """

    metrics: str | Path | None = None
    license: str = ""
    data_license: str = ""
    repo: str = "org/name"


def save_for_hub(
    network: ReIDModel | DualModel, info: TowerInfo, folder: str | Path, publication: Publication
) -> Path:
    """Write weights, card and README of a model that was loaded with facts `info`; returns the weights' path.

    The weights are those of `network`, and of a re-id file with a card also what it has besides: text tower,
    prompts, the rows of SIE. Without a card nothing says which camera a row is for: the mean row is written,
    with a warning. A README that is there stays as it is, which is logged. Raises OSError, or ValueError for
    a wrong word or metrics.json.
    """
    metrics = None if publication.metrics is None else _read_metrics(publication.metrics, info.path)
    if isinstance(network, DualModel):
        weights: dict[str, Tensor] = network.state_dict()
        card: Card = _text_search_card(network, cast("TextSearchInfo", info))
    else:
        facts = cast("CheckpointInfo", info)
        weights = _with_rest_of_file(network, facts)
        card = _reid_card(facts, weights)
    given = {"license": publication.license, "data_license": publication.data_license}
    given = {key: word for key, word in given.items() if word}
    card = check_form(dict(card) | given, type(card), _WHERE)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # One by one: tensors of one storage are refused, and so are views.
    whole = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in weights.items()
    }
    path = folder / WEIGHTS
    write_atomically(path, lambda file: safetensors.torch.save_file(whole, file, metadata={"format": "pt"}))
    card.write(path)
    if isinstance(network, DualModel):
        network.encode_text.tokenizer.save(folder)
    if (folder / README).exists():
        _logger.info("%s is kept as it is; delete it for a new one", folder / README)
    else:
        text = _readme(card, metrics, publication.repo)
        write_atomically(folder / README, lambda file: file.write_text(text, encoding="utf-8"))
    return path


def _read_metrics(file: str | Path, path: str) -> TestMetrics:
    metrics = read_json(file, TestMetrics)
    if metrics.weight and Path(metrics.weight).name != Path(path).name:
        _logger.warning("%s has the results of %s, not of %s", file, metrics.weight, path)
    return metrics


def _with_rest_of_file(network: ReIDModel, info: CheckpointInfo) -> dict[str, Tensor]:
    own = network.state_dict()
    if info.side_rows > 1 and info.card is None:
        _logger.warning(
            "%s has no model card: of its %d rows of SIE the mean is saved, as nothing says which is whose",
            *(info.path, info.side_rows),
        )
    weights = our_names(read_state_dict(info.path, KNOWN_NAMES), info.path)
    for key, value in own.items():
        # The network may have the mean of the rows of the file's table.
        if info.card is None or key not in weights or value.shape == weights[key].shape:
            weights[key] = value
    return weights


def _image_facts(info: TowerInfo, unseen: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a card about images; `unseen` are those that shapes do not show, where there is no card."""
    name = model_label(info.name) or (info.card.name if info.card else "")
    facts = {key: getattr(info, key) for key in ("size", "stride", "mean", "std", "resize")}
    if info.card is not None:
        return {**dict(info.card), **facts, "name": name}
    return {**facts, **unseen, "name": name, "method": "", "data": "", "versions": {}}


def _unseen_facts(info: TowerInfo) -> dict[str, Any]:
    config = describe_towers(info)[1]
    return {
        "quick_gelu": config.get("quick_gelu", False),
        "head_width": config["vision_cfg"].get("head_width", HEAD_WIDTH),
    }


def _reid_card(info: CheckpointInfo, weights: Mapping[str, Tensor]) -> ModelCard:
    facts = _image_facts(info, _unseen_facts(info) if info.card is None else {})
    facts |= {"neck": info.neck, "adapter_ratio": info.adapter_ratio if info.adapter_width else 0.0}
    if info.card is not None:
        facts["sie"] = info.card.sie and info.card.sie._replace(scale=info.sie_scale)
        return check_form(facts, ModelCard, _WHERE)
    has_text = any(name.startswith("text_encoder.") for name in weights)
    facts |= {
        "sie": SideInformation(1, 0, info.sie_scale) if info.side_rows else None,
        "classes": info.num_classes,
        "tokenizer": ClipTokenizer.name if has_text else None,
    }
    return check_form(facts, ModelCard, _WHERE)


def _text_search_card(network: DualModel, info: TextSearchInfo) -> TextSearchCard:
    facts = _image_facts(info, {}) | tower_facts(network) | {"text_length": info.text_length}
    return check_form(facts, TextSearchCard, _WHERE)


def _readme(card: Card, metrics: TestMetrics | None, repo: str) -> str:
    """README.md with the head that a hub reads: licence, library, and results as `model-index`."""
    from huggingface_hub import ModelCard as Readme
    from huggingface_hub import ModelCardData

    is_text_search = isinstance(card, TextSearchCard)
    task = "text-based person search" if is_text_search else "re-identification"
    tag = task.replace(" ", "-")
    title = " ".join(word for word in (card.name, card.method, card.data) if word) or LIBRARY
    results = [] if metrics is None else _results(metrics, card, tag)
    named = {"model_name": title, "eval_results": results} if results else {}
    head = ModelCardData(license=card.license or None, library_name=LIBRARY, tags=["clip", tag], **named)
    facts = {
        "Trained on": card.data,
        "Method": card.method,
        "Images": f"{card.size[0]} × {card.size[1]} pixels (height, width), {card.resize}",
        "Mean and standard deviation": f"{card.mean}, {card.std}",
        "Licence of the weights": card.license,
        "Licence of the data": card.data_license,
    }
    load = "load_text_model" if is_text_search else "load_model"
    sentence = ['sentences = model.encode_text(["a man in a red coat"])'] if is_text_search else []
    lines = [
        *(f"# {_cell(title)}", "", f"{task.capitalize()} with CLIP's towers.", ""),
        *("```python", f"import {LIBRARY}", "", f'model = {LIBRARY}.{load}("hf-hub:{repo}")'),
        *('features = model.encode_image(["a.jpg"])', *sentence, "```", ""),
        *("| | |", "|---|---|", *(f"| {key} | {_cell(fact)} |" for key, fact in facts.items())),
    ]
    if results:
        lines += ["", "| Data | Measure | Percent |", "|---|---|---|"]
        lines += [
            f"| {_cell(each.dataset_name)} | {each.metric_name} | {each.metric_value} |" for each in results
        ]
    text = "\n".join(["---", head.to_yaml(), "---", *lines, ""])
    return str(Readme(text))


def _results(metrics: TestMetrics, card: Card, task: str) -> list[Any]:
    """mAP and Rank-1, 5, 10 in percent, as huggingface_hub's records."""
    from huggingface_hub import EvalResult

    data = shortened(printable(metrics.dataset or card.data or _NOT_STATED))
    ranks = {f"Rank-{k}": metrics.cmc[min(k, len(metrics.cmc)) - 1] for k in _RANKS}
    return [
        EvalResult(
            task_type=task,
            dataset_type=data,
            dataset_name=data,
            metric_type=name,
            metric_name=f"{name}, re-ranked" if metrics.rerank else name,
            metric_value=round(100 * value, 2),
        )
        for name, value in {"mAP": metrics.mAP, **ranks}.items()
    ]


def _cell(text: str) -> str:
    """Text of a table in Markdown."""
    return html.escape(text, quote=False).replace("|", "&#124;") or _NOT_STATED
