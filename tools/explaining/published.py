"""Published recipes: their settings files, their numbers, and the data sets that they were trained on."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from config.keys import KeyTable, table_of
from config.load import load_config
from processor import METHODS
from utils.untrusted.folders import HIDDEN, LINKED
from utils.untrusted.settings import leaves

PERSON = ("market1501", "dukemtmc", "occ_duke", "msmt17")
VEHICLES = ("veri", "VehicleID")
CAPTIONS = ("cuhk_pedes", "icfg_pedes", "rstpreid")
# Images of each split and training identities, as docs/data.md has them; VehicleID's lists decide on images.
COUNTS: Mapping[str, Mapping[str, tuple[int | None, int | None]]] = {
    "market1501": {"train": (12936, 751), "query": (3368, None), "gallery": (15913, None)},
    "dukemtmc": {"train": (16522, 702), "query": (2228, None), "gallery": (17661, None)},
    "occ_duke": {"train": (15618, 702), "query": (2210, None), "gallery": (17661, None)},
    "msmt17": {"train": (32621, 1041), "query": (11659, None), "gallery": (82161, None)},
    "veri": {"train": (37778, 576), "query": (1678, None), "gallery": (11579, None)},
    "VehicleID": {"train": (None, 13164)},
    "cuhk_pedes": {"train": (34054, 11003), "gallery": (3074, None)},
    "icfg_pedes": {"train": (34674, 3102), "gallery": (19848, None)},
    "rstpreid": {"train": (18505, 3701), "gallery": (1000, None)},
}
# VeRi's images without a viewpoint label are left out, in the published results too; the last two are no
# images, and images that are read under another name.
USUALLY_LEFT_OUT = ("images of identity -1", "images without viewpoint label", HIDDEN, LINKED)
PLACES = (
    "OUTPUT_DIR",
    "DATASETS.ROOT_DIR",
    "DATASETS.NAMES",
    "DATASETS.DOWNLOAD",
    "DATASETS.CHECK_IMAGES",
    "TEST.WEIGHT",
    "TEST.FEATURES",
    "TEST.IMS_PER_BATCH",
    "MODEL.DEVICE",
    "MODEL.DEVICE_ID",
    "MODEL.DIST_TRAIN",
    "MODEL.PRETRAIN_PATH",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.CACHE",
)
_NO_NUMBERS = ("CHECKPOINT_PERIOD", "LOG_PERIOD", "EVAL_PERIOD", "EVAL_BEFORE_TRAINING", "KEEP", "KEEP_BEST")
_NO_NUMBERS += ("SAVE_EVERY_MIN", "SKIP_FINISHED", "DETERMINISTIC", "COMPILE", "MICRO_BATCH", "SHARD")
_NO_NUMBERS += ("GRAD_CHECKPOINT", "EVAL")


class Recipe(NamedTuple):
    """A row of published results: its method, settings file by data set, and numbers in % by data set.

    `figures` name a metric each. The first file is for other data sets. `releases` are those of data sets
    that have several.
    """

    name: str
    method: str
    files: Mapping[str, str]
    figures: Mapping[str, Mapping[str, float]]
    releases: Mapping[str, str]

    def settings(self, dataset: str) -> dict[str, Any]:
        """The values of all keys by full name."""
        file = self.files.get(dataset) or next(iter(self.files.values()))
        return leaves(load_config(METHODS[self.method].tree, f"configs/{file}"))

    def file(self, dataset: str) -> str:
        """The settings file for a data set."""
        return f"configs/{self.files.get(dataset) or next(iter(self.files.values()))}"


def _recipe(
    name: str,
    method: str,
    files: Mapping[str, str],
    figures: Mapping[str, str],
    releases: Mapping[str, str] | None = None,
) -> Recipe:
    """`figures` are 'mAP / Rank-1', of VehicleID 'Rank-1 / Rank-5'."""
    found = {}
    for dataset, text in figures.items():
        metrics = ("rank1", "rank5") if dataset == "VehicleID" else ("mAP", "rank1")
        found[dataset] = dict(zip(metrics, map(float, text.split(" / ")), strict=True))
    return Recipe(name, method, files, found, releases or {"msmt17": "V1"})


def _files(person: str, veri: str = "", vehicle_id: str = "") -> dict[str, str]:
    files = dict.fromkeys(PERSON, person)
    files |= {"veri": veri} if veri else {}
    return files | ({"VehicleID": vehicle_id} if vehicle_id else {})


def _by_set(text: str) -> dict[str, str]:
    """A row of README's table: MSMT17 | Market-1501 | DukeMTMC | Occ-Duke | VeRi-776 | VehicleID."""
    names = ("msmt17", "market1501", "dukemtmc", "occ_duke", "veri", "VehicleID")
    return {name: cell for name, cell in zip(names, text.split(" | "), strict=True) if cell != "–"}


RECIPES = (
    _recipe(
        "CNN baseline",
        "baseline",
        _files("person/cnn_base.yml", "veri/cnn_base.yml", "VehicleID/cnn_base.yml"),
        _by_set("60.7 / 82.1 | 88.1 / 94.7 | 79.3 / 88.6 | 47.4 / 54.2 | 79.3 / 95.7 | 84.4 / 96.6"),
    ),
    _recipe(
        "CNN CLIP-ReID",
        "clipreid",
        _files("person/cnn_clipreid.yml", "veri/cnn_prom.yml", "VehicleID/cnn_clipreid.yml"),
        _by_set("63.0 / 84.4 | 89.8 / 95.7 | 80.7 / 90.0 | 53.5 / 61.0 | 80.3 / 96.8 | 85.2 / 97.1"),
    ),
    _recipe(
        "ViT baseline",
        "baseline",
        _files("person/vit_base.yml", "veri/vit_base.yml", "VehicleID/vit_base.yml"),
        _by_set("66.1 / 84.4 | 86.4 / 93.3 | 80.0 / 88.8 | 53.5 / 60.8 | – | –"),
    ),
    _recipe(
        "ViT CLIP-ReID",
        "clipreid",
        _files("person/vit_clipreid.yml", "veri/vit_prom.yml", "VehicleID/vit_clipreid.yml"),
        _by_set("73.4 / 88.7 | 89.6 / 95.5 | 82.5 / 90.0 | 59.5 / 67.1 | 83.3 / 97.4 | 85.3 / 97.6"),
    ),
    _recipe(
        "ViT CLIP-ReID + SIE + OLP",
        "clipreid",
        _files(
            "person/vit_clipreid_sie_olp.yml",
            "veri/vit_prom_sie_olp.yml",
            "VehicleID/vit_clipreid_sie_olp.yml",
        ),
        _by_set("75.8 / 89.7 | 90.5 / 95.4 | 83.1 / 90.8 | 60.3 / 67.2 | 84.5 / 97.3 | 85.5 / 97.2"),
    ),
    _recipe(
        "ViT PCL-CLIP",
        "pcl",
        _files("pcl/vit_pcl.yml", "pcl/vit_pcl_vehicle.yml"),
        _by_set("76.1 / 89.8 | 91.4 / 95.9 | – | – | 82.5 / 97.1 | –"),
        {"msmt17": "V2"},
    ),
    _recipe("ViT PCL-CLIP without identities", "pcl_clusters", _files("pcl/vit_pcl_usl.yml"), {}),
    _recipe(
        "TBPS-CLIP",
        "tbps",
        dict.fromkeys(CAPTIONS, "tbps/vit_tbps.yml"),
        {"cuhk_pedes": "65.38 / 73.54", "icfg_pedes": "39.83 / 65.05", "rstpreid": "48.26 / 61.95"},
    ),
)


def find_recipe(method: str, settings: Mapping[str, Any], dataset: str) -> Recipe:
    """The recipe of a method from which the fewest settings differ.

    Raises ValueError for a method of which nothing is published.
    """
    rows = [recipe for recipe in RECIPES if recipe.method == method]
    if not rows:
        known = ", ".join(dict.fromkeys(recipe.method for recipe in RECIPES))
        raise ValueError(f"method {method!r} has no published recipe; allowed: {known}")

    def distance(recipe: Recipe) -> tuple[bool, int]:
        theirs = recipe.settings(dataset)
        # A ViT recipe is none for a ResNet, however many settings are equal.
        other = _is_resnet(theirs) != _is_resnet(settings)
        return other, len(differing(settings, theirs, keys_of(recipe)))

    return min(rows, key=distance)


def _is_resnet(settings: Mapping[str, Any]) -> bool:
    return re.search("RN|resnet", str(settings.get("MODEL.NAME", ""))) is not None


def keys_of(recipe: Recipe) -> KeyTable:
    """The keys of a recipe's method."""
    return table_of(METHODS[recipe.method].tree)


def differing(mine: Mapping[str, Any], theirs: Mapping[str, Any], table: KeyTable) -> list[str]:
    """The keys that both have, that may change a number here or there, and whose values differ."""
    return [
        name
        for name in theirs
        if name in mine
        and changes_numbers(name)
        and _meant(mine[name]) != _meant(theirs[name])
        and (_acts(name, mine, table) or _acts(name, theirs, table))
    ]


def _meant(value: Any) -> Any:
    return "clip" if value == "imagenet" else value  # CLIP's weights, in published files


def _acts(name: str, settings: Mapping[str, Any], table: KeyTable) -> bool:
    """Whether something reads a key, with the values of the other ones."""
    key = table.keys.get(name)
    if key is None or key.unused:
        return key is None
    if not key.needs:
        return True
    rule = key.needs[1]
    return any(other in settings and rule.holds(settings[other]) for other in key.needed(name))


def changes_numbers(key: str) -> bool:
    """Whether a key may change what a run finds; others say where it runs and what it writes."""
    return key not in PLACES and key.rpartition(".")[2] not in _NO_NUMBERS and not key.startswith("LOG.")
