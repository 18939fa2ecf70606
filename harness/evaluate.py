"""Full-catalogue evaluation: every evaluated user's target rank and best items (spec 6.2)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.errors import TrialError
from harness.values import TOP_K, Int32, Int64, Part, Split, UserRanks
from models.packed import on_device, pack, ranges
from models.sasrec import SASRec

SCORE_ELEMENTS = 1 << 23
"""Scores alive at a time on the processor: 32 MiB in float32, whatever the catalogue."""
MOST_USERS = 512
BUSY_SCORES, BUSY_USERS = 1 << 26, 4096
"""The same elsewhere, where few large products keep the device busy: 256 MiB."""
ALIGNED = 16
"""Scores of a user begin on a cache line: products of 12,101 items take 6.3 in place of 8.8 ms so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Some users at a time."""

    users: Int64
    """[n] which of the inputs, longest first."""
    hidden: Tensor
    """[n, D] states at the last position."""
    scores: Tensor
    """[n, N] of all items (or rows), -inf where the input has the item; valid until the next batch is asked for."""


def scored(
    model: SASRec, flat: Int32, starts: Int64, ends: Int64, *, device: torch.device, what: str, rows: int | None = None
) -> Iterator[Scored]:
    """Score all N items for the inputs flat[starts : ends], none of them empty, from the last T items of each.

    Or the first `rows` rows of the item table, some of which may be no items. `what` names the evaluation in messages.
    Raises TrialError on scores that are no numbers.
    """
    seen_lengths = ends - starts
    lengths = np.minimum(seen_lengths, model.config.max_len)
    order = np.argsort(-lengths, kind="stable")
    rows = model.n_items if rows is None else rows
    width = -(-rows // ALIGNED) * ALIGNED
    on_cpu = device.type == "cpu"
    most, alive = (MOST_USERS, SCORE_ELEMENTS) if on_cpu else (BUSY_USERS, BUSY_SCORES)
    step = max(1, min(most, alive // width, len(order)))
    with torch.inference_mode():
        items = torch.nn.functional.pad(model.table[:rows].t(), (0, width - rows)).contiguous()
        if not bool(items.isfinite().all()):
            raise TrialError(f"{what}: the item table holds NaN or infinite values; lower the learning rate")
        buffer = torch.empty(step, width, device=device)
        finite = torch.ones((), dtype=torch.bool, device=device)
    for start in range(0, len(order), step):
        users = order[start : start + step]
        batch = pack(flat, ends[users] - lengths[users], lengths[users], max_len=model.config.max_len, device=device)
        with torch.inference_mode():
            hidden = model(batch, last_only=True)
            finite = finite & hidden.isfinite().all()
            looks = on_cpu or start + step >= len(order)  # to look stops another device: once, at the end
            if looks and not bool(finite):
                raise TrialError(f"{what}: states hold NaN or infinite values; lower the learning rate")
            scores = torch.mm(hidden, items, out=buffer[: len(users)])
            seen = flat[ranges(starts[users], seen_lengths[users])].astype(np.int64)
            cells = np.repeat(np.arange(len(users)) * width, seen_lengths[users]) + seen
            scores.view(-1)[on_device([cells], device)[0]] = -torch.inf
        yield Scored(users=users, hidden=hidden, scores=scores[:, :rows])


def evaluate(model: SASRec, split: Split, part: Part, *, device: torch.device) -> UserRanks:
    """Score all N items for every evaluated user from the last T items of the input, and rank the target.

    Items of the whole input are masked; ties go to the smaller id. With `rank_non_items` what is no item takes a place
    in the ranking, and in the list is -1. Raises TrialError on scores that are no numbers.
    """
    ends = split.test_offsets[1:] - (1 if part == "test" else 2)
    targets = split.targets(part)
    k = min(TOP_K, split.n_items)
    rank = np.empty(split.n_test_users, np.int32)
    top = np.empty((split.n_test_users, k), np.int32)
    what = f"{part} evaluation"
    starts, rows = split.test_offsets[:-1], model.n_scored
    for some in scored(model, split.test_items, starts, ends, device=device, what=what, rows=rows):
        (wanted,) = on_device([targets[some.users].astype(np.int64)], device)
        rank[some.users] = target_ranks(some.scores, wanted).cpu().numpy()
        best = best_items(some.scores, k)
        top[some.users] = np.where(best < split.n_items, best, -1)
    return UserRanks(rank=rank, top=top)


def target_ranks(scores: Tensor, targets: Tensor) -> Tensor:
    """[V] 1-based rank of targets [V] among the scores [V, N], ties to the smaller id; 0 where it is masked."""
    own = scores.gather(1, targets[:, None])
    if scores.device.type == "cpu":
        return _target_ranks(scores, targets, own)
    above = (scores > own).sum(1)
    tied = scores == own
    tied_before = (tied & (torch.arange(scores.shape[1], device=scores.device) < targets[:, None])).sum(1)
    return torch.where(own[:, 0] == -torch.inf, 0, 1 + above + tied_before).to(torch.int32)


def _target_ranks(scores: Tensor, targets: Tensor, own: Tensor) -> Tensor:
    """The same row by row, each while it is in the cache: torch counts truths as 64-bit numbers that it makes first."""
    ranks = [
        0 if mine == -np.inf else 1 + np.count_nonzero(row[:place] >= mine) + np.count_nonzero(row[place:] > mine)
        for row, place, mine in zip(scores.numpy(), targets.tolist(), own[:, 0].numpy(), strict=True)
    ]
    return torch.tensor(ranks, dtype=torch.int32)


def best_items(scores: Tensor, k: int) -> Int32:
    """[V, k] ids of the highest scores, best first, ties to the smaller id; -1 where only masked items are left."""
    some = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    tied = some.values[:, k - 1 : k] == some.values[:, k : k + 1]  # across the cut; masked items are, too
    values, ids = some.values[:, :k], some.indices[:, :k]
    by_id = ids.argsort(1)
    values, ids = values.gather(1, by_id), ids.gather(1, by_id)
    by_value = values.argsort(dim=1, descending=True, stable=True)
    values, ids = values.gather(1, by_value), ids.gather(1, by_value)
    crossing = tied.any(1).nonzero()[:, 0]
    if len(crossing):  # a tie (or masked items) across the cut: only there must all items be sorted
        exact, where = scores[crossing].sort(dim=1, descending=True, stable=True)
        values[crossing], ids[crossing] = exact[:, :k], where[:, :k]
    return torch.where(values == -torch.inf, -1, ids).to(torch.int32).cpu().numpy()
