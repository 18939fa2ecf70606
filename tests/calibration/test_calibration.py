"""The simulation does what it says; the rates themselves are the make target's work (1,000 tables)."""

from pathlib import Path

import numpy as np
import pytest

from harness.errors import ConfigError
from reports.stats import LEVEL
from tests.calibration.calibrate import RUNS, Rate, null_tables, power_curve, selected_tables
from tests.calibration.simulate import METRICS, contests, draw_method, draw_users, invented_pool, pool_of
from tests.reports.world import data_config, result, spec, split_of, write


def test_simulated_runs_are_made_of_the_pool() -> None:
    rng = np.random.default_rng(0)
    pool = invented_pool(rng, n_runs=3, n_users=50)
    users = draw_users(pool, rng)
    made = draw_method(pool, users, rng, n_runs=4)
    assert made.rank.shape == (4, 50) and made.top.shape == (4, 50, 10)
    assert (made.rank[:, :, None] == pool.rank.T[users][None]).any(axis=2).all()
    assert draw_method(pool, users, rng, gain=1.0).measured("hr", 10).by_seed.tolist() == [1.0] * 5


def test_a_table_has_nine_rows_and_is_corrected() -> None:
    rng = np.random.default_rng(1)
    pool = invented_pool(rng, n_users=100)
    users = draw_users(pool, rng)
    found = contests(draw_method(pool, users, rng), draw_method(pool, users, rng), 99)
    assert tuple(found) == METRICS
    for contest in found.values():
        assert contest.p_holm is not None and contest.comparison.p is not None
        assert contest.p_holm >= contest.comparison.p


def test_the_pool_is_the_most_replicated_configuration_that_fits(tmp_path: Path) -> None:
    split = split_of(data_config(), 40)
    three = [spec("bt_sr", alpha=0.2, seed=seed) for seed in (5, 37, 1235)]
    two = [spec(seed=seed) for seed in (1235, 37)]
    runs = [result(s, split, valid=1, test=1) for s in (*three, *two)]
    database = str(write(tmp_path / "btsr.db", "mine", (*three, *two), runs, [split]))
    pool = pool_of(database)
    assert pool.words.startswith("3 runs of bt_sr on ml1m (40 test users") and "seeds 1235, 37, 5)" in pool.words
    assert (pool.rank == np.stack([run.test.rank for run in reversed(runs[:3])])).all()
    assert pool.top.shape == (3, 40, 10)
    assert pool_of(database, study="mine", dataset="ml1m", method="sasrec_ce").rank.shape == (2, 40)
    with pytest.raises(ConfigError, match="has no finished trial of yelp, paper"):
        pool_of(database, dataset="yelp", profile="paper")


def test_rates() -> None:
    rate = Rate(what="x", times=5, of=100)
    assert rate.share == 0.05 and rate.span[0] < 0.05 < rate.span[1]


def test_few_false_marks_and_a_large_gain_is_found() -> None:
    """Thirty tables: a rate far above 5 % would show; the exact one is measured by `make calibrate`."""
    rng = np.random.default_rng(2)
    pool = invented_pool(rng, n_users=200)
    for n_runs in RUNS:
        rates = {rate.what: rate for rate in null_tables(pool, 30, 99, rng, n_runs)}
        assert rates["both tests have p < 0.05 (two-sided)"].span[0] <= LEVEL
        assert rates["a table has any difference significant after Holm"].span[0] <= LEVEL
    curve = power_curve(pool, 4, 199, rng)
    assert curve[0][1] <= 0.5 and curve[-1][0] > 0.1


def test_choosing_on_test_claims_more_than_choosing_on_validation() -> None:
    rng = np.random.default_rng(3)
    rates, improvements = selected_tables(invented_pool(rng, n_users=200), 60, rng)
    assert improvements["test"] > improvements["validation"]
    assert rates[0].times > rates[2].times
