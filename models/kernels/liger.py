"""Liger's fused linear cross-entropy for CUDA: Triton kernels, a bounded number of logits, gradients in the forward.

Same signature and meaning as the torch path, `models.losses.chunked_cross_entropy` (spec 2.3). Liger comes with the
extra `cuda`. Where it cannot express what is asked for, `usable` says no: the caller takes the torch path.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from models.config import Precision
from models.kernels.build import KernelUnavailable, check_wanted
from models.kernels.cross_entropy import KernelReport
from models.linear import native_bf16

LOGITS = 1 << 25
"""Logits alive at a time, to within the factor two of Liger's rounding: 128 to 256 MiB in float32."""
DEVICES = ("cuda",)
"""Types of device that Liger is used on."""


@cache
def _function() -> Callable[..., Tensor] | KernelUnavailable:
    """Liger's call, or why there is none; a process looks once."""
    try:
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy
    except ImportError as missing:
        return KernelUnavailable(f"{missing}: install the extra 'cuda'")
    found: Callable[..., Tensor] = liger_fused_linear_cross_entropy
    return found


@cache
def _failure(device: torch.device) -> str | None:
    """Why Liger's call fails on this device, such as Triton's without a compiler; None where a small one works.

    A process tries once. Raises OutOfMemoryError, which says nothing about Liger.
    """
    try:
        function = _function()
        if isinstance(function, KernelUnavailable):
            return str(function)
        with torch.enable_grad():
            hidden, table = (torch.ones(rows, 16, device=device, requires_grad=True) for rows in (2, 3))
            targets = torch.zeros(2, dtype=torch.int64, device=device)
            loss = function(hidden, table, targets, reduction="mean", accum_dtype=torch.float32, chunk_mem_const=1)
            torch.autograd.grad(loss, (hidden, table))[1].sum().item()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever Triton, its compiler or the driver raises
        words = str(error).strip().splitlines() or ["no message"]
        return f"Liger fails on this device: {type(error).__name__}: {words[0]}"
    return None


def available(device: torch.device, precision: Precision = "fp32") -> KernelReport:
    """What `liger_cross_entropy` would use on this device, as `liger_ce`, or `torch` and why."""
    if device.type not in DEVICES:
        return KernelReport(name="torch", reason=f"Liger is not used on {device.type}")
    try:
        check_wanted()
    except KernelUnavailable as off:
        return KernelReport(name="torch", reason=str(off))
    if precision == "bf16" and not native_bf16(device):
        return KernelReport(name="torch", reason="the device has no bf16 products")
    reason = _failure(device)
    return KernelReport(name="liger_ce") if reason is None else KernelReport(name="torch", reason=reason)


def usable(hidden: Tensor, table: Tensor, precision: Precision = "fp32") -> bool:
    """Whether `liger_cross_entropy` can take these tensors: float32, not empty, on a CUDA device, Liger installed.

    Liger makes no gradient of the table where the states need none.
    """
    return (
        hidden.device == table.device
        and hidden.dtype == table.dtype == torch.float32
        and hidden.numel() > 0
        and (hidden.requires_grad or not table.requires_grad)
        and available(hidden.device, precision).name != "torch"
    )


def liger_cross_entropy(
    hidden: Tensor, table: Tensor, targets: Tensor, n_items: int, *, precision: Precision = "fp32"
) -> Tensor:
    """Mean of -log softmax(h E^T)[target] over the items 0..n_items-1, where `usable` holds.

    hidden: [n, D] float32; table: [R, D] float32 with R >= n_items, rows beyond n_items are in no denominator and get
    zero gradient; targets: [n] int64. precision: `bf16` rounds the operands of the three matrix products, and the
    logits and both gradients, to bfloat16; softmax and sums over rows are made in float32.
    Raises IndexError for a target outside 0..n_items-1, which Liger would not notice.
    """
    assert hidden.ndim == table.ndim == 2 and hidden.shape[1] == table.shape[1]
    assert targets.shape == hidden.shape[:1] and targets.dtype == torch.int64 and 0 < n_items <= table.shape[0]
    low, high = torch.stack(torch.aminmax(targets)).tolist()
    if low < 0 or high >= n_items:
        raise IndexError(f"targets {low}..{high} are not all items 0..{n_items - 1}")
    function = _function()
    assert not isinstance(function, KernelUnavailable), "usable() was asked first"
    items = table[:n_items]
    if precision == "bf16":
        hidden, items = hidden.to(torch.bfloat16), items.to(torch.bfloat16)
    return function(
        hidden,
        items,
        targets,
        reduction="mean",
        accum_dtype=torch.float32,
        chunk_mem_const=max(1, LOGITS // hidden.numel()),
    )
