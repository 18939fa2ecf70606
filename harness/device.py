"""The device that trials run on: which there are, and the arithmetic that it is held to meanwhile."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from harness.environment import check_environment
from harness.errors import ConfigError

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
"""What cuBLAS reads when it starts; with a fixed workspace its products repeat bit for bit."""


def device_of(name: str) -> torch.device:
    """The device that `name` means.

    Raises ConfigError where this machine does not have it, and as `check_environment` does.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise _unusable(name, str(error).splitlines()[0]) from error
    check_environment(device.type)
    return device


def check_listed(name: str) -> None:
    """`device_of`, but for a GPU without touching it, which would take some of its memory and may shut others out."""
    if name.split(":")[0] != "cuda":
        device_of(name)
        return
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise _unusable(name, str(error).splitlines()[0]) from error
    there = gpu_count()
    if (device.index or 0) >= there:
        raise _unusable(name, f"torch finds {there or 'no'} GPU{'s' * (there > 1)}")
    check_environment(device.type)


def _unusable(name: str, reason: str) -> ConfigError:
    return ConfigError(f"device '{name}' cannot be used here ({reason}): use --device cpu")


def gpu_count() -> int:
    """GPUs of this machine that torch can use; none of them is touched."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def shown(device: torch.device) -> str:
    """What the provenance calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def uuid(device: torch.device) -> str | None:
    """What a GPU is called whatever CUDA_VISIBLE_DEVICES makes its number; None for another device."""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}" if device.type == "cuda" else None


def current(device: torch.device) -> AbstractContextManager[object]:
    """Makes a GPU the current one, on which Triton starts its kernels whatever their tensors lie on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """float32 products that are no less: without TF32 on CUDA, which NVIDIA's containers switch on, without bfloat16 in
    oneDNN on processors (`torch.set_float32_matmul_precision`); the caller's setting comes back."""
    if device.type == "cuda":
        settings = torch.backends.cuda.matmul
        before = settings.fp32_precision
        settings.allow_tf32 = False  # sets both of torch's switches, which must agree
        try:
            yield
        finally:
            settings.allow_tf32 = before == "tf32"
            settings.fp32_precision = before
    elif device.type == "cpu":
        products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        before, general = products.fp32_precision, torch.backends.mkldnn.fp32_precision
        products.fp32_precision = "ieee"
        try:
            yield
        finally:
            products.fp32_precision = "none" if before == general else before  # none: as the general one, once more
    else:
        yield


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """`full_float32`, and on CUDA torch's deterministic algorithms, not sums in any order; the settings come back.

    Enter before the process's first product: cuBLAS reads its setting once.
    """
    if device.type != "cuda":
        with full_float32(device):
            yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic  # a module whose attribute is a property
    filled, workspace = settings.fill_uninitialized_memory, os.environ.get(CUBLAS)
    os.environ.setdefault(CUBLAS, ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = False  # nothing here reads memory before it is written
    try:
        with full_float32(device):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        settings.fill_uninitialized_memory = filled
        if workspace is None:
            os.environ.pop(CUBLAS, None)
