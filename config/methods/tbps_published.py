"""The keys of the published files of TBPS-CLIP, `config.yaml` and `s.config.yaml`, and their meaning here."""

from pathlib import Path
from typing import Any

from config.keys import Foreign, Rule, words
from utils.launch import launched_processes

_SWITCH = words(True, False)
_ON = words(True)
_FROM_CLIP = ("model.ckpt_type", words("original_clip"))
_FROM_SAVED = ("model.ckpt_type", words("saved"))


def _switched(name: str, key: str, switch: str, off: Any = 0.0) -> Foreign:
    """A value that another key switches on; `off` is ours without it."""
    return Foreign(f"experiment.{name}", (key,), needs=(f"experiment.{switch}", _ON), otherwise={key: off})


PUBLISHED = (
    Foreign(
        "device",
        unused="MODEL.DEVICE and MODEL.DEVICE_ID choose the device; published code takes another, too",
    ),
    Foreign("misc.seed", ("SOLVER.SEED",)),
    Foreign("experiment.input_resolution", ("INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST")),
    Foreign("experiment.simclr_mlp", ("MODEL.SIMCLR_MLP",)),
    Foreign("experiment.simclr_temperature", ("MODEL.SIMCLR_TEMPERATURE",)),
    Foreign("experiment.dropout", ("MODEL.TEXT_DROPOUT",)),
    Foreign("experiment.eda_alpha", ("INPUT.WORD_DELETION",)),
    Foreign("experiment.back_trans", rule=_SWITCH),
    _switched("backtrans_p", "INPUT.BACK_TRANSLATION", "back_trans"),
    Foreign("experiment.text_length", ("MODEL.TEXT_LENGTH",)),
    Foreign("experiment.mixgen", rule=_SWITCH),
    _switched("mixgen_type", "INPUT.MIXGEN", "mixgen", "none"),
    Foreign("experiment.mixgen_p", ("INPUT.MIXGEN_PROB",)),
    Foreign("experiment.mixgen_ratio", ("INPUT.MIXGEN_RATIO",)),
    Foreign("experiment.mvs_image", ("MODEL.MULTI_VIEW",)),
    Foreign("experiment.nitc_ratio", ("MODEL.NITC_LOSS_WEIGHT",)),
    Foreign("experiment.ss", rule=_SWITCH),
    _switched("ss_ratio", "MODEL.SS_LOSS_WEIGHT", "ss"),
    Foreign("experiment.ritc", rule=_SWITCH),
    _switched("ritc_ratio", "MODEL.RITC_LOSS_WEIGHT", "ritc"),
    Foreign("experiment.ritc_eps", ("MODEL.RITC_EPS",)),
    Foreign("experiment.mlm", rule=_SWITCH),
    _switched("mlm_ratio", "MODEL.MLM_LOSS_WEIGHT", "mlm"),
    Foreign("experiment.cmt_depth", ("MODEL.MLM_DEPTH",)),
    Foreign("experiment.citc", rule=_SWITCH),
    _switched("citc_ratio", "MODEL.CITC_LOSS_WEIGHT", "citc"),
    Foreign("experiment.citc_lambda1", ("MODEL.CITC_INMODAL",)),
    Foreign("experiment.citc_lambda2", ("MODEL.CITC_CROSSMODAL",)),
    Foreign("experiment.id", rule=_SWITCH),
    _switched("id_ratio", "MODEL.ID_LOSS_WEIGHT", "id"),
    Foreign("schedule.lr", ("SOLVER.BASE_LR",)),
    Foreign("schedule.epoch", ("SOLVER.MAX_EPOCHS",)),
    Foreign("schedule.epoch_warmup", ("SOLVER.WARMUP_EPOCHS",)),
    Foreign("schedule.lr_start", ("SOLVER.WARMUP_LR_INIT",)),
    Foreign("schedule.lr_end", ("SOLVER.LR_MIN",)),
    Foreign("schedule.weight_decay", ("SOLVER.WEIGHT_DECAY",)),
    Foreign("schedule.betas", ("SOLVER.BETAS",)),
    Foreign("schedule.eps", ("SOLVER.EPS",)),
    # Published code reads it, but the files do not have it.
    Foreign("schedule.ratio_factor", ("SOLVER.NEW_LR_FACTOR",)),
    Foreign("model.ckpt_type", rule=words("original_clip", "saved")),
    Foreign(
        "model.checkpoint",
        ("MODEL.PRETRAIN_PATH",),
        needs=_FROM_CLIP,
        placeholder="CLIP checkpoint path",
    ),
    Foreign("model.saved_path", ("OUTPUT_DIR",), needs=_FROM_CLIP),
    # A test reads the one, training the other.
    Foreign("model.saved_path", ("TEST.WEIGHT", "MODEL.PRETRAIN_PATH"), needs=_FROM_SAVED),
    Foreign(
        "model.use_gather",
        rule=Rule("True, because losses always see the batch of all processes", lambda value: value is True),
        unused="losses always see the batch of all processes",
    ),
    Foreign("model.softlabel_ratio", ("MODEL.SOFT_LABEL_WEIGHT",)),
    Foreign("model.embed_dim", unused="the width is that of the weights"),
    Foreign("model.vocab_size", unused="the vocabulary is that of the weights"),
    Foreign("log.print_period", ("SOLVER.LOG_PERIOD",)),
    # There of one process, here of all of them.
    Foreign("data.batch_size", ("SOLVER.IMS_PER_BATCH",), lambda size: size * launched_processes()),
    Foreign(
        "data.test_batch_size",
        unused="published code has batches of 32 whatever it is; here TEST.IMS_PER_BATCH is theirs",
    ),
    Foreign("data.num_workers", ("DATALOADER.NUM_WORKERS",)),
    Foreign("distributed.backend", unused="the device decides how processes meet"),
    Foreign("distributed.url", unused="torchrun says where processes meet"),
    Foreign(
        "anno_dir",
        ("DATASETS.ROOT_DIR",),
        also={"DATASETS.NAMES": "captions"},
        placeholder="annotation json path",
    ),
    # Relative to the working directory there, to DATASETS.ROOT_DIR here.
    Foreign(
        "image_dir",
        ("DATASETS.IMAGE_DIR",),
        lambda folder: str(Path(folder).expanduser().absolute()),
        placeholder="image path",
    ),
)
