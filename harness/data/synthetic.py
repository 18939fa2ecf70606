"""The embedded data set: users who walk on a sparse Markov chain of items, with a known best achievable score.

A user's next item is drawn from the row of the current item, restricted to items that this user has not had:

    P(j | i) = follow * successor[i, j] + (1 - follow) * zipf[j]

where every item has a few successors. A model that ranks the unseen items by P(. | last item) is therefore the best
possible one, and `best_achievable` gives its score. Users live for about three weeks of a year, so that a temporal
split finds test users who begin late. Everything is drawn from ``Generator.random``, hence the same on every machine.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.values import Int32, Part, Split

VERSION = 1
"""Raised whenever `generate` gives other rows than before; part of the key of prepared data."""

SEED, USERS, ITEMS = 0, 3_000, 600
"""What `generate` draws unless told otherwise."""

_FOLLOW = 0.8
_SUCCESSOR_WEIGHTS = (0.45, 0.25, 0.2, 0.1)
_ZIPF_EXPONENT = 1.0
_SHORTEST, _LONGEST = 8, 24
_BEGIN = 1_577_836_800
"""2020-01-01 in Unix seconds."""
_DAY = 86_400
_CALENDAR_DAYS = 350


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The item-to-item structure; item number i has the raw id ``str(i + 1)``."""

    transition: NDArray[np.float64]
    """[N, N] P(j | i) before seen items are excluded; rows sum to one."""
    popularity: NDArray[np.float64]
    """[N] the Zipf distribution from which users start, and to which they jump."""


def chain(seed: int = SEED, items: int = ITEMS) -> Chain:
    """The transition matrix that `generate` with the same seed and number of items walks on."""
    random = np.random.default_rng([seed, 0])
    # Popularity ranks are dealt out at random: a smaller id is not a more popular item.
    rank = np.argsort(random.random(items), kind="stable")
    weight = np.asarray((1.0 + rank) ** -_ZIPF_EXPONENT, np.float64)
    zipf = weight / weight.sum()
    # Successors: distinct other items, drawn in proportion to the square root of popularity (exponential race).
    race = -np.log1p(-random.random((items, items))) / np.sqrt(zipf)
    np.fill_diagonal(race, np.inf)
    successors = np.argsort(race, axis=1, kind="stable")[:, : len(_SUCCESSOR_WEIGHTS)]
    transition = np.tile((1 - _FOLLOW) * zipf, (items, 1))
    np.put_along_axis(
        transition,
        successors,
        np.take_along_axis(transition, successors, axis=1) + _FOLLOW * np.asarray(_SUCCESSOR_WEIGHTS),
        axis=1,
    )
    return Chain(transition=transition, popularity=zipf)


def generate(seed: int = SEED, users: int = USERS, items: int = ITEMS) -> pd.DataFrame:
    """Rows user (str), item (str), time (int64 Unix seconds), users in order, each user's rows in order of time.

    No user has an item twice. Needs more items than the longest user has rows (24), else AssertionError.
    """
    assert users > 0 and items > _LONGEST + len(_SUCCESSOR_WEIGHTS)
    walk = chain(seed, items)
    random = np.random.default_rng([seed, 1])
    length = _SHORTEST + np.floor(random.random(users) * (_LONGEST + 1 - _SHORTEST)).astype(np.int64)
    begin = _BEGIN + np.floor(random.random(users) * _CALENDAR_DAYS * _DAY).astype(np.int64)
    gap = 1 + np.floor(random.random((users, _LONGEST)) * 3 * _DAY).astype(np.int64)
    times = begin[:, None] + np.cumsum(gap, axis=1)

    rows = np.arange(users)
    history = np.empty((users, _LONGEST), dtype=np.int64)
    unseen = np.ones((users, items))
    weights = np.tile(walk.popularity, (users, 1))
    for step in range(_LONGEST):
        reach = np.cumsum(weights * unseen, axis=1)
        drawn = (reach <= (random.random(users) * reach[:, -1])[:, None]).sum(axis=1)
        history[:, step] = drawn
        unseen[rows, drawn] = 0.0
        weights = walk.transition[drawn]

    kept = np.arange(_LONGEST) < length[:, None]
    user = np.repeat(rows, length)
    return pd.DataFrame({
        "user": pd.Series(user + 1).astype("str"),
        "item": pd.Series(history[kept] + 1).astype("str"),
        "time": times[kept],
    })


def oracle_ranks(split: Split, part: Part = "test", *, seed: int = SEED, items: int = ITEMS) -> Int32:
    """[V] 1-based rank of each target when the unseen items are ranked by P(. | last input item); ties: smaller id.

    `split` must come from ``generate(seed, ..., items)``. The whole input is masked, as in spec 6.2; no user has an
    item twice, so the target never is.
    """
    numbers = split.item_ids.astype(np.int64) - 1
    transition = chain(seed, items).transition[np.ix_(numbers, numbers)]
    targets = split.targets(part)
    ends = split.test_offsets[1:] - (1 if part == "test" else 2)
    scores = transition[split.test_items[ends - 1]]
    is_input = np.arange(len(split.test_items)) < np.repeat(ends, np.diff(split.test_offsets))
    users = np.repeat(np.arange(len(targets)), ends - split.test_offsets[:-1])
    scores[users, split.test_items[is_input]] = -np.inf
    own = scores[np.arange(len(targets)), targets][:, None]
    smaller_id = np.arange(split.n_items) < targets[:, None]
    better = (scores > own) | ((scores == own) & smaller_id)
    ranks: Int32 = (1 + better.sum(axis=1)).astype(np.int32)
    return ranks


def best_achievable(split: Split, part: Part = "test", *, seed: int = SEED, items: int = ITEMS) -> float:
    """NDCG@10 of `oracle_ranks`: no model can be expected to do better on this split."""
    rank = oracle_ranks(split, part, seed=seed, items=items)
    return float(np.where(rank <= 10, 1 / np.log2(rank + 1.0), 0.0).mean())
