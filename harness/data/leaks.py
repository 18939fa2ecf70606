"""What a split promises, checked on every prepare and on every load, so before every trial (spec 6.1)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.data.filters import distinct_partners
from harness.errors import LeakError
from harness.values import Int32, Int64, Split

FEWEST_TEST_ROWS = 3
"""Of an evaluated user: validation input, validation target, test target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the leak checks need beyond the split itself."""

    train_times: Int64
    """[E] Unix seconds of `Split.train_items`."""
    train_user_ids: NDArray[np.str_]
    """[U] raw ids of the training users."""
    test_times: Int64
    """[F] Unix seconds of `Split.test_items`."""


def popularity_of(train_items: Int32, train_offsets: Int64, n_items: int) -> Int32:
    """[N] distinct training users of each item."""
    users = np.repeat(np.arange(len(train_offsets) - 1), np.diff(train_offsets))
    return distinct_partners(train_items.astype(np.int64), users, size=n_items).astype(np.int32)


def check_leaks(split: Split, evidence: Evidence) -> None:
    """Raise LeakError unless the split keeps what it promises.

    Always: items and their popularity from training rows alone; at least three rows of every test user; every
    user's rows in order of time, so that the validation target comes before the test target. Temporal: no training row
    at or after the boundary and no test row before it; no user on both sides (by raw id). Leave-one-out: what an
    evaluated user has in training is exactly what comes before the two targets.

    Ids stand in their order (see `harness.data.split.split_rows`), which ids that were swapped or doubled do not. Other
    names in the same order, or other items in the rows, promise nothing less and pass: without the raw rows only the
    fingerprint tells them, which is checked beside this wherever prepared data are read.
    """
    _check_lengths(split, evidence)
    if split.config.split == "temporal":
        _check_boundary(split, evidence)
    else:
        _check_left_out(split, evidence)
    _check_items(split)
    _check_order(split, evidence)
    _check_ids(split, evidence)


def _check_lengths(split: Split, evidence: Evidence) -> None:
    """Every row has its time and every user an id: what is missing would pass the other checks unseen."""
    rows = {
        "training": (split.train_items, split.train_offsets, evidence.train_times, evidence.train_user_ids),
        "test": (split.test_items, split.test_offsets, evidence.test_times, split.user_ids),
    }
    for part, (items, offsets, times, ids) in rows.items():
        if not len(items) == len(times) == offsets[-1] or len(ids) != len(offsets) - 1:
            raise LeakError(
                f"{split.config.dataset}: {len(items)} {part} rows have {len(times)} times, and users with "
                f"{offsets[-1]} rows; {len(offsets) - 1} {part} users have {len(ids)} ids: prepare again"
            )


def _check_ids(split: Split, evidence: Evidence) -> None:
    """Items in the one order of their ids; users in either, since those that were filtered out decided which."""
    if not _in_order(split.item_ids, by_value=_all_numbers(split.item_ids)):
        raise LeakError(f"{split.config.dataset}: the item ids are not in their order, each once: prepare again")
    for part, ids in (("training", evidence.train_user_ids), ("evaluated", split.user_ids)):
        by_value = _all_numbers(ids) and _in_order(ids, by_value=True)
        if not by_value and not _in_order(ids, by_value=False):
            raise LeakError(
                f"{split.config.dataset}: the ids of {part} users are not in their order, each once: prepare again"
            )


def _all_numbers(ids: NDArray[np.str_]) -> bool:
    """Whether all are decimal integers in ASCII."""
    letters = np.ascontiguousarray(ids).view(np.uint32)
    return bool(np.strings.isdecimal(ids).all() and letters.max(initial=0) <= ord("9"))


def _in_order(ids: NDArray[np.str_], *, by_value: bool) -> bool:
    """Whether each is larger than the one before it: as a number, of equal ones by code point; or by code point."""
    larger = ids[1:] > ids[:-1]
    if by_value:
        bare = np.strings.lstrip(ids, "0")
        length = np.strings.str_len(bare)
        equal = length[1:] == length[:-1]
        larger = (length[1:] > length[:-1]) | equal & (
            (bare[1:] > bare[:-1]) | (bare[1:] == bare[:-1]) & (ids[1:] > ids[:-1])
        )
    return bool(larger.all())


def _check_boundary(split: Split, evidence: Evidence) -> None:
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


def _check_left_out(split: Split, evidence: Evidence) -> None:
    name = split.config.dataset
    order = np.argsort(evidence.train_user_ids, kind="stable")
    place = np.searchsorted(evidence.train_user_ids, split.user_ids, sorter=order)
    place = order[np.minimum(place, len(order) - 1)]
    if not np.array_equal(evidence.train_user_ids[place], split.user_ids):
        raise LeakError(f"{name}: evaluated users are missing from training: prepare again")
    lengths = np.diff(split.test_offsets) - 2
    if not np.array_equal(np.diff(split.train_offsets)[place], lengths):
        raise LeakError(f"{name}: a test or validation target is among the training rows of its user: prepare again")
    step = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    trained = np.repeat(split.train_offsets[place], lengths) + step
    tested = np.repeat(split.test_offsets[:-1], lengths) + step
    same = np.array_equal(split.train_items[trained], split.test_items[tested])
    if not same or not np.array_equal(evidence.train_times[trained], evidence.test_times[tested]):
        raise LeakError(f"{name}: an evaluated user's input is not what stands in training: prepare again")


def _check_items(split: Split) -> None:
    name, n_items = split.config.dataset, split.n_items
    if (
        split.train_items.min() < 0
        or split.train_items.max() >= n_items
        or (np.bincount(split.train_items, minlength=n_items) == 0).any()
    ):
        raise LeakError(f"{name}: the items 0..{n_items - 1} are not exactly those of the training rows: prepare again")
    if split.test_items.min() < 0 or split.test_items.max() >= n_items:
        raise LeakError(f"{name}: test rows hold items that no training row has: prepare again")
    if not np.array_equal(split.popularity, popularity_of(split.train_items, split.train_offsets, n_items)):
        raise LeakError(f"{name}: item popularity does not come from the training rows alone: prepare again")


def _check_order(split: Split, evidence: Evidence) -> None:
    name = split.config.dataset
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
