"""The image side of a re-id file as the start of another training: tower, necks, deep prompts, adapter.

Classifiers and prompts of identities stay those of the new model. Rows of side information are taken as a
test would use them.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.clip import check_fit, load_strictly
from model.files.geometry import fit_geometry
from model.files.info import CheckpointInfo, position_name, read_info
from model.files.sides import trained_side_information
from model.files.stage1 import has_seen_no_images
from model.names import TOWER, image_side, our_names
from model.prompts.deep import MARK
from model.reid import ReIDModel, SideInformation
from model.towers.image import grid_size, resize_positions
from utils.notes import reads_weights

_ALWAYS = (TOWER, "bottleneck.", "bottleneck_proj.")  # what every re-id model has
_SOMETIMES = (MARK, "adapter.")  # in names of what both models must have
_POSITIONS = "positional_embedding"
_SIDES, _TOKEN = "cv_embed", f"{TOWER}class_embedding"
_logger = logging.getLogger("transreid.model")


@dataclass(frozen=True)
class NewRun:
    """What the new run decides about what is taken from a file.

    `size` (H, W) and `stride` are those of its model, `position_resize` ('bilinear' or 'bicubic') is how a
    position embedding gets there. `cameras` (highest id + 1) are those of each data set in training, which
    follow each other, `views` the highest view + 1. What has one of `keep` in its name stays as it is.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    position_resize: str = "bilinear"
    cameras: Mapping[str, int] = field(default_factory=dict)
    views: int = 1
    keep: tuple[str, ...] = ()


def take_image_side(
    model: ReIDModel,
    weights: Mapping[str, Tensor],
    path: str,
    run: NewRun,
) -> CheckpointInfo:
    """Fill the image side of a model from the `weights` of the re-id file `path`, in place.

    The log counts what is taken over, what is new and what is left out. Returns the facts about the file.
    Raises ValueError when it is no re-id checkpoint or of another architecture.
    """
    weights = our_names(weights, path)
    info = read_info(weights, path)
    found = image_side(weights, path)
    own = model.state_dict()
    if _SIDES in own and not info.side_rows:
        own[_SIDES] = torch.zeros_like(own[_SIDES])  # the first features are those of the file
    taken = _common(own, found, path, run.keep)
    resized = _resize(model, taken, info, run)
    side = _take_sides(model, taken, found, info, run)
    load_strictly(model, own | taken, f"path {path}")
    noted = reads_weights("reid", path)
    _logger.info("%s: taken over: %s%s%s", path, _counted(taken), resized, side, extra=noted)
    _logger.info("%s: new: %s", path, _counted(own.keys() - taken) or "nothing")
    left = weights.keys() - taken - ({_SIDES} if side else set())
    if left:
        _logger.info("%s: left out: %s", path, _counted(left))
    _warn_of_lost_parts(path, {name for name in left if name in found and name not in own})
    if has_seen_no_images(found):
        _logger.warning(
            "%s is a file of stage 1: its batch norms have seen no images, and its image tower is the one "
            "that stage 1 began with",
            path,
        )
    return info


def _resize(model: ReIDModel, taken: dict[str, Tensor], info: CheckpointInfo, run: NewRun) -> str:
    """Bring the position embedding in `taken` to the model's grid; a note for the log."""
    trained = run if info.card is None else info.card
    size, stride = fit_geometry(info, trained.size, trained.stride)
    former, grid = grid_size(size, info.patch, stride), model.image_encoder.grid
    if former == grid:
        return ""
    name = position_name(taken, TOWER)
    taken[name] = resize_positions(taken[name].float(), grid, former, run.position_resize)
    rows, columns = grid
    return f", positions of {former[0]}x{former[1]} patches resized to {rows}x{columns}"


def _common(
    own: Mapping[str, Tensor], found: Mapping[str, Tensor], path: str, keep: tuple[str, ...]
) -> dict[str, Tensor]:
    """What the model takes from the file: the tower, the necks, and further parts that both have."""

    def optional(name: str) -> bool:
        return any(part in name for part in _SOMETIMES)

    def needed(names: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {k: v for k, v in names.items() if k.startswith(_ALWAYS) and not optional(k)}

    both = {k: v for k, v in found.items() if optional(k) and k in own}
    both = {k: v for k, v in both.items() if not any(part in k for part in keep)}
    taken = needed(found) | both
    wanted = needed(own) | {k: own[k] for k in both}
    # Positions are resized, if the rest is of the same architecture.
    unresized = [{k: v for k, v in each.items() if not k.endswith(_POSITIONS)} for each in (wanted, taken)]
    check_fit(unresized[0], unresized[1], f"path {path} (whose model `name` does not describe)")
    return taken


def _take_sides(
    model: ReIDModel,
    taken: dict[str, Tensor],
    found: Mapping[str, Tensor],
    info: CheckpointInfo,
    run: NewRun,
) -> str:
    """Add rows of side information to `taken`, or the mean row to its class token; a note for the log."""
    if not info.side_rows:
        return ""
    own = model.side_information
    rows = found[_SIDES].float()
    known = info.card is not None and info.card.sie is not None
    scale = info.sie_scale if known or own is None else own.scale
    if own is None:
        token = found[_TOKEN]
        taken[_TOKEN] = token.float() + scale * rows.mean(dim=0)
        return f", the mean of {info.side_rows} rows of side information within the class token"
    share = scale / own.scale if own.scale else 1.0  # what is added to the class token stays the same
    named = run.cameras if own.cameras else {"+".join(run.cameras): sum(run.cameras.values())}
    parts, notes = [], []
    for name, cameras in named.items():
        part = own._replace(cameras=cameras if own.cameras else 0)
        used, note, numbered = _use_of_rows(rows, info, own, name, (cameras, run.views))
        parts.append(_renumber(numbered, used, part))
        notes.append(note)
    # Views change fastest, so that the cameras of data sets follow each other in blocks.
    taken[_SIDES] = share * torch.cat(parts)
    return f"; {'; '.join(dict.fromkeys(notes))}"


def _use_of_rows(
    rows: Tensor, info: CheckpointInfo, own: SideInformation, data: str, counts: tuple[int, int]
) -> tuple[SideInformation, str, Tensor]:
    """The use of a file's table on images of data set `data`, as in a test of them.

    Without a model card, rows are told apart only where there are as many as the new table has.
    """
    cameras, views = counts
    card = info.card
    if card is not None and card.sie is not None:
        trained = card.cameras or {card.data: card.sie.cameras}
        return trained_side_information(card.sie, rows, trained, data, cameras=cameras, views=views)
    if len(rows) == own.rows:
        return own, f"{len(rows)} rows of side information as they are, without a model card", rows
    text = f"the mean row of side information, because its {len(rows)} rows have no model card"
    return SideInformation(1, 0, own.scale), text, rows


def _renumber(rows: Tensor, former: SideInformation, own: SideInformation) -> Tensor:
    """Rows (R, D) numbered as `former` says, in the numbers of `own`, whose cameras and views it has.

    Where `former` does not tell cameras or views apart, they begin with the same row; where `own` does not,
    with the mean.
    """
    if former.rows == 1 < len(rows):
        rows = rows.mean(dim=0, keepdim=True)
    table = rows.unflatten(0, (max(former.cameras, 1), max(former.views, 1)))
    for axis, before, now in ((0, former.cameras, own.cameras), (1, former.views, own.views)):
        if not now:
            table = table.mean(dim=axis, keepdim=True)
        elif before > 1:
            table = table.narrow(axis, 0, now)
        else:
            table = table.repeat_interleave(now, dim=axis)
    return table.flatten(0, 1)


def _counted(names: Iterable[str]) -> str:
    """The parts of a model with the number of their tensors: 'image_encoder 150, bottleneck 5'."""
    parts = Counter("deep prompts" if MARK in name else name.partition(".")[0] for name in sorted(names))
    return ", ".join(f"{part} {count}" for part, count in parts.items())


def _warn_of_lost_parts(path: str, lost: set[str]) -> None:
    """Warn of parts without which the tower does not give the features that it was trained to give."""
    for part, what in zip(_SOMETIMES, ("deep prompts in its image tower", "an adapter"), strict=True):
        if any(part in name for name in lost):
            _logger.warning(
                "%s has %s, which the model has not: training starts from other features than its own",
                *(path, what),
            )
