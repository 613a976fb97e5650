"""What tests share: golden numbers, weights drawn by name, toy CLIP models, small data sets."""

import hashlib
import logging
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from tests.systems import is_lacking
from tests.toys import TOWERS, write_tower

GOLDEN = Path(__file__).parent / "golden"
REPOSITORY = Path(__file__).parent.parent


def pytest_configure() -> None:
    """Give each of several workers one thread, as `make test` does, and what it starts, too."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """On Windows, a test that itself makes a pipe, a link without permission, … is skipped."""
    try:
        return (yield)
    except (AttributeError, OSError) as error:
        file = traceback.extract_tb(error.__traceback__)[-1].filename
        if os.name == "nt" and is_lacking(error, file):
            pytest.skip(f"the system lacks it: {error}")
        raise


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(autouse=True)
def logger_as_before() -> Iterator[None]:
    """Programs take the logger over, also in fixtures of whole modules; each test finds it untouched."""
    _give_logger_back()
    yield
    _give_logger_back()


def _give_logger_back() -> None:
    logger = logging.getLogger("transreid")
    for handler in logger.handlers:
        handler.close()
    logger.level, logger.propagate, logger.handlers = logging.NOTSET, True, []


@pytest.fixture(scope="session")
def golden() -> Callable[[str], np.lib.npyio.NpzFile]:
    """golden('losses.npz') -> the stored arrays."""
    return lambda name: np.load(GOLDEN / name)


def fill_by_name(name: str, shape: tuple[int, ...], scale: float, shift: float = 0.0) -> torch.Tensor:
    """Normal numbers that depend on the name alone: the recipe of the golden files."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    values = np.random.RandomState(seed).standard_normal(int(np.prod(shape))).astype(np.float32)
    return torch.from_numpy(values.reshape(shape) * np.float32(scale) + np.float32(shift))


@pytest.fixture(scope="session")
def fill() -> Callable[..., torch.Tensor]:
    return fill_by_name


def draw_clip_weight(name: str, shape: tuple[int, ...], is_vit: bool, prefix: str = "") -> torch.Tensor:
    """One tensor of the stand-in for OpenAI's file; a `prefix` of the names gives another one."""
    is_norm = ".ln_" in name or name.startswith("ln_") or ".bn" in name or "downsample.1" in name
    if name == "logit_scale":
        return torch.tensor(4.6052)
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("running_var"):
        return fill_by_name(prefix + name, shape, 0.05, 1.0).abs() + 0.1
    if name.endswith("running_mean"):
        return fill_by_name(prefix + name, shape, 0.1)
    if is_norm and name.endswith(".weight"):
        return fill_by_name(prefix + name, shape, 0.05, 0.5 if "bn3" in name else 1.0)
    if name.endswith("bias"):
        return fill_by_name(prefix + name, shape, 0.02)
    if "conv" in name or "downsample.0" in name:
        return fill_by_name(prefix + name, shape, ((1.0 if is_vit else 2.0) / np.prod(shape[1:])) ** 0.5)
    if name.endswith(("proj.weight", "in_proj_weight", "c_fc.weight")):
        return fill_by_name(prefix + name, shape, shape[-1] ** -0.5)
    if name in ("visual.proj", "text_projection"):
        return fill_by_name(prefix + name, shape, shape[0] ** -0.5)
    return fill_by_name(prefix + name, shape, 0.05 if "embedding" in name else 0.02)


def draw_clip(config: dict, prefix: str = "") -> dict[str, torch.Tensor]:
    """The stand-in for OpenAI's weights of a model that open_clip's description gives."""
    clip = open_clip.CLIP(**config)
    is_vit = "patch_size" in config["vision_cfg"] and bool(config["vision_cfg"]["patch_size"])
    shapes = {key: tuple(value.shape) for key, value in clip.state_dict().items()}
    return {key: draw_clip_weight(key, shape, is_vit, prefix) for key, shape in shapes.items()}


@pytest.fixture(scope="session")
def drawn_clip() -> Callable[..., dict[str, torch.Tensor]]:
    """drawn_clip(description) -> weights by name."""
    return draw_clip


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """clip_file('RN50') -> a file with drawn weights in OpenAI's names and shapes."""
    folder = tmp_path_factory.mktemp("clip")

    def make(name: str) -> Path:
        path = folder / f"{name}.pt"
        if not path.exists():
            torch.save(draw_clip(open_clip.get_model_config(f"{name}-quickgelu")), path)
        return path

    return make


@pytest.fixture(scope="session")
def toy_towers(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Names of tiny CLIP models, made known to open_clip for this process."""
    folder = tmp_path_factory.mktemp("towers")
    for name in TOWERS:
        write_tower(folder / f"{name}.json", name)
    open_clip.add_model_config(folder)
    return tuple(TOWERS)
