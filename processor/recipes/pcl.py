"""PCL-CLIP: the image tower alone against one prototype of each identity, in one stage.

Li, Gong, "Prototypical Contrastive Learning-based CLIP Fine-tuning for Object Re-identification", arXiv
2310.17218, 2023.
"""

from collections.abc import Callable, Iterator

from torch.utils.data import DataLoader

from datasets import ImageBatch
from loss import ReIDLoss
from model import ReIDModel
from processor.engine.objective import Objective, Step
from processor.engine.stage import Plan, Stage
from processor.recipes.prototypes import with_prototypes
from processor.recipes.whole_batch import whole_output
from retrieval import FeatureSet


class PrototypeObjective(Objective):
    """The terms of a loss on the image tower; as published, no accuracy is reported."""

    def __init__(self, model: ReIDModel, loss: ReIDLoss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: ImageBatch) -> Step:
        """Losses of one batch of images."""
        output, pids = whole_output(self.model, batch, necks=self.loss.memory is not None)
        return Step(self.loss(output, pids), {}, len(pids))

    def after_step(self) -> None:
        """Move the prototypes."""
        self.loss.after_step()


def pcl(
    model: ReIDModel, loss: ReIDLoss, train: DataLoader, plan: Plan, features: Callable[[], FeatureSet]
) -> Iterator[Stage]:
    """The recipe of `train_pcl.py` with identities: one stage.

    `features` gives the features after the neck of all training images, with their identities.
    """
    objective = with_prototypes(PrototypeObjective(model, loss), loss.memory, features)
    optimizer = plan.make_optimizer(model.named_parameters())
    yield Stage("pcl", objective, train, train.batch_sampler, optimizer, plan)
