"""How much each item of a sequence matters to the model, and the views that EC4SRec makes of it (spec 4.3)."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.augment import Ragged, rank_within, share_of
from models.packed import PackedBatch, on_device, pack
from models.sasrec import SASRec

CHUNK_TOKENS = 1 << 15
"""Tokens of sequences, or of their copies, explained at a time."""

Importance = Literal["saliency", "occlusion"]
Explain = Literal["label", "predicted"]

POSITIVE = ("ecrop+", "emask+", "erord+")
NEGATIVE = ("ecrop-", "emask-")
"""The paper's five operations; erord- exists in the released program only."""


def _score(model: SASRec, embedded: Tensor, batch: PackedBatch, labels: Tensor, explain: Explain) -> Tensor:
    """[B] the score that is explained, at the last position: the label's or the largest."""
    hidden = model.encode(embedded, batch, last_only=True)
    if explain == "label":
        return (hidden * model.table[labels]).sum(1)
    return (hidden @ model.table[: model.n_items].t()).amax(1)


def saliency(model: SASRec, batch: PackedBatch, labels: Tensor, explain: Explain = "label") -> Tensor:
    """[n] sum_d |dy / de_td| by the input embedding of each token, without dropout; labels: [B]."""
    with torch.enable_grad():
        leaf = model.embed(batch).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(_score(model, leaf, batch, labels, explain).sum(), leaf)
    return gradient[: batch.count].abs().sum(1)


def occlusion(model: SASRec, copies: PackedBatch, left_out: Tensor, labels: Tensor, explain: Explain) -> Tensor:
    """[B] y(e) - y(e with e_t := 0), without dropout, for copies of which row left_out [B] is the one zeroed."""
    with torch.no_grad():
        embedded = model.embed(copies)
        whole = _score(model, embedded, copies, labels, explain)
        return whole - _score(model, embedded.index_fill(0, left_out, 0.0), copies, labels, explain)


def importances(
    model: SASRec, x: Ragged, labels: NDArray[np.int32], *, kind: Importance, explain: Explain, device: torch.device
) -> NDArray[np.float32]:
    """[n] importance of every item of the sequences, aligned with x.items; absolute values sum to 1 per sequence.

    labels: [B] the item that each sequence leads to. Weights are left alone and no dropout is applied.
    """
    raw = np.zeros(len(x.items), np.float32)
    order = np.argsort(-x.lengths, kind="stable")
    cost = x.lengths[order] + (model.n_items // model.config.dim if explain == "predicted" else 0)
    if kind == "occlusion":
        cost = cost * x.lengths[order]
    cuts = np.flatnonzero(np.diff(np.cumsum(cost) // CHUNK_TOKENS)) + 1
    for chosen in np.split(order, cuts):
        lengths, starts = x.lengths[chosen], x.starts[chosen]
        (mine,) = on_device([labels[chosen].astype(np.int64)], device)
        if kind == "saliency":
            batch = pack(x.items, starts, lengths, max_len=model.config.max_len, device=device)
            value = saliency(model, batch, mine, explain)
        else:
            long, first = np.repeat(lengths, lengths), np.repeat(starts, lengths)
            copies = pack(x.items, first, long, max_len=model.config.max_len, device=device)
            place = x.take(chosen).place
            left_out, owner = on_device([np.cumsum(long) - long + place, x.take(chosen).owner], device)
            value = occlusion(model, copies, left_out, mine[owner], explain)
        raw[x.rows(chosen)] = value.cpu().numpy()
    totals = np.bincount(x.owner, weights=np.abs(raw), minlength=len(x.lengths))
    return (raw / np.maximum(totals, np.finfo(np.float32).tiny)[x.owner]).astype(np.float32)


def explained(
    x: Ragged,
    importance: NDArray[np.float32],
    operation: str,
    *,
    share: float,
    mask_item: int,
    rng: np.random.Generator,
) -> Ragged:
    """One of EC4SRec's views: + works on what matters least and keeps the rest, - the other way round.

    share: r+ or r-. ecrop keeps max(1, floor(share * l)) items in their order; emask hides, and erord shuffles among
    their own places, max(1, floor((1 - share) * l)) items. A sequence of one item comes back as it is.
    """
    rank = rank_within(importance, x.owner, x.lengths)
    alone = x.lengths == 1
    if operation.startswith("ecrop"):
        kept = np.repeat(np.maximum(1, share_of(x.lengths, share)), x.lengths)
        top = np.repeat(x.lengths, x.lengths) - kept
        return x.kept(rank >= top if operation == "ecrop+" else rank < kept)
    changed = np.where(alone, 0, np.maximum(1, share_of(x.lengths, 1 - share)))
    few, length = np.repeat(changed, x.lengths), np.repeat(x.lengths, x.lengths)
    where = rank < few if operation.endswith("+") else rank >= length - few
    return x.replaced(where, mask_item) if operation.startswith("emask") else x.shuffled(where, rng)
