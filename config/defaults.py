"""Every key with its default, in three trees: `cfg` (two stages), `cfg_base` and `cfg_pcl` (one stage).

Their keys differ in SOLVER alone, where those of a stage are in config/solver_defaults.py; `cfg_pcl` has
other defaults than `cfg_base`. The main stage is stage 2 of the two-stage tree, or the only stage.
"Unused" keys exist for published files: they do nothing, and give a warning when set to another value.
The defaults are the published ones; the files in configs/ change many of them.
"""

from yacs.config import CfgNode

from config.solver_defaults import main_solver_node, prompt_solver_node


def _model() -> CfgNode:
    node = CfgNode()
    # 'ViT-B-16' | 'RN50' | open_clip's name of another ViT or ResNet CLIP model | a .json file that describes
    # one in open_clip's form. The default names no model.
    node.NAME = "resnet50"
    # 'cuda' (the GPU when there is one, else the CPU) | 'cpu'.
    node.DEVICE = "cuda"
    # Index of the GPU among the visible ones (CUDA_VISIBLE_DEVICES), as text. Processes of torchrun take one
    # each, from index 0 on.
    node.DEVICE_ID = "0"
    # Where training starts: 'imagenet' or 'clip' (both mean CLIP's weights) | 'none' (random).
    node.PRETRAIN_CHOICE = "imagenet"
    # File of CLIP weights; '' = by PRETRAIN_TAG, from the local cache or downloaded.
    node.PRETRAIN_PATH = ""
    # open_clip's tag of the CLIP weights, e.g. 'openai', 'laion2b_s34b_b79k'.
    node.PRETRAIN_TAG = "openai"
    # File of a finished stage 1 (`…_stage1_N.pth`): training begins with stage 2 from it; '' = with stage 1.
    # Unused by the one-stage programs.
    node.STAGE1_WEIGHT = ""
    # ViT: vertical and horizontal stride of the patches in pixels; below the patch size they overlap (OLP).
    node.STRIDE_SIZE = [16, 16]
    # ViT: add a learned row to the class token (SIE): one row per camera.
    node.SIE_CAMERA = False
    # ViT: one SIE row per viewpoint; with SIE_CAMERA one per pair of camera and viewpoint.
    node.SIE_VIEW = False
    # Factor of the SIE row; the published SIE models have 1.0.
    node.SIE_COE = 3.0
    # Weight of the identity loss (cross-entropy).
    node.ID_LOSS_WEIGHT = 1.0
    # Weight of the triplet loss.
    node.TRIPLET_LOSS_WEIGHT = 1.0
    # Weight of the image-to-text loss in stage 2; unused by the one-stage programs.
    node.I2T_LOSS_WEIGHT = 1.0
    # Weight of the prototype contrastive loss (PCL-CLIP); 0 = without prototypes; 1 in train_pcl.py.
    node.PCL_LOSS_WEIGHT = 0.0
    # Prototypes: what is kept of an old one in an update, 0 to 1; 0.2 takes 80 % of the new sample.
    node.MEMORY_MOMENTUM = 0.2
    # Prototypes: cosine similarities are divided by it before the softmax.
    node.MEMORY_TEMPERATURE = 0.05
    # Prototypes: 'hard' (moved by an identity's least similar image in the batch) | 'all' (by one image after
    # the other).
    node.MEMORY_UPDATE = "hard"
    # 'two' (a classifier on each feature) | 'joint' (one on both, side by side; so in train_pcl.py).
    node.CLASSIFIER = "two"
    # True: a ViT's patch projection is not trained. So in train_pcl.py.
    node.FREEZE_PATCHES = False
    # 'triplet' | 'triplet_center' (adds the centre loss).
    node.METRIC_LOSS_TYPE = "triplet"
    # True: soft-margin triplet loss, without SOLVER.MARGIN.
    node.NO_MARGIN = False
    # 'on' | 'off': label smoothing of 0.1 in the identity and image-to-text losses.
    node.IF_LABELSMOOTH = "on"
    # Unused: the identity loss is always softmax cross-entropy.
    node.ID_LOSS_TYPE = "softmax"
    # Unused: METRIC_LOSS_TYPE 'triplet_center' switches the centre loss on.
    node.IF_WITH_CENTER = "no"
    # Unused: the head always has the two batch norms (BNNeck).
    node.NECK = "bnneck"
    # Unused: the last ResNet stage always has stride 1.
    node.LAST_STRIDE = 1
    # Unused: the classifiers are always linear.
    node.COS_LAYER = False
    # Unused: NAME decides the image tower.
    node.TRANSFORMER_TYPE = "None"
    # Unused: CLIP's towers have no dropout.
    node.DROP_OUT = 0.0
    # Unused: CLIP's towers have no stochastic depth.
    node.DROP_PATH = 0.1
    # Unused: CLIP's towers have no attention dropout.
    node.ATT_DROP_RATE = 0.0
    # True: refuse to run unless torchrun has started several processes. (What torchrun starts always works
    # together, whatever this key says.)
    node.DIST_TRAIN = False
    return node


def _input() -> CfgNode:
    node = CfgNode()
    # Height and width of a training image, pixels.
    node.SIZE_TRAIN = [384, 128]
    # Height and width of a test image, pixels.
    node.SIZE_TEST = [384, 128]
    # Mean of R, G, B on the scale 0 to 1.
    node.PIXEL_MEAN = [0.485, 0.456, 0.406]
    # Standard deviation of R, G, B on the scale 0 to 1.
    node.PIXEL_STD = [0.229, 0.224, 0.225]
    # Probability of the horizontal flip, 0 to 1.
    node.PROB = 0.5
    # Probability of random erasing, 0 to 1.
    node.RE_PROB = 0.5
    # What is erased with: 'pixel' (noise) | 'constant' (PIXEL_MEAN, as published after normalisation; so in
    # train_pcl.py).
    node.RE_MODE = "pixel"
    # How test images are resized: 'bilinear' | 'bicubic' (so in train_pcl.py). Training images: bicubic.
    node.TEST_RESIZE = "bilinear"
    # Black border on each side before the random crop, pixels.
    node.PADDING = 10
    return node


def _datasets() -> CfgNode:
    node = CfgNode()
    # One of: market1501, dukemtmc, occ_duke, msmt17, veri, VehicleID; your own: csv, folder.
    node.NAMES = "market1501"
    # Folder that holds the data set's folder; for csv and folder the data set itself.
    node.ROOT_DIR = "../data"
    # NAMES csv: file under ROOT_DIR that lists the images.
    node.CSV = "dataset.csv"
    # Noun of the prompt, e.g. 'person'; '' = the data set's own. Unused by the one-stage programs.
    node.SUBJECT = ""
    # NAMES VehicleID: identities of the test list, 800 | 1600 | 2400.
    node.VEHICLEID_TEST_SIZE = 800
    # Decode every image once before a run starts, so that a missing or damaged file is found at once.
    node.CHECK_IMAGES = True
    # True: paths in CSV and list files may lead out of ROOT_DIR (absolute ones, '..'). Links may always.
    node.ALLOW_OUTSIDE = False
    return node


def _dataloader() -> CfgNode:
    node = CfgNode()
    # Main stage: 'softmax' (plain shuffle) | 'softmax_triplet' (NUM_INSTANCE images of each drawn identity).
    node.SAMPLER = "softmax"
    # Images of one identity in a batch, 2 or more; must divide the main stage's IMS_PER_BATCH.
    node.NUM_INSTANCE = 16
    # Processes that load images; 0 = none but the program itself, -1 = as many as there are processors, at
    # most 16 (in a torch.distributed run this process's share of them).
    node.NUM_WORKERS = -1
    # A training image that cannot be read: 'raise' ends the run | 'skip' takes another one of its identity,
    # with a warning, and ends the run when more than 1 % of the images are such. A test image always ends it.
    node.ON_ERROR = "raise"
    # Keep the main stage's training images in memory, decoded and resized (height x width x 3 bytes each): it
    # decodes each file once before the first epoch, and not in every epoch. (The pass that builds prototypes
    # or finds clusters reads the files in every epoch all the same.)
    node.CACHE = False
    return node


def _cluster() -> CfgNode:
    node = CfgNode()
    # Training without identities (train_pcl.py): 'none' (identities are given) | 'dbscan' (before each epoch
    # images are clustered, and clusters take the place of identities).
    node.METHOD = "none"
    # DBSCAN: Jaccard distance up to which images are neighbours, above 0 and below 1.
    node.EPS = 0.7
    # DBSCAN: neighbours, itself included, that an image needs to be within a cluster.
    node.MIN_SAMPLES = 4
    # Jaccard distance: nearest neighbours among which reciprocal ones are looked for.
    node.K1 = 30
    # Jaccard distance: nearest neighbours over which the sets are averaged; 1 = none.
    node.K2 = 6
    return node


def _test() -> CfgNode:
    node = CfgNode()
    # Images in a batch of feature extraction.
    node.IMS_PER_BATCH = 128
    # Checkpoint to test; needed by test.py and test_clipreid.py.
    node.WEIGHT = ""
    # Test feature: 'before' or 'after' the batch norms.
    node.NECK_FEAT = "after"
    # Precision of feature extraction: 'auto' (fp16 on a GPU, bf16 on a processor that has it, else 'off') |
    # 'bf16' | 'fp16' | 'off' (float32).
    node.AMP = "auto"
    # 'yes' | 'no': L2-normalise features before distances are computed.
    node.FEAT_NORM = "yes"
    # 'auto' (the SIE row of each image's camera when the test cameras fit the file's table, else the mean row
    # for all) | 'mean' (the mean row for all).
    node.SIE = "auto"
    # Evaluate the model once before training, logged as epoch 0.
    node.EVAL_BEFORE_TRAINING = False
    # True: rank by k-reciprocal re-ranked distances (Zhong et al. 2017) in every evaluation.
    node.RE_RANKING = False
    # Re-ranking: nearest neighbours among which reciprocal ones are looked for.
    node.RERANK_K1 = 50
    # Re-ranking: nearest neighbours over which the sets are averaged; 1 = none.
    node.RERANK_K2 = 15
    # Re-ranking: weight of the Euclidean distance, 0 to 1; the Jaccard distance has the rest.
    node.RERANK_LAMBDA = 0.3
    # File in OUTPUT_DIR to which a test writes its features, for the programs in tools/; '' = none.
    node.FEATURES = "features.npz"
    # Unused: no distance matrix is written.
    node.DIST_MAT = "dist_mat.npy"
    # Unused, and never warned about: both values occur in published files and mean nothing.
    node.EVAL = False
    return node


def _tree(solver: CfgNode) -> CfgNode:
    tree = CfgNode()
    tree.MODEL = _model()
    tree.INPUT = _input()
    tree.DATASETS = _datasets()
    tree.DATALOADER = _dataloader()
    tree.SOLVER = solver
    # Seed of all random numbers.
    tree.SOLVER.SEED = 1234
    # Margin of the triplet loss.
    tree.SOLVER.MARGIN = 0.3
    # Precision of training: 'auto' (bf16 on a GPU that has it, fp16 on others, 'off' on the CPU) | 'bf16' |
    # 'fp16' (with a gradient scaler) | 'off' (float32).
    tree.SOLVER.AMP = "auto"
    # True: steps of the main stage go through torch.compile, which needs a C++ compiler and takes a minute at
    # the start. (On a GPU stage 1 is a captured CUDA graph in any case.)
    tree.SOLVER.COMPILE = False
    # ViT: images whose activations the main stage holds at a time, for large batches on small cards: losses
    # and gradients stay those of the whole batch, a step takes about half as long again. 0 = all.
    tree.SOLVER.MICRO_BATCH = 0
    # ViT: keep no activations inside blocks in the main stage, but compute them again, which takes longer.
    tree.SOLVER.GRAD_CHECKPOINT = False
    # torchrun on GPUs: batch norms of the towers and of the neck take the statistics of the whole batch, not
    # of this process's part of it; the whole batch is what one process sees.
    tree.SOLVER.SYNC_BN = True
    # True: only operations that give the same bits in every run on the same machine; slower on a GPU.
    tree.SOLVER.DETERMINISTIC = False
    # Minutes between two saves of last.pt, from which --resume continues; 0 = only after each epoch, when it
    # is saved in any case.
    tree.SOLVER.SAVE_EVERY_MIN = 10.0
    # Checkpoints of a stage to keep, the newest ones; 0 = all.
    tree.SOLVER.KEEP = 0
    tree.CLUSTER = _cluster()
    tree.TEST = _test()
    # Folder for checkpoints and logs; training needs one, testing with '' writes no log file.
    tree.OUTPUT_DIR = ""
    return tree


def _pcl_tree() -> CfgNode:
    """PCL-CLIP's published defaults, and what it does of which its own code has no key."""
    pcl = _tree(main_solver_node())
    pcl.MODEL.PCL_LOSS_WEIGHT = 1.0
    pcl.MODEL.TRIPLET_LOSS_WEIGHT = 0.0
    pcl.MODEL.CLASSIFIER = "joint"
    pcl.MODEL.FREEZE_PATCHES = True
    pcl.INPUT.RE_MODE = "constant"
    pcl.INPUT.TEST_RESIZE = "bicubic"
    pcl.DATALOADER.SAMPLER = "softmax_triplet"
    pcl.SOLVER.ITERS = 200
    pcl.SOLVER.SCHEDULE_START = 0
    pcl.SOLVER.WEIGHT_DECAY_BIAS = -1.0
    return pcl


cfg = _tree(CfgNode({"STAGE1": prompt_solver_node(), "STAGE2": main_solver_node()}))
cfg_base = _tree(main_solver_node())
cfg_pcl = _pcl_tree()
