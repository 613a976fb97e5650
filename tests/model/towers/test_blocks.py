"""Blocks that compute only what is read, against open_clip's own blocks: values and gradients."""

import copy

import pytest
import torch
from open_clip.transformer import CustomResidualAttentionBlock, QuickGELU, ResidualAttentionBlock
from torch import nn

from model.towers.blocks import _QuickMLP, attention_weights, keys_values, require_plain_blocks, run_block

LENGTH, WIDTH = 7, 32
CAUSAL = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()


def make_block(**options):
    torch.manual_seed(0)
    block = ResidualAttentionBlock(WIDTH, 4, **options)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return block


def tokens(count=3, length=LENGTH):
    return torch.randn(count, length, WIDTH, generator=torch.Generator().manual_seed(1))


def with_gradients(block, x, run):
    """Output, and the gradients of a weighted sum of it for x and all weights."""
    x = x.clone().requires_grad_()
    output = run(block, x)
    block.zero_grad()
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return [output.detach(), x.grad, *(p.grad for p in block.parameters())]


def assert_same(got, wanted):
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("mask", [None, CAUSAL])
@pytest.mark.parametrize("options", [{}, {"act_layer": QuickGELU}, {"ls_init_value": 0.3}])
def test_a_block_is_open_clips(options, mask):
    block = make_block(**options)
    additive = None if mask is None else torch.zeros(LENGTH, LENGTH).masked_fill(~mask, -torch.inf)
    wanted = with_gradients(block, tokens(), lambda b, x: b(x, attn_mask=additive))
    assert_same(with_gradients(block, tokens(), lambda b, x: run_block(b, x, mask=mask)), wanted)


@pytest.mark.parametrize("queries", [slice(0, 1), slice(2, 5), slice(LENGTH - 1, None)])
@pytest.mark.parametrize("act_layer", [nn.GELU, QuickGELU])
def test_chosen_positions_are_those_of_the_whole(queries, act_layer):
    block = make_block(act_layer=act_layer)
    wanted = with_gradients(block, tokens(), lambda b, x: b(x)[:, queries])
    assert_same(with_gradients(block, tokens(), lambda b, x: run_block(b, x, queries=queries)), wanted)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("queries", [slice(None), slice(3, None)])
def test_earlier_positions_are_looked_at(rows, queries):
    block, earlier = make_block(), tokens(1, 3).expand(rows, -1, -1)
    x = tokens(3, 4)
    whole = torch.cat([earlier.expand(3, -1, -1), x], dim=1)
    wanted = run_block(block, whole, mask=CAUSAL)[:, 3:][:, queries]
    got = run_block(block, x, queries=queries, earlier=keys_values(block, earlier), mask=CAUSAL[3:][queries])
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


def test_attention_weights_are_open_clips_mean_over_heads():
    block, x = make_block(), tokens()
    normed = block.ln_1(x)
    _, wanted = block.attn(normed, normed, normed, need_weights=True)
    torch.testing.assert_close(attention_weights(block, x), wanted, atol=1e-6, rtol=1e-5)


def test_blocks_follow_autocast():
    block, x = make_block(act_layer=QuickGELU), tokens()
    with torch.autocast("cpu", torch.bfloat16):
        got = run_block(block, x, queries=slice(0, 1), earlier=keys_values(block, tokens(1, 2)))
    wanted = run_block(block, x, queries=slice(0, 1), earlier=keys_values(block, tokens(1, 2)))
    assert 0 < (got - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_gradients_follow_autocast():
    block = make_block(act_layer=QuickGELU)
    with torch.autocast("cpu", torch.bfloat16):
        got = with_gradients(block, tokens(), lambda b, x: run_block(b, x).float())
        theirs = with_gradients(block, tokens(), lambda b, x: b(x).float())
    wanted = with_gradients(block, tokens(), run_block)
    for ours, open_clips, exact in zip(got, theirs, wanted, strict=True):
        assert ours.dtype == torch.float32
        error = (ours - exact).abs().max()
        assert error <= 2 * (open_clips - exact).abs().max() + 0.01 * exact.abs().max()


def test_frozen_weights_get_no_gradient():
    block = make_block(act_layer=QuickGELU)
    wanted = with_gradients(block, tokens(), run_block)
    for parameter in block.parameters():
        parameter.requires_grad_(False)
    got = with_gradients(block, tokens(), run_block)
    assert all(gradient is None for gradient in got[2:])
    assert_same(got[:2], wanted[:2])
    for frozen in block.mlp.parameters():  # one at a time
        block.requires_grad_(True)
        frozen.requires_grad_(False)
        got = with_gradients(block, tokens(), run_block)
        place = next(i for i, p in enumerate(block.parameters()) if p is frozen) + 2
        assert got[place] is None
        assert_same(got[:place] + got[place + 1 :], wanted[:place] + wanted[place + 1 :])


def test_gradients_of_quick_gelu_are_those_of_differences():
    generator = torch.Generator().manual_seed(2)
    shapes = (5, 3), (7, 3), (7,), (2, 7), (2,)
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    assert torch.autograd.gradcheck(_QuickMLP.apply, [each.requires_grad_() for each in drawn])


def kept_numbers(block, x):
    """Numbers of distinct activations that a block keeps for its gradient."""
    kept, weights = {}, {p.untyped_storage().data_ptr() for p in block.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes() // 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = run_block(block, x)  # alive to the end of the count, so that no address is used twice
        return sum(kept.values()), output


def test_activations_of_quick_gelu_are_not_kept():
    x = tokens(8, 16).requires_grad_()
    kept = [kept_numbers(make_block(act_layer=layer), x)[0] for layer in (nn.GELU, QuickGELU)]
    assert kept[0] - kept[1] == 4 * x.numel()
    block = make_block(act_layer=QuickGELU).requires_grad_(False)
    # Also not what enters a frozen layer.
    assert kept[1] - kept_numbers(block, x)[0] >= x.numel()


@pytest.mark.skipif(not hasattr(torch.compiler, "is_exporting"), reason="torch is too old")
def test_quick_gelu_is_exported_as_plain_layers():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = make_block(act_layer=QuickGELU)

        def forward(self, x):
            return run_block(self.block, x)

    module = Block().eval()
    with torch.no_grad():
        program = torch.export.export(module, (tokens(),), strict=False)
        torch.testing.assert_close(program.module()(tokens()), module(tokens()), atol=1e-5, rtol=1e-5)
    called = {str(node.target) for node in program.graph.nodes}
    assert not [name for name in called if "addmm" in name] and "aten.linear.default" in called


def test_other_blocks_are_named():
    require_plain_blocks([make_block(), make_block(ls_init_value=0.1)])
    for other in (
        CustomResidualAttentionBlock(WIDTH, 4),
        ResidualAttentionBlock(WIDTH, 4, batch_first=False),
    ):
        name = type(other).__name__
        with pytest.raises(ValueError, match=f"a transformer block of kind {name}; allowed: CLIP's own"):
            require_plain_blocks([make_block(), other])


def test_towers_of_other_blocks_are_refused(toy_clip):
    from model.towers.image import make_backbone

    tower = copy.deepcopy(toy_clip().visual)
    tower.transformer.resblocks[1] = CustomResidualAttentionBlock(64, 1)
    with pytest.raises(ValueError, match="kind CustomResidualAttentionBlock"):
        make_backbone(tower, (32, 32), (8, 8))
