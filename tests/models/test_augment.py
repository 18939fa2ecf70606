"""Operators on whole batches of sequences: what they keep, hide and move, and how often."""

from collections.abc import Callable

import numpy as np
import pytest

from models.augment import (
    Ragged,
    crop,
    mask,
    mixed,
    most_co_occurring,
    rank_within,
    reorder,
    share_of,
    substitute,
    two_different,
)

MASK = 99


def ragged(*sequences: list[int]) -> Ragged:
    return Ragged(
        items=np.array([i for s in sequences for i in s], np.int32), lengths=np.array([len(s) for s in sequences])
    )


def lists(x: Ragged) -> list[list[int]]:
    return [part.tolist() for part in np.split(x.items, np.cumsum(x.lengths)[:-1])]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


TEN = list(range(10))
X = ragged(TEN, [7], [1, 2, 3], [5, 6])
OPERATORS: dict[str, Callable[[Ragged, np.random.Generator], Ragged]] = {
    "crop": lambda x, r: crop(x, 0.6, r),
    "mask": lambda x, r: mask(x, 0.3, MASK, r),
    "reorder": lambda x, r: reorder(x, 0.6, r),
}


def test_lengths_by_hand() -> None:
    assert share_of(np.array([10, 10, 3, 1]), 0.7).tolist() == [7, 7, 2, 0]
    assert share_of(np.array([10, 30]), 0.3).tolist() == [3, 9] and share_of(np.array([10]), 1 - 0.7).tolist() == [3]


def test_parts_of_a_ragged_batch() -> None:
    assert X.starts.tolist() == [0, 10, 11, 14]
    assert X.owner.tolist() == [0] * 10 + [1] + [2] * 3 + [3] * 2
    assert X.place.tolist() == [*TEN, 0, 0, 1, 2, 0, 1]
    assert lists(X.take(np.array([2, 0]))) == [[1, 2, 3], TEN]
    assert rank_within(np.array([3.0, 1, 2, 5, 5, 4]), np.array([0, 0, 0, 1, 1, 1]), np.array([3, 3])).tolist() == [
        *(2, 0, 1),
        *(1, 2, 0),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_crop_keeps_a_run(seed: int) -> None:
    long, one, three, two = lists(crop(X, 0.6, rng(seed)))
    assert long == list(range(long[0], long[0] + 6)) and one == [7] and three in ([1], [2], [3]) and len(two) == 1


@pytest.mark.parametrize("seed", range(20))
def test_mask_hides_distinct_places(seed: int) -> None:
    made = lists(mask(X, 0.3, MASK, rng(seed)))
    assert [s.count(MASK) for s in made] == [3, 0, 0, 0]
    assert all(a in {b, MASK} for a, b in zip(made[0], TEN, strict=True)) and made[1:] == lists(X)[1:]


@pytest.mark.parametrize("seed", range(20))
def test_reorder_moves_a_run_only(seed: int) -> None:
    long, one, three, two = lists(reorder(X, 0.6, rng(seed)))
    assert sorted(long) == TEN and one == [7] and sorted(three) == [1, 2, 3] and three == [1, 2, 3] and two == [5, 6]
    moved = [place for place, item in enumerate(long) if place != item]
    assert not moved or max(moved) - min(moved) < 6


def test_starts_places_and_orders_are_uniform() -> None:
    many = ragged(*[TEN] * 5000)
    starts = crop(many, 0.6, rng()).items.reshape(-1, 6)[:, 0]
    assert np.bincount(starts).min() > 900 and starts.max() == 4
    hidden = (mask(many, 0.3, MASK, rng()).items.reshape(-1, 10) == MASK).mean(0)
    assert abs(hidden - 0.3).max() < 0.02
    first = reorder(ragged(*[[0, 1, 2, 3]] * 6000), 0.99, rng()).items.reshape(-1, 4)  # a run of three
    orders, counts = np.unique(first, axis=0, return_counts=True)
    assert len(orders) == 10 and counts.min() > 400, "6 orders at either start, of which 2 coincide"


@pytest.mark.parametrize("name", OPERATORS)
def test_the_input_is_left_alone_and_a_seed_repeats(name: str) -> None:
    before = X.items.copy()
    one, two, three = (OPERATORS[name](X, rng(seed)) for seed in (1, 1, 2))
    assert (X.items == before).all() and lists(one) == lists(two) and lists(one) != lists(three)


def test_co_occurrence_by_hand() -> None:
    """Pairs at most two steps apart: 0-1 three times, 0-2 twice, 1-2 twice, 3 and 4 once; 5 stands alone."""
    similar = most_co_occurring(ragged([0, 1, 2], [1, 0], [2, 0, 1], [3, 4], [5]), 7, window=2)
    assert similar.tolist() == [1, 0, 0, 4, 3, 5, 6]
    assert most_co_occurring(ragged([0, 0, 1, 2, 2]), 3, window=1).tolist() == [1, 0, 1], "not with itself"
    far = most_co_occurring(ragged([0, 9, 8, 7, 6, 5, 4, 3, 2, 1]), 10)
    assert far[0] != 1, "more than five steps apart"


def test_substitute_replaces_about_a_share() -> None:
    similar = np.arange(1, 11, dtype=np.int32)
    many = ragged(*[TEN] * 2000)
    made = substitute(many, 0.3, similar, rng())
    changed = made.items != many.items
    assert abs(changed.mean() - 0.3) < 0.01 and (made.items[changed] == many.items[changed] + 1).all()
    assert lists(substitute(X, 1.0, similar, rng()))[2] == [2, 3, 4]


def test_mixed_puts_each_sequence_through_its_own_operator() -> None:
    def plus(by: int) -> Callable[[np.ndarray], Ragged]:
        return lambda some: Ragged(items=X.take(some).items + by, lengths=X.take(some).lengths)

    made = mixed(np.array([1, 2, 1, 0]), [plus(0), plus(100), plus(200)])
    assert lists(made) == [[i + 100 for i in TEN], [207], [101, 102, 103], [5, 6]]


def test_two_choices_differ_and_all_pairs_are_alike() -> None:
    first, second = two_different(12_000, 3, rng())
    assert (first != second).all()
    assert abs(np.bincount(first * 3 + second, minlength=9)[[1, 2, 3, 5, 6, 7]] - 2000).max() < 200
