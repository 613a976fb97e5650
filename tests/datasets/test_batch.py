import torch

from datasets import Batch, ImageRecord
from datasets.batch import collate


def test_collate_stacks_images_and_labels():
    records = [ImageRecord("a.jpg", 3, -1, 0), ImageRecord("b.jpg", 9, 4, 7)]
    batch = collate([(torch.full((3, 2, 1), float(i)), record) for i, record in enumerate(records)])
    assert batch.images.shape == (2, 3, 2, 1)
    assert batch.images[:, 0, 0, 0].tolist() == [0.0, 1.0]
    assert [t.tolist() for t in (batch.pids, batch.camids, batch.viewids)] == [[3, 9], [-1, 4], [0, 7]]
    assert {t.dtype for t in (batch.pids, batch.camids, batch.viewids)} == {torch.int64}
    assert batch.paths == ["a.jpg", "b.jpg"]


def test_to_moves_every_tensor_and_keeps_the_paths():
    moved = Batch(torch.ones(1, 3, 2, 2), *(torch.zeros(1).long() for _ in range(3)), ["a"]).to("meta")
    assert isinstance(moved, Batch)
    assert {tensor.device.type for tensor in moved[:4]} == {"meta"}
    assert moved.paths == ["a"]
