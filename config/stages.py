"""The keys of a training stage. A method places them at SOLVER.STAGE1, SOLVER.STAGE2 or SOLVER."""

from dataclasses import replace

from config.keys import FRACTION, ONE_OR_MORE, ZERO_OR_MORE, Key, Rule, words

_COSINE = ("SCHEDULE", words("cosine", "cosine_iterations"))
_MULTISTEP = ("SCHEDULE", words("multistep"))
# Schedules whose rates are the same whatever MAX_EPOCHS is: a finished stage may become longer.
ENDLESS = words("multistep")
_ADAM, _SGD = ("OPTIMIZER_NAME", words("Adam", "AdamW")), ("OPTIMIZER_NAME", words("SGD"))

STAGE = {
    "IMS_PER_BATCH": Key(
        64,
        "Images in a batch. Stage 1: of the pass that caches image features, and features in a prompt step.",
        ONE_OR_MORE,
        fixed=True,
        common=True,
    ),
    "MAX_EPOCHS": Key(
        100,
        "Epochs of this stage; also the length of a cosine. `--resume` makes a finished run with SCHEDULE "
        "'multistep' longer.",
        ONE_OR_MORE,
        common=True,
    ),
    "OPTIMIZER_NAME": Key(
        "Adam",
        "The optimizer. 'Adam' adds the weight decay to the gradient (L2).",
        words("Adam", "AdamW", "SGD"),
        fixed=True,
    ),
    "MOMENTUM": Key(0.9, "Momentum of SGD.", FRACTION, needs=_SGD),
    "BETAS": Key(
        [0.9, 0.999],
        "Decay rates of the two moments of Adam and AdamW.",
        Rule("numbers from 0 to below 1", lambda betas: all(0 <= beta < 1 for beta in betas)),
        needs=_ADAM,
    ),
    "EPS": Key(1e-8, "Term of Adam and AdamW that keeps the denominator above 0.", ZERO_OR_MORE, needs=_ADAM),
    "BASE_LR": Key(3e-4, "Learning rate after warm-up.", ZERO_OR_MORE, common=True),
    "WEIGHT_DECAY": Key(0.0005, "Weight decay of all parameters but biases.", ZERO_OR_MORE),
    "WEIGHT_DECAY_BIAS": Key(
        0.0005,
        "Weight decay of biases. -1: as WEIGHT_DECAY.",
        Rule("-1 (as WEIGHT_DECAY), 0 or more", lambda value: value == -1 or value >= 0),
    ),
    "WEIGHT_DECAY_VECTORS": Key(
        -1.0,
        "Weight decay of all parameters of fewer than two dimensions: biases, norms, class token. -1: as "
        "WEIGHT_DECAY and WEIGHT_DECAY_BIAS say.",
        Rule("-1 (as the others say), 0 or more", lambda value: value == -1 or value >= 0),
    ),
    "SCHEDULE": Key(
        "multistep",
        "Learning rate over the epochs: 'cosine' falls along a cosine from BASE_LR to LR_MIN, 'multistep' is "
        "multiplied by GAMMA at each of STEPS.",
        words("cosine", "multistep"),
    ),
    "LR_MIN": Key(0.000016, "Cosine: lowest learning rate.", ZERO_OR_MORE, needs=_COSINE),
    "WARMUP_EPOCHS": Key(5, "Cosine: epochs of warm-up.", ZERO_OR_MORE, needs=_COSINE),
    "WARMUP_LR_INIT": Key(
        0.01, "Cosine: learning rate at which warm-up starts.", ZERO_OR_MORE, needs=_COSINE
    ),
    "STEPS": Key(
        [40, 70],
        "Multistep: epochs from which the rate is multiplied by GAMMA once more.",
        Rule(
            "ascending epochs from 1 on",
            lambda steps: all(step >= 1 for step in steps) and sorted(set(steps)) == list(steps),
        ),
        any_length=True,
        needs=_MULTISTEP,
    ),
    "GAMMA": Key(0.1, "Multistep: factor of the rate at each of STEPS.", ZERO_OR_MORE, needs=_MULTISTEP),
    "WARMUP_ITERS": Key(
        500, "Multistep: epochs (not iterations) of warm-up.", ZERO_OR_MORE, needs=_MULTISTEP
    ),
    "WARMUP_FACTOR": Key(
        0.01, "Multistep: share of the rate at which warm-up starts.", FRACTION, needs=_MULTISTEP
    ),
    "WARMUP_METHOD": Key(
        "linear",
        "Multistep: warm-up multiplies by a line from WARMUP_FACTOR to 1, 'linear', or by WARMUP_FACTOR.",
        words("linear", "constant"),
        needs=_MULTISTEP,
    ),
    "SCHEDULE_START": Key(
        1,
        "Index of epoch 1 in the schedule. CLIP-ReID has 1 and never uses index 0, PCL-CLIP has 0.",
        words(0, 1),
        needs=("SCHEDULE", words("cosine", "multistep")),
    ),
    "CHECKPOINT_PERIOD": Key(
        10, "Epochs from one checkpoint to the next; the last epoch always has one.", ONE_OR_MORE
    ),
    "LOG_PERIOD": Key(100, "Iterations from one log line to the next.", ONE_OR_MORE),
    "EVAL_PERIOD": Key(
        10, "Epochs from one evaluation to the next; the last epoch always has one.", ONE_OR_MORE
    ),
    "COSINE_MARGIN": Key(0.5, "Margin of the cosine classifier.", unused="there is no cosine classifier"),
    "COSINE_SCALE": Key(30, "Scale of the cosine classifier.", unused="there is no cosine classifier"),
}

MAIN_STAGE = {
    **STAGE,
    "SCHEDULE": replace(
        STAGE["SCHEDULE"],
        comment=f"{STAGE['SCHEDULE'].comment} 'cosine_iterations' is a cosine by iterations, TBPS-CLIP's.",
        rule=words("cosine", "cosine_iterations", "multistep"),
    ),
    "BIAS_LR_FACTOR": Key(1, "Factor of the learning rate of biases.", ZERO_OR_MORE),
    "LARGE_FC_LR": Key(False, "The classifiers learn at twice the rate."),
    "CENTER_LR": Key(
        0.5, "Learning rate of the class centres, with METRIC_LOSS_TYPE 'triplet_center'.", ZERO_OR_MORE
    ),
    "CENTER_LOSS_WEIGHT": Key(
        0.0005, "Weight of the centre loss, with METRIC_LOSS_TYPE 'triplet_center'.", ZERO_OR_MORE
    ),
    "ITERS": Key(
        -1,
        "Iterations of an epoch; the sampler is repeated as often as needed. -1: as many as one pass gives.",
        Rule("-1 (as many as one pass gives), 1 or more", lambda value: value == -1 or value >= 1),
    ),
}
