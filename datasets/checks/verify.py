"""A check of every image file before a run."""

import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from datasets.pixels.stand_ins import MOST_UNREADABLE
from datasets.records import ImageRecord
from utils.modes import find_oddities, log_oddities
from utils.notes import without
from utils.text import Tally, few
from utils.untrusted.pictures import open_picture

_SHOWN = 5
_logger = logging.getLogger("transreid.datasets")


def verify_images(records: Iterable[ImageRecord], workers: int = 1, *, skip: bool = False) -> None:
    """Check that every file exists and decodes to its end; `workers` threads (0 counts as 1).

    Logs how many images have an EXIF orientation, and how many lose what as they become RGB of 8 bits. Raises
    FileNotFoundError or ValueError with the number of missing or damaged files and the first few; with
    `skip` only if they are too many to be skipped, else it warns.
    """
    paths = list(dict.fromkeys(record.path for record in records))
    missing = [path for path in paths if not os.path.exists(path)]
    total = len(paths)
    if missing and not (skip and _can_skip(missing, total, "missing")):
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} image files are missing: {few(missing, _SHOWN)}"
        )
    absent = set(missing)
    paths = [path for path in paths if path not in absent]
    pool = ThreadPoolExecutor(max(workers, 1))
    try:
        results = pool.map(_look, paths)
        looks = list(tqdm(results, "check images", len(paths), leave=False, disable=None))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted check does not decode the rest first
    damage = [text for text, _ in looks if text]
    found = Tally()
    for path, (_, oddities) in zip(paths, looks, strict=True):
        found.join(dict.fromkeys(oddities, (1, path)))
    log_oddities(found, total)
    if damage and not (skip and _can_skip([*missing, *damage], total, "missing or damaged")):
        raise ValueError(f"{len(damage)} of {len(paths)} image files are damaged: {few(damage, _SHOWN)}")


def _can_skip(texts: list[str], total: int, what: str) -> bool:
    """Whether these images are few enough to be left out; then it warns."""
    can_skip = len(texts) <= MOST_UNREADABLE * total
    if can_skip:
        _logger.warning(
            "%d of %d image files are %s and will be skipped: %s",
            *(len(texts), total, what, few(texts, _SHOWN)),
            extra=without({f"{what} images": len(texts)}),
        )
    return can_skip


def _look(path: str) -> tuple[str, tuple[str, ...]]:
    """'' or the damage, and what the image has that is worth a line."""
    try:
        with open_picture(path) as image:
            oddities = find_oddities(image)
            # JPEG only: decode at an eighth of the size, which is cheap and still reads the file to its end.
            image.draft("RGB", (1, 1))
            image.load()
    except (OSError, ValueError) as error:
        return str(error), ()
    return "", oddities
