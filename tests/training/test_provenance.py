"""What a trial notes of its device; GPUs are played by stand-ins."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harness import device as module
from harness import environment, provenance, trial
from harness.errors import ConfigError
from harness.launch import check_device, device_name
from harness.provenance import EnergyMeter
from models.linear import product_nt

MILLIJOULES = {"GPU-one": [5_000, 9_000, 9_000], "GPU-two": [100, 1_600]}


class NVML(SimpleNamespace):
    """As much of NVML as we use."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__()
        self.left = {name: list(readings) for name, readings in MILLIJOULES.items()}

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        if name not in self.left:
            raise self.NVMLError("Not Found")
        return name

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return self.left[handle].pop(0)


def test_a_gpu_is_asked_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", NVML())  # type: ignore[arg-type]
    first, second = EnergyMeter("GPU-one"), EnergyMeter("GPU-two")
    assert (first.total(0.0), second.total(10.0)) == (4.0, 11.5), "after what was used before it was stopped"
    assert EnergyMeter("GPU-three").total(0.0) is None
    assert first.total(None) is None, "the beginning was not measured"
    monkeypatch.setitem(sys.modules, "pynvml", None)  # type: ignore[arg-type]
    assert EnergyMeter("GPU-one").total(0.0) is None


def test_processor_packages_add_up_and_may_wrap_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "POWERCAP", tmp_path)
    assert EnergyMeter().total(0.0) is None

    def reads(name: str, microjoules: int) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "energy_uj").write_text(f"{microjoules}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("50000000\n")

    for name, microjoules in (("intel-rapl:0", 1_000_000), ("intel-rapl:1", 49_000_000), ("intel-rapl:0:0", 7)):
        reads(name, microjoules)
    meter = EnergyMeter()
    reads("intel-rapl:0", 4_000_000)
    reads("intel-rapl:1", 2_000_000)
    reads("intel-rapl:0:0", 9_000_000)
    assert meter.total(0.5) == pytest.approx(0.5 + 3 + 3), "a part of a package is not counted again"


def test_a_gpus_name_and_memory_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 1)
    asked: list[torch.device] = []

    def properties(device: torch.device) -> SimpleNamespace:
        asked.append(device)
        return SimpleNamespace(uuid="abc")

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card {device.index}")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20 * device.index)
    assert module.uuid(gpu) == "GPU-abc" and asked == [gpu] and module.uuid(torch.device("cpu")) is None
    trained = SimpleNamespace(epochs=(), batch_size=8)
    noted = {"precision": "fp32", "kernels": "", "threads": 1, "command": "", "started": "", "seconds": {}}
    for where, device, mib in ((gpu, "Card 1", 3.0), (torch.device("cpu"), "cpu", None)):
        assert module.shown(where) == device
        found = trial._provenance(trained, where, device=device, **noted, joules=7.5)  # type: ignore[arg-type]
        assert (found.device, found.gpu_peak_mib, found.joules) == (device, mib, 7.5)


def test_gpus_are_counted_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "zeros", None)  # no GPU is touched
    monkeypatch.setattr(module, "gpu_count", lambda: 1)
    check_device("cuda", gpus=1.0)
    for name, says in (("cuda:1", "torch finds 1 GPU"), ("cuda:x", "nvalid device string")):
        with pytest.raises(ConfigError, match=f"device '{name}' cannot be used here .*{says}.*: use --device cpu"):
            check_device(name)
    monkeypatch.setattr(module, "gpu_count", lambda: 0)
    with pytest.raises(ConfigError, match="--gpus-per-trial 0.25: torch finds no GPU on this machine: drop it"):
        check_device("cuda", gpus=0.25)
    assert device_name(None, gpus=0.25) == "cuda" and device_name(None, gpus=0.0) == "cpu"
    for more in (1.5, 2.0):
        with pytest.raises(ConfigError, match=f"--gpus-per-trial {more:g}: a trial trains on one GPU"):
            device_name(None, gpus=more)


@pytest.mark.parametrize(("driver", "listed", "counted"), [(True, 3, 3), (False, 3, 0)])
def test_gpus_that_the_driver_cannot_use_are_not_counted(
    driver: bool, listed: int, counted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: driver)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: listed)
    assert module.gpu_count() == counted


def test_tf32_that_cannot_be_switched_off_is_refused_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "gpu_count", lambda: 1)
    monkeypatch.setenv(environment.TF32, "0")
    check_device("cuda")
    monkeypatch.setenv(environment.TF32, "1")
    assert module.device_of("cpu").type == "cpu"
    with pytest.raises(ConfigError, match="NVIDIA_TF32_OVERRIDE=1 makes float32 products TF32 .*: unset it"):
        check_device("cuda")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ONEDNN_DEFAULT_FPMATH_MODE", "BF16", "makes float32 products less exact than asked for: unset it"),
        ("DNNL_DEFAULT_FPMATH_MODE", "any", "makes float32 products less exact than asked for: unset it"),
        ("BTSR_KERNELS", "on", "use auto or off"),
    ],
)
def test_an_environment_of_other_numbers_is_refused_before_anything_runs(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "strict")
    check_device("cpu")
    monkeypatch.setenv(name, value)
    for check in (check_device, module.device_of):
        with pytest.raises(ConfigError, match=f"{name}={value}.*{words}"):
            check("cpu")


def test_float32_is_float32_on_processors_and_the_callers_setting_comes_back() -> None:
    a, b = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    exact = a.double() @ b.double().t()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        rounded = product_nt(a, b)
        with module.repeatable(torch.device("cpu")):
            assert (product_nt(a, b) - exact).norm() < 1e-6 * exact.norm()
        assert (product_nt(a, b) == rounded).all()
    finally:
        torch.set_float32_matmul_precision(before)
    assert (product_nt(a, b) - exact).norm() < 1e-6 * exact.norm()


@pytest.mark.parametrize("before", ["none", "ieee", "tf32"])
def test_float32_is_float32_on_cuda_and_the_callers_setting_comes_back(before: str) -> None:
    """TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1, as NVIDIA's containers have it, makes torch begin with tf32."""
    matmul = torch.backends.cuda.matmul
    found = matmul.fp32_precision
    matmul.allow_tf32, matmul.fp32_precision = before == "tf32", before
    try:
        with module.full_float32(torch.device("meta")):
            assert matmul.fp32_precision == before
        with module.full_float32(torch.device("cuda", 0)):
            assert (matmul.allow_tf32, matmul.fp32_precision) == (False, "ieee")
        assert (matmul.allow_tf32, matmul.fp32_precision) == (before == "tf32", before)
    finally:
        matmul.allow_tf32, matmul.fp32_precision = found == "tf32", found
