"""Prompts and the text tower over them, against open_clip's own way through all 77 positions."""

import open_clip
import pytest
import torch

from model.prompts.identity import NUM_TOKENS, PromptLearner, prompt_template
from model.tokenizers import ClipTokenizer

X_TOKENS = slice(5, 5 + NUM_TOKENS)


def tokenize(subject):
    return ClipTokenizer()([prompt_template(subject)])[0]


@pytest.mark.parametrize(("case", "subject"), [("vit_person", "person"), ("vit_veri_camview", "vehicle")])
def test_template_is_the_published_one(golden, case, subject):
    tokens = tokenize(subject)
    assert tokens.tolist() == golden(f"models/{case}.npz")["tokenized_prompt"].tolist()
    assert int(tokens.argmax()) == 11


@pytest.mark.parametrize(("subject", "length"), [("person", 12), ("vehicle", 12), ("delivery robot", 13)])
@torch.no_grad()
def test_positions_after_the_end_of_text_do_not_matter(text_side, subject, length):
    clip, learner, encoder = text_side(subject)
    prompts = learner(torch.tensor([2, 0, 1]))
    assert learner.length == prompts.shape[1] == length
    # All 77 positions as open_clip encodes text, the placeholders replaced.
    tokens = tokenize(subject)
    x = clip.token_embedding(tokens).repeat(3, 1, 1)
    x[:, X_TOKENS] = learner.cls_ctx[[2, 0, 1]]
    x = clip.transformer(x + clip.positional_embedding, attn_mask=clip.attn_mask)
    wanted = clip.ln_final(x)[:, int(tokens.argmax())] @ clip.text_projection
    got = encoder.encode_embedded(prompts)
    assert torch.allclose(got, wanted, atol=1e-5) and got.shape == (3, 16)
    assert not torch.allclose(got[0], got[1], atol=1e-4)  # each identity has its own prompt


@pytest.mark.parametrize("subject", ["person", "delivery robot"])
@torch.no_grad()
def test_with_its_placeholders_a_prompt_is_plain_text(text_side, subject):
    clip, learner, encoder = text_side(subject)
    tokens = open_clip.get_tokenizer("toy-vit")(f"A photo of a X X X X {subject}.")
    learner.cls_ctx.copy_(clip.token_embedding(tokens)[:, X_TOKENS].expand_as(learner.cls_ctx))
    assert torch.allclose(
        encoder.encode_embedded(learner(torch.tensor([1]))), clip.encode_text(tokens), atol=1e-5
    )


def test_buffers_hold_the_template(text_side):
    clip, learner, _ = text_side()
    embedded = clip.token_embedding(tokenize("person"))
    assert torch.equal(learner.token_prefix, embedded[:, :5])
    assert torch.equal(learner.token_suffix, embedded[:, 9:]) and learner.token_suffix.shape == (1, 68, 32)
    shapes = {name: tuple(value.shape) for name, value in learner.state_dict().items()}
    assert shapes == {"cls_ctx": (3, 4, 32), "token_prefix": (1, 5, 32), "token_suffix": (1, 68, 32)}


def test_prompts_start_small(text_side):
    _, learner, _ = text_side(classes=200)
    assert abs(learner.cls_ctx.std().item() - 0.02) < 1e-3 and abs(learner.cls_ctx.mean().item()) < 1e-3


def test_weights_of_prompts_that_end_elsewhere_are_refused(text_side):
    clip, learner, encoder = text_side("person")
    phrases = ["person", "delivery robot", "vehicle"]

    def of(subjects):
        return PromptLearner(3, clip.token_embedding, encoder.tokenizer, subjects)

    of(phrases).load_state_dict(of(["man", "tall woman", "car"]).state_dict())
    of("robot").load_state_dict(learner.state_dict())
    with pytest.raises(ValueError, match=r"subjects give 2 of 3 prompts another length"):
        of(phrases).load_state_dict(of(["blue car", "car", "truck"]).state_dict())
    with pytest.raises(ValueError, match=r"subjects give 1 of 1 prompts another length"):
        of("delivery robot").load_state_dict(learner.state_dict())
