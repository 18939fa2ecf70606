"""Scalable cross-entropy: softmax over buckets of hard items found by random projections (spec 2.5)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ELEMENTS = 1 << 22
"""Inner products or logits alive at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """Sizes of the buckets; b_x and b_y are clamped to what there is."""

    count: int
    """n_b"""
    b_x: int
    """Positions per bucket."""
    b_y: int
    """Items per bucket."""
    mix_x: bool
    """Whether centres are random mixtures of the outputs."""


def bucket_count(batch_size: int, mean_length: float, max_len: int) -> int:
    """n_b = b_x = floor(2 sqrt(B * avg_len)), avg_len the mean interactions per training user, at most T."""
    return max(1, int(2 * math.sqrt(batch_size * min(mean_length, max_len))))


def centres(hidden: Tensor, buckets: Buckets, generator: torch.Generator) -> Tensor:
    """Bucket centres [n_b, D], normal with standard deviation D^(-1/4); with `mix_x` mixtures of hidden [n, D]."""
    n, dim = hidden.shape
    shape = (buckets.count, n if buckets.mix_x else dim)
    noise = torch.randn(shape, generator=generator, device=hidden.device) * dim**-0.25
    return torch.mm(noise, hidden.detach()) if buckets.mix_x else noise


def _largest(centre: Tensor, rows: Tensor, k: int) -> Tensor:
    """[n_b, k] the rows [m, D] with the largest inner product with each centre."""
    step = max(1, CHUNK_ELEMENTS // rows.shape[0])
    return torch.cat([(c @ rows.t()).topk(k, dim=1).indices for c in torch.split(centre, step)])


def _contains(items: Tensor, targets: Tensor, n_items: int) -> Tensor:
    """[b, m] whether each target [b, m] is among its bucket's items [b, b_y]."""
    member = torch.zeros(items.shape[0], n_items, dtype=torch.bool, device=items.device)
    return member.scatter_(1, items, True).gather(1, targets)


def _losses(h: Tensor, own: Tensor, others: Tensor, present: Tensor) -> Tensor:
    """[b, m] -log softmax of the own target among the bucket's items and itself, counted once.

    h, own: [b, m, D] states and target embeddings; others: [b, b_y, D]; present: [b, m] whether the target is there.
    """
    among = torch.logsumexp(torch.bmm(h, others.transpose(1, 2)), dim=-1)
    right = (h * own).sum(-1)
    return torch.where(present, among, torch.logaddexp(among, right)) - right


class _Scalable(torch.autograd.Function):
    """First pass: the bucket in which each position's loss is largest. Second: gradients, in that bucket alone."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, positions: Tensor, items: Tensor
    ) -> tuple[Tensor, Tensor]:
        n, dim = hidden.shape
        count, b_x = positions.shape
        step = max(1, CHUNK_ELEMENTS // max(items.shape[1] * max(b_x, dim), table.shape[0]))
        every = torch.cat([
            _losses(hidden[x], table[targets[x]], table[y], _contains(y, targets[x], table.shape[0]))
            for x, y in zip(torch.split(positions, step), torch.split(items, step), strict=True)
        ])
        best = hidden.new_full((n,), -math.inf).scatter_reduce_(0, positions.view(-1), every.view(-1), "amax")
        bucket = torch.arange(count, device=hidden.device)[:, None].expand(-1, b_x)
        wins = every == best[positions]
        first = torch.full((n,), count, device=hidden.device)
        first.scatter_reduce_(0, positions.view(-1), torch.where(wins, bucket, count).reshape(-1), "amin")
        chosen = first[positions] == bucket  # [n_b, b_x], one True for each selected position
        selected = first < count
        total = best[selected].sum()
        number = int(selected.sum())
        grad_hidden, grad_table = torch.zeros_like(hidden), torch.zeros_like(table)
        for x, y, mine in zip(
            torch.split(positions, step), torch.split(items, step), torch.split(chosen, step), strict=True
        ):
            width = int(mine.sum(1).max())
            if width == 0:
                continue
            order = mine.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :width]
            _add_gradients(
                hidden, table, targets, x.gather(1, order), y, mine.gather(1, order), grad_hidden, grad_table
            )
        ctx.grads = grad_hidden.div_(number), grad_table.div_(number)
        ctx.mark_non_differentiable(selected)
        return total / number, selected

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _selected: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_table = ctx.grads
        return grad_hidden.mul_(grad), grad_table.mul_(grad), None, None, None


def _add_gradients(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    x: Tensor,
    y: Tensor,
    mine: Tensor,
    grad_hidden: Tensor,
    grad_table: Tensor,
) -> None:
    """Add the gradients of the losses of positions x [b, m] in buckets of items y [b, b_y], where `mine` [b, m]."""
    dim = hidden.shape[1]
    target = targets[x]
    present = _contains(y, target, table.shape[0])
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in (hidden[x], table[target], table[y])]
        losses = _losses(leaves[0], leaves[1], leaves[2], present)
        by_h, by_own, by_other = torch.autograd.grad((losses * mine).sum(), leaves)
    grad_hidden.index_add_(0, x.reshape(-1), by_h.view(-1, dim))
    grad_table.index_add_(0, target.reshape(-1), by_own.view(-1, dim))
    grad_table.index_add_(0, y.reshape(-1), by_other.reshape(-1, dim))


def sce(
    hidden: Tensor, table: Tensor, targets: Tensor, n_items: int, buckets: Buckets, centre: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean over the positions that a bucket selects of their largest bucket loss, and which were selected [n].

    hidden: [n, D], real targets only; centre: [n_b, D]. Gradients reach selected positions alone.
    """
    with torch.no_grad():
        positions = _largest(centre, hidden, min(buckets.b_x, hidden.shape[0]))
        items = _largest(centre, table[:n_items], min(buckets.b_y, n_items))
    result: tuple[Tensor, Tensor] = _Scalable.apply(hidden, table, targets, positions, items)  # type: ignore[no-untyped-call]
    return result
