"""Split, filter and buckets against a slow, word-by-word reading of the specification, on drawn data."""

from collections import Counter
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from harness.config import DataConfig
from harness.data.leaks import check_leaks
from harness.data.split import popularity_buckets, split_rows
from harness.errors import DataError
from tests.data.rows import Row, frame, parts, unfiltered


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_buckets_walk_as_the_specification_says(popularity: list[int]) -> None:
    expected, current, running, total = {}, 1, 0, sum(popularity)
    for item in sorted(range(len(popularity)), key=lambda i: (-popularity[i], i)):
        expected[item] = current
        running += popularity[item]
        if 3 * running >= current * total and current < 3:
            current += 1
    assert popularity_buckets(np.array(popularity)).tolist() == [expected[i] for i in range(len(popularity))]


def without_repeats(rows: list[Row], config: DataConfig) -> list[Row]:
    """The policies for repeats, read word by word."""
    if config.repeats == "keep":
        return rows
    chosen: dict[tuple[Any, ...], int] = {}
    for at in sorted(range(len(rows)), key=lambda at: rows[at][2]):
        key = rows[at] if config.repeats == "exact" else rows[at][:2]
        if config.repeats == "last" or key not in chosen:
            chosen[key] = at
    return [rows[at] for at in sorted(chosen.values())]


def filtered_slowly(rows: list[Row], config: DataConfig) -> list[Row]:
    """The filter variants, read word by word."""

    def enough(rows: list[Row], side: int, least: int) -> set[str]:
        counted = rows if config.counted == "rows" else {(u, i, 0) for u, i, _ in rows}
        return {name for name, count in Counter(row[side] for row in counted).items() if count >= least}

    rows = without_repeats(rows, config)
    sides = {0: config.min_user, 1: config.min_item}
    if config.filter in {"one_pass", "one_pass_users_first"}:
        for side in (1, 0) if config.filter == "one_pass" else (0, 1):
            good = enough(rows, side, sides[side])
            rows = [row for row in rows if row[side] in good]
    elif config.filter == "at_once":
        users, items = enough(rows, 0, config.min_user), enough(rows, 1, config.min_item)
        rows = [row for row in rows if row[0] in users and row[1] in items]
    while config.filter == "iterative":
        users, items = enough(rows, 0, config.min_user), enough(rows, 1, config.min_item)
        left = [row for row in rows if row[0] in users and row[1] in items]
        if left == rows:
            break
        rows = left
    return rows


def split_slowly(rows: list[Row], config: DataConfig) -> dict[str, Any] | None:
    """Spec 6.1 read word by word; None where nobody is left to train or to test."""
    rows = filtered_slowly(rows, config)
    if not rows:
        return None
    order = sorted(rows, key=lambda row: row[2])
    train: dict[str, list[str]] = {}
    test: dict[str, list[str]] = {}
    boundary = 0
    if config.split == "leave_one_out":
        for user, item, _ in order:
            test.setdefault(user, []).append(item)
        train = {user: items[:-2] if len(items) >= 3 else items for user, items in test.items()}
        known = sorted({item for items in train.values() for item in items}, key=int)
        test = {user: items for user, items in test.items() if len(items) >= 3 and set(items[-2:]) <= set(known)}
    else:
        exact = Decimal(str(config.quantile)) * (len(rows) - 1)
        boundary = sorted(row[2] for row in rows)[int(exact.quantize(Decimal(1), ROUND_HALF_EVEN))]
        testers = {row[0] for row in rows if row[2] >= boundary}
        for user, item, _ in order:
            if user not in testers:
                train.setdefault(user, []).append(item)
        known = sorted({item for items in train.values() for item in items}, key=int)
        for user, item, time in order:
            if time >= boundary and item in known:
                test.setdefault(user, []).append(item)
        test = {user: items for user, items in test.items() if len(items) >= 3}
    if not test or max(map(len, train.values()), default=0) < 2:
        return None
    return {
        "boundary": boundary,
        "train": [train[user] for user in sorted(train)],
        "test": [test[user] for user in sorted(test)],
        "testers": sorted(test),
        "items": known,
        "popularity": [sum(item in items for items in train.values()) for item in known],
    }


@st.composite
def raw_rows(draw: st.DrawFn) -> list[Row]:
    """Users who live for a short while each, with repeated items and equal times, their rows in any order."""
    rows = []
    for user in "ABCDEFGHIJ"[: draw(st.integers(3, 10))]:
        begin = draw(st.integers(1, 30))
        for step in draw(st.lists(st.integers(0, 3), min_size=1, max_size=8)):
            rows.append((user, str(draw(st.integers(0, 11))), begin + step))
    return draw(st.permutations(rows))


ROWS = raw_rows()
CONFIGS = st.builds(
    lambda filter, item, user, quantile, count, repeats, split: DataConfig(
        dataset="synthetic",
        filter=filter,
        min_item=1 if filter == "none" else item,
        min_user=1 if filter == "none" else user,
        quantile=quantile if split == "temporal" else 0.95,
        count="usual" if filter == "none" else count,
        repeats=repeats,
        split=split,
    ),
    st.sampled_from(["none", "one_pass", "one_pass_users_first", "at_once", "iterative"]),
    st.sampled_from([1, 1, 2, 3]),
    st.sampled_from([1, 1, 2, 3]),
    st.sampled_from([0.3, 0.5, 0.6, 0.75, 0.9]),
    st.sampled_from(["usual", "rows", "partners"]),
    st.sampled_from(["keep", "keep", "first", "last", "exact"]),
    st.sampled_from(["temporal", "temporal", "leave_one_out"]),
)


@settings(max_examples=250)
@given(ROWS, CONFIGS)
def test_split_is_the_specification(rows: list[Row], config: DataConfig) -> None:
    expected = split_slowly(rows, config)
    event(f"refused: {expected is None}")
    if expected is None:
        with pytest.raises(DataError):
            split_rows(frame(rows), config)
        return
    split, evidence = split_rows(frame(rows), config)
    train, test = parts(split)
    event(f"filter {config.filter} drops rows: {len(filtered_slowly(rows, config)) < len(rows)}")
    assert {
        "boundary": split.boundary,
        "train": train,
        "test": test,
        "testers": split.user_ids.tolist(),
        "items": split.item_ids.tolist(),
        "popularity": split.popularity.tolist(),
    } == expected
    check_leaks(split, evidence)
    for which in ("valid", "test"):
        assert split.targets(which).tolist() == [
            split.item_ids.tolist().index(items[-1 if which == "test" else -2]) for items in test
        ]
    repeated = [items[-1] in items[:-1] for items in test]
    assert split.report["repeat_share"] == pytest.approx(np.mean(repeated))
    last = [items[-1] for items in train if len(items) >= 2]
    assert split.report["partner_share"] == pytest.approx(np.mean([last.count(item) >= 2 for item in last]))


@settings(max_examples=60)
@given(ROWS, st.randoms(use_true_random=False))
def test_order_of_users_in_the_file_does_not_matter(rows: list[Row], random: Any) -> None:
    config = unfiltered(quantile=0.6)
    if split_slowly(rows, config) is None:
        return
    users = sorted({row[0] for row in rows})
    random.shuffle(users)
    grouped = [row for user in users for row in rows if row[0] == user]
    assert split_rows(frame(rows), config)[0].fingerprint == split_rows(frame(grouped), config)[0].fingerprint
