"""From raw rows to a `Split` (spec 6.1): filter, temporal boundary, item ids, popularity buckets, leak checks.

Arrays in, values out: no file is touched. Everything is vectorised: no loop over users or rows.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.config import DataConfig
from harness.errors import DataError, LeakError
from harness.values import N_BUCKETS, Int32, Int64, Split

FEWEST_TEST_ROWS = 3
"""Of an evaluated user: validation input, validation target, test target."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the leak checks need beyond the split itself."""

    train_times: Int64
    """[E] Unix seconds of `Split.train_items`."""
    train_user_ids: NDArray[np.str_]
    """[U] raw ids of the training users."""
    test_times: Int64
    """[F] Unix seconds of `Split.test_items`."""


def split_rows(rows: pd.DataFrame, config: DataConfig) -> tuple[Split, Evidence]:
    """Filter and split raw rows (columns user, item, time; in raw row order) exactly as spec 6.1, and check for leaks.

    The order of a user's rows is (time, raw row) for ``tie="stable"`` and (time, a number drawn with seed 0 for every
    row that the filter leaves) for ``tie="random"``. Training users, evaluated users and items each stand in the
    order of their raw ids: by value if all of them are decimal integers, else by code point.
    Raises DataError when no row, no test user or no training sequence of two items is left.
    """
    kept = rows[filter_rows(pd.factorize(rows["user"])[0], pd.factorize(rows["item"])[0], config)]
    if kept.empty:
        raise DataError(
            f"{config.dataset}: filter {config.filter} with min_item={config.min_item}, min_user={config.min_user} "
            f"leaves none of {len(rows)} rows: lower the two numbers or use more data"
        )
    users, user_names = _coded(kept["user"])
    items, item_names = _coded(kept["item"])
    times = kept["time"].to_numpy(np.int64)
    tie = np.arange(len(kept)) if config.tie == "stable" else np.random.default_rng(0).random(len(kept))
    order = np.lexsort((tie, times, users))
    users, items, times = users[order], items[order], times[order]

    # Python rounds halves to even, as the specification does.
    position = round(config.quantile * (len(times) - 1))
    boundary = int(np.partition(times, position)[position])
    late = times >= boundary
    is_tester = np.bincount(users[late], minlength=len(user_names)) > 0
    train = ~late & ~is_tester[users]
    known_items = np.unique(items[train])
    item_ids, item_of = _training_ids(item_names, known_items)
    known = late & (item_of[items] >= 0)
    is_evaluated = np.bincount(users[known], minlength=len(user_names)) >= FEWEST_TEST_ROWS
    test = known & is_evaluated[users]

    train_users, train_offsets = _runs(users[train])
    test_users, test_offsets = _runs(users[test])
    if np.diff(train_offsets).max(initial=0) < 2:
        raise DataError(
            f"{config.dataset}: no training user has two rows before the boundary {boundary} "
            f"({len(train_users)} users, quantile {config.quantile} of {len(times)} rows): use more data"
        )
    if not len(test_users):
        raise DataError(
            f"{config.dataset}: zero test users: of {is_tester.sum()} users with rows at or after the boundary "
            f"{boundary} (quantile {config.quantile} of {len(times)} rows) none has {FEWEST_TEST_ROWS} such rows of "
            f"items known from training: lower the quantile or use more data"
        )
    train_items, test_items = item_of[items[train]], item_of[items[test]]
    popularity = _popularity(train_items, train_offsets, len(item_ids))
    report: dict[str, float] = {
        "raw_rows": len(rows),
        "raw_users": rows["user"].nunique(),
        "raw_items": rows["item"].nunique(),
        "rows": len(kept),
        "users": len(user_names),
        "items": len(item_names),
        "boundary": boundary,
        "rows_before_boundary": int((~late).sum()),
        "test_rows": int(late.sum()),
        "test_users": int(is_tester.sum()),
        "test_users_with_earlier_rows": len(np.unique(users[~late & is_tester[users]])),
        "test_rows_of_unseen_items": int((late & ~known).sum()),
        "train_rows": len(train_items),
        "train_users": len(train_users),
        "train_items": len(item_ids),
        "train_sequences": int((np.diff(train_offsets) >= 2).sum()),
        "evaluated_users": len(test_users),
        "repeat_share": _repeat_share(test_items, test_offsets),
        "partner_share": _partner_share(train_items, train_offsets),
    }
    arrays: dict[str, NDArray[Any]] = {
        "train_items": train_items,
        "train_offsets": train_offsets,
        "test_items": test_items,
        "test_offsets": test_offsets,
        "popularity": popularity,
        "bucket": popularity_buckets(popularity),
        "item_ids": item_ids,
        "user_ids": user_names[test_users],
    }
    evidence: dict[str, NDArray[Any]] = {
        "train_times": times[train],
        "train_user_ids": user_names[train_users],
        "test_times": times[test],
    }
    split = Split(
        config=config,
        fingerprint=fingerprint(config, boundary, arrays | evidence),
        boundary=boundary,
        n_items=len(item_ids),
        report=report,
        **arrays,
    )
    proof = Evidence(**evidence)
    check_leaks(split, proof)
    return split, proof


def filter_rows(users: Int64, items: Int64, config: DataConfig) -> Mask:
    """[n] which rows the filter of `config` keeps; `users`, `items` [n] are codes from 0 on.

    one_pass: items with at least `min_item` distinct users, then users with at least `min_user` distinct items among
    what is left; items may end below. iterative: items with `min_item` rows and users with `min_user` rows, again and
    again until nothing changes (k-core).
    """
    n_users, n_items = int(users.max(initial=-1)) + 1, int(items.max(initial=-1)) + 1
    keep = np.ones(len(users), np.bool_)
    if config.filter == "one_pass":
        keep = _distinct(items, users)[items] >= config.min_item
        keep &= _distinct(users[keep], items[keep], size=n_users)[users] >= config.min_user
    elif config.filter == "iterative":
        left = -1
        while left != keep.sum():
            left = keep.sum()
            keep &= np.bincount(items[keep], minlength=n_items)[items] >= config.min_item
            keep &= np.bincount(users[keep], minlength=n_users)[users] >= config.min_user
    return keep


def popularity_buckets(popularity: NDArray[np.integer[Any]]) -> NDArray[np.int8]:
    """[N] bucket 1 (head), 2 or 3 (tail) of each item from its popularity [N] (spec 6.4).

    Items are walked by falling popularity (ties: smaller id first); the item whose running sum reaches a third of the
    total is the last of its bucket, and no bucket is skipped.

    >>> popularity_buckets(np.array([10, 6, 5, 4, 3, 2])).tolist()
    [1, 2, 2, 3, 3, 3]
    """
    order = np.argsort(-popularity.astype(np.int64), kind="stable")
    running = np.cumsum(popularity[order], dtype=np.int64)
    bucket = np.empty(len(order), np.int8)
    bucket[order] = 1
    last = -1
    for number in range(1, N_BUCKETS):
        # The first position after the bucket before at which the sum reaches number/3 of the total.
        last = max(last + 1, int(np.searchsorted(N_BUCKETS * running, number * running[-1])))
        bucket[order[last + 1 :]] = number + 1
    return bucket


def check_leaks(split: Split, evidence: Evidence) -> None:
    """Raise LeakError unless the split keeps what it promises; run on every prepare and on every load.

    No training row at or after the boundary and no test row before it; no user on both sides (by raw id); items and
    their popularity from training rows alone; at least three rows of every test user, in order of time, so that
    the validation target comes before the test target.
    """
    name = split.config.dataset
    late = int((evidence.train_times >= split.boundary).sum())
    if late:
        raise LeakError(f"{name}: {late} training rows are at or after the boundary {split.boundary}: prepare again")
    early = int((evidence.test_times < split.boundary).sum())
    if early:
        raise LeakError(f"{name}: {early} test rows are before the boundary {split.boundary}: prepare again")
    both = np.intersect1d(evidence.train_user_ids, split.user_ids)
    if len(both):
        raise LeakError(f"{name}: {len(both)} users are in training and test, such as {both[0]!s}: prepare again")
    n_items = split.n_items
    if (
        split.train_items.min() < 0
        or split.train_items.max() >= n_items
        or (np.bincount(split.train_items, minlength=n_items) == 0).any()
    ):
        raise LeakError(f"{name}: the items 0..{n_items - 1} are not exactly those of the training rows: prepare again")
    if split.test_items.min() < 0 or split.test_items.max() >= n_items:
        raise LeakError(f"{name}: test rows hold items that no training row has: prepare again")
    if not np.array_equal(split.popularity, _popularity(split.train_items, split.train_offsets, n_items)):
        raise LeakError(f"{name}: item popularity does not come from the training rows alone: prepare again")
    if np.diff(split.test_offsets).min() < FEWEST_TEST_ROWS:
        raise LeakError(f"{name}: a test user has fewer than {FEWEST_TEST_ROWS} rows: prepare again")
    for part, times, offsets in (
        ("training", evidence.train_times, split.train_offsets),
        ("test", evidence.test_times, split.test_offsets),
    ):
        backwards = np.diff(times) < 0
        backwards[offsets[1:-1] - 1] = False
        if backwards.any():
            raise LeakError(f"{name}: rows of a {part} user are not in order of time: prepare again")


def fingerprint(config: DataConfig, boundary: int, arrays: Mapping[str, NDArray[Any]]) -> str:
    """32 hexadecimal digits of the content: the configuration, the boundary and every array by name."""
    digest = hashlib.sha256()
    head = {"config": config.canonical(), "boundary": boundary}
    digest.update(json.dumps(head, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.view(np.uint8).data if array.size else b"")
    return digest.hexdigest()[:32]


def _coded(names: "pd.Series[str]") -> tuple[Int64, NDArray[np.str_]]:
    """[n] the position of each name among the distinct names [M] in their order, and these."""
    codes, distinct = pd.factorize(names)
    order = _order(distinct.tolist())
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    return position[codes], np.array(distinct.tolist(), dtype=np.str_)[order]


def _order(names: list[str]) -> Int64:
    """The permutation that sorts names by value if all are decimal integers, else by code point."""
    text = np.array(names, dtype=np.str_)
    if not all(name.isascii() and name.isdecimal() for name in names):
        return np.argsort(text, kind="stable")
    # Without leading zeros, a longer number is larger; equal values ("7", "07") stand by code point.
    bare = np.strings.lstrip(text, "0")
    return np.lexsort((text, bare, np.strings.str_len(bare)))


def _training_ids(names: NDArray[np.str_], known: Int64) -> tuple[NDArray[np.str_], Int32]:
    """[N] raw ids of the training items in their own order, and [M] the item id of each code or -1."""
    order = _order(names[known].tolist())
    item_of = np.full(len(names), -1, np.int32)
    item_of[known[order]] = np.arange(len(known), dtype=np.int32)
    # A copy from a list is as wide as the longest training id, whatever else the raw file holds.
    return np.array(names[known[order]].tolist(), dtype=np.str_), item_of


def _runs(users: Int64) -> tuple[Int64, Int64]:
    """The distinct values of a sorted array, and where each begins, with the length as last entry."""
    distinct, first = np.unique(users, return_index=True)
    return distinct, np.append(first, len(users)).astype(np.int64)


def _distinct(of: Int64, partners: Int64, size: int = 0) -> Int64:
    """How many distinct partners each code of `of` has."""
    width = int(partners.max(initial=0)) + 1
    return np.bincount(np.unique(of * width + partners) // width, minlength=size)


def _popularity(train_items: Int32, train_offsets: Int64, n_items: int) -> Int32:
    """[N] distinct training users of each item."""
    users = np.repeat(np.arange(len(train_offsets) - 1), np.diff(train_offsets))
    return _distinct(train_items.astype(np.int64), users, size=n_items).astype(np.int32)


def _repeat_share(test_items: Int32, test_offsets: Int64) -> float:
    """Share of evaluated users whose test target is in their test input: masked, it can never be hit."""
    lengths = np.diff(test_offsets)
    last = test_offsets[1:] - 1
    same = test_items == np.repeat(test_items[last], lengths)
    same[last] = False
    return float((np.add.reduceat(same, test_offsets[:-1], dtype=np.int64) > 0).mean())


def _partner_share(train_items: Int32, train_offsets: Int64) -> float:
    """Share of training users with two or more rows whose last item is also the last of another such user."""
    last = train_items[train_offsets[1:] - 1][np.diff(train_offsets) >= 2]
    return float((np.bincount(last)[last] >= 2).mean())
