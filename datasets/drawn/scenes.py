"""The domains of drawn people: cameras, their places, and what people wear there.

Every camera sees all kinds of places, so that the background tells little about the camera and nothing about
the person; its light, its angle and its sensor are its own.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.drawn.people import CLOTH, SUMMER, WINTER, Colour, Image, Wardrobe

ZONES = 16  # places along a street, each as wide as a picture
CLUTTER = 24  # things along a street


class Camera(NamedTuple):
    """One fixed camera: its light, its angle, its sensor."""

    gain: Colour  # of red, green and blue
    gamma: float
    haze: float  # share of white mist
    saturation: float
    side_light: float  # > 0: from the right
    scale: float  # height of a person, in pictures
    tilt: float  # > 0: looks down, so that legs are shortened
    horizon: float  # in pictures, from the top
    facing: tuple[float, float, float]  # how often people are seen from the front, the back, a side
    blur: float  # pixels
    noise: float
    quality: int  # of the JPEG file, 1..100


# Lights differ so much that histograms of raw colours find fewer than half of the people, and no more.
_STREET_CAMERAS = (
    Camera((1.00, 1.00, 0.98), 1.00, 0.00, 1.00, 0.20, 0.97, 0.00, 0.30, (0.6, 0.2, 0.2), 0.3, 0.012, 92),
    Camera((1.06, 0.98, 0.89), 1.03, 0.01, 0.97, -0.25, 0.93, 0.18, 0.20, (0.2, 0.6, 0.2), 0.5, 0.018, 80),
    Camera((0.90, 0.95, 1.04), 1.05, 0.02, 0.96, 0.30, 1.00, -0.10, 0.60, (0.4, 0.3, 0.3), 0.4, 0.022, 75),
    Camera((0.95, 1.00, 0.93), 0.96, 0.04, 0.93, -0.20, 0.93, 0.10, 0.25, (0.3, 0.5, 0.2), 0.6, 0.020, 70),
    Camera((1.05, 1.02, 1.06), 0.94, 0.02, 0.97, 0.25, 0.97, 0.05, 0.40, (0.3, 0.3, 0.4), 0.6, 0.015, 75),
    Camera((0.96, 0.88, 0.93), 1.02, 0.01, 0.97, -0.30, 0.98, 0.14, 0.50, (0.5, 0.4, 0.1), 0.3, 0.025, 75),
)
# Lamps and small, old sensors: less light and colour, more noise, higher up.
_STATION_CAMERAS = (
    Camera((1.02, 0.94, 0.78), 1.12, 0.00, 0.84, 0.10, 0.88, 0.24, 0.20, (0.3, 0.5, 0.2), 0.7, 0.028, 65),
    Camera((0.80, 0.90, 0.98), 1.10, 0.05, 0.80, -0.15, 0.84, 0.30, 0.15, (0.5, 0.3, 0.2), 0.6, 0.032, 60),
    Camera((0.86, 0.96, 0.84), 1.15, 0.03, 0.86, 0.35, 0.90, 0.20, 0.28, (0.2, 0.4, 0.4), 0.8, 0.030, 60),
    Camera((0.94, 0.86, 0.90), 1.08, 0.06, 0.78, -0.35, 0.86, 0.26, 0.22, (0.4, 0.4, 0.2), 0.5, 0.035, 65),
    Camera((1.00, 0.90, 0.70), 1.18, 0.02, 0.82, 0.20, 0.90, 0.22, 0.18, (0.3, 0.3, 0.4), 0.7, 0.026, 60),
    Camera((0.84, 0.88, 0.94), 1.05, 0.08, 0.80, -0.10, 0.82, 0.32, 0.12, (0.5, 0.4, 0.1), 0.6, 0.030, 70),
)


class Place(NamedTuple):
    """Background and ground of people: a colour and a texture each."""

    far: Colour
    far_texture: str
    near: Colour
    near_texture: str


_STREET_PLACES = (
    Place((0.66, 0.70, 0.74), "smooth", (0.60, 0.58, 0.54), "tiles"),  # square
    Place((0.22, 0.34, 0.20), "rough", (0.34, 0.52, 0.24), "rough"),  # park
    Place((0.58, 0.36, 0.28), "bricks", (0.44, 0.44, 0.46), "smooth"),  # side street
    Place((0.40, 0.46, 0.54), "panels", (0.30, 0.30, 0.32), "lines"),  # car park
    Place((0.78, 0.72, 0.60), "bricks", (0.70, 0.62, 0.50), "rough"),  # yard
    Place((0.30, 0.28, 0.34), "panels", (0.42, 0.38, 0.38), "tiles"),  # arcade
    Place((0.52, 0.62, 0.72), "smooth", (0.50, 0.46, 0.40), "lines"),  # bridge
)
_STATION_PLACES = (
    Place((0.74, 0.72, 0.66), "tiles", (0.56, 0.54, 0.50), "tiles"),  # hall
    Place((0.24, 0.25, 0.27), "panels", (0.36, 0.36, 0.38), "rough"),  # platform
    Place((0.60, 0.64, 0.62), "tiles", (0.30, 0.30, 0.31), "smooth"),  # underpass
    Place((0.46, 0.42, 0.38), "lines", (0.62, 0.60, 0.56), "panels"),  # stairs
    Place((0.68, 0.70, 0.74), "panels", (0.44, 0.40, 0.36), "tiles"),  # shops
)


class Domain(NamedTuple):
    """People and places of one data set; models that learned in one find people of another less well."""

    cameras: tuple[Camera, ...]
    places: tuple[Place, ...]
    wardrobe: Wardrobe


DOMAINS = {
    "street": Domain(_STREET_CAMERAS, _STREET_PLACES, SUMMER),
    "station": Domain(_STATION_CAMERAS, _STATION_PLACES, WINTER),
}
MOST_CAMERAS = min(len(domain.cameras) for domain in DOMAINS.values())


def named_domain(name: str) -> Domain:
    """The domain of that name. Raises ValueError for another one."""
    if name not in DOMAINS:
        raise ValueError(f"domain is {name!r}; allowed: {', '.join(DOMAINS)}")
    return DOMAINS[name]


def draw_street(domain: Domain, horizon: float, size: tuple[int, int], rng: np.random.Generator) -> Image:
    """A street (2 H, ZONES * W, 3) for scenes of `size` (H, W), which are cut from its middle height."""
    height, width = size
    street = np.empty((2 * height, ZONES * width, 3), np.float32)
    level = int((0.5 + horizon) * height)
    y = (np.arange(2 * height, dtype=np.float32)[:, None] - level) / height
    for left in range(0, ZONES * width, width):
        x = np.arange(left, left + width, dtype=np.float32)[None] / height
        place = domain.places[rng.integers(len(domain.places))]
        tint = (rng.normal(1, 0.06, 3) * rng.uniform(0.8, 1.2)).astype(np.float32)
        far = np.float32(place.far) * tint * _texture(place.far_texture, x, y[:level], rng)[..., None]
        near = np.float32(place.near) * tint * _texture(place.near_texture, x, y[level:], rng)[..., None]
        street[:, left : left + width] = np.concatenate([far, near])
    for _ in range(CLUTTER):
        _draw_clutter(street, level, height, domain.wardrobe, rng)
    return street.clip(0, 1)


def cut_scene(street: Image, size: tuple[int, int], rng: np.random.Generator) -> Image:
    """A copy (H, W, 3) of some part of the street."""
    height, width = size
    top = int((0.5 + rng.uniform(-0.06, 0.06)) * height)
    left = int(rng.integers(0, street.shape[1] - width + 1))
    return street[top : top + height, left : left + width].copy()


def hide(scene: Image, wardrobe: Wardrobe, rng: np.random.Generator) -> None:
    """Put a low wall or a post in front of the scene (H, W, 3), in place."""
    height, width = scene.shape[:2]
    colour = _dull_cloth(wardrobe, rng)
    if rng.random() < 0.5:
        scene[int(height * rng.uniform(0.72, 0.88)) :] = colour
    else:
        left = int(width * rng.uniform(0, 0.85))
        scene[:, left : left + int(width * rng.uniform(0.08, 0.18))] = colour


def expose(scene: Image, camera: Camera, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The camera's picture of a scene (H, W, 3) in 0..1: lens, light of the moment, sensor."""
    from skimage import filters

    image = filters.gaussian(scene, camera.blur * rng.uniform(0.7, 1.3), channel_axis=2)
    grey = image.mean(axis=2, keepdims=True)
    image = (grey + camera.saturation * (image - grey)).clip(0, 1)
    gain = np.array(camera.gain) * rng.normal(1, 0.04, 3) * rng.uniform(0.80, 1.13)
    image = camera.haze + (1 - camera.haze) * gain.astype(np.float32) * image ** np.float32(camera.gamma)
    image += rng.standard_normal(image.shape, np.float32) * np.float32(camera.noise)
    return (image.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _texture(name: str, x: Image, y: Image, rng: np.random.Generator) -> Image:
    """Brightness (H, W) around 1 of a surface at x (1, W) and y (H, 1), in scene heights from the horizon."""
    if name == "bricks":
        joint = ((y / 0.06) % 1 < 0.15) | ((x / 0.14 + np.floor(y / 0.06) * 0.5) % 1 < 0.08)
        return np.where(joint, np.float32(1.25), np.float32(1))
    if name == "tiles":  # rows that grow wider towards the viewer
        joint = ((8 * np.sqrt(np.abs(y))) % 1 < 0.08) | ((x * 5) % 1 < 0.05)
        return np.where(joint, np.float32(0.8), np.float32(1))
    if name == "panels":
        return np.where((x * 4 + 0 * y) % 1 < 0.12, np.float32(0.6), np.float32(1))
    if name == "lines":
        return np.where((x + 0.5 * y) % 0.8 < 0.05, np.float32(1.9), np.float32(1))
    spread = {"rough": 0.18, "smooth": 0.06}[name]
    grain = rng.normal(1, spread, (-(-y.size // 4), -(-x.size // 4)))
    return np.kron(grain, np.ones((4, 4)))[: y.size, : x.size].astype(np.float32)


def _draw_clutter(
    street: Image, level: int, height: int, wardrobe: Wardrobe, rng: np.random.Generator
) -> None:
    """A crate, post or bush somewhere along the street, its foot near the row `level` of the horizon."""
    from skimage import draw

    left, foot = rng.uniform(0, street.shape[1]), level + rng.uniform(-0.02, 0.3) * height
    wide, tall = rng.uniform(0.03, 0.16) * height, rng.uniform(0.12, 0.6) * height
    colour, shape = _dull_cloth(wardrobe, rng), street.shape[:2]
    if rng.random() < 0.6:
        columns = (left, left + wide, left + wide, left)
        street[draw.polygon((foot - tall, foot - tall, foot, foot), columns, shape)] = colour
        lid = foot - 0.8 * tall
        street[draw.polygon((foot - tall, foot - tall, lid, lid), columns, shape)] = colour * np.float32(1.25)
        return
    for _ in range(5):
        y, x = foot - rng.uniform(0.1, 0.5) * tall, left + rng.uniform(0, 2) * wide
        leaves = draw.ellipse(y, x, 0.25 * tall, 0.8 * wide, shape=shape)
        street[leaves] = colour * np.float32(rng.uniform(0.8, 1.1))


def _dull_cloth(wardrobe: Wardrobe, rng: np.random.Generator) -> Image:
    """A colour (3,) of clothes, only duller: things and people must not differ in hue."""
    colour = CLOTH[wardrobe.colours[rng.integers(len(wardrobe.colours))]]
    return np.float32(0.65) * np.asarray(colour, np.float32) + np.float32(0.11)
