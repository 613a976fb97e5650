"""A tiny random AltCLIP in a folder as the hub has it: settings, weights, tokenizer."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = (
    "a man in a red coat with a blue backpack",
    "a woman wearing a long green skirt and white shoes",
    "一个穿着红色外套背着蓝色背包的男人",
    "一位穿着绿色长裙和白色鞋子的女士",
    "мужчина в красной куртке с синим рюкзаком",
    "женщина в длинной зелёной юбке и белых туфлях",
)
SIZES = {
    "width": 32,
    "layers": 2,
    "heads": 4,
    "projected": 24,
    "inner": 40,
    "patch": 8,
    "image_size": 32,
    "positions": 40,
}


def train_tokenizer(texts=TEXTS, words=300):
    """A unigram tokenizer of the form of XLM-R's."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=words - 1, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def altclip_settings(words, sizes=None):
    """The content of config.json."""
    sizes = SIZES | (sizes or {})
    tower = {
        "hidden_size": sizes["width"],
        "intermediate_size": 2 * sizes["width"],
        "num_attention_heads": sizes["heads"],
        "num_hidden_layers": sizes["layers"],
        "layer_norm_eps": 1e-5,
    }
    return {
        "architectures": ["AltCLIPModel"],
        "model_type": "altclip",
        "projection_dim": sizes["projected"],
        "logit_scale_init_value": 2.6592,
        "text_config": {
            **tower,
            "vocab_size": words,
            "max_position_embeddings": sizes["positions"],
            "project_dim": sizes["inner"],
            "type_vocab_size": 1,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
        },
        "vision_config": {
            **tower,
            "image_size": sizes["image_size"],
            "patch_size": sizes["patch"],
            "hidden_act": "quick_gelu",
            "projection_dim": sizes["projected"],
        },
    }


def write_altclip(folder, texts=TEXTS, *, tokenizer=True, seed=0, **sizes):
    """Write the folder with transformers' own weights of these sizes; returns transformers' model."""
    from transformers import AltCLIPConfig, AltCLIPModel

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = train_tokenizer(texts)
    settings = altclip_settings(made.get_vocab_size(), sizes)
    torch.manual_seed(seed)
    model = AltCLIPModel(AltCLIPConfig(**settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "logit_scale":  # biases and norms that matter
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(settings))
    if tokenizer:
        made.save(str(folder / "tokenizer.json"))
    return model
