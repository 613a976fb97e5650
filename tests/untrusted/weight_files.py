"""Files as of torch.save and TorchScript, made of any parts."""

import io
import warnings
import zipfile

import torch

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
