"""Causal attention over a packed batch in one native call for each direction, without rectangles or stored weights.

Same signature, meaning and random draws as the torch path, `models.attention.torch_attention`.
"""

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.dropout import keep_mask, scale_of
from models.kernels.build import KernelUnavailable, Library, load
from models.kernels.scratch import SCRATCH
from models.packed import PackedBatch

_POINTERS = (
    *("queries", "key_value", "out", "log_sum", "grad_out", "grad_queries", "grad_key_value"),
    *("first", "length", "padded", "keep", "keep_row", "keep_padded"),
)
_NUMBERS = ("sequences", "dim", "heads", "longest", "last_only", "threads")


class _Problem(ctypes.Structure):
    """The struct of attention.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int64) for name in _NUMBERS),
        ("keep_scale", ctypes.c_float),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dropout:
    """Factors of the attention weights, by sequence."""

    keep: NDArray[np.int64]
    """[B] address of the sequence's [H, Q, row] bytes: 1 where a weight is kept."""
    row: NDArray[np.int64]
    """[B] length of a row of those."""
    padded: NDArray[np.int64]
    """[B] address of the sequence's [H, Q] factors of the padded key's weight."""
    scale: float
    """Factor of the other weights that are kept."""
    drawn: tuple[Tensor, ...]
    """What the addresses point into."""


def _draw(batch: PackedBatch, heads: int, last_only: bool, p: float, generator: torch.Generator) -> _Dropout:
    """The draws of the torch path, in its order: group by group, the weights and then the padded key's."""
    keep, row, padded, drawn = [], [], [], []
    for group in batch.groups:
        queries, keys = 1 if last_only else group.length, group.length + 1
        mask = keep_mask((group.count * heads, queries, keys), p, generator)
        pads = batch.pads[group.first : group.first + group.count]
        many = pads.repeat_interleave(heads)[:, None].expand(-1, queries).contiguous()
        factor = torch.binomial(many, torch.full_like(many, 1 - p), generator=generator)
        factor.div_(many.clamp_min_(1.0).mul_(1 - p))
        each = np.arange(group.count, dtype=np.int64) * heads * queries
        keep.append(mask.data_ptr() + each * keys)
        padded.append(factor.data_ptr() + each * factor.element_size())
        row.append(np.full(group.count, keys, np.int64))
        drawn += [mask, factor]
    return _Dropout(
        keep=np.concatenate(keep),
        row=np.concatenate(row),
        padded=np.concatenate(padded),
        scale=scale_of(p),
        drawn=tuple(drawn),
    )


@cache
def _function(library: Library) -> Any:
    function = library.handle.attention
    function.argtypes = [ctypes.POINTER(_Problem), ctypes.c_void_p]
    function.restype = ctypes.c_size_t
    return function


def _call(
    batch: PackedBatch,
    tensors: dict[str, Tensor],
    *,
    heads: int,
    last_only: bool,
    mask_pad_keys: bool,
    drop: _Dropout | None,
) -> None:
    last = batch.last.numpy()
    first = np.concatenate([np.zeros(1, np.int64), last[:-1] + 1])
    length = last - first + 1
    problem = _Problem(
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        first=first.ctypes.data,
        length=length.ctypes.data,
        padded=None if mask_pad_keys else batch.pads.data_ptr(),
        sequences=batch.size,
        dim=tensors["queries"].shape[1],
        heads=heads,
        longest=int(length[0]),
        last_only=last_only,
        threads=torch.get_num_threads(),
    )
    if drop is not None:
        problem.keep, problem.keep_row = drop.keep.ctypes.data, drop.row.ctypes.data
        problem.keep_padded, problem.keep_scale = drop.padded.ctypes.data, drop.scale
    function = _function(load())
    function(problem, SCRATCH.at_least(function(problem, None)))


def usable(q: Tensor, heads: int) -> bool:
    """Whether `fused_attention` can take these queries: float32 on the processor, head width a multiple of a vector."""
    if q.device.type != "cpu" or q.dtype != torch.float32 or q.numel() == 0:
        return False
    try:
        width = load().variant.width
    except KernelUnavailable:
        return False
    return q.shape[1] // heads % width == 0


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        kv: Tensor,
        batch: PackedBatch,
        heads: int,
        last_only: bool,
        mask_pad_keys: bool,
        p: float,
        generator: torch.Generator | None,
    ) -> Tensor:
        q, kv = q.contiguous(), kv.contiguous()
        drop = None if generator is None or p == 0 else _draw(batch, heads, last_only, p, generator)
        out, log_sum = torch.empty_like(q), q.new_empty(q.shape[0], heads)
        if not last_only:
            out[batch.count :] = 0
        tensors = {"queries": q, "key_value": kv}
        ctx.settings = {"heads": heads, "last_only": last_only, "mask_pad_keys": mask_pad_keys, "drop": drop}
        _call(batch, tensors | {"out": out, "log_sum": log_sum}, **ctx.settings)
        ctx.save_for_backward(q, kv, log_sum)
        ctx.batch = batch
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, kv, log_sum = ctx.saved_tensors
        grad_q, grad_kv = torch.empty_like(q), torch.empty_like(kv)
        if not ctx.settings["last_only"]:
            grad_q[ctx.batch.count :] = 0
        grad_kv[ctx.batch.count + 1 :] = 0
        tensors = {"queries": q, "key_value": kv, "log_sum": log_sum, "grad_out": grad.contiguous()}
        _call(ctx.batch, tensors | {"grad_queries": grad_q, "grad_key_value": grad_kv}, **ctx.settings)
        return grad_q, grad_kv, None, None, None, None, None, None


def fused_attention(
    q: Tensor,
    kv: Tensor,
    batch: PackedBatch,
    *,
    heads: int = 1,
    last_only: bool = False,
    mask_pad_keys: bool = False,
    p: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """softmax(q k^T / sqrt(d)) v within each sequence, where `usable` holds; see `models.attention.packed_attention`.

    q: [m, D], or [B, D] with `last_only`; kv: [m+1, 2D], row 0 the padded key. Returns a tensor shaped like q, zero
    beyond the batch's tokens. Keeps q, kv and one number per query and head for the backward. Runs on
    `torch.get_num_threads()` threads; same threads, same bits.
    """
    assert kv.shape == (batch.items.shape[0] + 1, 2 * q.shape[1]) and q.shape[1] % heads == 0
    result: Tensor = _FusedAttention.apply(  # type: ignore[no-untyped-call]
        q, kv, batch, heads, last_only, mask_pad_keys, p, generator
    )
    return result
