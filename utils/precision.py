"""In which precision the work runs: automatic mixed precision, chosen by name and device."""

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
    """What matrix products run in on a kind of device; weights and losses stay float32.

    `dtype` float32 means full precision.
    """

    device_type: str
    dtype: torch.dtype = torch.float32

    @property
    def name(self) -> str:
        """As people call it: bf16, fp16 or float32."""
        return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(self.dtype, "float32")

    @functools.cached_property
    def scaler(self) -> torch.amp.GradScaler:
        """Keeps small gradients from vanishing in float16; does nothing for the others."""
        return torch.amp.GradScaler(self.device_type, enabled=self.dtype == torch.float16)

    def autocast(self, *, keep_casts: bool = True) -> AbstractContextManager:
        """The context for forward passes; `keep_casts` allows to keep cast weights until its end."""
        enabled = self.dtype != torch.float32
        return torch.autocast(
            self.device_type, dtype=self.dtype if enabled else None, enabled=enabled, cache_enabled=keep_casts
        )


def training_precision(choice: str, device: torch.device) -> Precision:
    """'auto': bf16 on a GPU that has it, else fp16; full precision on the CPU. Raises ValueError."""
    if choice == "auto":
        choice = "off"
        if device.type == "cuda":
            has_bf16 = torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere or newer
            choice = "bf16" if has_bf16 else "fp16"
    return _make_precision("SOLVER.AMP", choice, device)


def inference_precision(choice: str, device: torch.device) -> Precision:
    """'auto': fp16, the finer of the two, on a GPU; bf16 on a processor that has it. Raises ValueError."""
    if choice == "auto":
        choice = "fp16" if device.type == "cuda" else "bf16" if has_native_bf16() else "off"
    return _make_precision("TEST.AMP", choice, device)


def has_native_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware, as far as the system tells (Linux does)."""
    if platform.system() != "Linux":
        return False
    return bool(_NATIVE_BF16 & set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split()))


def _make_precision(key: str, choice: str, device: torch.device) -> Precision:
    if choice not in CHOICES:
        raise ValueError(f"{key} is {choice!r}; allowed: {', '.join(map(repr, CHOICES))}")
    return Precision(device.type, _DTYPES[choice])
