"""A small AltCLIP of random weights in a folder as the hub has it: settings, weights and tokenizer."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from utils.package import require_extra

PIECES = 700  # of the tokenizer, for the sentences of three languages
_LONGEST = 12  # characters of a piece, so that the sentences' frequent phrases are none
_UNKNOWN = "<unk>"
_SPECIAL = ["<s>", "<pad>", "</s>", _UNKNOWN]  # as XLM-R numbers them; <mask> is the last
_FEATURES = 128


def write_altclip(folder: Path, texts: Sequence[str], seed: int) -> Path:
    """Write config.json, model.safetensors and tokenizer.json, and return the folder.

    The tokenizer is trained on the texts; the weights are transformers' initial ones, with a standard
    deviation that suits so narrow a text tower. Raises MissingExtra
    without transformers and tokenizers.
    """
    require_extra("text")
    from transformers import AltCLIPConfig, AltCLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _train_tokenizer(texts)
    settings = _settings(tokenizer.get_vocab_size())
    torch.manual_seed(seed)
    AltCLIPModel(AltCLIPConfig(**settings)).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _train_tokenizer(texts: Sequence[str]) -> Any:
    """A unigram tokenizer of XLM-R's form."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=PIECES - 1,
        special_tokens=_SPECIAL,
        unk_token=_UNKNOWN,
        max_piece_length=_LONGEST,
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, *_words_again(texts)], trainer)
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def _words_again(texts: Sequence[str]) -> Iterable[str]:
    """Each word with a comma: the trainer makes pieces only of what several words share."""
    words = sorted({word.rstrip(",.") for text in texts for word in text.split()})
    return (f"{word}," for word in words)


def _settings(pieces: int) -> dict[str, Any]:
    """AltCLIP's config.json, with an image tower like that of configs/demo/small_dual.json."""
    return {
        "architectures": ["AltCLIPModel"],
        "model_type": "altclip",
        "projection_dim": _FEATURES,
        "text_config": {
            "hidden_size": 96,
            "intermediate_size": 384,
            "num_attention_heads": 3,
            "num_hidden_layers": 2,
            "vocab_size": pieces,
            "max_position_embeddings": 80,
            "project_dim": _FEATURES,
            "type_vocab_size": 1,
            "hidden_act": "gelu",
            "initializer_range": 0.1,
            "layer_norm_eps": 1e-5,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
        },
        "vision_config": {
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_attention_heads": 4,
            "num_hidden_layers": 4,
            "image_size": 96,
            "patch_size": 16,
            "hidden_act": "quick_gelu",
            "projection_dim": _FEATURES,
        },
    }
