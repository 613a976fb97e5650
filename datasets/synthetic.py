"""Drawn people in the form of Market-1501 (Zheng et al. 2015): a data set for demo and tests that needs no download.

An identity is clothes, hair, bag, skin and build (`figures.py`); a camera is a light, an angle and a sensor before a street
of changing places. Raw colours and backgrounds mislead, and yet a person can be told on each picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from skimage import draw, filters, transform
from torchvision.io import write_jpeg

from .figures import CLOTH, Canvas, Colour, Image, Person, Pose, draw_people, draw_person

FOLDER = "Market-1501-v15.09.15"
RECORD = "drawn.json"  # lies in FOLDER and holds the arguments: it tells a drawn folder from the real data set
OVERSAMPLE = 2  # pictures are drawn larger by this factor and averaged down, for smooth edges


class Camera(NamedTuple):
    """One fixed camera."""

    gain: Colour  # of red, green and blue
    gamma: float
    haze: float  # share of white mist
    saturation: float
    scale: float  # height of a person, in pictures
    tilt: float  # > 0: looks down, so that legs are shortened
    facing: tuple[float, float, float]  # how often people are seen from the front, the back, a side
    horizon: float  # in pictures from the top
    side_light: float  # > 0: from the right
    blur: float  # pixels
    noise: float
    quality: int  # of the JPEG
    occluder: float  # how often something stands before the person


CAMERAS = (
    Camera((1.00, 1.00, 0.98), 1.00, 0.00, 1.00, 0.97, 0.00, (0.6, 0.2, 0.2), 0.30, 0.20, 0.3, 0.012, 92, 0.06),
    Camera((1.07, 0.97, 0.86), 1.04, 0.01, 0.96, 0.93, 0.18, (0.2, 0.6, 0.2), 0.20, -0.25, 0.5, 0.018, 80, 0.08),
    Camera((0.87, 0.94, 1.05), 1.07, 0.02, 0.95, 1.00, -0.10, (0.4, 0.3, 0.3), 0.60, 0.30, 0.4, 0.022, 75, 0.08),
    Camera((0.93, 1.00, 0.91), 0.95, 0.06, 0.90, 0.93, 0.10, (0.3, 0.5, 0.2), 0.25, -0.20, 0.6, 0.020, 70, 0.08),
    Camera((1.08, 1.05, 1.08), 0.92, 0.03, 0.95, 0.97, 0.05, (0.3, 0.3, 0.4), 0.40, 0.25, 0.6, 0.015, 75, 0.08),
    Camera((0.93, 0.83, 0.91), 1.03, 0.01, 0.96, 0.98, 0.14, (0.5, 0.4, 0.1), 0.50, -0.30, 0.3, 0.025, 75, 0.08),
)


class Place(NamedTuple):
    """What stands behind people and what lies below their feet: a colour and the name of a texture each."""

    far: Colour
    far_texture: str
    near: Colour
    near_texture: str


PLACES = (
    Place((0.66, 0.70, 0.74), "smooth", (0.60, 0.58, 0.54), "tiles"),  # square
    Place((0.22, 0.34, 0.20), "rough", (0.34, 0.52, 0.24), "rough"),  # park
    Place((0.58, 0.36, 0.28), "bricks", (0.44, 0.44, 0.46), "smooth"),  # wall
    Place((0.40, 0.46, 0.54), "panels", (0.30, 0.30, 0.32), "lines"),  # car park
    Place((0.78, 0.72, 0.60), "bricks", (0.70, 0.62, 0.50), "rough"),  # yard
    Place((0.30, 0.28, 0.34), "panels", (0.42, 0.38, 0.38), "tiles"),  # arcade
    Place((0.52, 0.62, 0.72), "smooth", (0.50, 0.46, 0.40), "lines"),  # bridge
)


def _texture(name: str, x: Image, y: Image, rng: np.random.Generator) -> Image:
    """Brightness (H, W) around 1 of a surface at x, y in picture heights, y counted from the horizon."""
    if name == "bricks":
        joint = ((y / 0.06) % 1 < 0.15) | ((x / 0.14 + np.floor(y / 0.06) * 0.5) % 1 < 0.08)
        return np.where(joint, np.float32(1.25), np.float32(1.0))
    if name == "tiles":
        joint = ((8 * np.sqrt(np.abs(y))) % 1 < 0.08) | ((x * 5) % 1 < 0.05)
        return np.where(joint, np.float32(0.8), np.float32(1.0))
    if name == "panels":
        return np.where((x * 4) % 1 < 0.12, np.float32(0.6), np.float32(1.0))
    if name == "lines":
        return np.where((x + 0.5 * y) % 0.8 < 0.05, np.float32(1.9), np.float32(1.0))
    spread = 0.25 if name == "rough" else 0.06
    grain = rng.normal(1, spread, (x.shape[0] // 4, -(-x.shape[1] // 4)))
    return np.kron(grain, np.ones((4, 4)))[:, : x.shape[1]].astype(np.float32)


def _draw_street(camera: Camera, size: tuple[int, int], rng: np.random.Generator) -> Image:
    """The street before a camera (2 H, 16 W, 3), for pictures of (H, W) = `size` that are cut from its middle height."""
    height, width = size
    zone = width  # as wide as a picture: most pictures see two
    street = np.empty((2 * height, 16 * width, 3), np.float32)
    level = int((0.5 + camera.horizon) * height)
    rows = np.arange(2 * height, dtype=np.float32)[:, None] - level
    for index in range(16):
        columns = np.arange(index * zone, (index + 1) * zone, dtype=np.float32)[None]
        x, y = np.broadcast_arrays(columns / height, rows / height)
        place = PLACES[rng.integers(len(PLACES))]
        tint = np.float32(rng.normal(1, 0.06, 3) * rng.uniform(0.8, 1.2))
        part = street[:, index * zone : (index + 1) * zone]
        part[:level] = np.float32(place.far) * tint * _texture(place.far_texture, x, y, rng)[:level, :, None]
        part[level:] = np.float32(place.near) * tint * _texture(place.near_texture, x, y, rng)[level:, :, None]
    for _ in range(24):
        _draw_clutter(street, level, height, rng)
    return street.clip(0, 1)


def _draw_clutter(street: Image, level: int, height: int, rng: np.random.Generator) -> None:
    """One bush, post, crate or parked thing somewhere along the street, with its foot near the horizon row `level`."""
    left, foot = rng.uniform(0, street.shape[1]), level + rng.uniform(-0.02, 0.3) * height
    wide, tall = rng.uniform(0.03, 0.16) * height, rng.uniform(0.12, 0.6) * height
    colour = np.float32(list(CLOTH.values())[rng.integers(len(CLOTH))]) * np.float32(0.6) + np.float32(0.12)
    if rng.random() < 0.6:
        corners = np.array([(foot - tall, left), (foot - tall, left + wide), (foot, left + wide), (foot, left)])
        street[draw.polygon(corners[:, 0], corners[:, 1], street.shape[:2])] = colour
        lid = draw.polygon(corners[:, 0].clip(None, foot - 0.8 * tall), corners[:, 1], street.shape[:2])
        street[lid] = colour * 1.25
    else:
        for _ in range(5):
            y, x = foot - rng.uniform(0.1, 0.5) * tall, left + rng.uniform(0, 2) * wide
            leaf = draw.ellipse(y, x, 0.25 * tall, 0.8 * wide, shape=street.shape[:2])
            street[leaf] = colour * rng.uniform(0.8, 1.1)


def _expose(scene: Image, camera: Camera, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What the camera makes of a scene (H, W, 3) in 0..1: lens, light, sensor."""
    image = filters.gaussian(scene, camera.blur * rng.uniform(0.7, 1.3), channel_axis=2)
    grey = image.mean(axis=2, keepdims=True)
    image = (grey + camera.saturation * (image - grey)).clip(0, 1)
    gain = np.float32(camera.gain) * np.float32(rng.normal(1, 0.04, 3) * rng.uniform(0.80, 1.13))
    image = camera.haze + (1 - camera.haze) * gain * image ** np.float32(camera.gamma)
    image += rng.standard_normal(image.shape, np.float32) * np.float32(camera.noise)
    return (image.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _hide(scene: Image, rng: np.random.Generator) -> None:
    """Put a low wall or a post before the person."""
    height, width = scene.shape[:2]
    colour = np.float32(list(CLOTH.values())[rng.integers(len(CLOTH))]) * np.float32(0.7) + np.float32(0.1)
    if rng.random() < 0.5:
        scene[int(height * rng.uniform(0.72, 0.88)) :] = colour
    else:
        left = int(width * rng.uniform(0, 0.85))
        scene[:, left : left + int(width * rng.uniform(0.08, 0.18))] = colour


def _photograph(
    person: Person | None, camera: Camera, street: Image, size: tuple[int, int], rng: np.random.Generator, miss: float = 0.0
) -> NDArray[np.uint8]:
    """One picture (H, W, 3) of a person, or of the street alone. `miss`: by how much a bad detector missed, in pictures."""
    height, width = size[0] * OVERSAMPLE, size[1] * OVERSAMPLE
    row = int((0.5 + rng.uniform(-0.06, 0.06)) * height)
    column = int(rng.integers(0, street.shape[1] - width))
    scene = street[row : row + height, column : column + width].copy()
    if person is not None:
        folds = transform.resize(rng.normal(1, 0.08, (16, 8)), (height, width), order=1)
        slope = np.linspace(-1, 1, width) * camera.side_light * rng.uniform(0.5, 1.2)
        tall = camera.scale * rng.uniform(0.95, 1.06) * height
        canvas = Canvas(
            scene,
            (folds * (1 + slope)).astype(np.float32),
            middle=width * (0.5 + rng.uniform(-0.06, 0.06) + miss),
            crown=(height - tall) * rng.uniform(0.25, 0.75) + height * miss,
            height=tall,
            tilt=camera.tilt,
        )
        pose = Pose(
            turn=str(rng.choice(["front", "back", "side"], p=camera.facing)),
            ahead=int(rng.choice([-1, 1])),
            stride=float(rng.uniform(-0.13, 0.13)),
            arms=tuple(rng.uniform(-0.35, 0.35, 2)),
            elbows=tuple(rng.uniform(0.0, 0.7, 2)),
        )
        draw_person(canvas, person, pose)
    if rng.random() < camera.occluder:
        _hide(scene, rng)
    scene = scene.reshape(size[0], OVERSAMPLE, size[1], OVERSAMPLE, 3).mean(axis=(1, 3))
    return _expose(scene, camera, rng)


def draw_market1501(
    root: Path,
    *,
    train_ids: int = 80,
    test_ids: int = 40,
    images_per_camera: int = 4,
    cameras: int = 4,
    size: tuple[int, int] = (128, 64),
    seed: int = 0,
) -> Path:
    folder = Path(root) / FOLDER
    people = draw_people(train_ids + test_ids, np.random.default_rng(seed))
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (folder / name).mkdir(parents=True)
    for camid, camera in enumerate(CAMERAS[:cameras], start=1):
        place = _draw_street(camera, (size[0] * OVERSAMPLE, size[1] * OVERSAMPLE), np.random.default_rng([seed, camid]))
        for pid, person in enumerate(people, start=1):
            for shot in range(images_per_camera):
                rng = np.random.default_rng([seed, camid, pid, shot])
                image = _photograph(person, camera, place, size, rng)
                part = "bounding_box_train" if pid <= train_ids else "bounding_box_test" if shot else "query"
                path = folder / part / f"{pid:04d}_c{camid}s1_{pid * 100 + shot:06d}_00.jpg"
                write_jpeg(torch.from_numpy(image).permute(2, 0, 1).contiguous(), str(path), quality=camera.quality)
    return folder
