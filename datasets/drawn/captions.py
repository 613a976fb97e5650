"""Drawn people with sentences, in the prepared form of captions: a data set that is searched by sentence."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.drawn.folders import PICTURE_LIMITS, check_numbers, new_folder
from datasets.drawn.people import draw_people
from datasets.drawn.pictures import camera_posts
from datasets.drawn.scenes import MOST_CAMERAS, named_domain
from datasets.drawn.sentences import named_languages, write_sentences
from utils.package import require_extra

FOLDER = "drawn_captions"
IMAGES = "imgs"
_LIMITS = {
    "train_ids": (1, 9999),
    "test_ids": (1, 9999),
    "images_per_camera": (1, 99),
    "cameras": (1, MOST_CAMERAS),
    "captions": (1, 99),
    **PICTURE_LIMITS,
}


def draw_captions(
    root: str | Path,
    *,
    train_ids: int = 900,
    test_ids: int = 50,
    images_per_camera: int = 1,
    cameras: int = 4,
    captions: int = 2,
    size: tuple[int, int] = (128, 64),
    seed: int = 0,
    domain: str = "street",
    languages: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Draw `root`/drawn_captions and return that folder; equal arguments give equal pictures and sentences.

    It holds the pictures in `imgs/train` and `imgs/test`, and lists of them in train_reid.json and
    test_reid.json, objects {"file_path", "id", "captions", "captions_bt"}. Identities 1..train_ids are for
    training, the following `test_ids` for testing; each is seen `images_per_camera` times by every camera,
    and each picture has `captions` sentences. Their back translations have the same facts in other words.
    These are English; each language of `languages` ('zh', 'ru') says the same facts in "captions_zh" and
    "captions_bt_zh". `size` is (height, width) in pixels; `domain` is 'street' or 'station', where cameras,
    places and clothes are others. Raises ValueError for a number out of range, another domain or language,
    FileExistsError if the folder exists and either `overwrite` is not set or it holds anything but a drawn
    data set; MissingExtra without scikit-image.
    """
    require_extra("draw")
    arguments = {
        "train_ids": train_ids,
        "test_ids": test_ids,
        "images_per_camera": images_per_camera,
        "cameras": cameras,
        "captions": captions,
        "height": size[0],
        "width": size[1],
        "seed": seed,
    }
    check_numbers(arguments, _LIMITS)
    place, languages = named_domain(domain), named_languages(languages)
    people = draw_people(train_ids + test_ids, np.random.default_rng(seed), place.wardrobe)
    words = {"domain": domain, "languages": languages}
    folder = new_folder(Path(root) / FOLDER, arguments | words, overwrite=overwrite)
    for split in ("train", "test"):
        (folder / IMAGES / split).mkdir(parents=True)
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for post in camera_posts(place, cameras, size, seed):
        for pid, person in enumerate(people, start=1):
            split = "train" if pid <= train_ids else "test"
            for index in range(images_per_camera):
                path = f"{split}/{pid:04d}_c{post.number}_{index:02d}.jpg"
                post.save(folder / IMAGES / path, person, (pid, index))
                texts = write_sentences(person, captions, (seed, post.number, pid, index), languages)
                rows[split].append({"file_path": path, "id": pid, **texts})
    for split, part in rows.items():
        text = json.dumps(sorted(part, key=lambda row: row["id"]), indent=1)
        (folder / f"{split}_reid.json").write_text(text + "\n", encoding="utf-8")
    return folder
