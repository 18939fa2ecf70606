"""Full-catalogue softmax cross-entropy in one native call: no logits in memory, gradients made in the forward.

Same signature and meaning as the torch path, `models.losses.chunked_cross_entropy` (spec 2.3).
"""

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.config import Precision
from models.gradients import take
from models.kernels.build import KernelUnavailable, Library, load
from models.kernels.scratch import SCRATCH


class Order(IntEnum):
    """How the kernel goes through rows and items; the sums are the same."""

    CHOOSE = 0
    """By the number of items."""
    BY_ROWS = 1
    """Logits made once; scratch grows with items times threads."""
    BY_ITEMS = 2
    """Logits made twice; scratch does not depend on the items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelReport:
    """Which code computes the loss, for provenance."""

    name: str
    """`fused_ce_<instruction set>`, or `torch`."""
    reason: str | None = None
    """Why it is `torch`."""


@cache
def _function(library: Library) -> Any:
    function = library.handle.cross_entropy
    pointer, long = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [ctypes.c_int, ctypes.c_int, *[pointer] * 5, long, long, long, ctypes.c_int, pointer, pointer]
    function.restype = ctypes.c_size_t
    return function


def available(precision: Precision = "fp32") -> KernelReport:
    """What `fused_cross_entropy` would use on this processor; builds the kernels if they are not in the cache."""
    try:
        library = load()
    except KernelUnavailable as missing:
        return KernelReport(name="torch", reason=str(missing))
    variant = library.variant
    if precision == "bf16" and not variant.bf16:
        cause = library.missed or "the processor lacks AVX512_BF16"
        return KernelReport(name="torch", reason=f"no bf16 kernel for {variant.name}: {cause}")
    return KernelReport(name=f"fused_ce_{variant.instructions(precision)}")


def usable(hidden: Tensor, table: Tensor, precision: Precision = "fp32") -> bool:
    """Whether `fused_cross_entropy` can take these tensors: float32 on the processor, not empty, kernels available."""
    return (
        hidden.device.type == table.device.type == "cpu"
        and hidden.dtype == table.dtype == torch.float32
        and hidden.numel() > 0
        and available(precision).name != "torch"
    )


class _FusedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, n_items: int, precision: Precision, order: Order
    ) -> Tensor:
        hidden, table, targets = hidden.contiguous(), table.contiguous(), targets.contiguous()
        rows, dim = hidden.shape
        grads = torch.empty_like(hidden), torch.empty_like(table)
        grads[1][n_items:] = 0
        function = _function(load())
        threads = torch.get_num_threads()
        tensors = [t.data_ptr() for t in (hidden, table, targets, *grads)]
        loss = ctypes.c_double()
        half = int(precision == "bf16")
        size = function(half, order, *tensors, rows, n_items, dim, threads, None, None)
        assert size, "usable() was asked first"
        scratch = SCRATCH.at_least(size)
        function(half, order, *tensors, rows, n_items, dim, threads, scratch, ctypes.byref(loss))
        ctx.grads = grads
        return hidden.new_tensor(loss.value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *take(ctx, grad), None, None, None, None


def fused_cross_entropy(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    n_items: int,
    *,
    precision: Precision = "fp32",
    order: Order = Order.CHOOSE,
) -> Tensor:
    """Mean of -log softmax(h E^T)[target] over the items 0..n_items-1, where `usable` holds.

    hidden: [n, D] float32; table: [R, D] float32 with R >= n_items, rows beyond n_items are in no denominator and get
    zero gradient; targets: [n] int64. precision: `bf16` rounds the operands of the three matrix products to bfloat16
    and sums in float32. Runs on `torch.get_num_threads()` threads; same threads, same bits.
    Raises IndexError for a target outside 0..n_items-1.
    """
    assert hidden.ndim == table.ndim == 2 and hidden.shape[1] == table.shape[1]
    assert targets.shape == hidden.shape[:1] and targets.dtype == torch.int64 and 0 < n_items <= table.shape[0]
    low, high = (int(t) for t in torch.aminmax(targets))
    if low < 0 or high >= n_items:
        raise IndexError(f"targets {low}..{high} are not all items 0..{n_items - 1}")
    loss: Tensor = _FusedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, table, targets, n_items, precision, order
    )
    return loss
