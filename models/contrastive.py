"""The contrastive losses of CL4SRec, DuoRec and EC4SRec (spec section 4), on states of two or three views."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Similarity = Literal["dot", "cosine"]


def _products(rows: Tensor, tau: float, similarity: Similarity) -> Tensor:
    """[m, m] similarities of rows [m, D] over tau, in float32, -inf on the diagonal."""
    if similarity == "cosine":
        rows = F.normalize(rows, dim=1)
    return (rows @ rows.t() / tau).fill_diagonal_(-torch.inf)


def info_nce_rows(a: Tensor, b: Tensor, *, tau: float = 1.0, similarity: Similarity = "dot") -> Tensor:
    """[2B] cross-entropies of the stacked views [B, D]: positive is the counterpart, negatives the other 2B-2 rows."""
    with torch.autocast(a.device.type, enabled=False):
        logits = _products(torch.cat([a, b]).float(), tau, similarity)
        count = a.shape[0]
        counterpart = torch.arange(2 * count, device=a.device).roll(count)
        return F.cross_entropy(logits, counterpart, reduction="none")


def info_nce(a: Tensor, b: Tensor, *, tau: float = 1.0, similarity: Similarity = "dot") -> Tensor:
    """Mean of `info_nce_rows`."""
    return info_nce_rows(a, b, tau=tau, similarity=similarity).mean()


def negative_contrast_rows(a: Tensor, b: Tensor, negative: Tensor, *, tau: float = 0.1) -> Tensor:
    """[B] L_cl- of EC4SRec: each negative view n_i is drawn to the other negative views and away from all else.

    -(1/(B-1)) sum_{j != i} log(exp(n_i.n_j/tau) / sum_{r != i} exp(n_i.r/tau)), r over the 3B stacked rows; B >= 2.
    As in the released program, states are not normalised: with those of a layer norm it is of the order of 100.
    """
    with torch.autocast(a.device.type, enabled=False):
        count = negative.shape[0]
        logits = _products(torch.cat([negative, a, b]).float(), tau, "dot")[:count]
        logs = logits - torch.logsumexp(logits, dim=1, keepdim=True)
        others = logs[:, :count].masked_fill(torch.eye(count, dtype=torch.bool, device=a.device), 0.0)
        return -others.sum(1) / (count - 1)


def negative_contrast(a: Tensor, b: Tensor, negative: Tensor, *, tau: float = 0.1) -> Tensor:
    """Mean of `negative_contrast_rows`."""
    return negative_contrast_rows(a, b, negative, tau=tau).mean()
