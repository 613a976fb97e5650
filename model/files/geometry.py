"""Image size and stride of a file, found from its number of positions."""

import itertools
import logging
import math

from model.files.info import RESNET_STEP, TowerInfo
from model.towers.image import grid_size

_SHOWN = 6  # pairs in a message
_Pair = tuple[int, int]
_Fit = tuple[_Pair, _Pair]  # size and stride
_logger = logging.getLogger("transreid.model")


def adopt_geometry(info: TowerInfo, size: _Pair | None, stride: _Pair | None) -> _Fit:
    """`fit_geometry`, with a warning where a wanted size or stride is replaced by the file's."""
    fitted_size, fitted_stride = fit_geometry(info, size, stride)
    for key, wanted, fitted in (("size", size, fitted_size), ("stride", stride, fitted_stride)):
        if wanted is not None and wanted != fitted and not (key == "stride" and info.kind == "ResNet"):
            _logger.warning("%s: %s %s adopted from the file instead of %s", info.path, key, fitted, wanted)
    return fitted_size, fitted_stride


def fit_geometry(info: TowerInfo, size: _Pair | None, stride: _Pair | None) -> _Fit:
    """The (H, W) and the stride that give the file's number of positions, the wanted ones if they do.

    Otherwise those of the model card count, else the usual strides at the wanted size and at sizes in common
    use. Odd strides fit many numbers by chance and are taken only where they leave one grid. Without a model
    card, a warning names all that fit as well. Raises ValueError when nothing fits.
    """
    for key, pair in (("size", size), ("stride", stride)):
        if pair is not None and min(pair) < 1:
            raise ValueError(f"{key} is {pair}; allowed: two whole numbers above 0")
    wanted = [size] if size is not None else []
    usual = info.usual_sizes if info.card is None else (info.card.size, *info.usual_sizes)
    common = [candidate for candidate in usual if candidate != size]
    likely, *odd = _strides(info, stride)
    fits = _fits(info, wanted + common, likely)
    if fits:
        # An image of another size than the wanted one is not what the user has.
        places = wanted if fits[0][0] == size else wanted + common
        _warn_of_others(info, fits[0], _fits(info, places, [*likely, *(odd[0] if odd else [])]))
        return fits[0]
    for strides in odd:
        fits = _fits(info, wanted or common, strides)
        if len({(place, grid_size(place, info.patch, step)) for place, step in fits}) == 1:
            _warn_of_others(info, fits[0], [*fits, *_fits(info, wanted or common, odd[-1])])
            return fits[0]
    several = f" ({_in_words(fits)})" if fits else ""
    raise ValueError(
        f"{info.path} has {info.positions} positions, which no stride gives at "
        f"{'any common size' if size is None else f'{size[0]}x{size[1]} or another common size'}, "
        f"or several do{several}: give the `size` and `stride` that it was trained with"
    )


def _warn_of_others(info: TowerInfo, taken: tuple[_Pair, _Pair], fits: list[_Fit]) -> None:
    others = [each for each in dict.fromkeys(fits) if each != taken]
    if others and info.card is None:
        _logger.warning(
            "%s: without a model card, size and stride are a guess: %s is taken for its %d positions, but %s "
            "would fit as well. Give those of training",
            *(info.path, _in_words([taken]), info.positions, _in_words(others)),
        )


def _in_words(fits: list[_Fit]) -> str:
    shown = [f"{size[0]}x{size[1]} at stride {step[0]}x{step[1]}" for size, step in fits[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(fits) - _SHOWN} more" if len(fits) > _SHOWN else "")


def _fits(info: TowerInfo, sizes: list[_Pair], strides: list[_Pair]) -> list[_Fit]:
    """The pairs of a size and a stride that give the file's number of positions."""
    return [
        (size, step)
        for size, step in itertools.product(sizes, strides)
        if size[0] >= info.patch[0] and size[1] >= info.patch[1]
        if math.prod(grid_size(size, info.patch, step)) == info.positions
    ]


def _strides(info: TowerInfo, wanted: _Pair | None) -> list[list[_Pair]]:
    """Groups of strides to try: wanted, the card's and published, square, all; each from large to small."""
    if info.kind == "ResNet":
        return [[RESNET_STEP]]
    published = [info.patch] if info.card is None else [info.card.stride, info.patch]
    likely = ([wanted] if wanted is not None else []) + published
    if info.overlap is None:
        return [likely]
    if min(info.patch) > info.overlap:
        likely.append((info.overlap, info.overlap))
    rows, columns = (range(side, 0, -1) for side in info.patch)
    return [
        likely,
        [(step, step) for step in rows if step in columns],
        list(itertools.product(rows, columns)),
    ]
