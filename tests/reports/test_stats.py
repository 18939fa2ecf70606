"""Spread over seeds and over users, by hand."""

import math

import numpy as np
import pytest

from harness.values import UserRanks
from reports.stats import summarise, user_standard_error


def _ranks(rank: list[int]) -> UserRanks:
    return UserRanks(rank=np.array(rank, np.int32), top=np.zeros((len(rank), 50), np.int32))


def test_sample_standard_deviation() -> None:
    spread = summarise([1.0, 2.0, 4.0])
    assert (spread.mean, spread.n) == (pytest.approx(7 / 3), 3)
    assert spread.std == pytest.approx(math.sqrt(7 / 3))  # ddof 1


def test_one_value_has_no_spread() -> None:
    spread = summarise([0.25])
    assert (spread.mean, spread.std, spread.n) == (0.25, None, 1)


def test_nothing_to_summarise_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        summarise([])


def test_standard_error_over_users() -> None:
    """Hits of four users: 1, 0, 0, 0: mean 0.25, sample variance 0.25, standard error 0.25."""
    assert user_standard_error([_ranks([1, 11, 0, 30])], "hr", 10) == pytest.approx(0.25)


def test_standard_error_averages_each_user_over_seeds_first() -> None:
    """Users' means over two seeds: 1, 0.5, 0.5, 0: sample variance 1/6."""
    seeds = [_ranks([1, 1, 0, 0]), _ranks([1, 0, 1, 0])]
    assert user_standard_error(seeds, "hr", 10) == pytest.approx(math.sqrt(1 / 6) / 2)


def test_standard_error_on_750_users_is_what_the_binomial_says() -> None:
    rank = [1] * 75 + [0] * 675
    expected = math.sqrt(0.1 * 0.9 / 749)
    assert user_standard_error([_ranks(rank)], "hr", 10) == pytest.approx(expected)


def test_one_user_has_no_standard_error() -> None:
    assert user_standard_error([_ranks([1])], "ndcg", 10) is None
