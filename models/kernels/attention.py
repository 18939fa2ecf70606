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

from models.dropout import least_word, random_words, scale_of
from models.kernels.build import Library, load, variant_for
from models.kernels.scratch import SCRATCH
from models.packed import Attention, PackedBatch

_POINTERS = (
    *("queries", "key_value", "out", "log_sum", "grad_out", "grad_queries", "grad_key_value"),
    *("first", "length", "padded", "keep", "keep_row", "keep_padded"),
)
_NUMBERS = ("sequences", "dim", "heads", "longest", "last_only", "threads", "least")


class _Problem(ctypes.Structure):
    """The struct of attention.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int64) for name in _NUMBERS),
        ("keep_scale", ctypes.c_float),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Factors of the attention weights, by sequence."""

    keep: NDArray[np.int64]
    """[B] address of the sequence's [H, Q, row] random words."""
    row: NDArray[np.int64]
    """[B] length of a row of those."""
    padded: NDArray[np.int64]
    """[B] address of the sequence's [H, Q] factors of the padded key's weight."""
    least: int
    """The other weights are kept where their words are at least this, ..."""
    scale: float
    """... times this."""
    drawn: tuple[Tensor, ...]
    """What the addresses point into."""


def draw(batch: PackedBatch, how: Attention) -> Draws | None:
    """The draws of the torch path, in its order: group by group, the weights and then the padded key's."""
    if not how.drops:
        return None
    assert how.generator is not None
    heads, p, generator = how.heads, how.p, how.generator
    keep, row, padded, drawn = [], [], [], []
    for group in batch.groups:
        queries, keys = 1 if how.last_only else group.length, group.length + 1
        words = random_words((group.count * heads, queries, keys), generator)
        pads = batch.pads[group.first : group.first + group.count]
        many = pads.repeat_interleave(heads)[:, None].expand(-1, queries).contiguous()
        factor = torch.binomial(many, torch.full_like(many, 1 - p), generator=generator)
        factor.div_(many.clamp_min_(1.0).mul_(1 - p))
        each = np.arange(group.count, dtype=np.int64) * heads * queries
        keep.append(words.data_ptr() + each * keys * words.element_size())
        padded.append(factor.data_ptr() + each * factor.element_size())
        row.append(np.full(group.count, keys, np.int64))
        drawn += [words, factor]
    return Draws(
        keep=np.concatenate(keep),
        row=np.concatenate(row),
        padded=np.concatenate(padded),
        least=least_word(p),
        scale=scale_of(p),
        drawn=tuple(drawn),
    )


@cache
def _function(library: Library) -> Any:
    function = library.handle.attention
    function.argtypes = [ctypes.POINTER(_Problem), ctypes.c_void_p]
    function.restype = ctypes.c_size_t
    return function


def run(batch: PackedBatch, how: Attention, draws: Draws | None, tensors: dict[str, Tensor]) -> None:
    """Forward of the tensors queries, key_value into out and log_sum, or with grad_out backward into the gradients.

    queries, out, grad_out, grad_queries: [>= n, D] ([B, D] with `last_only`); key_value, grad_key_value:
    [>= n + 1, 2D]; log_sum: [rows of queries, heads]. All are contiguous; rows beyond the batch's stay as they are.
    """
    last = batch.last.numpy()
    first = np.concatenate([np.zeros(1, np.int64), last[:-1] + 1])
    length = last - first + 1
    problem = _Problem(
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        first=first.ctypes.data,
        length=length.ctypes.data,
        padded=None if how.mask_pad_keys else batch.pads.data_ptr(),
        sequences=batch.size,
        dim=tensors["queries"].shape[1],
        heads=how.heads,
        longest=int(length[0]),
        last_only=how.last_only,
        threads=torch.get_num_threads(),
    )
    if draws is not None:
        problem.keep, problem.keep_row = draws.keep.ctypes.data, draws.row.ctypes.data
        problem.keep_padded = draws.padded.ctypes.data
        problem.least, problem.keep_scale = draws.least, draws.scale
    function = _function(load())
    function(problem, SCRATCH.at_least(function(problem, None)))


def usable(q: Tensor, heads: int) -> bool:
    """Whether `fused_attention` can take these queries: float32 on the processor, head width a multiple of a vector."""
    variant = variant_for(q)
    return variant is not None and q.shape[1] // heads % variant.width == 0


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, kv: Tensor, batch: PackedBatch, how: Attention) -> Tensor:
        q, kv = q.contiguous(), kv.contiguous()
        draws = draw(batch, how)
        out, log_sum = torch.empty_like(q), q.new_empty(q.shape[0], how.heads)
        if not how.last_only:
            out[batch.count :] = 0
        run(batch, how, draws, {"queries": q, "key_value": kv, "out": out, "log_sum": log_sum})
        ctx.save_for_backward(q, kv, log_sum)
        ctx.given = batch, how, draws
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, kv, log_sum = ctx.saved_tensors
        batch, how, draws = ctx.given
        grad_q, grad_kv = torch.empty_like(q), torch.empty_like(kv)
        if not how.last_only:
            grad_q[batch.count :] = 0
        grad_kv[batch.count + 1 :] = 0
        tensors = {"queries": q, "key_value": kv, "log_sum": log_sum, "grad_out": grad.contiguous()}
        run(batch, how, draws, tensors | {"grad_queries": grad_q, "grad_key_value": grad_kv})
        return grad_q, grad_kv, None, None


def fused_attention(q: Tensor, kv: Tensor, batch: PackedBatch, how: Attention) -> Tensor:
    """softmax(q k^T / sqrt(d)) v within each sequence, where `usable` holds; see `models.attention.packed_attention`.

    q: [m, D], or [B, D] with `last_only`; kv: [m+1, 2D], row 0 the padded key. Returns a tensor shaped like q, zero
    beyond the batch's tokens. Keeps q, kv and one number per query and head for the backward. Runs on
    `torch.get_num_threads()` threads; same threads, same bits.
    """
    assert kv.shape == (batch.items.shape[0] + 1, 2 * q.shape[1]) and q.shape[1] % how.heads == 0
    result: Tensor = _FusedAttention.apply(q, kv, batch, how)  # type: ignore[no-untyped-call]
    return result
