"""Looks at every image once before hours are spent on a run."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from PIL import Image
from tqdm import tqdm

from datasets.images import DECODE_ERRORS, describe_damage
from datasets.records import ImageRecord

_SHOWN = 5


def verify_images(records: Iterable[ImageRecord], workers: int = 1) -> None:
    """Check that every file exists and decodes to its end; `workers` threads (0 counts as 1).

    Raises FileNotFoundError or ValueError with the number of missing or damaged files and the first few.
    """
    paths = list(dict.fromkeys(record.path for record in records))
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of {len(paths)} image files are missing: {_first(missing)}")
    pool = ThreadPoolExecutor(max(workers, 1))
    try:
        results = pool.map(_damage, paths)
        bar = tqdm(results, "check images", len(paths), leave=False, disable=None)
        damage = [text for text in bar if text is not None]
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted check does not decode the rest first
    if damage:
        raise ValueError(f"{len(damage)} of {len(paths)} image files are damaged: {_first(damage)}")


def _damage(path: str) -> str | None:
    try:
        with Image.open(path) as image:
            # JPEG only: decode at an eighth of the size, which is cheap and still reads the file to its end.
            image.draft("RGB", (1, 1))
            image.load()
    except DECODE_ERRORS as error:
        return describe_damage(path, error)
    return None


def _first(texts: list[str]) -> str:
    more = f", and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more
