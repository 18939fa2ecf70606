"""Prediction losses: hidden states, targets and the item table in, one scalar out (spec section 2).

Every reduction is the mean over the rows given; rows are real targets only, never padding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.config import LossConfig, Precision
from models.gradients import take
from models.kernels import binary_cross_entropy as binary_kernel
from models.kernels import cross_entropy as kernel
from models.kernels import liger
from models.linear import add_product_tn, alive_at_once, product_nt, round_up
from models.negatives import Negatives
from models.sampled import (
    bce_halves_rows,
    binary_weights,
    ce_sampled_rows,
    gbce_beta,
    gbce_rows,
    per_row,
    per_sequence,
)
from models.sce import Buckets, centres, sce

CHUNK_ELEMENTS = 1 << 20
"""Logits alive at a time: 4 MiB in float32, which stays in a processor's cache."""
LEAST_ROWS = 64
"""Rows of a chunk, however large the catalogue: every chunk reads and writes the gradients of the whole table."""
RECYCLED_ELEMENTS = 1 << 23
"""Tensors up to 32 MiB get memory that was used before; glibc fetches larger ones from the system, page by page."""


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Cross-entropy whose gradients are made in the forward, chunk by chunk: all logits never exist at once."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, n_items: int, precision: Precision) -> Tensor:
        rows = hidden.shape[0]
        items = table[:n_items]
        on_cpu = hidden.device.type == "cpu"
        step = min(rows, max(LEAST_ROWS, alive_at_once(hidden.device, CHUNK_ELEMENTS) // n_items))
        buffer = None
        if on_cpu and step * n_items > RECYCLED_ELEMENTS:
            buffer = hidden.new_empty(round_up(step), n_items)
        grad_hidden, grad_table = torch.empty_like(hidden), torch.zeros_like(table)
        total = hidden.new_zeros(())
        for start in range(0, rows, step):
            y = targets[start : start + step, None]
            n = y.shape[0]
            h = F.pad(hidden[start : start + step], (0, 0, 0, round_up(n) - n))
            out = None if buffer is None else buffer[: h.shape[0]]
            logits = product_nt(h, items, precision=precision, out=out)
            right, top = logits[:n].gather(1, y), logits[:n].amax(1, keepdim=True)
            weights = torch.softmax(logits, 1, out=logits if on_cpu else None)
            total += (top - weights[:n].amax(1, keepdim=True).log() - right).sum()  # log-sum-exp by the largest weight
            weights[:n].scatter_add_(1, y, torch.full_like(right, -1.0))
            grad_hidden[start : start + step] = product_nt(weights, items.t(), precision=precision)[:n]
            add_product_tn(grad_table[:n_items], weights, h, alpha=1 / rows, precision=precision)
        ctx.grads = grad_hidden.div_(rows), grad_table
        return total / rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *take(ctx, grad), None, None, None


def chunked_cross_entropy(
    hidden: Tensor, table: Tensor, targets: Tensor, n_items: int, *, precision: Precision = "fp32"
) -> Tensor:
    """`cross_entropy` in torch alone, on any device.

    Memory beside the gradients: the logits of a chunk, at most `CHUNK_ELEMENTS` numbers (off the processor twice
    `BUSY_ELEMENTS`), or `LEAST_ROWS` rows of them where those are more: as much as 64 columns of the table.
    """
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden, table, targets, n_items, precision)  # type: ignore[no-untyped-call]
    return loss


def cross_entropy(
    hidden: Tensor, table: Tensor, targets: Tensor, n_items: int, *, precision: Precision = "fp32"
) -> Tensor:
    """Full softmax: mean of -log softmax(h E^T)[target] over the items 0..n_items-1 (spec 2.3).

    hidden: [n, D]; table: [R, D] with R >= n_items, rows beyond n_items are in no denominator; targets: [n] int64.
    By the native kernel or by Liger's where it can be used.
    """
    function = chunked_cross_entropy
    if kernel.usable(hidden, table, precision):
        function = kernel.fused_cross_entropy
    elif liger.usable(hidden, table, precision):
        function = liger.liger_cross_entropy
    return function(hidden, table, targets, n_items, precision=precision)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossInput:
    """What a prediction loss sees of one step; the last three fields only where the loss uses them."""

    hidden: Tensor
    """[n, D] states, real targets only."""
    table: Tensor
    """[R, D] item embeddings, rows beyond `n_items` are no items."""
    targets: Tensor
    """[n] int64"""
    n_items: int
    n_scored: int
    """Rows of the table that the full softmax counts: the items, and with `rank_non_items` two more."""
    lengths: NDArray[np.int64]
    """[B] rows of each sequence; sequences lie end to end, longest first."""
    negatives: Negatives | None = None
    """Drawn items: of rows (bce, gbce) or of sequences (ce_sampled)."""
    buckets: Buckets | None = None
    """SCE's sizes."""
    generator: torch.Generator | None = None
    """For SCE's centres."""
    precision: Precision = "fp32"


Loss = tuple[Tensor, dict[str, Tensor | float]]
"""A mean with gradient, and diagnostics (detached)."""


def ce(config: LossConfig, given: LossInput) -> Loss:
    """Full softmax (spec 2.3)."""
    return cross_entropy(given.hidden, given.table, given.targets, given.n_scored, precision=given.precision), {}


def _binary(config: LossConfig, given: LossInput, beta: float) -> Tensor:
    """BCE over k negatives per position, its positive term times beta."""
    assert given.negatives is not None and config.negatives is not None
    tensors = given.hidden, given.table, given.targets, given.n_items, given.negatives
    if binary_kernel.usable(given.hidden, given.table):
        on_positive, on_negative = binary_weights(config.negatives, config.bce_reduction, beta)
        return binary_kernel.fused_binary_cross_entropy(*tensors, on_positive=on_positive, on_negative=on_negative)
    return per_row(*tensors, partial(gbce_rows if config.bce_reduction == "joint" else bce_halves_rows, beta=beta))


def bce(config: LossConfig, given: LossInput) -> Loss:
    """Binary cross-entropy with k unseen items per position (spec 2.1)."""
    return _binary(config, given, 1.0), {}


def gbce(config: LossConfig, given: LossInput) -> Loss:
    """Generalised binary cross-entropy with k items per position drawn from all (spec 2.2)."""
    assert config.negatives is not None and config.gbce_t is not None
    return _binary(config, given, gbce_beta(config.negatives, given.n_items, config.gbce_t)), {}


def ce_sampled(config: LossConfig, given: LossInput) -> Loss:
    """Softmax over the target and k unseen items, the same for all positions of a user (CE-, spec 2.4)."""
    assert given.negatives is not None
    tensors = given.hidden, given.table, given.targets
    return per_sequence(*tensors, given.lengths, given.negatives, ce_sampled_rows), {}


def scalable_ce(config: LossConfig, given: LossInput) -> Loss:
    """Softmax in buckets of hard items (SCE, spec 2.5); logs the buckets and the share of positions in any."""
    assert given.buckets is not None and given.generator is not None
    centre = centres(given.hidden, given.buckets, given.generator)
    rows = given.n_items + (given.n_scored > given.n_items)  # the reference leaves its padding out, not its unused row
    loss, selected = sce(given.hidden, given.table, given.targets, rows, given.buckets, centre)
    return loss, {"sce_selected": selected.float().mean(), "sce_buckets": float(given.buckets.count)}


LOSSES: dict[str, Callable[[LossConfig, LossInput], Loss]] = {
    "ce": ce,
    "bce": bce,
    "gbce": gbce,
    "ce_sampled": ce_sampled,
    "sce": scalable_ce,
}


def prediction_loss(config: LossConfig, given: LossInput) -> Loss:
    """The loss that `config` names."""
    return LOSSES[config.kind](config, given)
