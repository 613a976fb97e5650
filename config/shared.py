"""The keys that every method reads, with the published defaults; the files in configs/ change many of them.

"Published" means CLIP-ReID's code. The keys of a training stage are in config/stages.py.
"""

from pathlib import Path

from yacs.config import CfgNode

from config.keys import (
    FRACTION,
    ONE_OR_MORE,
    POSITIVE_NUMBERS,
    ZERO_OR_MORE,
    Key,
    Rule,
    under,
    words,
)
from config.nodes import main_solver
from config.trackers import LOG

EXAMPLES = """\
  python train_clipreid.py --config_file configs/person/vit_clipreid.yml \\
      DATASETS.NAMES msmt17 DATASETS.ROOT_DIR /path/to/data OUTPUT_DIR logs/msmt17
  python train_clipreid.py --config_file configs/person/vit_clipreid.yml \\
      MODEL.SIE_CAMERA True MODEL.SIE_COE 1.0 MODEL.STRIDE_SIZE '[12, 12]'
  python test_clipreid.py --config_file configs/person/vit_clipreid.yml TEST.WEIGHT path/to/ViT-B-16_60.pth
  python train.py --config_file configs/person/cnn_base.yml SOLVER.IMS_PER_BATCH 32
  python train_clipreid.py --resume --config_file configs/person/vit_clipreid.yml OUTPUT_DIR logs/msmt17
  torchrun --nproc_per_node=4 train_clipreid.py --config_file configs/person/vit_clipreid.yml
  python test.py --config_file configs/person/vit_base.yml TEST.WEIGHT path/to/ViT-B-16_60.pth
  python train_pcl.py --config_file configs/pcl/vit_pcl.yml DATASETS.NAMES "('market1501')"
"""

PRECISIONS = ("auto", "bf16", "fp16", "off")
_AMP = words(*PRECISIONS)

_MODEL = {
    "NAME": Key(
        "resnet50",
        "'ViT-B-16', 'RN50', open_clip's name of another ViT or ResNet CLIP model, or a .json file that "
        "describes one in open_clip's form. The default names no model.",
        fixed=True,
    ),
    "DEVICE": Key(
        "cuda", "'cuda' takes the GPU when there is one, else the CPU.", words("cuda", "cpu"), common=True
    ),
    "DEVICE_ID": Key(
        "0",
        "Index of the GPU among the visible ones (CUDA_VISIBLE_DEVICES), as text. Processes of torchrun take "
        "one each, from index 0 on.",
        Rule(
            "the index of a visible GPU, e.g. '0' (a process uses one; several: torchrun --nproc_per_node N "
            "and the program)",
            lambda text: text.isascii() and text.isdigit(),
        ),
    ),
    "PRETRAIN_CHOICE": Key(
        "imagenet",
        "Weights at the start of training: 'imagenet' and 'clip' both mean CLIP's, 'none' random ones.",
        words("imagenet", "clip", "none"),
    ),
    "PRETRAIN_PATH": Key(
        "",
        "File of CLIP weights, or of a text search model, whose towers are taken. '': by PRETRAIN_TAG, from "
        "the local cache or downloaded.",
        common=True,
    ),
    "PRETRAIN_TAG": Key("openai", "open_clip's tag of CLIP weights, e.g. 'openai', 'laion2b_s34b_b79k'."),
    "REID_WEIGHT": Key(
        "",
        "Re-id checkpoint whose image side training starts from, in place of CLIP's: a file or 'hf-hub:…' as "
        "TEST.WEIGHT takes it. Classifiers and prompts are new, texts as PRETRAIN_CHOICE says. '': CLIP's.",
        common=True,
    ),
    "STRIDE_SIZE": Key(
        [16, 16],
        "ViT: vertical and horizontal stride of the patches in pixels; below the patch size they overlap.",
        POSITIVE_NUMBERS,
        common=True,
    ),
    "SIE_CAMERA": Key(
        False,
        "ViT: add a learned row per camera to the class token, the side information embedding (SIE).",
        common=True,
    ),
    "SIE_VIEW": Key(
        False, "ViT: one SIE row per viewpoint; with SIE_CAMERA one per pair of camera and viewpoint."
    ),
    "SIE_COE": Key(3.0, "Factor of the SIE row. The published SIE models have 1.0.", common=True),
    "ID_LOSS_WEIGHT": Key(1.0, "Weight of the identity loss (cross-entropy).", ZERO_OR_MORE),
    "TRIPLET_LOSS_WEIGHT": Key(1.0, "Weight of the triplet loss.", ZERO_OR_MORE),
    "METRIC_LOSS_TYPE": Key(
        "triplet", "'triplet_center' adds the centre loss.", words("triplet", "triplet_center")
    ),
    "NO_MARGIN": Key(False, "Use the soft-margin triplet loss, without SOLVER.MARGIN."),
    "IF_LABELSMOOTH": Key(
        "on", "Label smoothing of 0.1 in the identity and image-to-text losses.", words("on", "off")
    ),
    "CLASSIFIER": Key(
        "two",
        "'two': a classifier on each feature; 'joint': one on both features, side by side.",
        words("two", "joint"),
        fixed=True,
    ),
    "FREEZE_PATCHES": Key(False, "ViT: do not train the patch projection."),
    "POSITION_RESIZE": Key(
        "bilinear",
        "ViT: how CLIP's position embedding is resized to another grid when training starts.",
        words("bilinear", "bicubic"),
    ),
    "ID_LOSS_TYPE": Key(
        "softmax", "Type of the identity loss.", unused="the identity loss is always softmax cross-entropy"
    ),
    "IF_WITH_CENTER": Key(
        "no",
        "Switch of the centre loss.",
        unused="MODEL.METRIC_LOSS_TYPE 'triplet_center' switches the centre loss on",
    ),
    "NECK": Key("bnneck", "Type of the neck.", unused="the head always has the two batch norms"),
    "LAST_STRIDE": Key(
        1, "Stride of the last ResNet stage.", unused="the last ResNet stage always has stride 1"
    ),
    "COS_LAYER": Key(False, "Cosine classifiers.", unused="the classifiers are always linear"),
    "TRANSFORMER_TYPE": Key("None", "Type of the image tower.", unused="MODEL.NAME decides the image tower"),
    "DROP_OUT": Key(0.0, "Rate of dropout.", unused="CLIP's towers have no dropout"),
    "DROP_PATH": Key(0.1, "Rate of stochastic depth.", unused="CLIP's towers have no stochastic depth"),
    "ATT_DROP_RATE": Key(0.0, "Rate of attention dropout.", unused="CLIP's towers have no attention dropout"),
    "DIST_TRAIN": Key(
        False,
        "Refuse to run unless torchrun has started the program. Processes of torchrun always work together, "
        "whatever this key is.",
    ),
}

_INPUT = {
    "SIZE_TRAIN": Key([384, 128], "Height and width of a training image, pixels.", POSITIVE_NUMBERS),
    "SIZE_TEST": Key([384, 128], "Height and width of a test image, pixels.", POSITIVE_NUMBERS),
    "PIXEL_MEAN": Key([0.485, 0.456, 0.406], "Mean of R, G, B on the scale 0 to 1."),
    "PIXEL_STD": Key(
        [0.229, 0.224, 0.225], "Standard deviation of R, G, B on the scale 0 to 1.", POSITIVE_NUMBERS
    ),
    "PROB": Key(0.5, "Probability of the horizontal flip.", FRACTION),
    "RE_PROB": Key(0.5, "Probability of random erasing.", FRACTION),
    "RE_MODE": Key(
        "pixel",
        "Random erasing fills with noise, 'pixel', or with PIXEL_MEAN, 'constant' (as published, after "
        "normalisation).",
        words("pixel", "constant"),
    ),
    "TEST_RESIZE": Key(
        "bilinear", "Resizing of test images. Training images: bicubic.", words("bilinear", "bicubic")
    ),
    "ORIENTATION": Key(
        "auto",
        "'exif' turns images as their EXIF orientation says, 'stored' leaves them as they lie in the file; "
        "'auto' turns own images (csv, folder), not the published sets.",
        words("auto", "exif", "stored"),
    ),
    "PADDING": Key(10, "Black border on each side before the random crop, pixels.", ZERO_OR_MORE),
}

_DATASETS = {
    "NAMES": Key(
        "market1501",
        "One of market1501, dukemtmc, occ_duke, msmt17, veri, VehicleID; for own images csv or folder.",
        fixed=True,
        common=True,
    ),
    "TRAIN_ALSO": Key(
        "",
        "Data sets under ROOT_DIR whose training splits are trained on as well, e.g. 'msmt17,dukemtmc'. "
        "Their identities and cameras follow those of NAMES and of each other.",
        fixed=True,
    ),
    "TEST": Key(
        "",
        "Data set under ROOT_DIR whose query and gallery are ranked, also one that is not trained on. '': "
        "NAMES.",
    ),
    "ROOT_DIR": Key(
        "../data",
        "Folder that holds the data set's folder; for csv and folder the data set itself.",
        common=True,
    ),
    "SUBJECT": Key("", "Noun of the prompt, e.g. 'person'. '': the data set's own."),
    "CSV": Key("dataset.csv", "NAMES csv: file under ROOT_DIR that lists the images."),
    "VEHICLEID_TEST_SIZE": Key(800, "NAMES VehicleID: identities of the test list.", words(800, 1600, 2400)),
    "CHECK_IMAGES": Key(
        True, "Decode every image once before a run starts, so that damaged files are found at once."
    ),
    "DOWNLOAD": Key(
        False,
        "Before a run, fetch data sets that are missing under ROOT_DIR, if they can be had without a form: "
        "tools/download.py names them.",
    ),
    "ALLOW_OUTSIDE": Key(
        False, "Allow paths that lead out of ROOT_DIR.", unused="paths in lists may lead anywhere"
    ),
}

_DATALOADER = {
    "SAMPLER": Key(
        "softmax",
        "Main stage: 'softmax' shuffles the images, 'softmax_triplet' draws NUM_INSTANCE images of each of a "
        "few identities, 'graph' those of an identity and of the ones nearest to it.",
        words("softmax", "softmax_triplet", "graph"),
        fixed=True,
    ),
    "NUM_INSTANCE": Key(
        16,
        "Images of one identity in a training batch; must divide the main stage's IMS_PER_BATCH, and "
        "stage 1's where its SAMPLER is 'graph'.",
        Rule("2 or more", lambda value: value >= 2),
        fixed=True,
        common=True,
    ),
    "NUM_WORKERS": Key(
        -1,
        "Processes that load images. With 0 the program itself loads them; -1 takes as many as there are "
        "processors, at most 16 (under torchrun this process's share of them).",
        Rule("-1 (as many as processors) or more", lambda value: value >= -1),
        common=True,
    ),
    "ON_ERROR": Key(
        "raise",
        "A training image that cannot be read ends the run, 'raise', or is replaced by another one of its "
        "identity with a warning, 'skip', up to 1 % of the images. A test image always ends the run.",
        words("raise", "skip"),
    ),
    "CACHE": Key(
        False,
        "Keep the main stage's training images in memory, decoded and resized (height x width x 3 bytes "
        "each). The pass that builds prototypes or finds clusters still reads the files in every epoch.",
    ),
}

_SOLVER = {
    "SEED": Key(
        1234,
        "Seed of all random numbers.",
        Rule("0 to 4294967295", lambda value: 0 <= value < 2**32),
        fixed=True,
        common=True,
    ),
    "MARGIN": Key(0.3, "Margin of the triplet loss.", ZERO_OR_MORE),
    "AMP": Key(
        "auto",
        "Precision of training. 'auto': bf16 on a GPU that has it, fp16 on others, 'off' on the CPU. 'fp16' "
        "uses a gradient scaler, 'off' is float32.",
        _AMP,
    ),
    "COMPILE": Key(
        False,
        "Pass steps of the main stage through torch.compile, which needs a C++ compiler and takes a minute "
        "at the start. Stage 1 on a GPU is a captured CUDA graph in any case.",
    ),
    "MICRO_BATCH": Key(
        0,
        "ViT: images whose activations the main stage holds at a time, for large batches on small cards. "
        "Losses and gradients stay those of the whole batch, a step takes about half as long again. 0: all.",
        ZERO_OR_MORE,
    ),
    "GRAD_CHECKPOINT": Key(
        False,
        "ViT: recompute the activations inside blocks in the backward pass of the main stage, which saves "
        "memory and takes longer.",
    ),
    "SYNC_BN": Key(
        True,
        "torchrun on GPUs: batch norms of the towers and the neck take their statistics over the batches of "
        "all processes.",
    ),
    "SHARD": Key(
        "none",
        "torchrun: what the processes divide among them, instead of each holding it all. 'zero1': the state "
        "of the optimizer, in Adam twice the size of the weights; losses and files stay the same.",
        words("none", "zero1"),
    ),
    "DETERMINISTIC": Key(
        False,
        "Use only operations that give the same bits in every run on the same machine; slower on a GPU.",
    ),
    "SAVE_EVERY_MIN": Key(
        10.0,
        "Minutes between two saves of last.pt, from which --resume continues. It is also saved after each "
        "epoch; 0: only then.",
        ZERO_OR_MORE,
    ),
    "KEEP": Key(0, "Checkpoints of a stage to keep, the newest ones. 0: all.", ZERO_OR_MORE),
    "KEEP_BEST": Key(
        False,
        "Keep the model of the evaluation with the highest Rank-1, as `…_best.pth`. The split that is "
        "evaluated chooses the epoch: on the test split, figures are too good, as published ones of text "
        "search are.",
    ),
}

_TEST = {
    "IMS_PER_BATCH": Key(128, "Images in a batch of feature extraction.", ONE_OR_MORE, common=True),
    "WEIGHT": Key("", "Checkpoint to test, needed by the test programs.", common=True),
    "NECK_FEAT": Key(
        "after", "The test feature is taken before or after the batch norms.", words("before", "after")
    ),
    "AMP": Key(
        "off",
        "Precision of feature extraction. 'off' is float32, as published. 'auto', for speed: fp16 on a GPU, "
        "bf16 on a CPU that has it, else 'off'; it moves features, those after the batch norms most.",
        _AMP,
    ),
    "AUGMENT": Key(
        "none",
        "Views of a test image whose features are averaged: 'none' is the image; 'flip' is the image and its "
        "mirror image; 'flip_crop' the image and a random crop of its mirror image, which was padded by 10 "
        "pixels left and right and 5 above and below. The crops follow from SOLVER.SEED. Programs "
        "without a configuration, such as tools/extract.py, take the image only.",
        words("none", "flip", "flip_crop"),
    ),
    "FEAT_NORM": Key("yes", "L2-normalise features before distances are computed.", words("yes", "no")),
    "SIE": Key(
        "auto",
        "'auto': the SIE row of each image's camera when the file's table is of the data set that is tested, "
        "by the model card, and has its cameras, else the mean row for all images; 'mean': always the mean "
        "row.",
        words("auto", "mean"),
    ),
    "EVAL_BEFORE_TRAINING": Key(False, "Evaluate the model once before training, logged as epoch 0."),
    "RE_RANKING": Key(
        False, "Rank by k-reciprocal re-ranked distances (Zhong et al. 2017) in every evaluation."
    ),
    "RERANK_K1": Key(
        50, "Re-ranking: nearest neighbours among which reciprocal ones are looked for.", ONE_OR_MORE
    ),
    "RERANK_K2": Key(
        15, "Re-ranking: nearest neighbours over which the sets are averaged. 1: no averaging.", ONE_OR_MORE
    ),
    "RERANK_LAMBDA": Key(
        0.3, "Re-ranking: weight of the Euclidean distance; the Jaccard distance has the rest.", FRACTION
    ),
    "FEATURES": Key(
        "features.npz",
        "File in OUTPUT_DIR to which a test writes its features, for the programs in tools/. '': no file.",
        Rule("the name of a file, e.g. 'features.npz', or ''", lambda name: Path(name).name == name),
    ),
    "DIST_MAT": Key("dist_mat.npy", "File of the distance matrix.", unused="no distance matrix is written"),
    "EVAL": Key(
        False, "Without effect, and never warned about: published files have both values, which mean nothing."
    ),
}

KEYS = {
    **under("MODEL", _MODEL),
    **under("INPUT", _INPUT),
    **under("DATASETS", _DATASETS),
    **under("DATALOADER", _DATALOADER),
    **under("SOLVER", _SOLVER),
    **under("TEST", _TEST),
    **under("LOG", LOG),
    "OUTPUT_DIR": Key(
        "",
        "Folder for checkpoints and logs. Training needs one; testing with '' writes no log file.",
        common=True,
    ),
}


def check(cfg: CfgNode) -> None:
    """The samplers of identities fill a batch with whole ones."""
    if cfg.DATALOADER.SAMPLER != "softmax":
        instances = cfg.DATALOADER.NUM_INSTANCE
        rule = Rule(f"multiples of DATALOADER.NUM_INSTANCE {instances}", lambda value: value % instances == 0)
        prefix = "SOLVER.STAGE2" if "STAGE2" in cfg.SOLVER else "SOLVER"
        rule.require(f"{prefix}.IMS_PER_BATCH", main_solver(cfg).IMS_PER_BATCH)


def check_training(cfg: CfgNode) -> None:
    """A run has a folder, and evaluates at the size for which its image tower is built."""
    if cfg.INPUT.SIZE_TEST != cfg.INPUT.SIZE_TRAIN:
        raise ValueError(
            f"INPUT.SIZE_TEST is {cfg.INPUT.SIZE_TEST}; allowed in training: INPUT.SIZE_TRAIN "
            f"{cfg.INPUT.SIZE_TRAIN}, the size for which the image tower is built"
        )
    if not cfg.OUTPUT_DIR:
        raise ValueError("OUTPUT_DIR is empty; allowed: a folder for checkpoints and logs, e.g. logs/my_run")
