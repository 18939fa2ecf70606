"""Prediction losses: hidden states, targets and the item table in, one scalar out (spec section 2).

Every reduction is the mean over the rows given; rows are real targets only, never padding.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.config import LossConfig
from models.linear import product_nt, round_up

CHUNK_ELEMENTS = 1 << 20
"""Logits alive at a time: 4 MiB in float32, which stays in a processor's cache."""


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Cross-entropy whose gradients are made in the forward, chunk by chunk: all logits never exist at once."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, n_items: int) -> Tensor:
        rows = hidden.shape[0]
        items = table[:n_items]
        step = max(1, min(rows, CHUNK_ELEMENTS // n_items))
        grad_hidden = torch.empty_like(hidden)
        grad_items = hidden.new_zeros(hidden.shape[1], n_items)
        total = hidden.new_zeros(())
        for start in range(0, rows, step):
            y = targets[start : start + step, None]
            n = y.shape[0]
            h = F.pad(hidden[start : start + step], (0, 0, 0, round_up(n) - n))
            logits = product_nt(h, items)
            right, top = logits[:n].gather(1, y), logits[:n].amax(1, keepdim=True)
            weights = logits.softmax(1)
            total += (top - weights[:n].amax(1, keepdim=True).log() - right).sum()  # log-sum-exp by the largest weight
            weights[:n].scatter_add_(1, y, torch.full_like(right, -1.0))
            grad_hidden[start : start + step] = product_nt(weights, items.t())[:n]
            grad_items += product_nt(h.t(), weights.t())
        grad_table = torch.zeros_like(table)
        torch.div(grad_items.t(), rows, out=grad_table[:n_items])
        ctx.grads = grad_hidden.div_(rows), grad_table
        return total / rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_table = ctx.grads
        return grad_hidden.mul_(grad), grad_table.mul_(grad), None, None


def cross_entropy(hidden: Tensor, table: Tensor, targets: Tensor, n_items: int) -> Tensor:
    """Full softmax: mean of -log softmax(h E^T)[target] over the items 0..n_items-1 (spec 2.3).

    hidden: [n, D]; table: [R, D] with R >= n_items, rows beyond n_items are in no denominator; targets: [n] int64.
    """
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden, table, targets, n_items)  # type: ignore[no-untyped-call]
    return loss


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, int], Tensor]] = {"ce": cross_entropy}


def prediction_loss(config: LossConfig, hidden: Tensor, table: Tensor, targets: Tensor, n_items: int) -> Tensor:
    """The loss that `config` names."""
    return LOSSES[config.kind](hidden, table, targets, n_items)
