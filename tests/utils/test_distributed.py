"""Talking to other processes: alone there is nobody to talk to, with torchrun the checks beside this file."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.processes import run_program
from utils import distributed

CHECKS = str(Path(__file__).with_name("distributed_checks.py"))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_checks_of_every_process(processes):
    done = run_program([CHECKS], processes)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_who_waits_for_a_dead_process_says_so():
    done = run_program([CHECKS, "die"], 2)
    assert done.returncode and "ConnectionError: another process of this run has ended" in done.stderr


def test_alone():
    rows = torch.ones(2, 3, requires_grad=True)
    assert (distributed.rank(), distributed.world_size(), distributed.is_first()) == (0, 1, True)
    assert distributed.share(5) == range(5)
    assert distributed.any_process(True, False) == [True, False]
    assert distributed.from_first(3) == 3 and distributed.gather_objects(3) == [3]
    assert distributed.gather_rows(rows) is rows and distributed.gather_batch(rows) is rows
    with distributed.process_group(torch.device("cpu")):
        assert distributed.world_size() == 1


def test_batch_norms_on_a_gpu_are_torchs_own(caplog):
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Linear(2, 2))
    weight = module[0].weight
    distributed.synchronise_batch_norms(module, torch.device("cuda"))  # moves nothing there
    assert type(module[0]) is nn.SyncBatchNorm and module[0].weight is weight
    assert not caplog.records


def test_batch_norms_on_the_cpu_are_counted(caplog):
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm1d(3), nn.Linear(2, 2)))
    for _ in range(2):
        distributed.synchronise_batch_norms(module, torch.device("cpu"))
    assert type(module[0]) is nn.BatchNorm2d
    assert "2 batch norms see only their process's part" in caplog.text
    distributed.synchronise_batch_norms(module[1][1], torch.device("cpu"))
    assert len(caplog.records) == 1


def test_other_errors_pass_through_a_process_group(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed.distributed, "rendezvous", lambda *_, **__: iter([(None, 0, 2)]))
    monkeypatch.setattr(distributed.distributed, "PrefixStore", lambda *_: None)
    monkeypatch.setattr(distributed.distributed, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(distributed.distributed, "destroy_process_group", lambda: None)
    with pytest.raises(RuntimeError, match="of another kind"), distributed.process_group(torch.device("cpu")):
        raise RuntimeError("of another kind")
    with (
        pytest.raises(ConnectionError, match=r"has ended.*reset by peer"),
        distributed.process_group(torch.device("cpu")),
    ):
        raise RuntimeError("[pair.cc] Read error: Connection reset by peer")
