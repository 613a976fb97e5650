"""Prototypes against stored numbers of the published implementation and a loop over samples."""

import pytest
import torch
import torch.nn.functional as F

from config import cfg, cfg_base, cfg_pcl
from config.load import load_config
from loss import PrototypeMemory, ReIDLoss, make_loss
from model import ReIDOutput


def det(rows, columns, a, b, c):
    """The published checks' numbers: sin(a·i + b·j + c)."""
    i, j = torch.arange(rows, dtype=torch.float64)[:, None], torch.arange(columns, dtype=torch.float64)
    return torch.sin(a * i + b * j + c).float()


LABELS = torch.tensor([0, 0, 0, 2, 2, 2])
SIMILARITY = [
    [0.11106458, -0.54279214, -0.75468677],
    [0.50763714, -0.07756898, -0.54656661],
    [0.68959057, 0.36049524, -0.17978272],
    [0.62526530, 0.73003477, 0.32394621],
    [0.16395631, 0.72741681, 0.73232973],
    [-0.34507853, 0.30477524, 0.67597151],
]
AFTER = {
    "hard": {
        0: [0.22931561, 0.81221616, 0.05177819, -0.53388977],
        2: [0.60890704, -0.46082851, -0.64179903, 0.07045060],
    },
    "all": {
        0: [0.63963097, 0.25311032, -0.51070201, -0.51574308],
        2: [-0.26162219, -0.70734662, -0.10733790, 0.64783734],
    },
}
CENTROIDS = [
    [0.61040187, 0.34398705, -0.42636961, -0.57209378],
    [0.60620046, 0.35450822, -0.41653943, -0.57735586],
    [-0.13457783, -0.74220097, -0.26249796, 0.60176522],
]


def memory_of(prototypes, **options):
    memory = PrototypeMemory(**options)
    memory.prototypes = F.normalize(prototypes)
    return memory


@pytest.fixture
def golden_memory():
    return lambda **options: memory_of(det(3, 4, 1.0, 2.0, 0.5), **options)


@pytest.fixture
def features():
    return det(6, 4, 0.7, 1.3, 0.2)


def test_loss_and_gradient_are_the_published_ones(golden_memory, features):
    memory, features = golden_memory(), features.requires_grad_()
    similarity = F.normalize(features) @ memory.prototypes.T
    assert torch.allclose(similarity, torch.tensor(SIMILARITY), atol=1e-6)
    loss = memory(features, LABELS)
    (gradient,) = torch.autograd.grad(loss, features)
    assert loss.item() == pytest.approx(1.4808801, abs=1e-6)
    assert gradient.abs().sum().item() == pytest.approx(4.3620581, abs=1e-6)


@pytest.mark.parametrize("update", ["hard", "all"])
def test_updates_are_the_published_ones(golden_memory, features, update):
    memory = golden_memory(update=update)
    absent = memory.prototypes[1].clone()
    memory.update(features, LABELS)
    for row, values in AFTER[update].items():
        assert torch.allclose(memory.prototypes[row], torch.tensor(values), atol=1e-6)
    assert torch.equal(memory.prototypes[1], absent)


def test_rebuilt_prototypes_are_the_published_ones(golden_memory, features):
    memory = golden_memory()
    memory.rebuild(features, torch.tensor([0, 1, 1, 0, 2, 2]))
    assert torch.allclose(memory.prototypes, torch.tensor(CENTROIDS), atol=1e-6)


def naive_update(prototypes, features, labels, momentum, update):
    """Sample by sample, as the published code writes it."""
    prototypes = prototypes.clone()
    features = F.normalize(features)
    if update == "all":
        moves = list(zip(labels.tolist(), features, strict=True))
    else:
        moves = []
        for label in sorted(set(labels.tolist())):
            members = [i for i, other in enumerate(labels.tolist()) if other == label]
            hardest = min(members, key=lambda i: float(features[i] @ prototypes[label]))
            moves.append((label, features[hardest]))
    for label, feature in moves:
        moved = momentum * prototypes[label] + (1 - momentum) * feature
        prototypes[label] = moved / moved.norm()
    return prototypes


@pytest.mark.parametrize("update", ["hard", "all"])
@pytest.mark.parametrize("momentum", [0.0, 0.2, 0.9])
def test_updates_are_those_of_a_loop(update, momentum):
    generator = torch.Generator().manual_seed(3)
    prototypes = F.normalize(torch.randn(7, 5, generator=generator))
    for labels in ([3], [0, 1, 2], [4, 4, 4, 4], [6, 1, 6, 0, 1, 6, 6, 2, 0]):
        labels = torch.tensor(labels)
        features = torch.randn(len(labels), 5, generator=generator) * 3
        memory = memory_of(prototypes, momentum=momentum, update=update)
        memory.update(features, labels)
        wanted = naive_update(prototypes, features, labels, momentum, update)
        assert torch.allclose(memory.prototypes, wanted, atol=1e-6)
        others = [label for label in range(7) if label not in labels]
        assert torch.equal(memory.prototypes[others], F.normalize(prototypes)[others])


def test_momentum_1_keeps_all_prototypes(golden_memory, features):
    memory = golden_memory(momentum=1.0)
    before = memory.prototypes.clone()
    memory.update(features, LABELS)
    assert torch.allclose(memory.prototypes, before, atol=1e-6)


def test_of_equally_hard_features_the_first_counts():
    memory = memory_of(torch.tensor([[1.0, 0.0, 0.0]]), momentum=0.0)
    features = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    memory.update(features, torch.zeros(3, dtype=torch.long))
    assert torch.equal(memory.prototypes, features[:1])


@pytest.mark.parametrize("update", ["hard", "all"])
def test_what_is_not_finite_moves_nothing(golden_memory, features, update):
    memory = golden_memory(update=update)
    before = memory.prototypes.clone()
    features[1] = torch.nan
    memory.update(features, LABELS)
    assert torch.equal(memory.prototypes[0], before[0]) and memory.prototypes.isfinite().all()
    assert not torch.equal(memory.prototypes[2], before[2])


def test_labels_below_0_belong_to_no_prototype(golden_memory, features):
    memory, other = golden_memory(), golden_memory()
    memory.rebuild(features, torch.tensor([0, -1, 0, 1, -1, 1]))
    other.rebuild(features[[0, 2, 3, 5]], torch.tensor([0, 0, 1, 1]))
    assert torch.equal(memory.prototypes, other.prototypes) and memory.prototypes.shape == (2, 4)
    memory.rebuild(features, torch.full((6,), -1))
    assert memory.prototypes.shape == (0, 4)


def test_prototypes_are_a_buffer_and_get_no_gradient(golden_memory, features):
    memory = golden_memory()
    assert list(memory.state_dict()) == ["prototypes"] and not list(memory.parameters())
    memory(features.requires_grad_(), LABELS).backward()
    assert features.grad.abs().sum() > 0


def test_half_precision_features_are_compared_in_float32(golden_memory, features):
    memory = golden_memory()
    with torch.autocast("cpu", torch.bfloat16):
        loss = memory(features, LABELS)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(1.4808801, abs=1e-6)
    memory.update(features.bfloat16(), LABELS)
    assert memory.prototypes.dtype == torch.float32


def test_wrong_settings():
    with pytest.raises(ValueError, match="update is 'median'; allowed: 'hard', 'all'"):
        PrototypeMemory(update="median")
    with pytest.raises(ValueError, match=r"momentum is 1\.5; allowed: 0 to 1"):
        PrototypeMemory(momentum=1.5)
    with pytest.raises(ValueError, match="temperature is 0; allowed: above 0"):
        PrototypeMemory(temperature=0)
    with pytest.raises(ValueError, match="no feature of label 1"):
        PrototypeMemory().rebuild(torch.ones(2, 3), torch.tensor([0, 2]))


def test_identity_loss_is_the_published_one():
    logits, labels = 3 * det(4, 3, 0.9, 1.7, 0.1), torch.tensor([0, 1, 2, 1])
    output = ReIDOutput((logits,), (), logits)
    terms = ReIDLoss(id_weight=1.0, triplet_weight=0.0)(output, labels)
    assert list(terms) == ["id"] and terms["id"].item() == pytest.approx(3.3462739, abs=1e-6)


def test_weighted_terms_and_the_update_after_the_step(golden_memory, features):
    loss = ReIDLoss(id_weight=0.25, triplet_weight=0.0, memory=golden_memory(), pcl_weight=2.0)
    logits = 3 * det(6, 3, 0.9, 1.7, 0.1)
    terms = loss(ReIDOutput((logits,), (), logits, (features[:, :3], features[:, 3:])), LABELS)
    assert list(terms) == ["id", "pcl"]
    assert terms["pcl"].item() == pytest.approx(2 * 1.4808801, abs=1e-5)
    smoothed = F.cross_entropy(logits, LABELS, label_smoothing=0.1)
    assert terms["id"].item() == pytest.approx(0.25 * smoothed.item(), abs=1e-6)
    before = loss.memory.prototypes.clone()
    loss.after_step()
    assert torch.allclose(loss.memory.prototypes[0], torch.tensor(AFTER["hard"][0]), atol=1e-6)
    assert torch.equal(loss.memory.prototypes[1], before[1])


@pytest.mark.parametrize("tree", [cfg, cfg_base])
def test_without_weight_there_is_no_memory(tree):
    assert make_loss(tree, 4).memory is None


def test_keys_reach_the_memory():
    keys = ["MODEL.MEMORY_MOMENTUM", "0.5", "MODEL.MEMORY_TEMPERATURE", "0.1", "MODEL.MEMORY_UPDATE", "all"]
    loss = make_loss(load_config(cfg_pcl, "", [*keys, "MODEL.PCL_LOSS_WEIGHT", "0.75"]), 4)
    assert (loss.memory.momentum, loss.memory.temperature, loss.pcl_weight) == (0.5, 0.1, 0.75)
    assert loss.id_weight == 1.0 and not loss.triplet_weight
    weights = ["MODEL.ID_LOSS_WEIGHT", "0", "MODEL.PCL_LOSS_WEIGHT", "0"]
    with pytest.raises(ValueError, match=r"are all 0; allowed: one or more above 0"):
        make_loss(load_config(cfg_pcl, "", weights), 4)
