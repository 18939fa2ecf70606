"""Matrix products in float32 that use the processor's vector units well.

torch hands float32 products on CPUs to MKL, which reaches about 40 % of this kind of processor's peak for the tall and
narrow matrices of this model; oneDNN, which torch carries too, reaches over 90 %. Same arithmetic, same precision.

With precision `bf16` both operands are rounded to bfloat16 and the sums are made in float32: by the device's own
instructions where it has them, else by float32 products of the rounded operands: the same meaning, no gain. On
processors with such instructions torch has only products whose results are rounded to bfloat16, too (`bf16_results`
tells where); the native kernels' are not.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.config import Precision

_ONEDNN: bool = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")

BUSY_ELEMENTS = 1 << 25
"""Numbers alive at a time off the processor, where large products keep the device busy: 128 MiB in float32."""


def alive_at_once(device: torch.device, on_cpu: int) -> int:
    """How many numbers of a product that is made piece by piece are alive at a time: on the processor `on_cpu`."""
    return on_cpu if device.type == "cpu" else BUSY_ELEMENTS


def round_up(rows: int) -> int:
    """`rows`, or up to 6 % more, such that few distinct numbers occur: oneDNN compiles and keeps a kernel per shape."""
    granule = max(8, 1 << max(0, rows.bit_length() - 5))
    return -(-rows // granule) * granule


def _use_onednn(a: Tensor, b: Tensor) -> bool:
    return bool(
        _ONEDNN and a.device.type == "cpu" and a.dtype == b.dtype == torch.float32 and a.numel() > 0 and b.numel() > 0
    )


@cache
def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices itself."""
    if device.type == "cpu":
        has = torch.cpu.get_capabilities()
        return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
    if device.type != "cuda":
        return True
    with torch.cuda.device(device):  # torch asks the current one
        native = bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return native


@cache
def _float_results(device: torch.device) -> bool:
    """Whether torch multiplies bfloat16 matrices into float32 there: on CUDA, on AMD's GPUs by some versions."""
    one = torch.ones(8, 8, dtype=torch.bfloat16, device=device)
    try:
        torch.mm(one, one, out_dtype=torch.float32)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return False
    return True


def bf16_results(device: torch.device) -> bool:
    """Whether bf16 products of `product_nt` are rounded to bfloat16 themselves."""
    return native_bf16(device) and not _float_results(device)


def _native_product(a: Tensor, b: Tensor) -> Tensor:
    """a b^T of bfloat16 operands by the device's own instructions: float32 where torch has that, else bfloat16."""
    return torch.mm(a, b.t(), out_dtype=torch.float32) if _float_results(a.device) else F.linear(a, b)


def product_nt(
    a: Tensor, b: Tensor, bias: Tensor | None = None, precision: Precision = "fp32", out: Tensor | None = None
) -> Tensor:
    """a b^T (+ bias): [n, k] and [m, k] to [n, m]; either may be a transposed view. No gradient is recorded.

    Returns float32 whatever the precision, with `out` in that tensor: for large products, small ones are slower so.
    """
    assert bias is None or out is None
    with torch.no_grad():
        if precision == "bf16":
            a, b = a.to(torch.bfloat16), b.to(torch.bfloat16)
            if native_bf16(a.device):
                made = _native_product(a, b)
                product = made.float() if out is None else out.copy_(made)
                return product if bias is None else product.add_(bias)
            a, b = a.float(), b.float()
        if out is not None:
            return torch.mm(a, b.t(), out=out)
        if _use_onednn(a, b):
            result: Tensor = torch.ops.mkldnn._linear_pointwise(a.contiguous(), b, bias, "none", [], "")
            return result
        return F.linear(a, b, bias)


def add_product_tn(total: Tensor, a: Tensor, b: Tensor, *, alpha: float, precision: Precision = "fp32") -> None:
    """Add alpha a^T b to `total`: [k, n] and [k, m] to [n, m] float32. No gradient is recorded."""
    with torch.no_grad():
        if precision == "bf16":
            a, b = a.to(torch.bfloat16), b.to(torch.bfloat16)
            if native_bf16(a.device):
                total.add_(_native_product(a.t(), b.t()), alpha=alpha)
                return
            a, b = a.float(), b.float()
        total.addmm_(a.t(), b, alpha=alpha)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, precision: Precision) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.precision = precision
        return product_nt(x, weight, bias, precision)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        by_x = product_nt(grad, weight.t(), precision=ctx.precision)
        return by_x, product_nt(grad.t(), x.t(), precision=ctx.precision), grad.sum(0), None


def linear(x: Tensor, weight: Tensor, bias: Tensor, precision: Precision = "fp32") -> Tensor:
    """x W^T + b with gradients: [n, in], [out, in], [out] to [n, out]."""
    if precision == "fp32" and not _use_onednn(x, weight):
        return F.linear(x, weight, bias)
    result: Tensor = _Linear.apply(x, weight, bias, precision)  # type: ignore[no-untyped-call]
    return result
