"""Precision of the matrix products: automatic mixed precision, chosen by name and device."""

import functools
import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

CHOICES = ("auto", "bf16", "fp16", "off")
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "off": torch.float32}
_NATIVE_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # names of processor features, x86 and Arm


@dataclass(frozen=True)
class Precision:
    """The type of matrix products on a kind of device; weights and losses stay float32.

    `dtype` float32 means full precision.
    """

    device_type: str
    dtype: torch.dtype = torch.float32

    @property
    def name(self) -> str:
        """Common name: bf16, fp16 or float32."""
        return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(self.dtype, "float32")

    @functools.cached_property
    def scaler(self) -> torch.amp.GradScaler:
        """Keeps small gradients from vanishing in float16; disabled for the other types."""
        return torch.amp.GradScaler(self.device_type, enabled=self.dtype == torch.float16)

    def autocast(self, *, keep_casts: bool = True) -> AbstractContextManager:
        """Context for forward passes; with `keep_casts` it caches cast weights until its end."""
        enabled = self.dtype != torch.float32
        return torch.autocast(
            self.device_type, dtype=self.dtype if enabled else None, enabled=enabled, cache_enabled=keep_casts
        )


def training_precision(choice: str, device: torch.device) -> Precision:
    """Precision by name; 'auto' is bf16 on a GPU that has it, fp16 on others, 'off' on the CPU.

    Raises ValueError for a name that is not in CHOICES.
    """
    if choice == "auto":
        choice = "off"
        if device.type == "cuda":
            has_bf16 = torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere or newer
            choice = "bf16" if has_bf16 else "fp16"
    return _make_precision(choice, device)


def inference_precision(choice: str, device: torch.device) -> Precision:
    """Precision by name; 'auto' is fp16, which is finer, on a GPU, and bf16 on a CPU that has it.

    Raises ValueError for a name that is not in CHOICES.
    """
    if choice == "auto":
        choice = "fp16" if device.type == "cuda" else "bf16" if has_native_bf16() else "off"
    return _make_precision(choice, device)


def has_native_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; only Linux says so, elsewhere False."""
    if platform.system() != "Linux":
        return False
    return bool(_NATIVE_BF16 & set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split()))


def _make_precision(choice: str, device: torch.device) -> Precision:
    if choice not in CHOICES:
        raise ValueError(f"choice is {choice!r}; allowed: {', '.join(map(repr, CHOICES))}")
    return Precision(device.type, _DTYPES[choice])
