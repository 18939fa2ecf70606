"""The Barlow Twins term over two views of the same target (spec section 3.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_STD = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class BarlowTwins:
    """The term and its parts, already divided as `reduction` says."""

    total: Tensor
    """on_diagonal + lam * off_diagonal, with gradient."""
    on_diagonal: Tensor
    """sum_i (1 - C_ii)^2, detached."""
    off_diagonal: Tensor
    """sum_{i != j} C_ij^2, detached."""
    clamped_dims: Tensor
    """How many dimensions of either view had (almost) no variance, detached."""


def correlation(a: Tensor, b: Tensor, std: Literal["population", "unbiased"] = "population") -> tuple[Tensor, Tensor]:
    """Cross-correlation [D, D] over the rows of two views [B, D], and the number of clamped dimensions.

    `population`: Pearson correlation. `unbiased`: the released program's (B-1)/B times that. Rows are used as given.
    """
    rows = a.shape[0]
    correction = 0 if std == "population" else 1
    scaled = []
    clamped = a.new_zeros(())
    for view in (a, b):
        centred = view - view.mean(0)
        variance = centred.square().sum(0) / (rows - correction)
        clamped = clamped + (variance < LEAST_STD**2).sum()
        scaled.append(centred / variance.clamp_min(LEAST_STD**2).sqrt())
    return scaled[0].t() @ scaled[1] / rows, clamped


def barlow_twins(
    a: Tensor,
    b: Tensor,
    lam: float,
    *,
    reduction: Literal["mean_d", "sum"] = "mean_d",
    std: Literal["population", "unbiased"] = "population",
    projector: Callable[[Tensor], Tensor] | None = None,
) -> BarlowTwins:
    """L_BT = [sum_i (1-C_ii)^2 + lam * sum_{i!=j} C_ij^2] / D of the l2-normalised rows of two views [B, D].

    Equation (7) of the paper; `reduction="sum"` leaves out the division by D. A projector [B, D] -> [B, P] is applied
    to the normalised rows, and D is then P. Computed in float32 whatever the autocast state. B must be at least 2.
    """
    assert a.shape == b.shape and a.shape[0] >= 2
    with torch.autocast(a.device.type, enabled=False):
        views = [F.normalize(view.float(), dim=1) for view in (a, b)]
        if projector is not None:
            views = [projector(view) for view in views]
        matrix, clamped = correlation(views[0], views[1], std)
        diagonal = matrix.diagonal()
        divisor = matrix.shape[0] if reduction == "mean_d" else 1
        on = (1 - diagonal).square().sum() / divisor
        off = (matrix.square().sum() - diagonal.square().sum()) / divisor
        return BarlowTwins(
            total=on + lam * off, on_diagonal=on.detach(), off_diagonal=off.detach(), clamped_dims=clamped.detach()
        )
