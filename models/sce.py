"""Scalable cross-entropy: softmax over buckets of hard items found by random projections (spec 2.5)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.gradients import take
from models.kernels import buckets as kernel
from models.linear import alive_at_once

CHUNK_ELEMENTS = 1 << 22
"""Inner products or logits alive at a time on the processor; elsewhere `BUSY_ELEMENTS`."""


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
    noise = torch.randn(shape, generator=generator, device=hidden.device).mul_(dim**-0.25)
    return torch.mm(noise, hidden.detach()) if buckets.mix_x else noise


def _largest(centre: Tensor, rows: Tensor, k: int) -> Tensor:
    """[n_b, k] the rows [m, D] with the largest inner product with each centre."""
    step = max(1, alive_at_once(rows.device, CHUNK_ELEMENTS) // rows.shape[0])
    return torch.cat([(c @ rows.t()).topk(k, dim=1).indices for c in torch.split(centre, step)])


def _at_once(hidden: Tensor, positions: Tensor, items: Tensor) -> int:
    """How many buckets are worked on at a time."""
    alive = alive_at_once(hidden.device, CHUNK_ELEMENTS)
    return max(1, alive // (items.shape[1] * max(positions.shape[1], hidden.shape[1])))


def bucket_sums(hidden: Tensor, table: Tensor, positions: Tensor, items: Tensor) -> Tensor:
    """[n_b, b_x] log of the sum over a bucket's items [n_b, b_y] of exp(h . e), for its positions [n_b, b_x]."""
    if kernel.usable(hidden, table):
        return kernel.fused_bucket_sums(hidden, table, positions, items)
    step = _at_once(hidden, positions, items)
    parts = zip(torch.split(positions, step), torch.split(items, step), strict=True)
    return torch.cat([torch.logsumexp(torch.bmm(hidden[x], table[y].transpose(1, 2)), dim=-1) for x, y in parts])


def add_bucket_gradients(
    grad_hidden: Tensor,
    grad_table: Tensor,
    hidden: Tensor,
    table: Tensor,
    positions: Tensor,
    items: Tensor,
    chosen: Tensor,
    total: Tensor,
) -> None:
    """Add the gradients of `total` through the items of each bucket, at the positions [n_b, b_x] that are `chosen`.

    A position is chosen in one bucket at most; total: [n] log of the sum that its bucket's items are part of.
    """
    if kernel.usable(hidden, table):
        kernel.add_fused_gradients(grad_hidden, grad_table, hidden, table, positions, items, chosen, total)
        return
    step = _at_once(hidden, positions, items)
    parts = [torch.split(part, step) for part in (positions, items, chosen)]
    widths = torch.stack([mine.sum(1).max() for mine in parts[2]]).tolist()  # all at once: it stops the device
    for x, y, mine, width in zip(*parts, widths, strict=True):
        order = mine.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :width]
        x, mine = x.gather(1, order), mine.gather(1, order)
        h, e = hidden[x], table[y]
        weights = (torch.bmm(h, e.transpose(1, 2)) - total[x][:, :, None]).exp() * mine[:, :, None]
        grad_hidden.index_add_(0, x.reshape(-1), torch.bmm(weights, e).view(-1, h.shape[2]))
        grad_table.index_add_(0, y.reshape(-1), torch.bmm(weights.transpose(1, 2), h).view(-1, h.shape[2]))


def _present(items: Tensor, targets: Tensor, n_items: int) -> Tensor:
    """[n_b, b_x] whether each target [n_b, b_x] is among its bucket's items [n_b, b_y]."""
    step = max(1, alive_at_once(items.device, CHUNK_ELEMENTS) // n_items)
    parts = []
    for y, target in zip(torch.split(items, step), torch.split(targets, step), strict=True):
        member = torch.zeros(y.shape[0], n_items, dtype=torch.bool, device=items.device)
        parts.append(member.scatter_(1, y, True).gather(1, target))
    return torch.cat(parts)


def bucket_losses(
    hidden: Tensor, table: Tensor, targets: Tensor, positions: Tensor, items: Tensor
) -> tuple[Tensor, Tensor]:
    """[n_b, b_x] -log softmax of the target among the bucket's items and itself, counted once; whether it is there."""
    right = (hidden * table[targets]).sum(1)[positions]
    present = _present(items, targets[positions], table.shape[0])
    among = bucket_sums(hidden, table, positions, items)
    return torch.where(present, among, torch.logaddexp(among, right)) - right, present


class _Scalable(torch.autograd.Function):
    """First pass: the bucket in which each position's loss is largest. Second: gradients, in that bucket alone."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, positions: Tensor, items: Tensor
    ) -> tuple[Tensor, Tensor]:
        hidden, table = hidden.contiguous(), table.contiguous()  # and so are their gradients
        count, b_x = positions.shape
        every, present = bucket_losses(hidden, table, targets, positions, items)
        best = hidden.new_full((hidden.shape[0],), -math.inf)
        best.scatter_reduce_(0, positions.view(-1), every.view(-1), "amax")
        bucket = torch.arange(count, device=hidden.device)[:, None].expand(-1, b_x)
        wins = every == best[positions]
        first = torch.full_like(targets, count)
        first.scatter_reduce_(0, positions.view(-1), torch.where(wins, bucket, count).reshape(-1), "amin")
        chosen = first[positions] == bucket  # [n_b, b_x], one True for each selected position
        selected = first < count
        number = selected.sum()

        own = table[targets]
        right = (hidden * own).sum(1)
        total = torch.where(selected, best, 0.0) + right
        n = len(targets)
        place = torch.where(chosen, positions, n).reshape(-1)  # the others share the row that is left out
        counted = torch.zeros(n + 1, dtype=torch.bool, device=hidden.device).scatter_(0, place, present.view(-1))[:n]
        weight = torch.where(counted, 0.0, (right - total).exp()) - 1  # of the target beside the bucket's items
        weight = torch.where(selected, weight, 0.0)[:, None]
        grad_hidden = weight * own
        grad_table = torch.zeros_like(table).index_add_(0, targets, weight * hidden)
        add_bucket_gradients(grad_hidden, grad_table, hidden, table, positions, items, chosen, total)
        ctx.grads = grad_hidden.div_(number), grad_table.div_(number)
        ctx.mark_non_differentiable(selected)
        if hidden.device.type == "cpu":
            return best[selected].sum() / number, selected
        return torch.where(selected, best, 0.0).sum() / number, selected  # a selection would stop the device

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _selected: Tensor) -> tuple[Tensor | None, ...]:
        return *take(ctx, grad), None, None, None


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
