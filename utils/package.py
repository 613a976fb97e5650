"""The package seen from inside: the files that it ships, and its optional dependencies (extras)."""

import importlib.util
import os
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]  # the repository, or the installed package
_MODULES = {
    "draw": ("skimage",),
    "plots": ("matplotlib", "jinja2"),
    "cluster": ("sklearn",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "video": ("cv2",),
    "tensorboard": ("tensorboard",),
    "download": ("gdown",),
    "index": ("pymilvus", "milvus_lite", "fasteners"),
    "serve": ("fastapi", "uvicorn", "multipart", "prometheus_client"),
    "web": ("gradio",),
    "text": ("transformers", "tokenizers"),
    "mlflow": ("mlflow", "sqlalchemy"),  # the second one is missing in mlflow-skinny
}


class MissingExtra(ModuleNotFoundError):
    """An optional dependency is not installed; the message names the command that installs it."""


def find_shipped(name: str | os.PathLike[str]) -> Path:
    """`name` where it is a file; else the file of that name in the repository or package, e.g. in `configs/`.

    So `configs/person/vit_base.yml` and `person/vit_base.yml` are found from any folder. Returns
    `Path(name)` where no such file exists.
    """
    places = (Path(name), _ROOT / name, _ROOT / "configs" / name)
    return next(filter(os.path.isfile, places), Path(name))


def require_extra(extra: str, *modules: str) -> None:
    """Raise MissingExtra if a module of that extra, such as 'plots', is not installed.

    `modules` are those that are needed, by default all of the extra.
    """
    missing = [module for module in modules or _MODULES[extra] if importlib.util.find_spec(module) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise MissingExtra(
            f'{", ".join(missing)} {verb} not installed; needed: pip install "clipreid[{extra}]"'
        )
