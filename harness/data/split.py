"""From raw rows to a `Split` (spec 6.1): repeats, filter, temporal boundary, item ids, popularity buckets, leak checks.

Arrays in, values out: no file is touched. Everything is vectorised: no loop over users or rows.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.config import DataConfig
from harness.data.filters import Mask, distinct, filter_rows, repeat_rows
from harness.data.leaks import FEWEST_TEST_ROWS, Evidence, check_leaks, popularity_of
from harness.errors import DataError
from harness.values import N_BUCKETS, Int32, Int64, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The rows that repeats policy and filter leave, sorted by (user, time, tie)."""

    users: Int64
    """[n] codes 0.. in the order of the raw ids."""
    items: Int64
    """[n] likewise."""
    times: Int64
    """[n] Unix seconds."""
    draws: NDArray[np.float64]
    """[n] a number for every row, which draws among equal times."""
    user_names: NDArray[np.str_]
    """The raw ids by code."""
    item_names: NDArray[np.str_]
    report: Mapping[str, float]
    """Counts up to here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What a split rule says of the kept rows [n]."""

    boundary: int
    train: Mask
    held: Mask
    """Rows that the rule keeps out of training for the test."""
    test: Mask
    """Rows of evaluated users that are input or target."""
    report: Mapping[str, float]


def split_rows(rows: pd.DataFrame, config: DataConfig) -> tuple[Split, Evidence]:
    """Filter and split raw rows (columns user, item, time; in raw row order) exactly as spec 6.1, and check for leaks.

    The order of a user's rows is (time, raw row) for ``tie="stable"`` and (time, a number drawn with seed 0 for every
    row that the filter leaves) for ``tie="random"``. For ``tie="targets"`` it is that of stable but for the two targets
    of an evaluated user: the last row is the one of the latest time with the largest number, the second last is so of
    the rest. Training users, evaluated users and items each stand in the order of their raw ids: by value if all of
    them are decimal integers, else by code point.
    ``split="leave_one_out"`` leaks the future by design: every user with three rows or more is evaluated on the last
    two and trained on the rest, unless a target is no training item; the boundary is then 0.
    Raises DataError when no row, no test user or no training sequence of two items is left.
    """
    return split_kept(keep_rows(rows, config), config)


def keep_rows(rows: pd.DataFrame, config: DataConfig) -> Kept:
    """What repeats policy and filter leave of raw rows. Raises DataError when that is nothing."""
    user_codes, user_names = pd.factorize(rows["user"])
    item_codes, item_names = pd.factorize(rows["item"])
    times = rows["time"].to_numpy(np.int64)
    at = np.flatnonzero(repeat_rows(user_codes, item_codes, times, config))
    n_without_repeats = len(at)
    at = at[filter_rows(user_codes[at], item_codes[at], config)]
    if not len(at):
        milder = " (--profile paper has 5 and 5)" if max(config.min_item, config.min_user) > 5 else ""
        raise DataError(
            f"{config.dataset}: filter {config.filter} with min_item={config.min_item}, min_user={config.min_user} "
            f"leaves none of {len(rows)} rows: use a milder filter by --filter, --min-item and --min-user{milder}, or "
            "more data"
        )
    users, kept_user_names = _coded(user_codes[at], user_names)
    items, kept_item_names = _coded(item_codes[at], item_names)
    times = times[at]
    draws = np.random.default_rng(0).random(len(at))
    order = np.lexsort((draws if config.tie == "random" else np.arange(len(at)), times, users))
    pairs = len(distinct(users * len(kept_item_names) + items))
    return Kept(
        users=users[order],
        items=items[order],
        times=times[order],
        draws=draws[order],
        user_names=kept_user_names,
        item_names=kept_item_names,
        report={
            "raw_rows": len(rows),
            "raw_users": len(user_names),
            "raw_items": len(item_names),
            "rows_dropped_as_repeats": len(rows) - n_without_repeats,
            "rows": len(at),
            "users": len(kept_user_names),
            "items": len(kept_item_names),
            "repeated_rows": len(at) - pairs,
            "first_time": int(times.min()),
            "last_time": int(times.max()),
        },
    )


def split_kept(kept: Kept, config: DataConfig) -> tuple[Split, Evidence]:
    """The split of the rows that the filter left: see `split_rows`."""
    drawn = config.tie == "targets"
    if drawn and config.split == "leave_one_out":
        kept = _placed(kept, targets_last(kept.users, kept.times, kept.draws))
    parts = (_temporal if config.split == "temporal" else _leave_one_out)(kept, config)
    train, test = parts.train, parts.test
    if drawn and config.split == "temporal":  # of rows whose items are known, as the targets are
        place, at = np.arange(len(test)), np.flatnonzero(test)
        place[at] = at[targets_last(kept.users[at], kept.times[at], kept.draws[at])]
        kept = _placed(kept, place)
    users, items, times = kept.users, kept.items, kept.times
    item_ids, item_of = _training_ids(kept.item_names, np.flatnonzero(np.bincount(items[train])))
    train_users, train_offsets = _runs(users[train])
    test_users, test_offsets = _runs(users[test])
    train_items, test_items = item_of[items[train]], item_of[items[test]]
    popularity = popularity_of(train_items, train_offsets, len(item_ids))
    report: dict[str, float] = {
        **kept.report,
        "boundary": parts.boundary,
        "test_rows": int(parts.held.sum()),
        "test_rows_of_unseen_items": int((item_of[items[parts.held]] < 0).sum()),
        **parts.report,
        "train_rows": len(train_items),
        "train_users": len(train_users),
        "train_items": len(item_ids),
        "train_sequences": int((np.diff(train_offsets) >= 2).sum()),
        "evaluated_users": len(test_users),
        "future_rows": int((times[train] >= times[test][test_offsets[1:] - 1].min()).sum()),
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
        "user_ids": kept.user_names[test_users],
    }
    evidence: dict[str, NDArray[Any]] = {
        "train_times": times[train],
        "train_user_ids": kept.user_names[train_users],
        "test_times": times[test],
    }
    split = Split(
        config=config,
        fingerprint=fingerprint(config, parts.boundary, arrays | evidence),
        boundary=parts.boundary,
        n_items=len(item_ids),
        report=report,
        file="",
        edition="",
        **arrays,
    )
    proof = Evidence(**evidence)
    check_leaks(split, proof)
    return split, proof


def targets_last(users: Int64, times: Int64, draws: NDArray[np.float64]) -> Int64:
    """[n] the places of rows sorted by (user, time) such that every user's last two are drawn, others in their order.

    The last is the row with the largest draw of those at the user's latest time; the second last is so of the rest.

    >>> targets_last(np.array([7, 7, 7, 7]), np.array([1, 2, 2, 2]), np.array([0.9, 0.1, 0.3, 0.2])).tolist()
    [0, 1, 3, 2]
    """
    rank = np.zeros(len(users), np.int8)
    for of_last in (2, 1):
        rest = np.flatnonzero(rank == 0)
        order = rest[np.lexsort((draws[rest], times[rest], users[rest]))]
        ends = np.append(np.diff(users[order]) != 0, True)[: len(order)]
        rank[order[ends]] = of_last
    return np.lexsort((np.arange(len(users)), rank, users))


def _placed(kept: Kept, place: Int64) -> Kept:
    """The same rows in another order."""
    return replace(kept, **{name: getattr(kept, name)[place] for name in ("users", "items", "times", "draws")})


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


def _temporal(kept: Kept, config: DataConfig) -> _Parts:
    """One boundary for all: the quantile of all times; who has a row from it on is not trained on."""
    users, items, times, n_users = kept.users, kept.items, kept.times, len(kept.user_names)
    # Python rounds halves to even, as the specification does.
    position = round(config.quantile * (len(times) - 1))
    boundary = int(np.partition(times, position)[position])
    late = times >= boundary
    is_tester = np.bincount(users[late], minlength=n_users) > 0
    train = ~late & ~is_tester[users]
    _need_training(users[train], f"before the boundary {boundary} (quantile {config.quantile})", kept, config)
    known = late & _among(items, items[train], len(kept.item_names))
    test = known & (np.bincount(users[known], minlength=n_users) >= FEWEST_TEST_ROWS)[users]
    if not test.any():
        raise DataError(
            f"{config.dataset}: zero test users: of {is_tester.sum()} users with rows at or after the boundary "
            f"{boundary} (quantile {config.quantile} of {len(times)} rows) none has {FEWEST_TEST_ROWS} such rows of "
            f"items known from training: lower the quantile or use more data"
        )
    earlier = ~late & is_tester[users]
    return _Parts(
        boundary=boundary,
        train=train,
        held=late,
        test=test,
        report={
            "rows_before_boundary": int((~late).sum()),
            "test_users": int(is_tester.sum()),
            "test_users_with_earlier_rows": int((np.bincount(users[earlier], minlength=1) > 0).sum()),
        },
    )


def _leave_one_out(kept: Kept, config: DataConfig) -> _Parts:
    """Every user's last two rows, of users with three or more; no boundary, so training holds the future."""
    users, items, n_users = kept.users, kept.items, len(kept.user_names)
    lengths = np.bincount(users, minlength=n_users)
    from_end = np.cumsum(lengths)[users] - np.arange(len(users))
    held = (from_end <= 2) & (lengths >= FEWEST_TEST_ROWS)[users]
    train = ~held
    _need_training(users[train], "besides those left out", kept, config)
    unseen = held & ~_among(items, items[train], len(kept.item_names))
    is_evaluated = (lengths >= FEWEST_TEST_ROWS) & (np.bincount(users[unseen], minlength=n_users) == 0)
    test = is_evaluated[users]
    if not test.any():
        raise DataError(
            f"{config.dataset}: zero test users: of {(lengths >= FEWEST_TEST_ROWS).sum()} users with "
            f"{FEWEST_TEST_ROWS} rows none has two last items that are known from training: use more data"
        )
    return _Parts(
        boundary=0,
        train=train,
        held=held,
        test=test,
        report={
            "rows_before_boundary": int(train.sum()),
            "test_users": int((lengths >= FEWEST_TEST_ROWS).sum()),
            "test_users_with_earlier_rows": int((lengths >= FEWEST_TEST_ROWS).sum()),
        },
    )


def _need_training(train_users: Int64, where: str, kept: Kept, config: DataConfig) -> None:
    if np.bincount(train_users, minlength=1).max() < 2:
        raise DataError(
            f"{config.dataset}: no training user has two rows {where}, only {len(distinct(train_users))} users with "
            f"one, of {len(kept.times)} rows: use more data"
        )


def _among(codes: Int64, chosen: Int64, size: int) -> Mask:
    """[n] whether each code is one of `chosen`."""
    return np.asarray((np.bincount(chosen, minlength=size) > 0)[codes])


def _coded(codes: Int64, names: "pd.Index[str]") -> tuple[Int64, NDArray[np.str_]]:
    """[n] the position of each code's name among the names [M] that occur, in their order, and these."""
    occurring = np.flatnonzero(np.bincount(codes))
    present = names[occurring].tolist()
    order = _order(present)
    position = np.zeros(len(names), np.int64)
    position[occurring[order]] = np.arange(len(order))
    return position[codes], np.array(present, dtype=np.str_)[order]


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
    first = np.flatnonzero(np.diff(users, prepend=-1))
    return users[first], np.append(first, len(users)).astype(np.int64)


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
