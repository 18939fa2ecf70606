"""SCE's softmax sums and their gradients bucket by bucket in native calls (spec 2.5): no logits in memory.

Same meaning as the torch path in `models.sce`.
"""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from models.kernels.build import Library, load, variant_for
from models.kernels.scratch import SCRATCH


@cache
def _function(library: Library) -> Any:
    function = library.handle.bucket_softmax
    pointer = ctypes.c_void_p
    function.argtypes = [*[pointer] * 9, *[ctypes.c_int64] * 5, ctypes.c_int, pointer]
    function.restype = ctypes.c_size_t
    return function


def usable(hidden: Tensor, table: Tensor) -> bool:
    """Whether the calls can take these tensors: float32 on the processor, not empty, kernels available."""
    return variant_for(hidden, table) is not None


def _call(
    hidden: Tensor,
    table: Tensor,
    positions: Tensor,
    items: Tensor,
    chosen: Tensor | None = None,
    total: Tensor | None = None,
    sums: Tensor | None = None,
    grads: tuple[Tensor | None, Tensor | None] = (None, None),
) -> None:
    for name, place, count in (("positions", positions, hidden.shape[0]), ("items", items, table.shape[0])):
        low, high = (int(t) for t in torch.aminmax(place))
        if low < 0 or high >= count:
            raise IndexError(f"{name} {low}..{high} are not all in 0..{count - 1}")
    given = (hidden, table, positions, items, chosen, total, sums, *grads)
    assert all(t is None or t.is_contiguous() for t in given)
    pointers = [None if t is None else t.data_ptr() for t in given]
    sizes = *positions.shape, items.shape[1], *table.shape, torch.get_num_threads()
    function = _function(load())
    function(*pointers, *sizes, SCRATCH.at_least(function(*pointers, *sizes, None)))


def fused_bucket_sums(hidden: Tensor, table: Tensor, positions: Tensor, items: Tensor) -> Tensor:
    """[n_b, b_x] log of the sum over a bucket's items [n_b, b_y] of exp(h . e), where `usable` holds.

    hidden: [n, D]; table: [R, D]; positions: [n_b, b_x] and items: [n_b, b_y], int64 rows of both. Raises IndexError
    for a row that does not exist.
    """
    sums = hidden.new_empty(positions.shape)
    _call(hidden.contiguous(), table.contiguous(), positions.contiguous(), items.contiguous(), sums=sums)
    return sums


def add_fused_gradients(
    grad_hidden: Tensor,
    grad_table: Tensor,
    hidden: Tensor,
    table: Tensor,
    positions: Tensor,
    items: Tensor,
    chosen: Tensor,
    total: Tensor,
) -> None:
    """Add sum_j exp(h . e_j - total) e_j to grad_hidden and those weights times h to grad_table, both contiguous.

    Over the positions [n_b, b_x] that are `chosen` (bool), a position in one bucket at most; total: [n].
    """
    h, e, x, y, mine, sums = (t.contiguous() for t in (hidden, table, positions, items, chosen, total))
    _call(h, e, x, y, mine, sums, grads=(grad_hidden, grad_table))
