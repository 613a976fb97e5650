"""The people of the drawn data set: the looks of an identity (`Person`), and its drawing in one pose.

A body has a frame of its own: x from its middle, y from the crown (0) to the soles (1), both in body heights;
x is then stretched by the body's girth.
"""

from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Points = NDArray[np.float64]  # (N, 2), x and y
Colour = tuple[float, float, float]  # RGB in 0..1
Pattern = Callable[[Points, Points], NDArray[np.float32]]  # body x (N,), y (N,) -> colours (N, 3)

APART = 5  # two identities differ in at least this many attributes
CLOTH: dict[str, Colour] = {
    "black": (0.09, 0.09, 0.10),
    "white": (0.90, 0.90, 0.88),
    "grey": (0.48, 0.48, 0.50),
    "red": (0.78, 0.12, 0.12),
    "orange": (0.92, 0.50, 0.10),
    "yellow": (0.92, 0.84, 0.20),
    "green": (0.16, 0.58, 0.22),
    "blue": (0.14, 0.26, 0.72),
    "sky": (0.45, 0.70, 0.92),
    "purple": (0.46, 0.18, 0.58),
    "pink": (0.94, 0.52, 0.68),
    "brown": (0.42, 0.26, 0.14),
    "navy": (0.10, 0.14, 0.34),
    "maroon": (0.42, 0.10, 0.18),
    "rust": (0.66, 0.32, 0.16),
    "mustard": (0.72, 0.58, 0.16),
    "beige": (0.80, 0.72, 0.56),
    "olive": (0.40, 0.42, 0.18),
    "teal": (0.12, 0.44, 0.46),
    "lilac": (0.68, 0.58, 0.80),
}
HAIR: dict[str, Colour] = {
    "black": (0.08, 0.07, 0.06),
    "brown": (0.36, 0.20, 0.10),
    "blond": (0.84, 0.68, 0.34),
    "white": (0.80, 0.80, 0.80),
}
SKIN: dict[str, Colour] = {"light": (0.94, 0.76, 0.66), "tan": (0.76, 0.55, 0.40), "dark": (0.40, 0.26, 0.18)}
EYES: Colour = (0.10, 0.08, 0.08)
SHADOW: Colour = (0.15, 0.15, 0.15)
GIRTH = {"slim": 0.98, "medium": 1.15, "broad": 1.36}
SLEEVE = {"bare": 0.0, "short": 0.75, "long": 1.0}  # share of the upper arm that is covered

# Which part of the upper garment shows its second colour.
PATTERNS: dict[str, Callable[[Points, Points], NDArray[np.bool_]]] = {
    "plain": lambda x, y: np.zeros(x.shape, bool),
    "hoops": lambda x, y: (y * 12) % 1 > 0.5,
    "stripes": lambda x, y: (x * 12 + 0.25) % 1 > 0.5,
    "halves": lambda x, y: y > 0.36,
    "band": lambda x, y: (y > 0.26) & (y < 0.35),
    "checks": lambda x, y: ((x * 9 + 0.5) % 1 > 0.5) ^ ((y * 9) % 1 > 0.5),
}


class Wardrobe(NamedTuple):
    """Clothes of one domain: their colours, as names in CLOTH, and the share of people with each kind."""

    colours: tuple[str, ...]
    sleeve: tuple[float, ...]  # bare, short, long
    legwear: tuple[float, ...]  # trousers, shorts, skirt, gown
    hat: float
    bag: tuple[float, ...]  # none, backpack, shoulder


SUMMER = Wardrobe(
    colours=(
        *("black", "white", "grey", "red", "orange", "yellow"),
        *("green", "blue", "sky", "purple", "pink", "brown"),
    ),
    sleeve=(0.15, 0.4, 0.45),
    legwear=(0.45, 0.25, 0.18, 0.12),
    hat=0.25,
    bag=(0.4, 0.3, 0.3),
)
WINTER = Wardrobe(
    colours=(
        *("black", "white", "grey", "brown"),
        *("navy", "maroon", "rust", "mustard", "beige", "olive", "teal", "lilac"),
    ),
    sleeve=(0.0, 0.1, 0.9),
    legwear=(0.7, 0.0, 0.15, 0.15),
    hat=0.5,
    bag=(0.3, 0.4, 0.3),
)
_TURN = np.linspace(0, 2 * np.pi, 20)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_HALF = np.linspace(np.pi / 2, 3 * np.pi / 2, 6)


@dataclass(frozen=True)
class Person:
    """The looks of an identity on all its pictures; people with equal fields look alike.

    A field that nothing shows (the colour of no bag) is "none", so that it makes no difference.
    """

    top: str
    pattern: str
    second: str
    sleeve: str
    legwear: str
    bottom: str
    shoes: str
    hair: str
    cut: str
    hat: str
    bag: str
    bag_colour: str
    skin: str
    build: str


class Pose(NamedTuple):
    """The pose of a body on one picture."""

    turn: str  # "front", "back" or "side"
    ahead: int  # seen from the side: +1 walks to the right, -1 to the left
    stride: float  # body heights
    arms: tuple[float, float]  # radians from hanging down, left and right
    elbows: tuple[float, float]

    @property
    def depth(self) -> float:
        """How wide the trunk is drawn, as a part of its width from the front."""
        return 0.62 if self.turn == "side" else 1.0  # a trunk is narrower from the side


def draw_people(count: int, rng: np.random.Generator, wardrobe: Wardrobe = SUMMER) -> list[Person]:
    """`count` people with such clothes, each two of them apart in at least APART attributes.

    The first n people do not depend on `count`. Raises ValueError if there are not that many different ones.
    """

    def pick(names: Iterable[str], weights: tuple[float, ...] | None = None) -> str:
        return str(rng.choice(list(names), p=weights))

    people: list[Person] = []
    rows = np.empty((0, len(fields(Person))), dtype=object)
    for _ in range(200 * count):
        if len(people) == count:
            break
        top = pick(wardrobe.colours)
        pattern = pick(PATTERNS, (0.35, 0.15, 0.13, 0.13, 0.12, 0.12))
        cut = pick(("short", "long", "bald"), (0.5, 0.4, 0.1))
        bag = pick(("none", "backpack", "shoulder"), wardrobe.bag)
        person = Person(
            top=top,
            pattern=pattern,
            second="none" if pattern == "plain" else pick(name for name in wardrobe.colours if name != top),
            sleeve=pick(SLEEVE, wardrobe.sleeve),
            legwear=pick(("trousers", "shorts", "skirt", "gown"), wardrobe.legwear),
            bottom=pick(wardrobe.colours),
            shoes=pick(("black", "white", "red", "brown")),
            hair="none" if cut == "bald" else pick(HAIR),
            cut=cut,
            hat=pick(wardrobe.colours) if rng.random() < wardrobe.hat else "none",
            bag=bag,
            bag_colour="none" if bag == "none" else pick(wardrobe.colours),
            skin=pick(SKIN),
            build=pick(GIRTH),
        )
        row = np.array(astuple(person), dtype=object)
        if not people or (rows != row).sum(axis=1).min() >= APART:
            people.append(person)
            rows = np.vstack([rows, row])
    if len(people) < count:
        raise ValueError(f"{count} identities asked for, only {len(people)} that differ enough were found")
    return people


class Canvas:
    """A picture (H, W, 3), its shading (H, W), and the frame of one body in it; lengths are pixels.

    Draws into the picture in place. A `tilt` above 0 looks down from above, which shortens the legs.
    """

    def __init__(
        self, image: Image, shade: Image, *, middle: float, crown: float, height: float, tilt: float
    ) -> None:
        self.image, self.shade = image, shade
        self.middle, self.crown, self.height, self.tilt = middle, crown, height, tilt
        self.girth = 1.0

    def polygon(self, points: Points, paint: Colour | Pattern) -> None:
        """Fill a polygon (N, 2) with one colour or with a pattern, under the picture's shading."""
        across, down = points[:, 0] * self.girth, points[:, 1]
        down = down + self.tilt * down * (1 - down)
        from skimage import draw

        rows, columns = draw.polygon(
            self.crown + down * self.height, self.middle + across * self.height, self.shade.shape
        )
        if callable(paint):
            x = (columns - self.middle) / (self.girth * self.height)
            colour = paint(x, (rows - self.crown) / self.height)
        else:
            colour = np.asarray(paint, np.float32)
        self.image[rows, columns] = colour * self.shade[rows, columns, None]

    def box(self, left: float, top: float, right: float, bottom: float, paint: Colour) -> None:
        """A rectangle along the axes."""
        self.polygon(np.array([(left, top), (right, top), (right, bottom), (left, bottom)]), paint)

    def oval(self, x: float, y: float, rx: float, ry: float, paint: Colour) -> None:
        """An ellipse around (x, y)."""
        self.polygon(np.array([x, y]) + _CIRCLE * (rx, ry), paint)

    def limb(self, start: Points, end: Points, wide: float, narrow: float, paint: Colour) -> None:
        """A rounded limb between two points (2,), with its half width at the start and at the end."""
        turn = np.arctan2(end[1] - start[1], end[0] - start[0]) + _HALF
        arc = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        self.polygon(np.concatenate([start + wide * arc, end - narrow * arc]), paint)


def draw_person(canvas: Canvas, person: Person, pose: Pose) -> None:
    """Draw the person into the canvas, from the parts that lie behind to those in front."""
    canvas.girth = GIRTH[person.build]
    canvas.oval(0, 0.985, 0.16, 0.025, SHADOW)
    bag_behind = person.bag == "backpack" and pose.turn == "side"
    if pose.turn == "side":
        _draw_arm(canvas, person, pose, -pose.ahead)
    if bag_behind:
        _draw_bag(canvas, person, pose)
    _draw_legs(canvas, person, pose)
    _draw_trunk(canvas, person, pose)
    if not bag_behind:
        _draw_bag(canvas, person, pose)
    for side in (pose.ahead,) if pose.turn == "side" else (-1, 1):
        _draw_arm(canvas, person, pose, side)
    _draw_head(canvas, person, pose)


def _draw_legs(canvas: Canvas, person: Person, pose: Pose) -> None:
    skin, cloth = SKIN[person.skin], CLOTH[person.bottom]
    seen_aside = pose.turn == "side"
    for side in (-1, 1):
        stance = 0.0 if seen_aside else 0.045 * side
        swing = side * pose.stride * (1.0 if seen_aside else 0.25)
        hip = np.array([stance, 0.52])
        knee = np.array([stance + swing * 0.45, 0.74])
        ankle = np.array([stance * 1.1 + swing, 0.95])
        canvas.limb(knee, ankle, 0.042, 0.030, cloth if person.legwear == "trousers" else skin)
        canvas.limb(hip, knee, 0.055, 0.044, cloth if person.legwear in ("trousers", "shorts") else skin)
        toe = pose.ahead * 0.03 if seen_aside else 0.008 * side
        canvas.oval(ankle[0] + toe, 0.975, 0.045 if seen_aside else 0.036, 0.024, CLOTH[person.shoes])
    if person.legwear in ("skirt", "gown"):
        hem, flare = (0.72, 0.125) if person.legwear == "skirt" else (0.90, 0.135)
        wide, waist = flare * pose.depth + abs(pose.stride) * 0.3, 0.075 * pose.depth
        canvas.polygon(np.array([(-waist, 0.46), (waist, 0.46), (wide, hem), (-wide, hem)]), cloth)


def _draw_trunk(canvas: Canvas, person: Person, pose: Pose) -> None:
    first = np.asarray(CLOTH[person.top], np.float32)
    second = np.asarray(CLOTH.get(person.second, first), np.float32)
    shows_second = PATTERNS[person.pattern]
    right = np.array([(0.04, 0.15), (0.09, 0.165), (0.12, 0.2), (0.113, 0.27), (0.09, 0.4), (0.098, 0.535)])
    outline = np.concatenate([right, (right * (-1, 1))[::-1]]) * (pose.depth, 1)
    canvas.polygon(outline, lambda x, y: np.where(shows_second(x, y)[:, None], second, first))
    canvas.limb(np.array([0, 0.12]), np.array([0, 0.155]), 0.034, 0.036, SKIN[person.skin])


def _draw_arm(canvas: Canvas, person: Person, pose: Pose, side: int) -> None:
    swing, bend = pose.arms[side > 0], pose.elbows[side > 0]
    if pose.turn == "side":
        shoulder, upper = np.array([0.0, 0.205]), pose.ahead * swing * 1.6
        lower = upper + pose.ahead * bend
    else:
        shoulder, upper = np.array([0.098 * side, 0.203]), side * (0.10 + abs(swing) * 0.5)
        lower = upper - side * bend
    elbow = shoulder + 0.15 * np.array([np.sin(upper), np.cos(upper)])
    hand = elbow + 0.15 * np.array([np.sin(lower), np.cos(lower)])
    skin = SKIN[person.skin]
    cloth = _darker(CLOTH[person.top], 0.86)  # stands out from the trunk
    canvas.limb(elbow, hand, 0.030, 0.022, cloth if person.sleeve == "long" else skin)
    canvas.limb(shoulder, elbow, 0.036, 0.031, skin)
    canvas.oval(hand[0], hand[1], 0.024, 0.024, skin)
    if person.sleeve != "bare":
        canvas.limb(shoulder, shoulder + SLEEVE[person.sleeve] * (elbow - shoulder), 0.039, 0.034, cloth)


def _draw_bag(canvas: Canvas, person: Person, pose: Pose) -> None:
    """A backpack is a block from behind, a bump from the side, two straps from the front."""
    if person.bag == "none":
        return
    cloth = CLOTH[person.bag_colour]
    dark = _darker(cloth, 0.7)
    if person.bag == "shoulder":
        hip = -1 if pose.turn == "back" else 1
        x = 0.02 if pose.turn == "side" else 0.10 * hip
        canvas.limb(np.array([-0.07 * hip * pose.depth, 0.175]), np.array([x, 0.46]), 0.012, 0.012, dark)
        canvas.box(x - 0.07, 0.46, x + 0.07, 0.575, cloth)
    elif pose.turn == "back":
        canvas.oval(0, 0.23, 0.085, 0.06, cloth)
        canvas.box(-0.09, 0.22, 0.09, 0.44, cloth)
        canvas.box(-0.06, 0.35, 0.06, 0.42, dark)
    elif pose.turn == "side":
        canvas.oval(-pose.ahead * 0.10, 0.31, 0.065, 0.125, cloth)
    else:
        for side in (-1, 1):
            canvas.limb(np.array([0.075 * side, 0.175]), np.array([0.085 * side, 0.40]), 0.020, 0.018, cloth)


def _draw_head(canvas: Canvas, person: Person, pose: Pose) -> None:
    skin, hair = SKIN[person.skin], HAIR.get(person.hair, SKIN[person.skin])
    look = 0.022 * pose.ahead if pose.turn == "side" else 0.0
    if person.cut == "long":
        canvas.polygon(np.array([(-0.060, 0.05), (0.060, 0.05), (0.078, 0.22), (-0.078, 0.22)]), hair)
    canvas.oval(0, 0.070, 0.054, 0.070, hair)
    if pose.turn != "back":
        canvas.oval(look, 0.088, 0.042, 0.054, skin)
        for side in (-1, 1):
            canvas.oval(look + 0.018 * side, 0.080, 0.007, 0.006, EYES)
    if person.hat != "none":
        dome = np.array([(-0.056, 0.055), (0.056, 0.055), (0.046, 0.0), (-0.046, 0.0)])
        canvas.polygon(dome, CLOTH[person.hat])
        canvas.oval(2 * look, 0.053, 0.068, 0.012, CLOTH[person.hat])


def _darker(colour: Colour, factor: float) -> Colour:
    red, green, blue = colour
    return factor * red, factor * green, factor * blue
