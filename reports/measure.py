"""Metrics run by run and user by user, from stored ranks: any metric at any K that the stored lists allow."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from harness.errors import ConfigError
from harness.exposure import EXPOSURE, Shown, exposure_by_user
from harness.geometry import GEOMETRY
from harness.metrics import METRICS, USER_METRICS, Population
from harness.rules import Metric, metric_of
from harness.store import Store
from harness.stored import DataRow
from harness.values import Part, UserRanks
from reports.groups import Group
from reports.stats import Measured

RUNS_KEPT = 64
"""Runs whose ranks stay in memory."""


def metrics_of(words: Sequence[str]) -> tuple[Metric, ...]:
    """The metrics of comma-separated or repeated words, each once."""
    return tuple(dict.fromkeys(metric_of(part) for word in words for part in word.split(",") if part.strip()))


def refuse_beyond(metrics: Sequence[Metric], data: Iterable[DataRow]) -> None:
    """Raise ConfigError for a K above the items of a data set: every unseen item would be in every list."""
    for row in data:
        for name, k in metrics:
            if k > row.n_items:
                raise ConfigError(
                    f"metric {name}@{k}: {row.config.dataset} has {row.n_items} items after filtering: use a K up to "
                    f"{row.n_items}, or leave the data set out by --dataset"
                )


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
    numbers, each = [], []
    inputs = data.input_buckets if part == "test" else None
    if name == "popcal" and inputs is None:
        raise ConfigError(
            f"popcal@{k} needs what users had in their {part} input, which is not recorded for data "
            f"{data.fingerprint[:8]}: give its sweep command again, which adds it for test"
        )
    for run in runs:
        if name in EXPOSURE:
            shown = Shown(
                top=run.top[users],
                popularity=data.popularity,
                n_users=data.n_train_users,
                item_bucket=data.bucket,
                inputs=None if inputs is None else inputs[users],
            )
            numbers.append(EXPOSURE[name](shown, k))
            each.append(exposure_by_user(name, shown, k))
            continue
        population = Population(
            rank=run.rank[users], top=run.top[users], everyone=run.top, item_bucket=data.bucket, bucket=bucket
        )
        numbers.append(METRICS[name](population, k))
    if not users.any():
        return None
    there = [value for value in numbers if value is not None]
    assert len(there) in {0, len(numbers)}, "a bucket is empty in all runs on one data set, or in none"
    if not there:
        return None
    known = [values for values in each if values is not None]
    return Measured(
        seeds=tuple(seeds),
        by_seed=np.array(there),
        by_user=np.stack(known) if len(known) == len(runs) else None,
    )


class Measurer:
    """Measures groups of a store; keeps the ranks of recent runs in memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ranks = lru_cache(RUNS_KEPT)(store.ranks)
        self._data = lru_cache(RUNS_KEPT)(store.data)

    def __call__(self, group: Group, name: str, k: int, bucket: int = 0, part: Part = "test") -> Measured | None:
        """A metric of the group's runs, of `GEOMETRY` as stored; None for an empty bucket or where a run has none."""
        if name in GEOMETRY:
            stored = self._store.metrics(group.keys, part=part, names=[name])
            values = [metric.value for key in group.keys for metric in stored.get(key, ()) if metric.value is not None]
            complete = len(values) == len(group.keys)
            return Measured(seeds=group.seeds, by_seed=np.array(values)) if complete else None
        runs = [self._ranks(key, part) for key in group.keys]
        return measure(group.seeds, runs, self._data(group.fingerprint), part, name, k, bucket)
