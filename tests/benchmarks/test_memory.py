"""The benchmark of a training step's memory with a tiny AltCLIP."""

import contextlib
import copy
import json

import pytest
import torch

pytest.importorskip("transformers")

from benchmarks.training import memory
from benchmarks.training.memory import ALTCLIP, WAYS, LiveBytes, count_step

TINY = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}


@pytest.fixture
def tiny():
    sizes = copy.deepcopy(ALTCLIP)
    sizes["text_config"] |= TINY | {"vocab_size": 300}
    sizes["vision_config"] |= TINY | {"image_size": 32, "patch_size": 8}
    return sizes


def test_the_count_is_that_of_numbers(tiny, monkeypatch):
    for amp in ("off", "bf16"):
        fake = count_step(WAYS["plain"], 8, amp, tiny)
        with monkeypatch.context() as patch:
            patch.setattr(memory, "FakeTensorMode", contextlib.nullcontext)
            assert count_step(WAYS["plain"], 8, amp, tiny)["peak"] == pytest.approx(fake["peak"], rel=0.02)


def test_every_way_saves_memory(tiny):
    found = {way: count_step(keys, 16, "off", tiny) for way, keys in WAYS.items()}
    plain = found["plain"]
    assert plain["state"] == pytest.approx(2 * plain["weights"], rel=0.1)  # patches are frozen
    for way, count in found.items():
        assert count["weights"] == plain["weights"]
        assert (count["state"] < plain["state"]) == ("FREEZE_TEXT" in way)
        assert way == "plain" or count["peak"] < plain["peak"]


def test_bytes_that_are_freed_do_not_count():
    with LiveBytes() as counter:
        one = torch.zeros(1000)
        view = one[:10]
        other = one + 1
        assert counter.now == counter.peak == 8000
        del one
        assert counter.now == 8000  # the view keeps it
        del view, other
    assert (counter.now, counter.peak) == (0, 8000)


def test_gradients_of_two_uses_are_added_in_place():
    table, rows = torch.nn.Embedding(1000, 100), torch.arange(4)
    with LiveBytes() as counter:
        counter.weights = {table.weight.shape}
        (table(rows).sum() + table(rows + 4).sum()).backward()
    assert 2 * 400_000 <= counter.peak < 2.1 * 400_000


def test_the_table(monkeypatch, capsys):
    def count(keys, batch, amp, sizes):
        peak = (20.0 if amp == "off" else 10.0) * (0.6 if keys else 1)
        return {"weights": 3.0, "state": 6.0, "peak": peak}

    monkeypatch.setattr(memory, "count_step", count)
    memory.main(["--ways", "plain", "MICRO_BATCH 4", "--batch", "8"])
    *lines, _, _, heads, _, plain, micro = capsys.readouterr().out.splitlines()
    assert heads == "| settings | weights | state of AdamW | float32, 8 pairs | bf16, 8 pairs |"
    assert plain == "| plain | 3.0 | 6.0 | 20.0 (100%) | 10.0 (100%) |"
    assert micro == "| MICRO_BATCH 4 | 3.0 | 6.0 | 12.0 (60%) | 6.0 (60%) |"
    assert json.loads(lines[0])["peak"] == 20.0
