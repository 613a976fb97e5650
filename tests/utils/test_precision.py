"""Which precision a name means on which device, and what it does to a step."""

import pytest
import torch

from utils import precision
from utils.precision import CHOICES, Precision, inference_precision, training_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def gpu(monkeypatch):
    """gpu(has_bf16=True): answers of a GPU that is not there."""

    def build(has_bf16):
        capability = (9, 0) if has_bf16 else (7, 5)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)

    return build


@pytest.mark.parametrize(("has_bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_automatic_training_precision(gpu, has_bf16, dtype):
    gpu(has_bf16)
    assert training_precision("auto", GPU).dtype == dtype
    assert training_precision("auto", CPU).dtype == torch.float32


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_automatic_inference_precision(monkeypatch, native, dtype):
    monkeypatch.setattr(precision, "has_native_bf16", lambda: native)
    assert inference_precision("auto", CPU).dtype == dtype
    assert inference_precision("auto", GPU).dtype == torch.float16


@pytest.mark.parametrize("make", [training_precision, inference_precision])
def test_precision_by_name(make):
    names = {"bf16": torch.bfloat16, "fp16": torch.float16, "off": torch.float32}
    assert {name: make(name, CPU).dtype for name in names} == names
    assert set(names) == set(CHOICES) - {"auto"}
    with pytest.raises(ValueError, match=r"choice is 'half'; allowed: 'auto', 'bf16', 'fp16', 'off'"):
        make("half", CPU)


@pytest.mark.parametrize(
    ("flags", "native"),
    [
        ("avx2 avx512f avx512_bf16", True),
        ("avx2 amx_bf16", True),
        ("asimd bf16", True),
        ("avx2 avx512f", False),
    ],
)
def test_native_bf16_is_read_off_the_processor(monkeypatch, tmp_path, flags, native):
    (tmp_path / "cpuinfo").write_text(f"model name : one\nflags : fpu {flags}\n")
    monkeypatch.setattr(precision, "Path", lambda name: tmp_path / name.rpartition("/")[2])
    monkeypatch.setattr(precision.platform, "system", lambda: "Linux")
    assert precision.has_native_bf16() == native
    monkeypatch.setattr(precision.platform, "system", lambda: "Darwin")
    assert not precision.has_native_bf16()


@pytest.mark.parametrize(
    ("dtype", "scaled"), [(torch.float32, False), (torch.bfloat16, False), (torch.float16, True)]
)
def test_products_run_in_the_precision_and_only_fp16_is_scaled(dtype, scaled):
    chosen = Precision("cpu", dtype)
    with chosen.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert chosen.scaler.is_enabled() == scaled
    with chosen.autocast(keep_casts=False):
        assert not torch.is_autocast_cache_enabled()


def test_fp16_scales_as_torch_does_by_itself():
    """As other trainers' "16-mixed", which take torch's scaler as it is."""
    scaler = training_precision("fp16", torch.device("cpu")).scaler
    assert scaler.is_enabled() and scaler.get_scale() == 65536
    assert scaler.state_dict() == torch.amp.GradScaler("cpu").state_dict()
