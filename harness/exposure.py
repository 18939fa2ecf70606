"""What users are shown, apart from whether it is right: from stored top lists and the items' popularity.

Novelty, Gini index, average popularity and popularity calibration (spec 6.8) of the first K of every list. They need
neither the data nor a new training run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from harness.metrics import CUTOFFS
from harness.values import N_BUCKETS, Int32, Metric, Part, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The lists of some users, and what is known of the items."""

    top: Int32
    """[V, K] lists, best first; -1: no item."""
    popularity: Int32
    """[N] distinct training users of every item."""
    n_users: int
    """Training users."""
    item_bucket: NDArray[np.int8]
    """[N] popularity bucket of every item."""
    inputs: Int32 | None = None
    """[V, 3] how many items of each bucket a user's input has; None: not recorded."""


def _items(shown: Shown, k: int) -> NDArray[np.int64]:
    """Recommended items, as often as they are."""
    top = shown.top[:, :k]
    return top[top >= 0].astype(np.int64)


def novelty(shown: Shown, k: int) -> float | None:
    """Mean over recommendations of -log2(share of training users that know the item), in bits."""
    items = _items(shown, k)
    if not len(items):
        return None
    return float(-np.log2(np.maximum(shown.popularity[items], 1) / shown.n_users).mean())


def arp(shown: Shown, k: int) -> float | None:
    """Average recommendation popularity: mean number of training users of a recommended item."""
    items = _items(shown, k)
    return float(shown.popularity[items].mean()) if len(items) else None


def gini(shown: Shown, k: int) -> float | None:
    """Gini index of how often each of all N items is recommended: 0 all alike, (N-1)/N one item alone."""
    counts = np.sort(np.bincount(_items(shown, k), minlength=len(shown.popularity))).astype(np.float64)
    n, total = len(counts), counts.sum()
    if total == 0:
        return None
    return float((2 * np.arange(1, n + 1) - n - 1) @ counts / (n * total))


def popcal(shown: Shown, k: int) -> float | None:
    """Popularity calibration: mean over users of the Jensen-Shannon divergence, in bits, between the bucket shares of
    the input and of the first K; 0: as popular as what the user had, at most 1. None where inputs are not recorded."""
    if shown.inputs is None:
        return None
    out = _in_buckets(shown, k)
    some = out.sum(1) > 0
    return float(jensen_shannon(shown.inputs[some], out[some]).mean()) if some.any() else None


def _in_buckets(shown: Shown, k: int) -> NDArray[np.int64]:
    """[V, 3] how many of a user's first K are in each popularity bucket."""
    of_item = np.append(shown.item_bucket, 0)[shown.top[:, :k]]  # -1 takes the extra last entry
    return np.stack([(of_item == bucket).sum(1) for bucket in range(1, N_BUCKETS + 1)], axis=1)


def exposure_by_user(name: str, shown: Shown, k: int) -> NDArray[np.float64] | None:
    """[V] every user's value of a metric of EXPOSURE whose mean over the users is the metric. None for one that is no
    such mean: the Gini index, and any where a list has fewer than K items."""
    top = shown.top[:, :k]
    if name == "gini" or (top < 0).any():
        return None
    if name == "popcal":
        return None if shown.inputs is None else jensen_shannon(shown.inputs, _in_buckets(shown, k))
    popularity = shown.popularity[top]
    values = popularity if name == "arp" else -np.log2(np.maximum(popularity, 1) / shown.n_users)
    return np.asarray(values.mean(axis=1))


def jensen_shannon(first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.float64]:
    """[V] divergence in bits between the rows of two tables of counts [V, C]; no row is all zero."""
    p, q = (counts / counts.sum(1, keepdims=True) for counts in (first, second))
    middle = (p + q) / 2
    nats = (rel_entr(p, middle) + rel_entr(q, middle)).sum(1) / 2
    return np.asarray(np.maximum(nats / np.log(2), 0.0))


EXPOSURE: Mapping[str, Callable[[Shown, int], float | None]] = {
    "novelty": novelty,
    "gini": gini,
    "arp": arp,
    "popcal": popcal,
}
"""Every such metric: lists and K in, a number out."""

LOWER_IS_BETTER: frozenset[str] = frozenset({"gini", "arp", "popcal"})
"""Those of them that a more diverse, or better calibrated, model has less of."""


def exposure(shown: Shown, *, part: Part) -> tuple[Metric, ...]:
    """Every metric of EXPOSURE at every K, for all users."""
    return tuple(
        Metric(part=part, name=name, k=k, bucket=0, value=function(shown, k))
        for name, function in EXPOSURE.items()
        for k in CUTOFFS
    )


def input_buckets(split: Split) -> Int32:
    """[V, 3] how many items of each popularity bucket every evaluated user's test input has, repeats included."""
    lengths = np.diff(split.test_offsets) - 1
    users = np.repeat(np.arange(split.n_test_users), lengths)
    is_input = np.ones(len(split.test_items), np.bool_)
    is_input[split.test_offsets[1:] - 1] = False
    cells = users * N_BUCKETS + split.bucket[split.test_items[is_input]] - 1
    found = np.bincount(cells, minlength=split.n_test_users * N_BUCKETS)
    return found.reshape(-1, N_BUCKETS).astype(np.int32)
