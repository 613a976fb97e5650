"""Features of images from an exported model, by onnxruntime, on machines without torch, too."""

import argparse
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from tools.features.finding import NoneReadableError, check_image_options, find_images
from tools.features.graph_files import GraphFile, open_graph
from utils.files import require_writable, write_arrays
from utils.labels import NO_CAMERA, NO_PID
from utils.launch import launched_processes
from utils.logger import setup_logger
from utils.modes import find_oddities, log_oddities, to_rgb
from utils.picture_names import name_pictures
from utils.text import Tally
from utils.untrusted.pictures import open_picture

_MOST_THREADS = 64
_logger = logging.getLogger("transreid.tools")


def extract_to_file(args: argparse.Namespace) -> None:
    """Write the features as the graph gives them, and in `info` what they were made with.

    Raises ValueError or OSError for options that a graph cannot follow, files that are missing or of another
    kind, and an output folder that cannot be written to; a former file at `--out` then stays.
    """
    check_image_options(args)
    _require_one_process()
    require_writable(args.out, "--out")
    setup_logger(None, "")
    graph = open_graph(args)
    paths = find_images(args.images)
    _logger.info("%s: %s", args.weight, graph.description)
    reader = _Reader(paths, graph, args)
    parts = [(graph.run(pixels), names) for pixels, names in reader.batches()]
    read = [name for _, names in parts for name in names]
    features = np.concatenate([part for part, _ in parts])
    write_arrays(args.out, _arrays(features, read), graph.info | _settings(args))
    log_oddities(reader.oddities, len(paths))
    if reader.unreadable:
        _logger.warning(
            "%d of %d images could not be read and are not in %s", reader.unreadable, len(paths), args.out
        )
    _logger.info("%d features of width %d written to %s", *features.shape, args.out)


def _require_one_process() -> None:
    if launched_processes() > 1:
        raise ValueError(f"{launched_processes()} processes run; allowed with an .onnx file: one")


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    return {"weight": args.weight, "orientation": args.orientation, "normalize": True, "dataset": None}


def _arrays(features: np.ndarray, paths: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of a feature file of images whose identities and cameras are not known."""
    names = np.array(paths, dtype=np.str_)
    count = len(paths)
    return {
        "features": features,
        "pids": np.full(count, NO_PID, dtype=np.int64),
        "camids": np.full(count, NO_CAMERA, dtype=np.int64),
        "paths": names,
        "keys": names,
        "pictures": np.array(name_pictures(paths), dtype=np.str_),
    }


class _Item(NamedTuple):
    """A resized RGB image (H, W, 3) uint8, its path, and what `find_oddities` finds in its file."""

    image: np.ndarray
    path: str
    oddities: tuple[str, ...]


class _Reader:
    """Reads images in threads, a batch ahead of the graph; counts those left out, and `oddities`."""

    def __init__(self, paths: Sequence[str], graph: GraphFile, args: argparse.Namespace) -> None:
        self.paths, self.graph, self.args = paths, graph, args
        self.unreadable, self.oddities = 0, Tally()

    def batches(self) -> Iterator[tuple[np.ndarray, list[str]]]:
        """Images (B, H, W, 3) uint8 with their paths.

        Each file left out is named in a warning. Raises NoneReadableError at the end when no file could be
        read; ValueError at the first that cannot with --strict.
        """
        reason, size = "", self.args.batch
        parts = [self.paths[start : start + size] for start in range(0, len(self.paths), size)]
        for found in tqdm(self._ahead(parts), "extract", len(parts), leave=False, disable=None):
            items = [each for each in found if isinstance(each, _Item)]
            for reason in (each for each in found if isinstance(each, str)):
                if self.args.strict:
                    raise ValueError(reason)
                _logger.warning("%s", reason)
                self.unreadable += 1
            for item in items:
                self.oddities.join(dict.fromkeys(item.oddities, (1, item.path)))
            if items:
                yield np.stack([item.image for item in items]), [item.path for item in items]
        if self.unreadable == len(self.paths):
            raise NoneReadableError(f"{reason}; none of the {self.unreadable} images could be read")

    def _ahead(self, parts: Sequence[Sequence[str]]) -> Iterator[list[_Item | str]]:
        if not self.args.workers:
            yield from ([self._read(path) for path in part] for part in parts)
            return
        pool = ThreadPoolExecutor(min(self.args.workers, _MOST_THREADS))
        try:
            following = pool.map(self._read, parts[0])
            for part in [*parts[1:], []]:
                now, following = following, pool.map(self._read, part)
                yield list(now)
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, path: str) -> _Item | str:
        """The image as the graph wants it, or one line that says why the file cannot be read."""
        try:
            with open_picture(path) as picture:
                oddities = find_oddities(picture)
                image = to_rgb(picture, upright=self.args.orientation == "exif")
        except (FileNotFoundError, ValueError) as error:
            return str(error)
        resampling = Image.Resampling[self.graph.resize.upper()]
        return _Item(np.asarray(image.resize(self.graph.size[::-1], resampling)), path, oddities)
