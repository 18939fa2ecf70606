"""Causal attention over a packed batch, exact about the reference's padded keys.

The reference layout pads on the left and does not mask the padded keys: they are zero vectors, so each has key = key
bias and value = value bias (spec 1.2). All m of them together act as one key with logit q.b_k/sqrt(d) + log(m), and
under dropout of the weights as one weight scaled by Binomial(m, 1-p) / (m (1-p)).
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.dropout import keep_mask, scale_of
from models.kernels import attention as kernel
from models.packed import Attention, Group, PackedBatch


def _rectangle(x: Tensor, group: Group) -> Tensor:
    """[G, L, D] of the packed rows [n, D]."""
    if group.rows is None:
        return x[group.start : group.stop].view(group.count, group.length, -1)
    return x.index_select(0, group.rows).view(group.count, group.length, -1)


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """[G, L, H*d] -> [G*H, L, d]"""
    if heads == 1:
        return x
    count, length, width = x.shape
    return x.view(count, length, heads, width // heads).transpose(1, 2).reshape(count * heads, length, width // heads)


def _join_heads(x: Tensor, heads: int) -> Tensor:
    """[G*H, L, d] -> [G, L, H*d]"""
    if heads == 1:
        return x
    rows, length, width = x.shape
    return x.view(rows // heads, heads, length, width).transpose(1, 2).reshape(rows // heads, length, heads * width)


_CAUSAL: dict[tuple[torch.device, torch.dtype], Tensor] = {}
"""The largest mask so far, of which all shorter ones are parts."""


def _causal(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[1, L, L+1] -inf where a key is later than the query; key 0 is the padded key, key t+1 token t."""
    mask = _CAUSAL.get((device, dtype))
    if mask is None or mask.shape[1] < length:
        mask = torch.full((1, length, length + 1), -math.inf, device=device, dtype=dtype).triu_(2)
        _CAUSAL[device, dtype] = mask
    return mask[:, :length, : length + 1]


def _logits(queries: Tensor, keys: Tensor, group: Group, pads: Tensor, how: Attention) -> Tensor:
    """[G*H, Q, L+1] scaled products, -inf where a query may not look, log(m) added on the padded key."""
    scale: float = queries.shape[-1] ** -0.5
    if how.last_only:
        logits = torch.bmm(queries, keys.transpose(1, 2)).mul_(scale)
        if group.filled is not None:
            filled = group.filled.repeat_interleave(logits.shape[0] // group.count, 0)
            logits.masked_fill_(filled[:, None, :], -math.inf)
    else:
        causal = _causal(group.length, queries.device, queries.dtype)
        logits = torch.baddbmm(causal, queries, keys.transpose(1, 2), alpha=scale)
    if how.mask_pad_keys:
        logits[:, :, 0] = -math.inf
    else:
        logits[:, :, 0] += pads.log().repeat_interleave(logits.shape[0] // group.count)[:, None]
    return logits


def _keep_weights(weights: Tensor, pads: Tensor, how: Attention) -> Tensor | None:
    """What the weights [G*H, Q, L+1] are multiplied by under dropout; the padded key stands for `pads` keys."""
    if not how.drops:
        return None
    assert how.generator is not None
    scale = keep_mask(weights.shape, how.p, how.generator).to(weights.dtype).mul_(scale_of(how.p))
    many = pads.repeat_interleave(how.heads)[:, None].expand(-1, weights.shape[1]).contiguous()
    kept = torch.binomial(many, torch.full_like(many, 1 - how.p), generator=how.generator)
    scale[:, :, 0] = kept / (many.clamp_min(1.0) * (1 - how.p))
    return scale


class _PackedAttention(torch.autograd.Function):
    """All groups of a batch in one node of the graph, so that nothing is recorded or copied in between."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, kv: Tensor, batch: PackedBatch, how: Attention) -> Tensor:
        width, heads, last_only = q.shape[1], how.heads, how.last_only
        out = torch.empty_like(q)
        if not last_only:
            out[batch.count :] = 0
        saved: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]] = []
        training = any(ctx.needs_input_grad[:2])
        for group in batch.groups:
            mine = slice(group.first, group.first + group.count)
            queries = _split_heads(q[mine, None] if last_only else _rectangle(q, group), heads)
            both = kv.index_select(0, group.keys).view(group.count, group.length + 1, 2 * width)
            keys, values = _split_heads(both[..., :width], heads), _split_heads(both[..., width:], heads)
            pads = batch.pads[mine]
            weights = _logits(queries, keys, group, pads, how).softmax(-1)
            kept = _keep_weights(weights, pads, how)
            mixed = _join_heads(torch.bmm(weights if kept is None else weights * kept, values), heads)
            _scatter(out, mixed, group, last_only=last_only)
            if training:
                saved.append((queries, keys, values, weights, kept))
        ctx.saved, ctx.batch, ctx.how, ctx.rows = saved, batch, how, kv.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved, batch, shape = ctx.saved, ctx.batch, ctx.rows
        heads, last_only = ctx.how.heads, ctx.how.last_only
        width = grad.shape[1]
        scale = (width // heads) ** -0.5
        grad_q = torch.empty_like(grad)
        if not last_only:
            grad_q[batch.count :] = 0
        grad_kv = grad.new_zeros(shape)
        for group, (queries, keys, values, weights, kept) in zip(batch.groups, saved, strict=True):
            mine = slice(group.first, group.first + group.count)
            out = _split_heads(grad[mine, None] if last_only else _filled_grad(grad, group), heads)
            dropped = weights if kept is None else weights * kept
            d_values = torch.bmm(dropped.transpose(1, 2), out)
            d_weights = torch.bmm(out, values.transpose(1, 2))
            if kept is not None:
                d_weights.mul_(kept)
            d_logits = d_weights.sub_((d_weights * weights).sum(-1, keepdim=True)).mul_(weights).mul_(scale)
            d_queries = _join_heads(torch.bmm(d_logits, keys), heads)
            d_keys = torch.bmm(d_logits.transpose(1, 2), queries)
            both = torch.cat([_join_heads(d_keys, heads), _join_heads(d_values, heads)], dim=-1)
            _add_keys(grad_kv, both, group)
            _scatter(grad_q, d_queries, group, last_only=last_only)
        return grad_q, grad_kv, None, None


def _filled_grad(grad: Tensor, group: Group) -> Tensor:
    """[G, L, D] of the packed rows, with zeros in the filling, so that filled queries pass no gradient on."""
    if group.cells is None:
        return _rectangle(grad, group)
    out = grad.new_zeros(group.count * group.length, grad.shape[1])
    out.index_copy_(0, group.cells, grad[group.start : group.stop])
    return out.view(group.count, group.length, -1)


def _scatter(out: Tensor, rectangle: Tensor, group: Group, *, last_only: bool) -> None:
    """Write [G, L, D] (or [G, 1, D]) back to the rows of `out`."""
    flat = rectangle.reshape(-1, out.shape[1])
    if last_only:
        out[group.first : group.first + group.count] = flat
    elif group.cells is None:
        out[group.start : group.stop] = flat
    else:
        torch.index_select(flat, 0, group.cells, out=out[group.start : group.stop])


IN_ORDER = ("cpu",)
"""Types of device that add up many rows into one as quickly as into many."""


def _add_keys(grad_kv: Tensor, both: Tensor, group: Group) -> None:
    """Add the gradients [G, L+1, 2D] of a group's keys and values; but for row 0, `grad_kv` has none of theirs yet.

    CUDA's repeatable index_add_ adds the thousands of the padded key one after the other: they are summed here. Of the
    other rows each has one cell, and no gradient comes from filling.
    """
    if grad_kv.device.type in IN_ORDER:
        grad_kv.index_add_(0, group.keys, both.view(-1, grad_kv.shape[1]))
        return
    grad_kv[0].add_(both[:, 0].sum(0))
    _scatter(grad_kv[1:], both[:, 1:], group, last_only=False)


def torch_attention(q: Tensor, kv: Tensor, batch: PackedBatch, how: Attention) -> Tensor:
    """`packed_attention` in torch alone, on any device."""
    result: Tensor = _PackedAttention.apply(q, kv, batch, how)  # type: ignore[no-untyped-call]
    return result


def packed_attention(q: Tensor, kv: Tensor, batch: PackedBatch, how: Attention) -> Tensor:
    """softmax(q k^T / sqrt(d)) v within each sequence, every query seeing its own and earlier tokens.

    q: [m, D] (or [B, D] with `last_only`, one query for the last token of each sequence);
    kv: [m+1, 2D] keys and values side by side, row 0 the padded key (key bias, value bias), row i+1 token i.
    Returns a tensor shaped like q, zero beyond the batch's tokens. By the native kernel where it can be used.
    """
    function = kernel.fused_attention if kernel.usable(q, how.heads) else torch_attention
    return function(q, kv, batch, how)
