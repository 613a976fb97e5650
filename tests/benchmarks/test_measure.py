"""What benchmarks stand on: clocks, peaks and counted arithmetic."""

import contextlib
import sys
import types

import pytest
import torch

from benchmarks.measure import count_flops, matmul_rate, measure, time_each

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rate_of_products(dtype):
    assert 0 < matmul_rate(CPU, dtype, side=64) < 1e15


def test_each_run_is_timed():
    done = []
    seconds = time_each(lambda: done.append(0), 3, CPU)
    assert len(seconds) == len(done) == 3 and min(seconds) > 0


@pytest.mark.parametrize("training", [True, False])
def test_products_of_attention_are_counted_forward_and_backward(training):
    batch, length, width = 3, 7, 64
    attention = torch.nn.MultiheadAttention(width, 2, batch_first=True).train(training)
    x = torch.randn(batch, length, width, requires_grad=True)

    def work():
        # Without gradients, an evaluated module takes a fused path that has no count of its own.
        with contextlib.nullcontext() if training else torch.no_grad():
            output = attention(x, x, x, need_weights=False)[0]
        if training:
            output.sum().backward()

    forward = 2 * batch * (4 * length * width * width + 2 * length * length * width)
    assert count_flops(work) == forward * (3 if training else 1)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_that_was_freed_before_does_not_hide_a_peak():
    def work():
        # Blocks that the C library takes from its heap and keeps when they are freed.
        return [torch.ones(16_000) for _ in range(500)]  # 32 MB

    kept = work()
    anchor = torch.ones(16_000)  # holds the heap's end, so that the library gives nothing back by itself
    del kept
    _, measured = measure(work, CPU)
    assert 28 < measured.megabytes < 48 and len(anchor) == 16_000


def test_a_gpu_is_timed_by_marks_and_its_own_memory_counts(monkeypatch):
    calls = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = len(calls)
            calls.append("mark")

        def elapsed_time(self, other):
            return 1000.0 * (other.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append("wait"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5_000_000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7_000_000)
    gpu = types.SimpleNamespace(type="cuda")
    assert time_each(lambda: calls.append("work"), 2, gpu) == [2.0, 2.0]
    assert calls == ["wait", "mark", "work", "mark", "work", "mark", "wait"]
    calls.clear()
    result, measured = measure(lambda: calls.append("work"), gpu)
    assert result is None and measured.megabytes == 2.0
    assert calls == ["wait", "reset", "work", "wait"]
