"""Spread, intervals and tests: by hand, against scipy and statsmodels directly, and what five runs cannot do."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from harness.values import UserRanks
from reports import stats
from reports.stats import Float64, Interval, Measured, compare, holm, interval, paired_t, summarise, user_standard_error

SEEDS = (1235, 37, 2451, 12, 3425)


def _ranks(rank: list[int]) -> UserRanks:
    return UserRanks(rank=np.array(rank, np.int32), top=np.zeros((len(rank), 50), np.int32))


def _measured(by_user: Float64, seeds: tuple[int, ...] = SEEDS) -> Measured:
    return Measured(seeds=seeds[: len(by_user)], by_seed=by_user.mean(axis=1), by_user=by_user)


def _seeds_only(*values: float) -> Measured:
    return Measured(seeds=SEEDS[: len(values)], by_seed=np.array(values))


def _hits(rng: np.random.Generator, n_seeds: int, n_users: int, share: float = 0.1) -> Float64:
    """Hits of users with habits of their own and runs with quality of their own."""
    logit = rng.normal(np.log(share), 1.0, n_users)[None, :] + rng.normal(0, 0.1, n_seeds)[:, None]
    return (rng.random((n_seeds, n_users)) < 1 / (1 + np.exp(-logit))).astype(np.float64)


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


def test_paired_t_by_hand_and_by_scipy() -> None:
    """Differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t = 3.4641 with 2 degrees of freedom."""
    assert paired_t(np.array([1.0, 2.0, 3.0])) == pytest.approx(2 * scipy_stats.t.sf(2 * math.sqrt(3), 2))
    a, b = np.random.default_rng(0).normal(size=(2, 5))
    assert paired_t(a - b) == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)


def test_paired_t_without_variance_or_runs() -> None:
    """Of counts, so few equal differences are no proof: 2 of 2^3 sign patterns are as extreme."""
    assert paired_t(np.array([0.1, 0.1, 0.1])) == 0.25
    assert paired_t(np.array([0.3 - 0.2, 0.2 - 0.1])) == 0.5  # equal but for rounding
    assert paired_t(np.zeros(5)) == 1.0
    assert paired_t(np.array([0.3])) is None


def test_five_runs_cannot_reach_less_than_a_sixteenth() -> None:
    better = _seeds_only(0.11, 0.12, 0.13, 0.14, 0.16)
    worse = _seeds_only(0.10, 0.10, 0.10, 0.10, 0.10)
    found = compare(better, worse)
    assert found.p_exact == 0.0625 == stats.least_exact(5)
    assert found.p_seeds is not None and found.p_seeds < 0.05
    assert found.note.startswith("not enough runs for an exact test: 5 runs cannot reach p < 0.0625")
    six = np.arange(1.0, 7.0)
    assert stats.exact_signed_rank(six) == pytest.approx(scipy_stats.wilcoxon(six, method="exact").pvalue)
    assert stats.exact_signed_rank(six) == pytest.approx(2 / 64)


def test_signed_rank_of_nothing() -> None:
    assert stats.exact_signed_rank(np.zeros(4)) == 1.0
    assert stats.exact_signed_rank(np.ones(1)) is None


def test_permutation_by_hand() -> None:
    """Differences 1, 1, 1, 1, 0: all four equal with probability 2/16; equal users are drawn together."""
    p = stats.paired_permutation(np.array([[1.0, 1.0, 1.0, 1.0, 0.0]]))
    assert p == pytest.approx(2 / 16, abs=0.015)
    assert stats.paired_permutation(np.zeros((2, 7))) == 1.0
    both_ways = np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
    assert stats.paired_permutation(both_ways) == 1.0  # every user's runs cancel


def test_permutation_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    gap = _hits(rng, 3, 400, 0.15) - _hits(rng, 3, 400, 0.1)
    expected = scipy_stats.permutation_test(
        (gap.mean(axis=0),),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        rng=rng,
    ).pvalue
    assert 0.001 < expected < 0.9
    assert stats.paired_permutation(gap) == pytest.approx(expected, abs=0.015)


def test_bootstrap_agrees_with_scipy_over_users() -> None:
    rng = np.random.default_rng(4)
    values = _hits(rng, 1, 500, 0.2)
    expected = scipy_stats.bootstrap((values[0],), np.mean, method="percentile", n_resamples=9999, rng=rng)
    found = interval(_measured(values))
    assert found is not None and found.over == "users"
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.003)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.003)


def test_bootstrap_has_the_variance_of_crossed_seeds_and_users() -> None:
    """Against a plain loop that draws seeds and users as indices, seeds widened by sqrt(5/4)."""
    rng = np.random.default_rng(5)
    values = _hits(rng, 5, 300, 0.2) + np.array([0.0, 0.02, 0.04, 0.06, 0.08])[:, None]
    plain = []
    for _ in range(4000):
        users = rng.integers(300, size=300)
        weights = 0.2 + (np.bincount(rng.integers(5, size=5), minlength=5) / 5 - 0.2) * math.sqrt(5 / 4)
        plain.append(float(weights @ values[:, users].mean(axis=1)))
    found = stats.bootstrap_means(values)
    assert found.mean() == pytest.approx(values.mean(), abs=0.001)
    assert found.std() == pytest.approx(np.std(plain), rel=0.06)


def test_seeds_without_user_noise_show_their_whole_variance() -> None:
    """All users alike: what is left is the seeds' sample variance over S."""
    seeds = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    found = stats.bootstrap_means(np.repeat(seeds[:, None], 50, axis=1))
    assert found.std() == pytest.approx(seeds.std(ddof=1) / math.sqrt(5), rel=0.03)


def test_an_interval_of_seeds_alone_is_as_wide_as_students_t() -> None:
    """Users all alike: the bootstrap of three runs alone would be less than half as wide."""
    seeds = np.array([0.1, 0.2, 0.4])
    found = interval(_measured(np.repeat(seeds[:, None], 50, axis=1)))
    low, high = scipy_stats.t.interval(0.95, 2, loc=seeds.mean(), scale=scipy_stats.sem(seeds))
    assert found is not None
    assert found.high - found.low == pytest.approx(high - low, rel=0.12)  # 27 draws of three seeds are not normal


def test_an_interval_is_no_wider_than_the_bootstrap_where_users_are_all_the_chance() -> None:
    values = np.repeat(_hits(np.random.default_rng(10), 1, 400, 0.2), 3, axis=0)
    low, high = np.quantile(stats.bootstrap_means(values), (0.025, 0.975))
    found = interval(_measured(values))
    assert found is not None
    assert found.high - found.low == pytest.approx(high - low, rel=0.01)


def test_an_interval_without_any_chance_is_a_point() -> None:
    found = interval(_measured(np.full((2, 5), 0.25)))
    assert found is not None and (found.low, found.high) == (pytest.approx(0.25), pytest.approx(0.25))


def test_intervals_cover_what_they_say_where_seeds_are_most_of_the_chance() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(200):
        users, seeds = rng.normal(0, 1, 100), rng.normal(0, 0.5, 3)
        found = interval(_measured(users + seeds[:, None]), resamples=300)
        covered += found is not None and found.low <= 0.0 <= found.high
    assert 0.89 < covered / 200 < 0.99  # without the widening 0.86


def test_interval_of_coverage_is_students_t_over_seeds() -> None:
    values = [0.30, 0.31, 0.33]
    low, high = scipy_stats.t.interval(0.95, 2, loc=np.mean(values), scale=scipy_stats.sem(values))
    found = interval(_seeds_only(*values))
    assert found == Interval(low=pytest.approx(low), high=pytest.approx(high), over="seeds")
    assert found.low <= 0.31 <= found.high < 0.5
    assert interval(_seeds_only(0.3)) is None and interval(_seeds_only(0.3, 0.3)) is None


def test_detectable_difference_is_found_with_the_promised_power() -> None:
    """From statsmodels; checked by simulation at five runs."""
    rng = np.random.default_rng(6)
    gap = np.array([0.01, -0.01, 0.02, 0.0, -0.02])
    size = stats.detectable_difference(gap)
    assert size is not None
    draws = rng.normal(size, gap.std(ddof=1), size=(20_000, 5))
    assert np.mean(scipy_stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.01)
    assert stats.detectable_difference(gap[:1]) is None


def test_compare_pairs_by_seed_whatever_the_order() -> None:
    rng = np.random.default_rng(7)
    a, b = _hits(rng, 5, 200, 0.3), _hits(rng, 5, 200, 0.1)
    turned = Measured(seeds=SEEDS[::-1], by_seed=b[::-1].mean(axis=1), by_user=b[::-1])
    assert compare(_measured(a), turned) == compare(_measured(a), _measured(b))
    found = compare(_measured(a), _measured(b))
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert found.p_users is not None and found.p_seeds is not None and found.p == max(found.p_users, found.p_seeds)
    assert found.interval is not None and found.interval.low < found.difference < found.interval.high


def test_compare_uses_common_seeds_only() -> None:
    rng = np.random.default_rng(8)
    a, b = _hits(rng, 5, 50), _hits(rng, 5, 50)
    fewer = Measured(seeds=SEEDS[1:2], by_seed=b[1:2].mean(axis=1), by_user=b[1:2])
    one = compare(_measured(a), fewer)
    assert (one.n, one.p, one.p_seeds, one.detectable) == (1, None, None, None)
    assert one.note.startswith("not enough runs: 1 common seed,") and one.interval is not None
    strange = Measured(seeds=(7,), by_seed=np.array([0.5]), by_user=b[:1])
    none = compare(_measured(a), strange)
    assert (none.n, none.interval, none.p) == (0, None, None) and "0 common seeds" in none.note


def test_coverage_is_compared_over_seeds_alone() -> None:
    found = compare(_seeds_only(0.3, 0.32, 0.31), _seeds_only(0.2, 0.21, 0.25))
    assert found.p_users is None and found.p == found.p_seeds
    assert found.interval is not None and found.interval.over == "seeds"


def test_holm_is_that_of_statsmodels_and_skips_what_was_not_tested() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    values = [0.001, 0.2, 0.013, 0.04]
    assert holm(values) == pytest.approx(list(multipletests(values, method="holm")[1]))
    assert holm([None]) == [None] and holm([]) == []


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_never_makes_a_difference_more_significant(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(new is not None and old <= new <= 1 for old, new in zip(values, adjusted, strict=True))


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_exchanging_the_methods_turns_the_sign_and_keeps_the_tests(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = _measured(_hits(rng, 3, 40, 0.3)), _measured(_hits(rng, 3, 40, 0.2))
    there, back = compare(a, b, resamples=50), compare(b, a, resamples=50)
    assert there.difference == -back.difference
    assert (there.p_seeds, there.p_users, there.p_exact) == (back.p_seeds, back.p_users, back.p_exact)


def test_ten_thousand_resamples_of_a_large_table_are_as_wide_as_its_standard_error_asks() -> None:
    rng = np.random.default_rng(9)
    hits = _hits(rng, 10, 20_000, 0.1)
    gains = hits / np.log2(rng.integers(2, 12, size=hits.shape))  # ndcg@10
    found = compare(_measured(gains[:5]), _measured(gains[5:]), resamples=10_000)
    differences = gains[:5] - gains[5:]
    alone = 2 * 1.96 * differences.std() / np.sqrt(differences.size)  # as if no two rows shared a seed or a user
    assert (
        found.p is not None
        and found.interval is not None
        and found.interval.low <= found.difference <= found.interval.high
    )
    assert alone < found.interval.high - found.interval.low < 4 * alone
