"""The one-stage baseline: fine-tune CLIP's image tower with identity and triplet losses."""

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


class BaselineObjective(Objective):
    """Identity and triplet losses on the image tower; reports the accuracy of the first classifier."""

    def __init__(self, model: ReIDModel, loss: ReIDLoss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: ImageBatch) -> Step:
        """Losses of one batch of images."""
        output, pids = whole_output(self.model, batch, necks=self.loss.memory is not None)
        losses = self.loss(output, pids)
        return Step(losses, {"acc": (output.logits[0].argmax(dim=1) == pids).float().mean()}, len(pids))

    def after_step(self) -> None:
        """Let the loss update what it keeps beside the weights."""
        self.loss.after_step()


def baseline(
    model: ReIDModel,
    loss: ReIDLoss,
    train: DataLoader,
    plan: Plan,
    features: Callable[[], FeatureSet] | None = None,
) -> Iterator[Stage]:
    """The recipe of `train.py`: one stage over all weights of the model.

    `features` gives the features after the neck of all training images; a loss with a memory needs them.
    """
    objective = with_prototypes(BaselineObjective(model, loss), loss.memory, features)
    optimizer = plan.make_optimizer(model.named_parameters())
    yield Stage("baseline", objective, train, train.batch_sampler, optimizer, plan)
