"""Dropout from seeds: its statistics, what its numbers depend on, and towers that use it.

All draws are fixed. Bounds are five standard errors.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from model.towers.blocks import run_block
from model.towers.dropout import keep_factors, other_seeds
from model.towers.text import ClipText

SEEDS, HEADS, SIDE = 256, 8, 40
ERRORS = 5
STEP = 0x9E3779B97F4A7C15
# Of what follows one another, and of the largest numbers that a sampler may give.
STARTS = [0, 10**9, 2**62]


def dropped(seeds, *, layer=0, rate=0.5, rows=SIDE, columns=SIDE, heads=HEADS):
    """(B, heads, rows, columns) of 1 where attention is dropped, else 0."""
    factors = keep_factors(seeds, torch.arange(rows), columns, layer=layer, heads=heads, rate=rate)
    return (factors == 0).double()


def consecutive(start=0, count=SEEDS):
    return torch.arange(start, start + count)


def assert_uncorrelated(a, b):
    """Draws of rate 0.5 agree in half of all places."""
    agreement = ((2 * a - 1) * (2 * b - 1)).mean().item()
    assert abs(agreement) < ERRORS / math.sqrt(a.numel())


# ---- statistics


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("rate", [0.05, 0.3, 0.9])
def test_share_and_size_of_what_is_kept(rate, start):
    factors = keep_factors(consecutive(start), torch.arange(SIDE), SIDE, layer=2, heads=HEADS, rate=rate)
    assert factors.dtype == torch.float32 and factors.shape == (SEEDS, HEADS, SIDE, SIDE)
    zero, kept = factors.unique().tolist()
    assert zero == 0 and kept == pytest.approx(1 / (1 - rate))
    count = factors.numel()
    share = (factors == 0).double().mean().item()
    assert abs(share - rate) < ERRORS * math.sqrt(rate * (1 - rate) / count)
    assert factors.double().mean().item() == pytest.approx(1, abs=0.01)  # so that attention keeps its size


def test_nothing_is_dropped_at_rate_0():
    factors = keep_factors(consecutive(), torch.arange(3), 3, layer=0, heads=2, rate=0.0)
    assert torch.equal(factors, torch.ones(SEEDS, 2, 3, 3))


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_neighbours_are_independent(axis, start):
    """Seeds that follow one another, heads, rows and columns."""
    draw = dropped(consecutive(start))
    for lag in (1, 2, 3, 5):
        length = draw.shape[axis] - lag
        assert_uncorrelated(draw.narrow(axis, 0, length), draw.narrow(axis, lag, length))


@pytest.mark.parametrize("start", STARTS)
def test_layers_and_second_draws_are_independent(start):
    seeds = consecutive(start)
    draw, second = dropped(seeds), dropped(other_seeds(seeds))
    assert_uncorrelated(draw, second)
    assert_uncorrelated(draw, dropped(other_seeds(other_seeds(seeds))))
    assert_uncorrelated(draw.roll(1, dims=0), second)
    for layer in (1, 2, 11):
        assert_uncorrelated(draw, dropped(seeds, layer=layer))


def test_rows_and_columns_are_not_exchangeable():
    draw = dropped(consecutive())
    above = torch.ones(SIDE, SIDE, dtype=torch.bool).triu(1)
    assert_uncorrelated(draw[:, :, above], draw.transpose(2, 3)[:, :, above])


@pytest.mark.parametrize("axes", [(3,), (2,), (2, 3), (1, 2, 3), (0,), (0, 1), (0, 3)])
def test_counts_vary_as_those_of_independent_draws(axes):
    """Of what is dropped along some axes: the variance is that of a binomial number."""
    draw, rate = dropped(consecutive(), rate=0.3), 0.3
    counts = draw.sum(dim=axes).flatten()
    trials = draw.numel() / len(counts)
    variance = (counts - trials * rate).square().mean().item() / (trials * rate * (1 - rate))
    assert abs(variance - 1) < ERRORS * math.sqrt(2 / len(counts))


def test_every_row_of_a_table_is_another_one():
    """No two rows of any sample, head or layer begin with the same 40 numbers."""
    tables = [dropped(consecutive(count=64), layer=layer).bool() for layer in range(4)]
    rows = torch.cat([table.flatten(0, 2) for table in tables])
    numbers = (rows.long() << torch.arange(SIDE)).sum(dim=1)
    expected = len(numbers) ** 2 / 2 / 2**SIDE  # pairs that are equal by chance
    assert len(numbers) - len(numbers.unique()) <= expected + ERRORS


def test_the_other_seeds_are_new():
    seeds = consecutive(count=10_000)
    assert len(torch.cat([seeds, other_seeds(seeds), other_seeds(other_seeds(seeds))]).unique()) == 30_000
    assert torch.equal(seeds, consecutive(count=10_000))


# ---- what the numbers depend on


def test_the_batch_makes_no_difference():
    seeds = torch.tensor([7, 2**62 - 1, 0, 7, 123456789])
    whole = dropped(seeds)
    assert torch.equal(whole[0], whole[3]) and not torch.equal(whole[0], whole[1])
    for place, seed in enumerate(seeds):
        assert torch.equal(dropped(seed[None])[0], whole[place])
    assert torch.equal(dropped(seeds.flip(0)), whole.flip(0))


@pytest.mark.parametrize(("rows", "columns"), [(12, 12), (1, 39), (40, 7), (3, 1)])
def test_the_length_makes_no_difference(rows, columns):
    seeds = consecutive(count=4)
    assert torch.equal(dropped(seeds, rows=rows, columns=columns), dropped(seeds)[..., :rows, :columns])


def test_rows_can_be_chosen_for_each_sample():
    seeds, rows = consecutive(count=3), torch.tensor([[4, 0], [39, 4], [5, 5]])
    chosen = keep_factors(seeds, rows, SIDE, layer=1, heads=HEADS, rate=0.5)
    whole = keep_factors(seeds, torch.arange(SIDE), SIDE, layer=1, heads=HEADS, rate=0.5)
    assert torch.equal(chosen, torch.stack([each[:, own] for each, own in zip(whole, rows, strict=True)]))


def mixed_by_hand(number):
    """SplitMix64 on a natural number of 64 bits."""
    last = 2**64 - 1
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & last
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & last
    return number ^ (number >> 31)


def is_dropped_by_hand(seed, head, row, column, rate):
    """`head` counts those of all layers."""
    place = (head * 4096 + row) * 4096 + column // 2
    key = mixed_by_hand((seed + STEP) % 2**64)
    mixed = mixed_by_hand((key + place) * STEP % 2**64)
    half = mixed >> 32 if column % 2 else mixed % 2**32
    return (half + 2**31) % 2**32 < round(rate * 2**32)  # the halves are signed numbers


def test_the_numbers_are_those_worked_out_by_hand():
    """A run that is resumed with a later version goes on with the same draws."""
    seeds = torch.tensor([0, 1, 2**62 - 1, -5])
    draw = dropped(seeds, layer=3, rows=5, columns=7, heads=2, rate=0.3)
    for place in torch.cartesian_prod(*map(torch.arange, draw.shape)).tolist():
        sample, head, row, column = place
        by_hand = is_dropped_by_hand(seeds[sample].item(), 3 * 2 + head, row, column, 0.3)
        assert draw[tuple(place)] == by_hand
    second = [mixed_by_hand((seed + STEP) % 2**64) for seed in seeds.tolist()]
    assert [number % 2**64 for number in other_seeds(seeds).tolist()] == second


# ---- a block


@pytest.fixture
def block(toy_clip):
    """A block of a text tower, in training mode."""
    return toy_clip().transformer.resblocks[1].train()


def written_out(block, x, factors):
    """A causal block whose shares of attention are multiplied with factors."""
    width, heads = x.shape[2], block.attn.num_heads
    packed = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)
    query, key, value = (
        each.unflatten(2, (heads, width // heads)).transpose(1, 2) for each in packed.chunk(3, dim=2)
    )
    scores = query @ key.transpose(2, 3) / math.sqrt(width // heads)
    later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    shares = scores.masked_fill(later, -torch.inf).softmax(dim=3) * factors
    x = x + block.attn.out_proj((shares @ value).transpose(1, 2).flatten(2))
    return x + block.mlp(block.ln_2(x))


def test_values_and_gradients_of_a_block(block):
    x = torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    factors = keep_factors(consecutive(count=3), torch.arange(9), 9, layer=1, heads=2, rate=0.4)
    may_look = torch.ones(9, 9, dtype=torch.bool).tril()
    outputs = run_block(block, x, mask=may_look, factors=factors), written_out(block, x, factors)
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
    learned = [x, *block.parameters()]
    found, wanted = (torch.autograd.grad(output.square().sum(), learned) for output in outputs)
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).abs().max() <= 1e-5 * max(other.abs().max(), 1)


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_a_block_has_the_distribution_of_torchs_dropout(block, rate):
    count, length = 4000, 6
    x = torch.randn(1, length, 32, generator=torch.Generator().manual_seed(0)).expand(count, -1, -1)
    may_look = torch.ones(length, length, dtype=torch.bool).tril()
    factors = keep_factors(
        consecutive(count=count), torch.arange(length), length, layer=0, heads=2, rate=rate
    )
    with torch.no_grad():
        ours = run_block(block, x, mask=may_look, factors=factors).double()
        block.attn.dropout = rate
        torch.manual_seed(0)
        torchs = run_block(block, x, mask=may_look).double()
        block.attn.dropout = 0.0
        plain = run_block(block, x, mask=may_look).double()
    variances = ours.var(dim=0), torchs.var(dim=0)
    assert variances[0].max() > 1e-6
    error = ((variances[0] + variances[1]) / count).sqrt() + 1e-9
    assert ((ours.mean(dim=0) - torchs.mean(dim=0)).abs() <= ERRORS * error).all()
    # Moments of the fourth order give the error of a variance.
    fourth = (torchs - torchs.mean(dim=0)).pow(4).mean(dim=0)
    error = (2 * (fourth - variances[1] ** 2).clamp(min=0) / count).sqrt() + 1e-9
    assert ((variances[0] - variances[1]).abs() <= ERRORS * error).all()
    torch.testing.assert_close(ours[:, 0].mean(dim=0), torchs[:, 0].mean(dim=0), rtol=0, atol=0.1)
    assert not torch.equal(ours[0], plain[0])


# ---- a tower

TEXTS = ["a man in a red coat", "person", "a woman with long hair and a blue bag on her shoulder", "a man"]


@pytest.fixture
def tower(toy_clip):
    """tower(micro_batch=2) -> a text tower with dropout in training mode, of equal weights each time."""
    return lambda **more: ClipText(toy_clip(), dropout=0.3, **more).train()


@pytest.fixture
def tokens(tower):
    return tower().tokenizer(TEXTS)[0]


SEEDS_OF_TEXTS = torch.tensor([3, 4, 2**61, 3])


def test_the_length_of_a_batch_makes_no_difference(tower, tokens):
    model, ends = tower(), tokens.argmax(dim=1)
    whole = model(tokens, SEEDS_OF_TEXTS)
    assert (whole - model.eval()(tokens)).abs().max() > 0.01
    model.train()
    for length in (int(ends.max()) + 1, 30):
        cut = model(tokens[:, :length], SEEDS_OF_TEXTS)
        torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-5)
    for row, end in enumerate(ends):
        alone = model(tokens[row : row + 1, : end + 1], SEEDS_OF_TEXTS[row : row + 1])
        torch.testing.assert_close(alone[0], whole[row], rtol=1e-5, atol=1e-5)


def features_and_gradients(model, tokens):
    features = model(tokens, SEEDS_OF_TEXTS)
    features.square().sum().backward()
    return features, {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_parts_give_the_features_and_gradients_of_the_whole(tower, tokens, size):
    whole, parts = (features_and_gradients(tower(micro_batch=n).double(), tokens) for n in (0, size))
    torch.testing.assert_close(parts, whole)


def test_the_end_of_text_sees_the_factors_of_all_rows(tower, tokens):
    """The last block computes only that row."""
    model = tower()
    everywhere = model.encode_tokens(tokens, SEEDS_OF_TEXTS)
    ends = everywhere[torch.arange(len(tokens)), tokens.argmax(dim=1)]
    torch.testing.assert_close(model(tokens, SEEDS_OF_TEXTS), ends, rtol=1e-5, atol=1e-5)


def test_every_text_has_its_own_draw(tower):
    model = tower()
    tokens = model.tokenizer(["a man in a red coat"] * 4)[0]
    one, two, three, four = model(tokens, SEEDS_OF_TEXTS)
    torch.testing.assert_close(one, four, rtol=1e-5, atol=1e-5)
    assert all((one - other).abs().max() > 1e-3 for other in (two, three))


def test_every_layer_drops_out_by_itself(tower, tokens, monkeypatch):
    seen = []

    def watch(seeds, rows, columns, *, layer, heads, rate):
        seen.append((layer, heads, rate, columns))
        return keep_factors(seeds, rows, columns, layer=layer, heads=heads, rate=rate)

    monkeypatch.setattr("model.towers.text.keep_factors", watch)
    tower()(tokens[:, :20], SEEDS_OF_TEXTS)
    assert seen == [(0, 2, 0.3, 20), (1, 2, 0.3, 20)]


def test_without_seeds_torch_draws_them(tower, tokens):
    model = tower()
    torch.manual_seed(5)
    first, second = model(tokens), model(tokens)
    torch.manual_seed(5)
    torch.testing.assert_close(model(tokens), first, rtol=0, atol=0)
    assert (first - second).abs().max() > 1e-3


def test_no_dropout_in_evaluation(tower, toy_clip, tokens):
    plain = ClipText(toy_clip()).eval()(tokens)
    assert torch.equal(tower().eval()(tokens, SEEDS_OF_TEXTS), plain)
    assert torch.equal(ClipText(toy_clip()).train()(tokens, SEEDS_OF_TEXTS), plain)
    # Prompts and masked texts, which other methods encode, have none in training either.
    assert torch.equal(tower().encode(tokens), plain)


@pytest.mark.slow
@torch.no_grad()
def test_a_compiled_tower_has_the_same_draws(tower, tokens):
    model = tower()
    wanted = model(tokens, SEEDS_OF_TEXTS)
    torch._dynamo.reset()
    model.compile(dynamic=True)
    for length in (77, 20):
        found = model(tokens[:, :length], SEEDS_OF_TEXTS)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
