"""Metrics run by run and user by user, from stored ranks: any metric at any K that the stored lists allow."""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from harness.errors import ConfigError, unknown_name
from harness.metrics import METRICS, USER_METRICS, Population
from harness.store import DataRow, Part, Store
from harness.values import TOP_K, UserRanks
from reports.results import Group
from reports.stats import Measured

Metric = tuple[str, int]
"""Name and K."""

RUNS_KEPT = 64
"""Runs whose ranks stay in memory."""


def metric_of(words: str) -> Metric:
    """(name, K) of words such as ndcg@10. Raises ConfigError for an unknown metric, or a K that is not stored."""
    found = re.fullmatch(r"([a-z]+)@(\d+)", words.strip().lower())
    if not found:
        raise ConfigError(f"metric '{words}' is not understood: write it as ndcg@10 ({', '.join(METRICS)})")
    name, k = found[1], int(found[2])
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    if not 1 <= k <= TOP_K:
        raise ConfigError(
            f"metric '{words}': K = {k} is not stored, lists have {TOP_K} items: use a K from 1 to {TOP_K}"
        )
    return name, k


def metrics_of(words: Sequence[str]) -> tuple[Metric, ...]:
    """The metrics of comma-separated or repeated words, each once."""
    return tuple(dict.fromkeys(metric_of(part) for word in words for part in word.split(",") if part.strip()))


def measure(
    seeds: Sequence[int], runs: Sequence[UserRanks], data: DataRow, part: Part, name: str, k: int, bucket: int = 0
) -> Measured | None:
    """A metric of runs on the same users; `bucket` 1, 2, 3 restricts to users whose target is in it (spec 6.4).

    None where the bucket is empty.
    """
    users = np.ones(len(data.targets(part)), np.bool_)
    if bucket:
        users = data.bucket[data.targets(part)] == bucket
    if name in USER_METRICS:
        if not users.any():
            return None
        by_user = np.stack([USER_METRICS[name](run.rank[users], k) for run in runs])
        return Measured(seeds=tuple(seeds), by_seed=by_user.mean(axis=1), by_user=by_user)
    values = []
    for run in runs:
        population = Population(
            rank=run.rank[users], top=run.top[users], everyone=run.top, item_bucket=data.bucket, bucket=bucket
        )
        values.append(METRICS[name](population, k))
    there = [value for value in values if value is not None]
    assert len(there) in {0, len(values)}, "a bucket is empty in all runs on one data set, or in none"
    return Measured(seeds=tuple(seeds), by_seed=np.array(there)) if there else None


class Measurer:
    """Measures groups of a store; keeps the ranks of recent runs in memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ranks = lru_cache(RUNS_KEPT)(store.ranks)
        self._data = lru_cache(RUNS_KEPT)(store.data)

    def __call__(self, group: Group, name: str, k: int, bucket: int = 0, part: Part = "test") -> Measured | None:
        """A metric of every run of the group; None where the bucket is empty."""
        runs = [self._ranks(key, part) for key in group.keys]
        return measure(group.seeds, runs, self._data(group.fingerprint), part, name, k, bucket)
