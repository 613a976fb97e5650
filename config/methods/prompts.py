"""Prompt learning beyond CLIP-ReID's: other prompts, deep prompts, means of epochs (Multimodal-ReID)."""

from yacs.config import CfgNode

from config.keys import FRACTION, ONE_OR_MORE, POSITIVE, ZERO_OR_MORE, Key, Rule, under, words

_TEACHER = ("MODEL.TEACHER.LOSS_WEIGHT", POSITIVE)
_DEEP = ("MODEL.PROMPT.DEEP_VISION or MODEL.PROMPT.DEEP_TEXT", Rule("1 or more", lambda value: value >= 1))

_PROMPT = {
    "FIXED_WORDS": Key(
        "A photo of a",
        "Words before the learned tokens. The prompt is these words, NUM_TOKENS learned tokens, the noun and "
        "a full stop.",
        Rule("words", lambda text: bool(text.split())),
        fixed=True,
    ),
    "NUM_TOKENS": Key(4, "Learned tokens of an identity.", ONE_OR_MORE, fixed=True),
    "SUBJECTS": Key(
        "",
        'JSON file with a noun phrase for each identity, {"0002": "sedan, a type of vehicle"}, in place '
        "of DATASETS.SUBJECT, which identities that are missing keep. '': one noun for all.",
        fixed=True,
    ),
    "DEEP_VISION": Key(
        0,
        "ViT: learned tokens in each block of the image tower, the same for all images. 0: none.",
        ZERO_OR_MORE,
        fixed=True,
    ),
    "DEEP_TEXT": Key(
        0,
        "Learned tokens in each block of the text tower but the first, the same for all identities. They "
        "take the places behind the start of text. 0: none.",
        ZERO_OR_MORE,
        fixed=True,
    ),
    "DEPTH": Key(
        12,
        "Blocks that have deep prompts, from the first on; more than a tower has: all.",
        ONE_OR_MORE,
        needs=_DEEP,
        fixed=True,
    ),
    "WEIGHT": Key(
        "",
        "File whose entries with VPT in their names the deep prompts start from. '': from random numbers.",
        needs=_DEEP,
    ),
}

_IMAGE = {
    "ADAPTER_RATIO": Key(
        0.0,
        "Share of CLIP-Adapter's output in the feature of the last block, before the neck. 0: no adapter.",
        FRACTION,
        fixed=True,
    ),
    "ADAPTER_REDUCTION": Key(
        4,
        "CLIP-Adapter: width of the feature over that of the layer between.",
        ONE_OR_MORE,
        needs=("ADAPTER_RATIO", POSITIVE),
        fixed=True,
    ),
    "TEACHER.LOSS_WEIGHT": Key(
        0.0,
        "Weight of the smooth L1 loss between a feature and that of a frozen image tower of CLIP, the "
        "teacher. 0: no teacher.",
        ZERO_OR_MORE,
    ),
    "TEACHER.FEATURE": Key(
        "feat_proj",
        "Feature that is compared with the teacher's: 'feat_proj', projected, or 'feat', before that.",
        words("feat_proj", "feat"),
        needs=_TEACHER,
    ),
    "TEACHER.NAME": Key("", "The teacher's CLIP model, as MODEL.NAME. '': MODEL.NAME.", needs=_TEACHER),
    "TEACHER.PRETRAIN_PATH": Key(
        "",
        "File of the teacher's CLIP weights. '' here and at PRETRAIN_TAG: the weights that the model starts "
        "from.",
        needs=_TEACHER,
    ),
    "TEACHER.PRETRAIN_TAG": Key("", "open_clip's tag of the teacher's CLIP weights.", needs=_TEACHER),
}

_AVERAGE = {
    "GAUSS_MEAN": Key(
        0.0,
        "Epoch with the largest weight in the mean of the epochs that the stage ends with.",
        needs=("GAUSS_STD", POSITIVE),
        fixed=True,
    ),
    "GAUSS_STD": Key(
        0.0,
        "The stage ends with the mean of what it trains over its epochs, weighted by a Gaussian of this "
        "width in epochs around GAUSS_MEAN. 0: with the last epoch.",
        ZERO_OR_MORE,
        fixed=True,
    ),
}

# Of all image methods: an adapter and a teacher need no prompts.
IMAGE_KEYS = under("MODEL", _IMAGE)

KEYS = {
    **under("MODEL.PROMPT", _PROMPT),
    "SOLVER.STAGE1.ONLINE_FEATURES": Key(
        False,
        "Compute the image features of every step from images, without augmentation, so that deep prompts "
        "of the image tower learn. Otherwise they are computed once.",
        needs=("MODEL.PROMPT.DEEP_VISION", POSITIVE),
        fixed=True,
    ),
    "SOLVER.STAGE2.PROMPTS": Key(
        "none",
        "Deep prompts of the image tower that stage 2 trains: 'none', 'input' (those before the first "
        "block), 'all'.",
        words("none", "input", "all"),
        needs=("MODEL.PROMPT.DEEP_VISION", POSITIVE),
        fixed=True,
    ),
    **under("SOLVER.STAGE1", _AVERAGE),
    **under("SOLVER.STAGE2", _AVERAGE),
}


def learns_online(cfg: CfgNode) -> bool:
    """Whether stage 1 computes image features in every step: without deep prompts they do not change."""
    return cfg.SOLVER.STAGE1.ONLINE_FEATURES and cfg.MODEL.PROMPT.DEEP_VISION > 0
