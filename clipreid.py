"""Person and vehicle re-identification with CLIP-ReID and PCL-CLIP, and search by text with TBPS-CLIP.

The face of the library: `import clipreid` works in the root of the repository and with the installed package,
and is quick, because torch is imported by what needs it.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from datasets import CaptionRecord, ImageBatch, ImageRecord, LoadedBatch, PixelTransform, ReIDDataset
    from model import CheckpointInfo, DualModel, ReIDModel, TextSearchInfo
    from retrieval import (
        FeatureSet,
        Gallery,
        RetrievalTask,
        SpaceModel,
        evaluate,
        evaluate_task,
        k_reciprocal_blocks,
        k_reciprocal_distance,
    )
    from tools.exporting.writing import Exported

    Images = Sequence[str | Path | Image.Image | ImageRecord]

__version__ = "1.0.0"
__all__ = [
    "CaptionRecord",
    "FeatureSet",
    "Gallery",
    "ImageRecord",
    "Model",
    "RetrievalTask",
    "TextModel",
    "draw_ranking",
    "evaluate",
    "evaluate_task",
    "k_reciprocal_blocks",
    "k_reciprocal_distance",
    "load_model",
    "load_text_model",
    "read_dataset",
]


def __getattr__(name: str) -> Any:
    """Names of the rooms that the face passes on; a room is imported at the first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from datasets import CaptionRecord, ImageRecord
    from retrieval import (
        FeatureSet,
        Gallery,
        RetrievalTask,
        evaluate,
        evaluate_task,
        k_reciprocal_blocks,
        k_reciprocal_distance,
    )

    classes = (CaptionRecord, FeatureSet, Gallery, ImageRecord, RetrievalTask)
    functions = (evaluate, evaluate_task, k_reciprocal_blocks, k_reciprocal_distance)
    return {each.__name__: each for each in (*classes, *functions)}[name]


@dataclass(frozen=True)
class _ImageModel:
    """A model that encodes images, with what its file says about them."""

    network: ReIDModel | DualModel
    info: CheckpointInfo | TextSearchInfo
    device: torch.device

    def _features(self, batch: ImageBatch) -> torch.Tensor:
        """Features (B, D) of a batch."""
        raise NotImplementedError

    @property
    def space_model(self) -> SpaceModel:
        """Names this model in a gallery: `Gallery.create(address, {"reid": model.space_model})`."""
        from retrieval import SpaceModel

        name = self.info.name or self.info.kind
        return SpaceModel(name=name, sha256=self.info.fingerprint, width=self.network.feature_width)

    def encode_image(
        self,
        images: Images,
        *,
        batch_size: int = 64,
        workers: int = 0,
        amp: str = "off",
        upright: bool = True,
    ) -> FeatureSet:
        """Features of N images, rows of L2 norm 1: their dot products are cosine similarities.

        An image is a path, a PIL image or an `ImageRecord`; only a record has an identity and a camera, the
        others get -1, unknown. The camera does not change a feature. `workers` processes read the files.
        `amp` is the precision, a value of TEST.AMP: 'off' is float32. With `upright` images are turned as
        their EXIF orientation says, as in a test of a data set whose `upright` is True. Raises ValueError or
        FileNotFoundError with the path of an image that cannot be read.
        """
        from torch.utils.data import DataLoader

        from datasets import ImageRecord, PixelTransform
        from processor import extract, label_names
        from utils.limits import allowed_workers
        from utils.precision import inference_precision

        if isinstance(images, str | Path) or not isinstance(images, Sequence):
            raise ValueError(f"images is a {type(images).__name__}; allowed: a list of paths or images")
        pixels = PixelTransform(self.info.mean, self.info.std)
        load = functools.partial(
            _load_batch, size=self.info.size, resize=self.info.resize, pixels=pixels, upright=upright
        )
        loader = DataLoader(images, batch_size, num_workers=allowed_workers(workers), collate_fn=load)
        features = extract(
            self.network,
            loader,
            self.device,
            self._features,
            precision=inference_precision(amp, self.device),
        )
        names = label_names(image for image in images if isinstance(image, ImageRecord))
        return replace(features.normalized(), names=names)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        metrics: str | Path | None = None,
        license: str = "",
        data_license: str = "",
    ) -> Path:
        """Write model.safetensors, its card config.json and README.md to a folder, as a hub has them.

        `load_model(folder)`, or `load_text_model`, gives the same features. `metrics` is the metrics.json of
        a test, whose results the README gets; `license` is that of the weights, `data_license` that of the
        data ('' where the model's card has it, or not stated). What the model's file has besides, such as a
        text tower, is kept. Returns the folder. Raises OSError or ValueError.
        """
        from model import Publication, save_for_hub

        save_for_hub(self.network, self.info, folder, Publication(metrics, license, data_license))
        return Path(folder)

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool = False,
        metrics: str | Path | None = None,
        license: str = "",
        data_license: str = "",
    ) -> str:
        """Upload what `save_pretrained` writes to repository 'org/name'; creates it if it does not exist.

        The README there is replaced. `private` is for a new repository. HF_ENDPOINT and HF_TOKEN are those of
        huggingface_hub. Returns the address of the commit. Raises OSError or ValueError that names repository
        and hub.
        """
        from model import Publication, save_for_hub
        from utils.hub import push_folder

        with tempfile.TemporaryDirectory() as folder:
            save_for_hub(self.network, self.info, folder, Publication(metrics, license, data_license, repo))
            return push_folder(folder, repo, private=private)


@dataclass(frozen=True)
class Model(_ImageModel):
    """A trained model as `load_model` gives it.

    `network` is in evaluation mode; `info` has what its file says: size, normalisation, resizing and more.
    """

    network: ReIDModel
    info: CheckpointInfo

    def _features(self, batch: ImageBatch) -> torch.Tensor:
        return self.network(batch.images)

    def export(self, path: str | Path, **settings: Any) -> Exported:
        """Write the model as a file for other programs: ONNX, or a program of torch.export for a .pt2 file.

        `settings` are the options of tools/export.py: `form` ('fp32', 'fp16', 'int8', 'program'), `pixels`
        ('unit', 'normalised', 'imagenet'), `raw`, `cameras`, `opset`, `data` ('NAME=ROOT_DIR', or what
        `read_dataset` gives), `map_drop`, `cosine_only`; see docs/export.md. With `cameras` the weights are
        read again from the model's file, since `load_model` keeps the mean of the cameras only. Returns the
        facts about the file. Raises ValueError, and leaves no file, where settings do not go together or the
        file does not give the model's features; MissingExtra without the packages of `[onnx]`.
        """
        from tools.exporting.writing import Settings, export_images, with_all_rows

        given = Settings(**_with_data(settings, text_search=False))
        network = with_all_rows(self.info) if given.cameras else self.network
        return export_images(network, self.info, path, given)


@dataclass(frozen=True)
class TextModel(_ImageModel):
    """A text search model as `load_text_model` gives it: images and sentences in one space.

    `network` is in evaluation mode; `info` has what its file says: size, normalisation, resizing and more.
    """

    network: DualModel
    info: TextSearchInfo

    def _features(self, batch: ImageBatch) -> torch.Tensor:
        return self.network.encode_image(batch.images)

    def encode_text(
        self,
        texts: Sequence[str | CaptionRecord],
        *,
        batch_size: int = 256,
        amp: str = "off",
        private: bool = False,
    ) -> FeatureSet:
        """Features of N sentences, rows of L2 norm 1, to compare with those of `encode_image`.

        They are cleaned as in training. Only a `CaptionRecord` has an identity, the others get -1, unknown,
        and are their own keys. A warning names sentences that are too long for the model, or, if `private`,
        says only that there are any. Raises ValueError for a sentence of which cleaning leaves nothing.
        """
        from processor import extract_sentences
        from utils.precision import inference_precision

        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise ValueError(f"texts is a {type(texts).__name__}; allowed: a list of sentences")
        precision = inference_precision(amp, self.device)
        return extract_sentences(
            self.network, texts, self.device, batch_size=batch_size, precision=precision, private=private
        )

    def are_cut(self, texts: Sequence[str]) -> list[bool]:
        """Whether the model reads only the beginning of each sentence; raises as `encode_text`."""
        from processor import are_cut

        return are_cut(self.network, texts)

    @property
    def is_multilingual(self) -> bool:
        """Whether the text tower has a tokenizer of many languages, not CLIP's."""
        from model import MultilingualText

        return isinstance(self.network.encode_text, MultilingualText)

    def export(self, path: str | Path, text: str | Path | None = None, **settings: Any) -> list[Exported]:
        """Write the image side to `path` and the text side to `text`, if that is given.

        `settings` and errors are those of `Model.export`; `data` has captions. Returns the facts about each
        file.
        """
        from tools.exporting.writing import Settings, export_images, export_texts

        given = Settings(**_with_data(settings, text_search=True))
        written = [export_images(self.network, self.info, path, given)]
        if text is not None:
            written.append(export_texts(self.network, self.info, text, given))
        return written


def _with_data(settings: dict[str, Any], *, text_search: bool) -> dict[str, Any]:
    """Settings of an export with the test split that their `data` names."""
    from tools.exporting.ranking import read_split

    data = settings.get("data")
    return settings | ({"data": read_split(data, text_search=text_search)} if isinstance(data, str) else {})


def _load_batch(
    images: Images, size: tuple[int, int], resize: str, pixels: PixelTransform, upright: bool
) -> LoadedBatch:
    from datasets import ImageRecord, collate, decode_image, from_pil, resize_like_pil, to_rgb
    from utils.labels import NO_CAMERA, NO_PID

    items = []
    for image in images:
        if isinstance(image, ImageRecord):
            record, picture = image, decode_image(image.path, upright=upright)
        elif isinstance(image, str | Path):
            record = ImageRecord(str(image), NO_PID, NO_CAMERA, 0)
            picture = decode_image(record.path, upright=upright)
        else:
            image = to_rgb(image, upright=upright)
            name = f"image-{hashlib.sha256(image.tobytes()).hexdigest()[:16]}"  # equal pictures, equal names
            record, picture = ImageRecord(name, NO_PID, NO_CAMERA, 0), from_pil(image)
        items.append((resize_like_pil(picture, size, interpolation=resize), record, None))
    return collate(items, pixels)


def load_model(
    path: str | Path,
    *,
    device: str = "cuda",
    size: tuple[int, int] | None = None,
    name: str | None = None,
    **settings: Any,
) -> Model:
    """The model in a checkpoint of any of the programs, or of the published form; needs nothing else.

    `path` is a file, a folder of `save_pretrained` (also 'local-dir:folder'), or 'hf-hub:org/name' with
    '@revision' or without, which is fetched once and kept in huggingface_hub's cache.
    `device` 'cuda' is the GPU where there is one, else the CPU. `size` (H, W), `name` (MODEL.NAME) and
    `settings` are those of training, where neither the file nor its model card shows them: `stride`, `mean`,
    `std`, `resize`, `neck_feature` and `sie_scale` of `load_reid_model`. A warning names all that is assumed.
    Raises FileNotFoundError, OSError where a hub gives no file, or ValueError when it is no re-id checkpoint.
    """
    from model import load_reid_model
    from utils.device import select_device

    # No camera is known: the mean row of the file's table stands for all.
    network, info = load_reid_model(path, size, name=name, sie=(1, 0), **settings)
    return Model(network, info, select_device(device))


def load_text_model(
    path: str | Path,
    *,
    device: str = "cuda",
    size: tuple[int, int] | None = None,
    name: str | None = None,
    **settings: Any,
) -> TextModel:
    """The text search model in a checkpoint of ours, of the published form, or CLIP's own weights.

    `path` and `device` are those of `load_model`; `size` (H, W), `name` (MODEL.NAME, which CLIP's own weights
    need) and `settings` are those of `load_text_search_model`: `stride`, `text_length`, `mean`, `std` and
    `resize`. A warning names all that is assumed. Raises FileNotFoundError, OSError where a hub gives no
    file, or ValueError for a file of another kind.
    """
    from model import load_text_search_model
    from utils.device import select_device

    network, info = load_text_search_model(path, size, name=name, **settings)
    return TextModel(network, info, select_device(device))


def read_dataset(name: str, root: str | Path, *settings: Any, train: bool = True) -> ReIDDataset:
    """The records of a data set (DATASETS.NAMES) under a folder (DATASETS.ROOT_DIR): train, query, gallery.

    `settings` are further keys and values, e.g. 'DATASETS.VEHICLEID_TEST_SIZE', 1600. Without `train` the
    training split may be absent. Raises ValueError or FileNotFoundError for what cannot be read.
    """
    from config import cfg
    from config.load import load_config
    from datasets import make_dataset

    pairs = ["DATASETS.NAMES", name, "DATASETS.ROOT_DIR", str(root), *settings]
    return make_dataset(load_config(cfg, "", pairs), need_train=train)


def draw_ranking(
    query: FeatureSet,
    gallery: FeatureSet,
    folder: str | Path,
    *,
    queries: Sequence[int] | None = None,
    top: int = 10,
    upright: bool = True,
) -> Path:
    """Show the `top` nearest gallery images of some queries: writes ranking.html and ranking.png.

    `queries` are rows of `query`; None takes the ten of lowest average precision, or the first ten where no
    identity is known; `upright` is that of `encode_image`. Returns the page. Raises MissingExtra without
    matplotlib and Jinja2.
    """
    from retrieval import rank_gallery, worst_queries
    from tools.ranking.report import DISTANCE, Album, Report, count_items, make_rows
    from utils.package import require_extra

    require_extra("plots")
    from tools.ranking.pictures import write_page, write_picture

    query, gallery = query.with_pictures(), gallery.with_pictures()
    rows = queries if queries is not None else worst_queries(query, gallery, 10) or range(min(10, len(query)))
    rankings = rank_gallery(query, gallery, rows, top)
    facts = (f"{len(rankings)} of {len(query)} queries", f"gallery of {count_items(gallery)}")
    album = Album(names=query.names | gallery.names, upright=upright)
    shown = make_rows(query, gallery, rankings, album)
    report = Report("Ranking", facts, DISTANCE, "", shown)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_page(report, folder / "ranking.html")
    write_picture(report, folder / "ranking.png")
    return folder / "ranking.html"
