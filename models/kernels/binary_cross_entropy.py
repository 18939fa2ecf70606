"""Binary cross-entropy over drawn negatives in native calls: no embedding is gathered, gradients made in the forward.

Same meaning as the torch path, `models.sampled.per_row` with `bce_rows`, `gbce_rows` or `bce_halves_rows` (spec 2.1,
2.2).
"""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.gradients import take
from models.kernels.build import Library, load, variant_for
from models.kernels.scratch import SCRATCH
from models.negatives import Negatives


@cache
def _function(library: Library) -> Any:
    function = library.handle.binary_cross_entropy
    pointer, long, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    function.argtypes = [*[pointer] * 6, *[long] * 4, real, real, ctypes.c_int, *[pointer] * 3]
    function.restype = ctypes.c_size_t
    return function


def usable(hidden: Tensor, table: Tensor) -> bool:
    """Whether `fused_binary_cross_entropy` can take these tensors.

    It takes float32 on the processor, not empty, with D a multiple of the numbers in a vector.
    """
    variant = variant_for(hidden, table)
    return variant is not None and hidden.shape[1] % variant.width == 0


class _FusedBinaryCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        table: Tensor,
        targets: Tensor,
        n_items: int,
        negatives: Negatives,
        on_positive: float,
        on_negative: float,
    ) -> Tensor:
        hidden, table, targets = hidden.contiguous(), table.contiguous(), targets.contiguous()
        n, dim = hidden.shape
        grads = torch.empty_like(hidden), torch.zeros_like(table)
        function, threads = _function(load()), torch.get_num_threads()
        part, strays, total, start = ctypes.c_double(), ctypes.c_int(), 0.0, 0
        while start < n:
            drawn = negatives(start, n).contiguous()
            count, k = drawn.shape
            assert drawn.dtype == torch.int64 and 0 < count <= n - start
            block = slice(start, start + count)
            pointers = [t.data_ptr() for t in (hidden[block], table, targets[block], drawn, grads[0][block], grads[1])]
            sizes = count, n_items, dim, k, on_positive / n, on_negative / n, threads
            scratch = SCRATCH.at_least(function(*pointers, *sizes, None, None, None))
            function(*pointers, *sizes, scratch, ctypes.byref(part), ctypes.byref(strays))
            if strays.value:
                raise IndexError(f"targets and negatives are not all items 0..{n_items - 1}")
            total += part.value
            start += count
        ctx.grads = grads
        return hidden.new_tensor(total)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *take(ctx, grad), None, None, None, None, None


def fused_binary_cross_entropy(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    n_items: int,
    negatives: Negatives,
    *,
    on_positive: float,
    on_negative: float,
) -> Tensor:
    """Mean over the rows of on_positive softplus(-p) + on_negative sum_j softplus(n_j), where `usable` holds.

    hidden: [n, D] float32; table: [R, D] float32 with R >= n_items; targets: [n] int64; `negatives` hands out the rows'
    items in order, at least one row at a time. Runs on `torch.get_num_threads()` threads; same threads, same bits.
    Raises IndexError for a target or a negative outside 0..n_items-1.
    """
    assert hidden.ndim == table.ndim == 2 and hidden.shape[1] == table.shape[1]
    assert targets.shape == hidden.shape[:1] and targets.dtype == torch.int64 and 0 < n_items <= table.shape[0]
    loss: Tensor = _FusedBinaryCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, table, targets, n_items, negatives, on_positive, on_negative
    )
    return loss
