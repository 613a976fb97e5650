"""Deep prompts against towers that are walked by hand, block by block."""

import copy

import pytest
import torch
from torch import nn

from model import build_clip, make_backbone
from model.prompts.deep import add_image_prompts, add_text_prompts, start_deep_prompts
from model.prompts.identity import PromptLearner
from model.towers.text import ClipText
from tests.toys import TOWERS

N, DEPTH = 2, 2


def image_tower():
    torch.manual_seed(0)
    tower = make_backbone(build_clip(TOWERS["toy-vit"], None).visual, (32, 16), (8, 8))
    add_image_prompts(tower, N, DEPTH)
    return tower


def test_images(fill):
    tower, images = image_tower(), fill("images", (3, 3, 32, 16), 1.0)
    patches = tower.conv1(images).flatten(2).transpose(1, 2)
    x = torch.cat([tower.class_embedding.expand(3, 1, -1), patches], dim=1) + tower.positional_embedding
    x = tower.ln_pre(torch.cat([x, tower.VPT.expand(3, -1, -1)], dim=1))
    for index, block in enumerate(tower.transformer.resblocks):
        if 1 <= index < DEPTH:
            x = torch.cat([x[:, :-N], block.VPT_shallow.expand(3, -1, -1)], dim=1)
        last = x[:, 0]
        x = block(x)
    got = tower(images)
    torch.testing.assert_close(got.last, last)
    torch.testing.assert_close(got.feat_proj, tower.ln_post(x[:, 0]) @ tower.proj)


@pytest.mark.parametrize("count", [1, 4, 6, 8])  # up to, and over, the words that all prompts share
def test_texts(count):
    torch.manual_seed(1)
    clip = build_clip(TOWERS["toy-vit"], None)
    text = ClipText(clip)
    learner = PromptLearner(3, clip.token_embedding, text.tokenizer, "person")
    add_text_prompts(text, count, DEPTH, int(learner.ends.min()))
    prompts = learner(torch.arange(3))
    x = torch.zeros(3, 77, text.width)  # all positions, as published
    x[:, : prompts.shape[1]] = prompts
    x = x + text.positional_embedding
    mask = torch.full((77, 77), -torch.inf).triu(1)
    for index, block in enumerate(text.transformer.resblocks):
        if 1 <= index < DEPTH:
            x = torch.cat([x[:, :1], block.VPT_shallow.expand(3, -1, -1), x[:, 1 + count :]], dim=1)
        x = block(x, attn_mask=mask)
    want = text.ln_final(x[:, prompts.shape[1] - 1]) @ text.text_projection
    for shared in (0, 3, learner.num_shared):
        torch.testing.assert_close(text.encode_embedded(prompts, shared=shared), want)
    assert all(block.VPT_shallow.grad is None for block in text.transformer.resblocks[1:DEPTH])
    text.encode_embedded(prompts, shared=learner.num_shared).sum().backward()
    assert text.transformer.resblocks[1].VPT_shallow.grad.abs().sum() > 0


class Exported(nn.Module):
    """A tower and what is called of it, as torch.export takes it."""

    def __init__(self, tower, encode):
        super().__init__()
        self.tower, self.encode = tower, encode

    def forward(self, x):
        return self.encode(self.tower, x)


@pytest.mark.parametrize("side", ["images", "texts"])
def test_an_exported_tower_takes_any_batch(fill, side):
    if side == "images":
        module = Exported(image_tower().eval(), lambda tower, images: tower(images).feat_proj)
        shape = 3, 32, 16
    else:
        text = ClipText(build_clip(TOWERS["toy-vit"], None)).eval()
        add_text_prompts(text, N, DEPTH, 8)
        module = Exported(text, lambda tower, words: tower.encode_embedded(words, shared=3))
        shape = 9, text.width
    inputs = [fill(f"{side}{count}", (count, *shape), 1.0) for count in (1, 2, 5)]
    with torch.no_grad():
        batch = ({0: torch.export.Dim("batch_size", max=64)},)
        program = torch.export.export(module, (inputs[1],), dynamic_shapes=batch, strict=False).module()
        for each in inputs:
            torch.testing.assert_close(program(each), module(each))


def test_a_copy_has_prompts_of_its_own(fill):
    tower, images = image_tower(), fill("images", (2, 3, 32, 16), 1.0)
    other, before = copy.deepcopy(tower), tower(images).feat
    with torch.no_grad():
        other.VPT.add_(1.0)
    assert torch.equal(tower(images).feat, before) and not torch.equal(other(images).feat, before)


def test_a_file_of_another_length_or_without_prompts_is_told():
    tower = image_tower()
    with pytest.raises(ValueError, match=r"some.pth.*VPT.*\[3, 64\].*\[2, 64\]"):
        start_deep_prompts(tower, {"VPT": torch.zeros(3, 64)}, "some.pth")
    with pytest.raises(ValueError, match=r"some.pth.*VPT"):
        start_deep_prompts(tower, {"conv1": torch.zeros(1)}, "some.pth")
