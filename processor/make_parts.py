"""From the configuration to the parts of a run, data, model, loaders, evaluation; those of image methods."""

import dataclasses
import functools
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from torch import Tensor, nn
from yacs.config import CfgNode

from config.errors import as_keys
from config.methods.prompts import learns_online
from config.resume import require_same_stages
from datasets import (
    Loaders,
    ReIDDataset,
    caption_file,
    make_dataloader,
    make_dataset,
    make_described_images,
    make_second_view,
    num_workers,
    read_subjects,
    verify_images,
)
from model import (
    ReIDModel,
    load_stage,
    load_stage1,
    make_card,
    make_model,
    make_test_model,
    model_label,
    start_from_reid,
)
from processor.evaluation import Evaluation, ImageToImage, image_encoder, with_second_view
from processor.skipping import missing_stages, read_settings, require_same_data
from utils.distributed import from_first, share
from utils.environment import package_versions
from utils.files import sha256_of_file
from utils.notes import reads_weights

_logger = logging.getLogger("transreid")


class TrainingData(Protocol):
    """A data set as a run sees it: training items, trials, and the records whose files are checked.

    `split` is the name of the split that the trials are of. Where each trial is reported by itself,
    `trial_names` are their names.
    """

    name: str
    train: list[Any]
    trials: list[Any]
    split: str

    @property
    def release(self) -> str:
        """Which release of the data set it is, '' where there is one."""
        ...

    @property
    def tested(self) -> str:
        """The data set of the trials where it is another than that in training, else ''."""
        ...

    @property
    def trial_names(self) -> Sequence[str]:
        """One name for each trial, or none."""
        ...

    @property
    def num_train_pids(self) -> int:
        """Distinct known identities of the training split."""
        ...

    def test_records(self) -> list[Any]:
        """Records of all trials, one per key."""
        ...


@dataclass(frozen=True)
class Parts:
    """The parts that the stages of a method are made from; model and loaders are of the method's own kind."""

    dataset: TrainingData
    model: Any
    loaders: Any
    evaluation: Evaluation


def image_data(cfg: CfgNode, *, need_train: bool = True, need_labels: bool = True) -> ReIDDataset:
    """The data sets of DATASETS. Raises ValueError where SIE_CAMERA is on and an image has no camera."""
    dataset = make_dataset(cfg, need_train=need_train, need_labels=need_labels)
    unknown = next((record for record in dataset.train if record.camid < 0), None)
    if cfg.MODEL.SIE_CAMERA and unknown is not None:
        raise ValueError(f"MODEL.SIE_CAMERA is True but no camera is known of {unknown.path}; allowed: False")
    return dataset


def image_model(
    cfg: CfgNode, dataset: ReIDDataset, *, pretrained: bool, classifiers: bool = True
) -> ReIDModel:
    """A re-id model for the training split, with CLIP's weights or random ones.

    The SIE table has a row up to the highest training camera and view: on a complete data set that is their
    count; on a part of one, where ids have gaps, the highest must still have a row.
    """
    classes = dataset.num_train_pids if classifiers else 0
    return _model(cfg, dataset, dataset.subject, classes, pretrained=pretrained)


def _model(
    cfg: CfgNode, dataset: ReIDDataset, subjects: str | list[str], classes: int, *, pretrained: bool
) -> ReIDModel:
    cameras = max(record.camid for record in dataset.train) + 1
    views = max(record.viewid for record in dataset.train) + 1
    return make_model(cfg, classes, cameras, views, pretrained=pretrained, subjects=subjects)


def prompt_model(cfg: CfgNode, dataset: ReIDDataset, *, pretrained: bool) -> ReIDModel:
    """As `image_model`, with the noun phrases of MODEL.PROMPT.SUBJECTS for people of DATASETS.NAMES.

    Those of TRAIN_ALSO, whose identities may have the same names, keep the noun.
    """
    path, subjects = cfg.MODEL.PROMPT.SUBJECTS, dataset.subject
    if path:
        first = dataset.parts[0] if dataset.parts else dataset
        subjects = read_subjects(path, first.train, dataset.subject)
        others = dataset.num_train_pids - len(subjects)
        subjects += [dataset.subject] * others
        if others:
            text = "%s is for %s: %d identities of DATASETS.TRAIN_ALSO keep %r"
            _logger.info(text, path, first.name, others, dataset.subject)
    return _model(cfg, dataset, subjects, dataset.num_train_pids, pretrained=pretrained)


def image_loaders(cfg: CfgNode, dataset: ReIDDataset, model: nn.Module, *, labelled: bool = True) -> Loaders:
    """Loaders of the image methods of one stage."""
    return make_dataloader(cfg, dataset, labelled=labelled)


def prompt_loaders(cfg: CfgNode, dataset: ReIDDataset, model: nn.Module) -> Loaders:
    """Loaders of two-stage methods, whose passes without augmentation have the batch size of stage 1."""
    batch, online = cfg.SOLVER.STAGE1.IMS_PER_BATCH, learns_online(cfg)
    described = make_described_images(cfg, dataset) if cfg.DATASETS.CAPTIONS else None
    loaders = make_dataloader(cfg, dataset, plain_batch=batch, shuffle=online)
    return dataclasses.replace(loaders, described=described)


def image_evaluation(cfg: CfgNode, dataset: ReIDDataset, loaders: Loaders, model: nn.Module) -> Evaluation:
    """Images are searched among images, by the model's test feature."""
    return ImageToImage(loaders.test, dataset.trials, encode=_test_encoder(cfg, dataset, model))


def image_test(cfg: CfgNode, dataset: ReIDDataset) -> tuple[nn.Module, Evaluation]:
    """The re-id model in TEST.WEIGHT, and the images that it is tested on."""
    records = dataset.test_records()
    cameras = max(record.camid for record in records) + 1
    views = max(record.viewid for record in records) + 1
    model, checkpoint = make_test_model(cfg, cameras, views, data=dataset.name)
    facts = {
        "weight": cfg.TEST.WEIGHT,
        "size": list(checkpoint.size),
        "stride": list(checkpoint.stride),
        "neck_feature": checkpoint.neck,
        "pixel_mean": list(checkpoint.mean),
        "pixel_std": list(checkpoint.std),
        "resize": checkpoint.resize,
    }
    return model, plain_evaluation(cfg, dataset, model, facts)


def plain_evaluation(
    cfg: CfgNode, dataset: ReIDDataset, model: ReIDModel, facts: Mapping[str, Any]
) -> Evaluation:
    """The test of a re-id model on images of `facts` "size" (H, W), without a training split.

    `facts` are what is known of the weights and the preparation of images, by their names in metrics.json.
    """
    info = {
        "dataset": dataset.name,
        "model": model_label(cfg.MODEL.NAME),
        **facts,
        "augment": cfg.TEST.AUGMENT,
        "seed": cfg.SOLVER.SEED,
        "sie": model.side_information and list(model.side_information),
        "orientation": "exif" if dataset.upright else "stored",
    }
    loaders = make_dataloader(cfg, dataset, size=tuple(facts["size"]))
    return ImageToImage(loaders.test, dataset.trials, info, _test_encoder(cfg, dataset, model))


def _test_encoder(cfg: CfgNode, dataset: ReIDDataset, model: nn.Module) -> Callable[[Any], Tensor]:
    """From a batch to test features, averaged over the views of TEST.AUGMENT."""
    return with_second_view(image_encoder(model), make_second_view(cfg, dataset.test_records()))


class Description(NamedTuple):
    """A model card: its text, for `last.pt`, and what writes it next to a checkpoint, given its path."""

    text: str
    write: Callable[[Path], object]


def image_card(cfg: CfgNode, parts: Parts, method: str) -> Description:
    """The model card of a re-id model."""
    dataset, versions = cast("ReIDDataset", parts.dataset), package_versions()
    about = {"data": dataset.name, "cameras": dataset.camera_rows, "versions": versions}
    card = make_card(cfg, parts.model, method, **about)
    return Description(card.text(), card.write)


Build = Callable[..., Any]  # `pretrained=` to the method's own kind of model
Start = tuple[nn.Module, tuple[str, ...]]  # a model and the stages that are finished with it


def from_clip(cfg: CfgNode, dataset: TrainingData, build: Build) -> Start:
    """Training starts from CLIP's weights."""
    return build(pretrained=True), ()


def from_reid_or_clip(cfg: CfgNode, dataset: TrainingData, build: Build) -> Start:
    """Training starts with the image side of MODEL.REID_WEIGHT, else from CLIP's weights.

    CLIP's are read only where the model has texts.
    """
    if not cfg.MODEL.REID_WEIGHT:
        return from_clip(cfg, dataset, build)
    needs_clip = cfg.MODEL.TEXT != "none"
    if cfg.MODEL.PRETRAIN_PATH and not needs_clip:
        text = "MODEL.PRETRAIN_PATH %s is not used: MODEL.REID_WEIGHT has all that the model takes from CLIP"
        _logger.warning(text, cfg.MODEL.PRETRAIN_PATH)
    images = cast("ReIDDataset", dataset)
    model = build(pretrained=needs_clip)
    views = max(record.viewid for record in images.train) + 1
    start_from_reid(cfg, model, images.camera_rows, views)
    return model, ()


def from_stage1_or_clip(cfg: CfgNode, dataset: TrainingData, build: Build) -> Start:
    """Training starts from the stage-1 file MODEL.STAGE1_WEIGHT, else as `from_reid_or_clip`."""
    if not cfg.MODEL.STAGE1_WEIGHT:
        return from_reid_or_clip(cfg, dataset, build)
    # A file of a run without captions has no words for them, which are CLIP's then.
    model = build(pretrained=bool(cfg.DATASETS.CAPTIONS))
    with as_keys({"path": "MODEL.STAGE1_WEIGHT"}):
        load_stage1(model, cfg.MODEL.STAGE1_WEIGHT)
    return model, ("stage1",)


def data_facts(cfg: CfgNode, dataset: TrainingData) -> dict[str, Any]:
    """What tells whether a finished stage was trained on these images, identities and captions."""
    files = "\n".join(f"{Path(record.path).name} {record.pid}" for record in dataset.train)
    facts: dict[str, Any] = {"images": len(dataset.train), "identities": dataset.num_train_pids}
    facts["files"] = hashlib.sha256(files.encode(errors="surrogateescape")).hexdigest()
    return facts | {"captions": sha256_of_file(caption_file(cfg)) if cfg.DATASETS.CAPTIONS else ""}


def stage_files(cfg: CfgNode) -> dict[str, str]:
    """The final checkpoints of the stages of CLIP-ReID by stage, in their order."""
    solver, label = cfg.SOLVER, model_label(cfg.MODEL.NAME)
    files = {"stage0": f"{label}_stage0_{solver.STAGE0.MAX_EPOCHS}.pth"} if solver.STAGE0.MAX_EPOCHS else {}
    files["stage1"] = f"{label}_stage1_{solver.STAGE1.MAX_EPOCHS}.pth"
    return files | {"stage2": f"{label}_{solver.STAGE2.MAX_EPOCHS}.pth"}


def from_finished(cfg: CfgNode, dataset: TrainingData, build: Build) -> Start:
    """Training starts from the latest stage in OUTPUT_DIR, if SOLVER.SKIP_FINISHED; else as without it.

    Raises ValueError for a file of other data, of another configuration, or that no stage ended with.
    """
    files, folder = stage_files(cfg), Path(cfg.OUTPUT_DIR)
    # The first process decides, the only one that writes there.
    missing = from_first(missing_stages(folder, files)) if cfg.SOLVER.SKIP_FINISHED else list(files)
    done = tuple(name for name in files if name not in missing)
    if not done:
        return from_stage1_or_clip(cfg, dataset, build)
    path = folder / files[done[-1]]
    with as_keys({"path": "SOLVER.SKIP_FINISHED"}):
        settings = read_settings(path)
        require_same_stages(cfg, settings.config, str(path), done)
        require_same_data(settings, data_facts(cfg, dataset), path)
    model = build(pretrained=False)
    load_stage(model, path, after_stage2=done[-1] == "stage2")
    _logger.info(
        "%s is there (SOLVER.SKIP_FINISHED): %s left out, to train: %s",
        *(path, ", ".join(done), ", ".join(missing) or "nothing"),
        extra=reads_weights("finished stages", path),
    )
    unused = {"MODEL.STAGE1_WEIGHT": cfg.MODEL.STAGE1_WEIGHT}
    if "MODEL.REID_WEIGHT" not in settings.config:  # of an earlier version; else it is the same as now
        unused["MODEL.REID_WEIGHT"] = cfg.MODEL.REID_WEIGHT
    for key, value in unused.items():
        if value:
            _logger.warning("%s %r has no effect: %s is taken", key, value, path)
    return model, done


def verify(cfg: CfgNode, dataset: TrainingData) -> None:
    """Decode every image once, where DATASETS.CHECK_IMAGES asks for it; each process takes its share."""
    if not cfg.DATASETS.CHECK_IMAGES:
        return
    skip, workers = cfg.DATALOADER.ON_ERROR == "skip", num_workers(cfg.DATALOADER.NUM_WORKERS)
    splits = [dataset.train, dataset.test_records()] if skip else [dataset.train + dataset.test_records()]
    for records in splits:
        mine = [records[index] for index in share(len(records))]
        verify_images(mine, workers, skip=skip and records is dataset.train)


unlabelled_data = functools.partial(image_data, need_labels=False)
unlabelled_model = functools.partial(image_model, classifiers=False)
unlabelled_loaders = functools.partial(image_loaders, labelled=False)
