"""The checkpoints that CLIP-ReID's authors have published, as in the table of their README."""

from pathlib import Path

from pydantic_core import from_json

from utils.download import Source
from utils.untrusted.plain import MEBIBYTE, read_plain

_MODELS = ("cnn_base", "cnn_clipreid", "vit_base", "vit_clipreid", "vit_clipreid_sie_olp")
_MAX_JSON = 256 * MEBIBYTE
# By data set, in the order of `_MODELS`, the rows of the published table: files on Google Drive.
_DRIVE_IDS = {
    "market1501": (
        "15E4K9eGXMlqOGE1RAgXQjF4MzrFobGim",
        "1sBqCr5LxKcO9J2V0IvLQPb0wzwVzIZUp",
        "1XKUcP4LEpWr4Ah6sVdXNveUo4bAsVyjt",
        "1GnyAVeNOg3Yug1KBBWMKKbT2x43O5Ch7",
        "1K32xrosw0gPrxYCWXER81mhWObEW5-d4",
    ),
    "msmt17": (
        "1s-nZMp-LHG0h4dFwvyP_YNBLTijLcrb0",
        "1VdlC1ld3NrQC5Jcx0hntXRb-UaR3tMtr",
        "1I715ZWacRvEGLiju1bZ9xcmUhhFx0aN6",
        "1BVaZo93kOksYLjFNH3Gf7JxIbPlWSkcO",
        "1sPZbWTv2_stXBGutjHMvE87pAbSAgVaz",
    ),
    "dukemtmc": (
        "1f9ZgJZSph7kV7xjhfBVIjFG0hwgeSsSy",
        "1XXycuux__uDd9WKwaTAQ4W1RjLqnUphq",
        "13qSSyi87Bkj3Qq-UKy3646vuIyIaE7Mt",
        "1ldjSkj-7pXAWmx8on5x0EftlCaolU4dY",
        "1zkHLrLy3z9lP0cR2MVQtr4ujoC6eQLKP",
    ),
    "occ_duke": (
        "1gdokL9QoldUOiaRUGJ1fS0BXEnHGM8MX",
        "1naz7QjzYlC2qe4SHxjxss4tP81KRCrMj",
        "1bjgAbg9DE0niEQ9PTyywt8asjpCOKhfX",
        "1FduvrwOWurHtYyockakn2hBrbGH0qJzH",
        "18RU-3_QUr2fehUjW_RfeIllbCDUaZZvP",
    ),
    "veri": (
        "1crKPNqQaf0WA9x7xW5MqCrOGxLlDy1ee",
        "18s8NkQQwLOgLLpXZwaLed2L-L6ZYrXUN",
        "1LeqWNuTGM87JpbhR6tMK2u91ckwlYI1T",
        "1RyfHdOBI2pan_wIGSim5-l6cM4S2WN8e",
        "1vb-mMGp7q_aqAB1U_uAGsHZ1U9HViOgE",
    ),
    "VehicleID": (
        "1pTd6ZFzTJINmZ-0eJWReHqTMEgg775Vw",
        "1iotObjA5EmVG2-wj7iUy8ZVD7y0XMMeQ",
        "1Nxowc7pvvNPG6O-TV4aRaL5BgdzJ1Dl9",
        "168BLegHHxNqatW5wx1YyL2REaThWoof5",
        "19B7wHJ29VByFHiF9OJhI5C6q0V68NOKn",
    ),
}
WEIGHTS = {
    f"clipreid/{data}/{model}": Source(f"clipreid/{data}/{model}.pth", drive_id=drive_id, is_file=True)
    for data, drive_ids in _DRIVE_IDS.items()
    for model, drive_id in zip(_MODELS, drive_ids, strict=True)
}


def check_weights(path: Path) -> None:
    """Load a file as a test does. Raises ValueError where it is no re-id checkpoint."""
    from model import load_reid_model

    load_reid_model(path)


def check_json(path: Path) -> None:
    """Raise ValueError for a file that is not JSON."""
    try:
        from_json(read_plain(path, _MAX_JSON))
    except ValueError as error:
        raise ValueError(f"the file is not JSON: {error}") from error
