"""Pictures of drawn people: what a camera at its street takes of a person in some pose."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from datasets.drawn.people import Canvas, Image, Person, Pose, draw_person
from datasets.drawn.scenes import Camera, Domain, cut_scene, draw_street, expose, hide

OVERSAMPLE = 2  # scenes are drawn larger than pictures by this factor and averaged down, for smooth edges
OCCLUDED = 0.08  # share of pictures with something in front of the person


class CameraPost(NamedTuple):
    """A camera, its street, and the (height, width) of its pictures; `number` counts cameras from 1."""

    number: int
    domain: Domain
    street: Image
    size: tuple[int, int]
    seed: int

    @property
    def camera(self) -> Camera:
        """The camera itself."""
        return self.domain.cameras[self.number - 1]

    def save(self, file: Path, person: Person | None, key: tuple[int, ...], *, missed: bool = False) -> None:
        """Take a JPEG of the person, or of nobody. It follows from seed, number and `key`.

        `missed`: by a bad detector, so that the person is half out of the picture.
        """
        picture = self._take(person, missed, np.random.default_rng((self.seed, self.number, *key)))
        PILImage.fromarray(picture).save(file, quality=self.camera.quality)

    def _take(self, person: Person | None, missed: bool, rng: np.random.Generator) -> NDArray[np.uint8]:
        """The picture (H, W, 3)."""
        height, width = self.size
        scene = cut_scene(self.street, (height * OVERSAMPLE, width * OVERSAMPLE), rng)
        if person is not None:
            _place_person(scene, person, self.camera, missed, rng)
        if rng.random() < OCCLUDED:
            hide(scene, self.domain.wardrobe, rng)
        scene = scene.reshape(height, OVERSAMPLE, width, OVERSAMPLE, 3).mean(axis=(1, 3))
        return expose(scene, self.camera, rng)


def camera_posts(domain: Domain, cameras: int, size: tuple[int, int], seed: int) -> Iterator[CameraPost]:
    """The first `cameras` cameras, each at a street of its own; `size` is (height, width) in pixels."""
    for number, camera in enumerate(domain.cameras[:cameras], start=1):
        scene = size[0] * OVERSAMPLE, size[1] * OVERSAMPLE
        street = draw_street(domain, camera.horizon, scene, np.random.default_rng((seed, number)))
        yield CameraPost(number, domain, street, size, seed)


def _place_person(
    scene: Image, person: Person, camera: Camera, missed: bool, rng: np.random.Generator
) -> None:
    """Draw the person into the scene (H, W, 3), in some pose, with folded cloth and light from a side."""
    from skimage import transform

    height, width = scene.shape[:2]
    folds = transform.resize(rng.normal(1, 0.08, (16, 8)), (height, width), order=1)
    slope = np.linspace(-1, 1, width) * camera.side_light * rng.uniform(0.5, 1.2)
    tall = camera.scale * rng.uniform(0.95, 1.06) * height
    right, down = rng.choice((-1, 1), 2) * rng.uniform(0.3, 0.5, 2) if missed else (0.0, 0.0)
    canvas = Canvas(
        scene,
        (folds * (1 + slope)).astype(np.float32),
        middle=width * (0.5 + rng.uniform(-0.07, 0.07) + right),
        crown=(height - tall) * rng.uniform(0.25, 0.75) + height * down,
        height=tall,
        tilt=camera.tilt,
    )
    pose = Pose(
        turn=str(rng.choice(("front", "back", "side"), p=camera.facing)),
        ahead=int(rng.choice((-1, 1))),
        stride=rng.uniform(-0.13, 0.13),
        arms=(rng.uniform(-0.35, 0.35), rng.uniform(-0.35, 0.35)),
        elbows=(rng.uniform(0, 0.7), rng.uniform(0, 0.7)),
    )
    draw_person(canvas, person, pose)
