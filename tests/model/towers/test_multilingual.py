"""Multilingual text towers equal transformers' and open_clip's, in parts, recomputed, and with dropout."""

import copy

import pytest
import torch

pytest.importorskip("transformers")

from safetensors.torch import load_file

from model.names import split_multilingual
from model.tokenizers import SentencePieceTokenizer
from model.towers.multilingual import MULTILINGUAL, XlmSizes, multilingual_kind, read_sizes
from tests.altclip import TEXTS, train_tokenizer, write_altclip

WORDS = 90
SIZES = {
    "altclip": XlmSizes("altclip", 32, 3, 4, 64, WORDS, 40, 24, 16),
    "xlm-roberta": XlmSizes("xlm-roberta", 32, 3, 4, 64, WORDS, 40, 24, 16),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    train_tokenizer(TEXTS, WORDS).save(str(path))
    return SentencePieceTokenizer(path, WORDS, 20)


def make(kind, tokenizer, **settings):
    torch.manual_seed(1)
    tower = MULTILINGUAL[kind](SIZES[kind], tokenizer, **settings)
    for parameter in tower.parameters():  # biases and norms that matter
        torch.nn.init.normal_(parameter, std=0.2)
    return tower


def test_altclip_gives_the_features_of_transformers(tmp_path):
    model = write_altclip(tmp_path)
    weights = split_multilingual(load_file(tmp_path / "model.safetensors"), "file")[0]
    sizes = read_sizes({key: tuple(value.shape) for key, value in weights.items()}, "encode_text.", heads=4)
    tokenizer = SentencePieceTokenizer(tmp_path / "tokenizer.json", sizes.words, 20)
    tower = MULTILINGUAL["altclip"](sizes, tokenizer).eval()
    tower.load_state_dict({key.removeprefix("encode_text."): value for key, value in weights.items()})
    tokens, mask = tokenizer(TEXTS)
    with torch.no_grad():
        theirs = model.get_text_features(input_ids=tokens, attention_mask=mask.long())
        theirs = theirs if isinstance(theirs, torch.Tensor) else theirs.pooler_output
        ours = tower(tokens)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert ours.std() > 0.01


def test_xlm_roberta_gives_the_features_of_open_clip(tokenizer):
    from open_clip.hf_model import HFTextEncoder
    from transformers import XLMRobertaConfig

    tower = make("xlm-roberta", tokenizer).eval()
    config = XLMRobertaConfig(
        vocab_size=WORDS,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )
    theirs = HFTextEncoder("", 16, config=config, pooler_type="mean_pooler", proj_type="mlp").eval()
    unused = {key: value for key, value in theirs.state_dict().items() if "pooler" in key}
    theirs.load_state_dict(tower.state_dict() | unused)
    tokens, _ = tokenizer(TEXTS)
    with torch.no_grad():
        assert torch.allclose(tower(tokens), theirs(tokens), atol=1e-5)


@pytest.mark.parametrize("kind", MULTILINGUAL)
def test_padding_changes_nothing(kind, tokenizer):
    tower = make(kind, tokenizer).eval()
    tokens, mask = tokenizer(TEXTS)
    longest = int(mask.sum(dim=1).max())
    alone = [tower(row[None, : int(length)]) for row, length in zip(tokens, mask.sum(dim=1), strict=True)]
    assert torch.allclose(tower(tokens[:, :longest]), torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize("kind", MULTILINGUAL)
def test_parts_and_recomputing_leave_gradients(kind, tokenizer):
    tokens, seeds = tokenizer(TEXTS)[0], torch.arange(len(TEXTS))
    found = {}
    for name, settings in {
        "plain": {},
        "parts": {"micro_batch": 4},
        "recomputed": {"recompute_blocks": True},
        "both": {"micro_batch": 4, "recompute_blocks": True},
    }.items():
        tower = make(kind, tokenizer, dropout=0.3, **settings).train()
        features = tower(tokens, seeds)
        (features * torch.arange(features.numel()).view_as(features)).sum().backward()
        found[name] = features, [parameter.grad for parameter in tower.parameters()]
    features, gradients = found.pop("plain")
    for other, others in found.values():
        assert torch.allclose(features, other, atol=1e-5)
        for one, two in zip(gradients, others, strict=True):
            assert torch.allclose(one, two, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("kind", MULTILINGUAL)
def test_dropout_follows_from_the_seed_of_a_text(kind, tokenizer):
    tower = make(kind, tokenizer, dropout=0.3).train()
    tokens = tokenizer(TEXTS)[0]
    seeds = torch.tensor([5, 6, 7, 8, 9, 10])
    features = tower(tokens, seeds)
    turned = tower(tokens.flip(0), seeds.flip(0)).flip(0)
    assert torch.allclose(features, turned, atol=1e-5)
    assert not torch.allclose(features, tower(tokens, seeds + 1), atol=1e-2)
    assert not torch.allclose(tower(tokens), tower(tokens), atol=1e-2)  # torch's generator
    evaluated = copy.deepcopy(tower).eval()
    assert torch.equal(evaluated(tokens), evaluated(tokens, seeds))


def test_dropout_keeps_the_mean():
    tower = make("altclip", SentencePieceTokenizer("none", WORDS, 20), dropout=0.25)
    states = torch.ones(200, 8, 32)
    dropped = tower._drop(states, torch.arange(200), 3)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert not torch.equal(dropped, tower._drop(states, torch.arange(200), 4))


@pytest.mark.parametrize("kind", MULTILINGUAL)
def test_sizes_are_read_from_names_and_shapes(kind, tokenizer):
    shape = {f"T.{key}": tuple(value.shape) for key, value in make(kind, tokenizer).state_dict().items()}
    assert multilingual_kind(shape, "T.") == kind
    assert read_sizes(shape, "T.", heads=4) == SIZES[kind]
    del shape["T.proj.2.weight" if kind == "xlm-roberta" else "T.text_projection.weight"]
    with pytest.raises(ValueError, match="weight is missing; allowed"):
        read_sizes(shape, "T.")


def test_longer_texts_than_positions_are_refused(tokenizer):
    with pytest.raises(ValueError, match="text_length is 50; allowed with this text tower: up to 38"):
        make("altclip", SentencePieceTokenizer("none", WORDS, 50))
