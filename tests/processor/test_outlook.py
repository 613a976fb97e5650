"""What a run says before it begins: epochs, steps, memory, and what lowers it."""

import contextlib
import logging
import re
import signal
from dataclasses import replace

import pytest
import torch
from torch._subclasses import fake_tensor

from config import cfg_tbps
from config.load import load_config
from processor import METHODS
from processor.engine import Run
from processor.engine.rehearsal import count_memory
from processor.make_parts import Parts
from processor.outlook import Saving, _count, _total
from tests.toys import TEXT_SETTINGS, draw_captions, words
from utils.memory import free_memory
from utils.precision import Precision

LINE = re.compile(r" *(stage\d|baseline|pcl|tbps)((?: +[\d,.]+){8})")


@pytest.fixture
def parts_of(toy_config):
    """parts_of('clipreid', 'SOLVER.SEED', 3) -> configuration, parts, rehearsals."""

    def build(name, *pairs, config=None):
        method = METHODS[name]
        config = config or toy_config(*pairs, tree=method.tree)
        dataset = method.data(config)
        model = method.model(config, dataset, pretrained=False)
        parts = Parts(dataset, model, method.loaders(config, dataset, model), None)
        return config, parts, method.rehearsals(config, parts)

    return build


def count(parts, rehearsal, change=lambda model: None, **options):
    def build(model):
        change(model)
        return rehearsal.build(model, rehearsal.plan.batch_size)

    return count_memory(parts.model, build, Precision("cpu"), **options)


def rows(folder):
    log = (folder / "train_log.txt").read_text()
    assert "is not known" not in log
    return {found[1]: found[2].split() for found in map(LINE.fullmatch, log.splitlines()) if found}


def test_stages_with_their_steps_and_memory(trained, outlook):
    outlook()
    _, folder = trained("clipreid")
    found = rows(folder)
    assert found["stage1"][:4] == ["2", "2", "4", "5"] and found["stage2"][:4] == ["2", "2", "4", "4"]
    assert all(0.1 < float(row[-1]) < 100 for row in found.values())


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("baseline", ("MODEL.NAME", "toy-resnet")),
        ("baseline", ("MODEL.METRIC_LOSS_TYPE", "triplet_center", "MODEL.SIE_CAMERA", True)),
        ("pcl", ("MODEL.MEMORY_UPDATE", "all")),
        ("pcl_clusters", ("CLUSTER.METHOD", "dbscan", "MODEL.ID_LOSS_WEIGHT", 0.0)),
        ("clipreid", ("SOLVER.STAGE1.ONLINE_FEATURES", True, "MODEL.PROMPT.DEEP_VISION", 1)),
    ],
)
def test_every_method_can_be_rehearsed(parts_of, name, pairs):
    _, parts, rehearsals = parts_of(name, *pairs)
    for rehearsal in rehearsals:
        memory = count(parts, rehearsal)
        assert memory.weights > 0 and memory.optimizer > 0 and memory.rest > 0


def text_config(root, *pairs):
    settings = TEXT_SETTINGS | {"DATASETS.ROOT_DIR": str(draw_captions(root))}
    return load_config(cfg_tbps, "", words(settings | dict(zip(pairs[::2], pairs[1::2], strict=True))))


def test_text_search(parts_of, tmp_path, toy_towers, caplog):
    config = text_config(tmp_path, "SOLVER.LAYER_DECAY", 0.9)
    _, parts, (rehearsal,) = parts_of("tbps", config=config)
    with caplog.at_level(logging.INFO):
        assert count(parts, rehearsal).rest > 0 and rehearsal.steps == 4
    assert not caplog.records  # rates by layer are logged by the run
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.parametrize("name", ["clipreid", "baseline"])
def test_the_count_is_that_of_numbers(parts_of, name, monkeypatch):
    _, parts, rehearsals = parts_of(name)
    for rehearsal in rehearsals:
        blank = count(parts, rehearsal)
        with monkeypatch.context() as patch:
            patch.setattr(fake_tensor, "FakeTensorMode", contextlib.nullcontext)
            patch.setattr(fake_tensor, "FakeCopyMode", contextlib.nullcontext)
            real = count(parts, rehearsal)
        assert (blank.weights, blank.optimizer) == (real.weights, real.optimizer)
        assert blank.peak == pytest.approx(real.peak, rel=0.03)


def test_nothing_of_the_run_changes(parts_of):
    _, parts, rehearsals = parts_of("clipreid")
    before = {name: value.clone() for name, value in parts.model.state_dict().items()}
    state = torch.get_rng_state()
    for rehearsal in rehearsals:
        count(parts, rehearsal)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in parts.model.state_dict().items())
    assert all(each.grad is None for each in parts.model.parameters())


def test_the_state_of_adam_is_twice_what_learns(parts_of):
    _, parts, (rehearsal,) = parts_of("baseline")
    learns = sum(each.nbytes for each in parts.model.parameters() if each.requires_grad)
    one, two = count(parts, rehearsal), count(parts, rehearsal, processes=2, sharded=True)
    assert one.optimizer == pytest.approx(2 * learns, rel=0.02)
    assert two.optimizer == one.optimizer // 2
    # Half of the state is another process's; DistributedDataParallel has gradients of its own.
    assert two.peak - one.peak == pytest.approx(0, abs=0.02 * learns)


@pytest.mark.parametrize(("name", "tower"), [("baseline", "toy-vit"), ("clipreid", "toy-vit")])
def test_savings_save(parts_of, name, tower):
    _, parts, rehearsals = parts_of(name, "MODEL.NAME", tower, "MAIN.IMS_PER_BATCH", 8)
    rehearsal = rehearsals[-1]
    plain = count(parts, rehearsal)
    parted = [saving for saving in rehearsal.savings if "MICRO_BATCH" in saving.keys]
    assert [saving.keys for saving in parted] == [
        "SOLVER.MICRO_BATCH 2",
        "SOLVER.MICRO_BATCH 1 SOLVER.GRAD_CHECKPOINT True",
    ]
    for saving in parted:
        assert count(parts, rehearsal, saving.change).peak < plain.peak
    assert [saving.keys.split()[-1] for saving in rehearsal.savings[2:]] == ["4", "2"]


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("baseline", ("MAIN.IMS_PER_BATCH", 8, "SOLVER.MICRO_BATCH", 1)),
        ("clipreid", ("MAIN.IMS_PER_BATCH", 8, "SOLVER.MICRO_BATCH", 1)),
        ("clipreid", ("SOLVER.STAGE1.ONLINE_FEATURES", True, "SOLVER.MICRO_BATCH", 1)),
    ],
)
def test_many_parts_of_a_batch_are_told_from_few(parts_of, name, pairs, monkeypatch):
    _, parts, rehearsals = parts_of(name, *pairs)
    run = Run(parts.model, name, torch.device("cpu"), None, None, Precision("cpu"), None)
    for rehearsal in rehearsals:
        batch, largest = rehearsal.plan.batch_size, []

        def build(model, batch, rehearsal=rehearsal, largest=largest):
            largest.append(batch)
            return rehearsal.build(model, batch)

        counted = replace(rehearsal, build=build)
        with monkeypatch.context() as patch:
            patch.setattr("processor.outlook._COUNTED", (2, 1000))
            whole = _count(counted, run, Saving("", batch))
        assert largest.pop() == batch and not largest
        told = _count(counted, run, Saving("", batch))
        assert largest == (
            [2 * rehearsal.part, 4 * rehearsal.part] if 0 < 4 * rehearsal.part < batch else [batch]
        )
        assert (told.weights, told.optimizer) == (whole.weights, whole.optimizer)
        assert told.step == pytest.approx(whole.step, rel=0.03)
        assert told.extraction == pytest.approx(whole.extraction, rel=0.03)


def test_a_signal_waits_for_the_count(trained, outlook, monkeypatch):
    outlook()

    def count(*args, **options):
        signal.raise_signal(signal.SIGTERM)
        return count_memory(*args, **options)

    monkeypatch.setattr("processor.outlook.count_memory", count)
    with pytest.raises(SystemExit) as ended:
        trained("baseline")
    assert ended.value.code == 143


def keys_of_savings(parts_of, *pairs):
    _, _, (rehearsal,) = parts_of("baseline", "MAIN.IMS_PER_BATCH", 8, *pairs)
    return [saving.keys for saving in rehearsal.savings if "MICRO_BATCH" in saving.keys]


def test_what_a_run_has_already_is_no_saving(parts_of):
    small, both = ("SOLVER.MICRO_BATCH", 1), "SOLVER.MICRO_BATCH 1 SOLVER.GRAD_CHECKPOINT True"
    assert keys_of_savings(parts_of, *small) == [both]
    assert keys_of_savings(parts_of, *small, "SOLVER.GRAD_CHECKPOINT", True) == []
    assert keys_of_savings(parts_of, "SOLVER.MICRO_BATCH", 2) == [both]
    assert keys_of_savings(parts_of, "SOLVER.GRAD_CHECKPOINT", True) == ["SOLVER.MICRO_BATCH 2", both]


def test_a_sharded_run_stays_so_with_its_savings(parts_of):
    _, _, (rehearsal,) = parts_of("baseline", "MAIN.IMS_PER_BATCH", 8, "SOLVER.SHARD", "zero1")
    assert rehearsal.savings and all(saving.sharded for saving in rehearsal.savings)


def test_a_run_that_will_not_fit_is_told_what_lowers_it(trained, parts_of, outlook, monkeypatch):
    outlook()
    _, parts, (rehearsal,) = parts_of("baseline", "MAIN.IMS_PER_BATCH", 8)
    changes = (lambda model: None, rehearsal.savings[0].change)
    plain, less = (_total(count(parts, rehearsal, change), 1_000_000) for change in changes)
    assert less < plain
    free = round((plain + less) / 2 / 0.9) - 1_000_000
    monkeypatch.setattr("processor.outlook.own_memory", lambda: 1_000_000)
    monkeypatch.setattr("processor.outlook.free_memory", lambda device: free)
    _, folder = trained("baseline", "MAIN.IMS_PER_BATCH", 8)
    log = (folder / "train_log.txt").read_text()
    (line,) = [line for line in log.splitlines() if "not fit" in line]
    assert "WARNING: baseline needs about" in line and "with SOLVER.MICRO_BATCH 2 about" in line
    assert "either" not in line


def test_processes_share_the_memory_of_a_machine(trained, outlook, monkeypatch):
    outlook()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr("processor.outlook.own_memory", lambda: 1_000_000_000)
    monkeypatch.setattr("processor.outlook.free_memory", lambda device: 8_000_000_000)
    _, folder = trained("baseline")
    assert "this machine has 3.0 GB for each of 4 processes" in (folder / "train_log.txt").read_text()


def test_a_resnet_is_told_to_take_smaller_batches(trained, outlook, monkeypatch):
    outlook()
    monkeypatch.setattr("processor.outlook.free_memory", lambda device: -(10**12))
    _, folder = trained("baseline", "MODEL.NAME", "toy-resnet", "MAIN.IMS_PER_BATCH", 8)
    (line,) = [line for line in (folder / "train_log.txt").read_text().splitlines() if "not fit" in line]
    assert re.search(r"with SOLVER.IMS_PER_BATCH 2 about [\d.]+ GB, which will probably not fit either", line)


def test_what_cannot_be_counted_ends_no_run(trained, outlook, monkeypatch):
    outlook()

    def fail(*args, **options):
        raise RuntimeError("no such kernel\nsecond line")

    monkeypatch.setattr("processor.outlook.count_memory", fail)
    _, folder = trained("baseline")
    log = (folder / "train_log.txt").read_text()
    assert "WARNING: the memory of baseline is not known: no such kernel" in log
    assert re.search(r"baseline +2 +2 +4 +4 +- +- +- +-", log)


def test_a_saving_that_cannot_be_counted_ends_no_run(trained, outlook, monkeypatch):
    outlook()

    def fail(*args):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr("processor.make_rehearsals._by_parts", fail)
    monkeypatch.setattr("processor.outlook.free_memory", lambda device: -(10**12))
    _, folder = trained("baseline", "MAIN.IMS_PER_BATCH", 8)
    log = (folder / "train_log.txt").read_text()
    assert "WARNING: the memory of baseline with SOLVER.MICRO_BATCH 2 is not known: no such kernel" in log
    assert "not fit" in log and "with SOLVER.IMS_PER_BATCH 2 about" in log


def test_memory_of_a_container(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("4000\n")
    (tmp_path / "memory.stat").write_text("anon 2500\nfile 1500\n")
    monkeypatch.setattr("utils.memory._GROUPS", [(str(tmp_path), "memory.max", "memory.current", "file")])
    assert free_memory(torch.device("cpu")) == 2500
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(torch.device("cpu")) > 1_000_000
