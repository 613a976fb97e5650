"""Files as of torch.save and TorchScript, made of any parts."""

import io
import math
import sys
import types
import warnings
import zipfile
from unittest import mock

import torch
from hypothesis import strategies as st

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}


def saved(content, **options):
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def scripted(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream = io.BytesIO()
        torch.jit.save(torch.jit.script(module), stream)
    return stream.getvalue()


def zipped(members, name="archive", compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for member, content in members.items():
            archive.writestr(f"{name}/{member}", content)
    return stream.getvalue()


def with_pickle(text, **more):
    """A file as of torch.save whose pickle is `text`."""
    return zipped({"data.pkl": text, "version": "3", "byteorder": "little", "data/0": b"\0" * 8, **more})


SCRIPT = {"constants.pkl": b"", "code/__torch__.py": b"class M(Module):\n  __parameters__ = []\n"}


class EasyDict(dict):
    """As the class of that name, a dict whose items are attributes, too."""

    def __init__(self, items):
        super().__init__({k: EasyDict(v) if isinstance(v, dict) else v for k, v in items.items()})
        self.__dict__.update(self)


EasyDict.__module__ = "easydict"
SETTINGS = {"device": "cuda:0", "experiment": {"input_resolution": [224, 224], "ss": True}}


def write_published(path, weights, optimizer=None, settings=SETTINGS, kind=EasyDict):
    """A file as the published code of TBPS-CLIP writes it, with settings of a class that is not installed."""
    module = types.ModuleType(kind.__module__)
    setattr(module, kind.__name__, kind)
    with mock.patch.dict(sys.modules, {kind.__module__: module}):
        torch.save({"model": weights, "optimizer": optimizer or {}, "config": kind(settings)}, path)


_SIZES = st.sampled_from([0, 1, 3, 5, 8, 16, 63, 64, 65, 256, 10**6, 10**12])
_SHAPES = st.lists(_SIZES, max_size=4).filter(lambda shape: math.prod(shape) < 2**60)
_TYPES = st.sampled_from(
    [torch.float32, torch.float16, torch.int64, torch.bool, torch.float8_e5m2, torch.float64]
)


def changed(plain, data):
    """The weights with up to three tensors, outside of blocks, removed or of another name, shape or type."""
    weights = dict(plain)
    names = [key for key in weights if "resblocks" not in key and "layer" not in key]
    for key in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3)):
        change = data.draw(st.sampled_from(["remove", "rename", "shape", "type"]))
        value = weights.pop(key, None)
        if change == "rename":
            weights[f"{key}{data.draw(st.sampled_from('0x'))}"] = plain[key]
        elif change == "type" and value is not None:
            weights[key] = value.to(data.draw(_TYPES))
        elif change == "shape":
            weights[key] = torch.ones(()).expand(data.draw(_SHAPES))
    return weights
