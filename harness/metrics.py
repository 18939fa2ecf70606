"""Metrics from stored ranks (spec 6.3, 6.4): arrays in, numbers out; numpy only.

Everything is computed from `UserRanks`, so a metric added later needs neither the data nor a new training run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.values import N_BUCKETS, TOP_K, Int32, Metric, Part, UserRanks

CUTOFFS: tuple[int, ...] = (1, 5, 10, 20, 50)
"""The K of every metric; at most `harness.values.TOP_K`, the length of the stored lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """The test users whose target is in one popularity bucket (or all of them) and what they were recommended."""

    rank: Int32
    """[V'] 1-based ranks of these users' targets; 0: masked."""
    top: Int32
    """[V', K] lists of these users; -1: no item."""
    everyone: Int32
    """[V, K] lists of all evaluated users."""
    item_bucket: NDArray[np.int8]
    """[N] popularity bucket of every item."""
    bucket: int
    """0: all; 1, 2, 3: the bucket."""


def _hits(rank: Int32, k: int) -> NDArray[np.bool_]:
    return (rank >= 1) & (rank <= k)


def user_hr(rank: Int32, k: int) -> NDArray[np.float64]:
    """[V] 1 where the target is among the first k, otherwise 0."""
    return _hits(rank, k).astype(np.float64)


def user_ndcg(rank: Int32, k: int) -> NDArray[np.float64]:
    """[V] 1 / log2(rank + 1) of a hit, 0 of a miss; the ideal list scores 1."""
    return np.where(_hits(rank, k), 1.0 / np.log2(np.maximum(rank, 1) + 1.0), 0.0)


def user_mrr(rank: Int32, k: int) -> NDArray[np.float64]:
    """[V] 1 / rank of a hit, 0 of a miss."""
    return np.where(_hits(rank, k), 1.0 / np.maximum(rank, 1), 0.0)


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def _recommended(top: Int32, k: int, n_items: int) -> NDArray[np.bool_]:
    """[N] whether an item is in the first k of any list [V, K]."""
    marked = np.zeros(n_items + 1, np.bool_)
    marked[top[:, :k]] = True  # -1 marks the extra last entry
    return marked[:-1]


def hr(population: Population, k: int) -> float | None:
    """Share of users whose target is among their first k."""
    return _mean(user_hr(population.rank, k))


def ndcg(population: Population, k: int) -> float | None:
    """Mean of 1 / log2(rank + 1) over users, 0 for a miss."""
    return _mean(user_ndcg(population.rank, k))


def mrr(population: Population, k: int) -> float | None:
    """Mean of 1 / rank over users, 0 for a miss."""
    return _mean(user_mrr(population.rank, k))


def cov(population: Population, k: int) -> float | None:
    """Distinct items recommended to these users within the first k, over **all** N items (the reference's bucket
    coverage, `cov@K|target_b`). Lists shorter than k (N < k, or few unseen items) count what is there."""
    if not len(population.rank):
        return None
    return float(_recommended(population.top, k, len(population.item_bucket)).mean())


def itemcov(population: Population, k: int) -> float | None:
    """Share of the bucket's items that are recommended to any user within the first k (`itemcov@K|b`).

    For bucket 0 all items are asked for, which is `cov`.
    """
    n_items = len(population.item_bucket)
    asked = np.ones(n_items, np.bool_) if population.bucket == 0 else population.item_bucket == population.bucket
    if not asked.any() or not len(population.everyone):
        return None
    return float(_recommended(population.everyone, k, n_items)[asked].mean())


METRICS: Mapping[str, Callable[[Population, int], float | None]] = {
    "hr": hr,
    "ndcg": ndcg,
    "mrr": mrr,
    "cov": cov,
    "itemcov": itemcov,
}
"""Every metric: a population and K in, a number out, None where there is nothing to average."""

USER_METRICS: Mapping[str, Callable[[Int32, int], NDArray[np.float64]]] = {
    "hr": user_hr,
    "ndcg": user_ndcg,
    "mrr": user_mrr,
}
"""Those metrics that are means over users, with the value of every user [V] (for standard errors)."""


def evaluate(ranks: UserRanks, *, targets: Int32, bucket: NDArray[np.int8], part: Part) -> tuple[Metric, ...]:
    """Every metric of METRICS at every K, for all users (bucket 0) and per popularity bucket 1, 2, 3.

    `targets` [V] are the evaluated targets, `bucket` [N] the popularity bucket of every item (spec 6.4). A bucket
    without targets (itemcov: without items) has value None. A K larger than the catalogue is allowed: lists hold
    what is there, so cov and itemcov then count every unseen item and hr counts every target that is not masked.
    """
    n_items = len(bucket)
    assert len(ranks.rank) == len(ranks.top) == len(targets)
    assert ranks.top.shape[1] >= min(TOP_K, n_items), "lists are too short for the largest K"
    of_target = bucket[targets]
    out: list[Metric] = []
    for b in range(N_BUCKETS + 1):
        users = np.ones(len(targets), np.bool_) if b == 0 else of_target == b
        population = Population(
            rank=ranks.rank[users], top=ranks.top[users], everyone=ranks.top, item_bucket=bucket, bucket=b
        )
        out += [
            Metric(part=part, name=name, k=k, bucket=b, value=function(population, k))
            for name, function in METRICS.items()
            for k in CUTOFFS
        ]
    return tuple(out)


def repeat_share(ranks: UserRanks) -> float | None:
    """Share of users whose target is already in their input: it is masked and can never be hit (spec 6.1)."""
    return _mean((ranks.rank == 0).astype(np.float64))
