"""A pretended GPU: tensors on 'cuda' that refuse what CUDA refuses, with their numbers on the CPU.

Torch's own fake tensors have no numbers, and without a driver no gradients, so no whole run. Kernels and
autocast are the CPU's here.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)
_ROOT = Path(__file__).parents[2]
_LIBRARY = ("datasets", "loss", "model", "processor", "retrieval", "solver", "utils")
_ATEN = torch.ops.aten
_INDEXING = {_ATEN.index, _ATEN.index_put_, _ATEN.index_put, _ATEN._index_put_impl_}
# A GPU's result, or how large it is, has to be known on the CPU.
_READING = {
    *(_ATEN._local_scalar_dense, _ATEN.equal, _ATEN.nonzero, _ATEN.masked_select, _ATEN.bincount),
    *(_ATEN.repeat_interleave, _ATEN._unique2, _ATEN.unique_dim, _ATEN.unique_consecutive),
}


class OnGpu(Tensor):
    """A tensor on the pretended GPU; `here` has the same memory and is on the CPU, as autograd sees it."""

    here: Tensor
    device = GPU
    is_cuda = True
    is_cpu = False

    @staticmethod
    def __new__(cls, here):
        tensor = Tensor._make_subclass(cls, here, here.requires_grad)
        tensor.here = here
        return tensor

    def __repr__(self):
        return f"OnGpu({self.here!r})"

    def __reduce_ex__(self, protocol):
        return self.here.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        _mind(func.overloadpacket, args, given)
        changed = {id(_here(x)): x for x in given}  # in place, perhaps
        args, kwargs = tree_map(_here, (args, kwargs or {}))
        result = tree_map(
            lambda x: changed.get(id(x), OnGpu(x)) if isinstance(x, Tensor) else x, func(*args, **kwargs)
        )
        if isinstance(result, OnGpu) and result.shape != result.here.shape:  # resize_
            with torch._C._DisableTorchDispatch():
                result.set_(result.here)
        return result


def _here(x):
    return x.here if isinstance(x, OnGpu) else x


def _mind(operation, args, given):
    """Refuse tensors on both devices as CUDA does; note what waits."""
    if operation is _ATEN.copy_:
        if type(args[0]) is not type(args[1]) and args[2:] != (True,):
            Pretence.wait()
        return
    if operation in _READING:
        Pretence.wait()
    if operation in _INDEXING:
        indices = [x for x in args[1] if x is not None]
        if any(x.dtype in (torch.bool, torch.uint8) or not isinstance(x, OnGpu) for x in indices):
            Pretence.wait()
        given = [args[0], *args[2:3]]  # indices may be on the CPU
    strangers = [x for x in given if not isinstance(x, OnGpu)]
    # Single numbers on the CPU are taken, but not put in a row with others.
    joins = operation in (_ATEN.cat, _ATEN.stack)
    in_backward = torch._C._current_graph_task_id() != -1  # where torch makes its own as autograd sees it
    if any(x.ndim or joins for x in strangers) and not in_backward:
        raise RuntimeError(f"{operation}: a tensor of shape {tuple(strangers[0].shape)} is not on the GPU")


class Pretence(TorchFunctionMode):
    """While it lasts, what is made on 'cuda' or moved there is on the pretended GPU.

    `waits` has, for each time that the library waits for the GPU, the names of its functions at work.
    """

    waits: list[tuple[str, ...]]

    def __enter__(self):
        Pretence.waits = []
        return super().__enter__()

    @classmethod
    def wait(cls):
        """Note who waits."""
        frame, names = sys._getframe(1), []
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in _LIBRARY:
                names.append(frame.f_code.co_name)
            frame = frame.f_back
        cls.waits.append(tuple(names))

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (Tensor.to, Tensor.cpu):
            return _move(func, *args, **kwargs)
        if func in (Tensor.tolist, Tensor.new_tensor) and isinstance(args[0], OnGpu):
            self.wait()
            result = func(args[0].here, *args[1:], **kwargs)
            return result if func is Tensor.tolist else OnGpu(result)
        if func is torch.as_tensor and isinstance(args[0], Tensor):
            return _move(Tensor.to, *args, **kwargs)
        if kwargs.get("device") is None or torch.device(kwargs["device"]).type != "cuda":
            return func(*args, **kwargs)
        if func in (torch.tensor, torch.as_tensor):
            self.wait()
        result = func(*args, **{**kwargs, "device": "cpu"})
        return result if isinstance(result, OnGpu) else OnGpu(result)


def _move(func, tensor, *args, copy=False, **kwargs):
    device, dtype, non_blocking, memory = torch.device("cpu"), None, False, None
    if func is Tensor.to:
        if args and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        device, dtype, non_blocking, memory = torch._C._nn._parse_to(*args, **kwargs)
    options = {"dtype": dtype or tensor.dtype, "memory_format": memory or torch.preserve_format}
    if device is None or device.type == tensor.device.type:
        return tensor.to(copy=copy, **options)
    assert not (tensor.requires_grad and torch.is_grad_enabled()), "a move with a gradient is not rehearsed"
    if not non_blocking or device.type == "cpu":
        Pretence.wait()
    if device.type == "cpu":
        return tensor.here.to(copy=True, **options)
    return OnGpu(tensor.detach().to(copy=True, **options))
