"""Losses over a positive and k drawn negatives: BCE, gBCE and the sampled softmax CE- (spec 2.1, 2.2, 2.4).

Every loss is a function of positive scores [c] and negative scores [c, k] alone. Scores are made block by block and
their gradients at once, so that no [n, k, D] tensor of negative embeddings ever exists.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.gradients import take
from models.linear import alive_at_once, product_nt, round_up
from models.negatives import DRAW_ELEMENTS, Negatives
from models.packed import on_device, ranges

CHUNK_ELEMENTS = 1 << 20
"""Scores, or numbers of gathered embeddings, alive at a time on the processor; elsewhere `BUSY_ELEMENTS`."""
DENSE_FACTOR = 24
"""Up to this many items per negative it is cheaper to score the whole catalogue than to gather k embeddings."""

RowLoss = Callable[[Tensor, Tensor], Tensor]
"""Positive scores [c] and negative scores [c, k] to losses [c]."""


def bce_rows(positive: Tensor, negative: Tensor) -> Tensor:
    """[softplus(-p) + sum_j softplus(n_j)] / (1 + k), as the released program has it: [c]."""
    return gbce_rows(positive, negative, beta=1.0)


def gbce_rows(positive: Tensor, negative: Tensor, *, beta: float) -> Tensor:
    """[beta softplus(-p) + sum_j softplus(n_j)] / (1 + k), gBCE in its exact and stable closed form: [c]."""
    total = beta * F.softplus(-positive) + F.softplus(negative).sum(1)
    return total / (1 + negative.shape[1])


def bce_halves_rows(positive: Tensor, negative: Tensor, *, beta: float = 1.0) -> Tensor:
    """beta softplus(-p) + mean_j softplus(n_j), the reduction of the original SASRec program: [c]."""
    return beta * F.softplus(-positive) + F.softplus(negative).mean(1)


def gbce_beta(k: int, n_items: int, t: float) -> float:
    """Exponent of the positive's probability: 1 - t (1 - a) with the sampling rate a = k / (N-1)."""
    return 1 - t * (1 - k / (n_items - 1))


def binary_weights(k: int, reduction: Literal["joint", "halves"], beta: float) -> tuple[float, float]:
    """Weights of softplus(-p) and of every softplus(n_j) in a row's loss: `gbce_rows` (joint) or `bce_halves_rows`."""
    return (beta / (1 + k), 1 / (1 + k)) if reduction == "joint" else (beta, 1 / k)


def ce_sampled_rows(positive: Tensor, negative: Tensor) -> Tensor:
    """-log softmax([p, n_1..n_k])[0]: [c]."""
    return torch.logsumexp(torch.cat([positive[:, None], negative], dim=1), dim=1) - positive


def _gradients(rows: RowLoss, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of the losses, and its gradients by both scores."""
    with torch.enable_grad():
        p, n = positive.detach().requires_grad_(), negative.detach().requires_grad_()
        total = rows(p, n).sum()
        by_p, by_n = torch.autograd.grad(total, (p, n))
    return total.detach(), by_p, by_n


class _PerRow(torch.autograd.Function):
    """Mean loss with a list of negatives for every row."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, n_items: int, negatives: Negatives, rows: RowLoss
    ) -> Tensor:
        n = hidden.shape[0]
        grad_hidden, grad_table = torch.zeros_like(hidden), torch.zeros_like(table)
        total = hidden.new_zeros(())
        start = 0
        while start < n:
            drawn = negatives(start, n)
            step = _step(drawn.shape[1], n_items, hidden)
            for first in range(0, drawn.shape[0], step):
                some = drawn[first : first + step]
                mine = slice(start + first, start + first + some.shape[0])
                total += _block(hidden, table, targets, n_items, some, rows, mine, grad_hidden, grad_table)
            start += drawn.shape[0]
        ctx.grads = grad_hidden.div_(n), grad_table.div_(n)
        return total / n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *take(ctx, grad), None, None, None, None


def _dense(k: int, n_items: int) -> bool:
    return n_items <= DENSE_FACTOR * k


def _step(k: int, n_items: int, hidden: Tensor) -> int:
    """Rows of a block."""
    alive = alive_at_once(hidden.device, CHUNK_ELEMENTS)
    return max(1, alive // (n_items if _dense(k, n_items) else k * hidden.shape[1]))


def _block(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    n_items: int,
    negatives: Tensor,
    rows: RowLoss,
    mine: slice,
    grad_hidden: Tensor,
    grad_table: Tensor,
) -> Tensor:
    """Sum of the losses of the rows `mine`; adds their gradients to both tensors."""
    h, y = hidden[mine], targets[mine]
    c, k = negatives.shape
    if _dense(k, n_items):
        items = table[:n_items]
        padded = F.pad(h, (0, 0, 0, round_up(c) - c))
        scores = product_nt(padded, items)
        loss, by_p, by_n = _gradients(rows, scores[:c].gather(1, y[:, None])[:, 0], scores[:c].gather(1, negatives))
        weights = scores.zero_()
        weights[:c].scatter_add_(1, negatives, by_n).scatter_add_(1, y[:, None], by_p[:, None])
        grad_hidden[mine] = product_nt(weights, items.t())[:c]
        grad_table[:n_items] += product_nt(weights.t(), padded.t())
        return loss
    positive, others = table[y], table[negatives.reshape(-1)].view(c, k, -1)
    loss, by_p, by_n = _gradients(rows, (h * positive).sum(1), torch.bmm(others, h[:, :, None])[:, :, 0])
    grad_hidden[mine] = by_p[:, None] * positive + torch.bmm(by_n[:, None, :], others)[:, 0]
    grad_table.index_add_(0, y, by_p[:, None] * h)
    grad_table.index_add_(0, negatives.reshape(-1), (by_n[:, :, None] * h[:, None, :]).view(c * k, -1))
    return loss


def per_row(
    hidden: Tensor, table: Tensor, targets: Tensor, n_items: int, negatives: Negatives, rows: RowLoss
) -> Tensor:
    """Mean over the rows [n] of `rows(positive score, scores of the row's own negatives)`.

    hidden: [n, D]; table: [R, D]; targets: [n]; `negatives` may hand out fewer rows than asked for, at least one.
    """
    loss: Tensor = _PerRow.apply(hidden, table, targets, n_items, negatives, rows)  # type: ignore[no-untyped-call]
    return loss


class _PerSequence(torch.autograd.Function):
    """Mean loss with one list of negatives for all rows of a sequence."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        table: Tensor,
        targets: Tensor,
        lengths: NDArray[np.int64],
        negatives: Negatives,
        rows: RowLoss,
    ) -> Tensor:
        n, dim = hidden.shape
        grad_hidden, grad_table = torch.zeros_like(hidden), torch.zeros_like(table)
        total = hidden.new_zeros(())
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        alive = alive_at_once(hidden.device, CHUNK_ELEMENTS)
        sequence = 0
        while sequence < len(lengths):
            drawn = negatives(sequence, len(lengths))
            k = drawn.shape[1]
            first = 0
            while first < drawn.shape[0]:
                longest = int(lengths[sequence + first])
                count = min(drawn.shape[0] - first, max(1, alive // (k * max(dim, longest))))
                some = drawn[first : first + count]
                block = lengths[sequence + first : sequence + first + count]
                mine = slice(int(offsets[sequence + first]), int(offsets[sequence + first + count]))
                (real,) = on_device([ranges(np.arange(count) * longest, block)], hidden.device)
                square = hidden.new_zeros(count, longest, dim)
                square.view(-1, dim).index_copy_(0, real, hidden[mine])
                others = table[some.reshape(-1)].view(count, k, dim)
                positive = table[targets[mine]]
                scores = torch.bmm(square, others.transpose(1, 2))
                own = scores.view(-1, k).index_select(0, real)
                loss, by_p, by_n = _gradients(rows, (hidden[mine] * positive).sum(1), own)
                total += loss
                weights = scores.zero_()
                weights.view(-1, k).index_copy_(0, real, by_n)
                mixed = torch.bmm(weights, others).view(-1, dim).index_select(0, real)
                grad_hidden[mine] = by_p[:, None] * positive + mixed
                grad_table.index_add_(0, targets[mine], by_p[:, None] * hidden[mine])
                by_other = torch.bmm(weights.transpose(1, 2), square)
                grad_table.index_add_(0, some.reshape(-1), by_other.view(count * k, dim))
                first += count
            sequence += drawn.shape[0]
        ctx.grads = grad_hidden.div_(n), grad_table.div_(n)
        return total / n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *take(ctx, grad), None, None, None, None


def per_sequence(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    lengths: NDArray[np.int64],
    negatives: Negatives,
    rows: RowLoss,
) -> Tensor:
    """The same with one list of negatives for all rows of a sequence; lengths: [B], longest first, their sum is n."""
    loss: Tensor = _PerSequence.apply(hidden, table, targets, lengths, negatives, rows)  # type: ignore[no-untyped-call]
    return loss


def rows_at_once(k: int) -> int:
    """How many rows of k negatives are worth drawing at a time."""
    return max(1, DRAW_ELEMENTS // k)
