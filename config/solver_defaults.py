"""The keys of a stage of training, each with its default and a comment.

What "unused" means, and which stages there are: config/defaults.py.
"""

from yacs.config import CfgNode


def _solver_node() -> CfgNode:
    """Keys that every stage has. By epochs, stage 1 follows a cosine, the main stage a multistep schedule."""
    node = CfgNode()
    # Images in a batch. Stage 1: of the pass that caches image features, and of features per prompt step.
    node.IMS_PER_BATCH = 64
    # Epochs of this stage; for the cosine also its length.
    node.MAX_EPOCHS = 100
    # 'Adam' (weight decay as L2 in the gradient) | 'AdamW' | 'SGD'.
    node.OPTIMIZER_NAME = "Adam"
    # Momentum of 'SGD', 0 to 1.
    node.MOMENTUM = 0.9
    # Learning rate after warm-up.
    node.BASE_LR = 3e-4
    # Weight decay of all parameters but biases.
    node.WEIGHT_DECAY = 0.0005
    # Weight decay of biases, -1 = as WEIGHT_DECAY (prompts, all that stage 1 trains, have none).
    node.WEIGHT_DECAY_BIAS = 0.0005
    # Cosine: lowest learning rate. Unused by the main stage.
    node.LR_MIN = 0.000016
    # Cosine: EPOCHS of warm-up from WARMUP_LR_INIT. Unused by the main stage.
    node.WARMUP_EPOCHS = 5
    # Cosine: learning rate at which warm-up starts. Unused by the main stage.
    node.WARMUP_LR_INIT = 0.01
    # Multistep: EPOCHS, not iterations, of warm-up. Unused by stage 1.
    node.WARMUP_ITERS = 500
    # Multistep: share of the rate at which warm-up starts, 0 to 1. Unused by stage 1.
    node.WARMUP_FACTOR = 0.01
    # Multistep: 'linear' (from WARMUP_FACTOR to 1) | 'constant' (WARMUP_FACTOR). Unused by stage 1.
    node.WARMUP_METHOD = "linear"
    # Epochs from one checkpoint to the next; the last epoch always has one.
    node.CHECKPOINT_PERIOD = 10
    # Iterations from one log line to the next.
    node.LOG_PERIOD = 100
    # Epochs from one evaluation to the next; the last epoch always has one. Unused by stage 1.
    node.EVAL_PERIOD = 10
    # Unused: there is no cosine classifier.
    node.COSINE_MARGIN = 0.5
    # Unused: there is no cosine classifier.
    node.COSINE_SCALE = 30
    return node


def main_solver_node() -> CfgNode:
    """A stage that trains the image tower and its classifiers."""
    node = _solver_node()
    # Multistep: epochs from which the rate is multiplied by GAMMA once more, ascending.
    node.STEPS = [40, 70]
    # Multistep: factor of the rate at each of STEPS.
    node.GAMMA = 0.1
    # Factor of the learning rate of biases.
    node.BIAS_LR_FACTOR = 1
    # True: the classifiers learn at twice the rate.
    node.LARGE_FC_LR = False
    # Learning rate of the class centres, with METRIC_LOSS_TYPE 'triplet_center'.
    node.CENTER_LR = 0.5
    # Weight of the centre loss, with METRIC_LOSS_TYPE 'triplet_center'.
    node.CENTER_LOSS_WEIGHT = 0.0005
    # Iterations of an epoch: the sampler begins anew as often as needed; -1 = as many as one pass gives.
    node.ITERS = -1
    # Multistep: the schedule's index in epoch 1: 1 (index 0 is never used, as in CLIP-ReID) | 0 (as in
    # PCL-CLIP).
    node.SCHEDULE_START = 1
    return node


def prompt_solver_node() -> CfgNode:
    """The stage that learns prompts."""
    node = _solver_node()
    # True: cached image features are kept in half precision.
    node.HALF_FEATURES = False
    return node
