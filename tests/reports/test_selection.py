"""The rule that chooses a configuration, in Python and in the view `results`."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.config import SEEDS, TrialSpec
from harness.store import Store, open_store
from reports.groups import Group, choose, comparable
from reports.results import Request, gather
from tests.reports import world
from tests.store import fake

SPLIT = fake.split()
LATE = 7  # a seed outside the five


def database(folder: Path, seeds: dict[float, tuple[int, ...]]) -> Path:
    """Finished BT-SR trials: alpha -> its seeds."""
    path = folder / "btsr.db"
    specs = [fake.spec(alpha=alpha, seed=seed) for alpha, mine in seeds.items() for seed in mine]
    return world.write(path, "alpha_lambda", specs, [fake.result(spec, SPLIT) for spec in specs], [SPLIT])


def chosen_by_view(path: Path) -> tuple[set[float], set[float]]:
    """alpha of the groups in first place, and of those that took no part."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT alpha, place_by_validation, test_ndcg_10 FROM results").fetchall()
    connection.close()
    assert all((tested is not None) == (place == 1) for _, place, tested in rows)
    return {alpha for alpha, place, _ in rows if place == 1}, {alpha for alpha, place, _ in rows if place is None}


def groups_of(store: Store) -> tuple[Group, ...]:
    evidence = gather(store, Request(study="alpha_lambda", datasets=("synthetic",)))
    return evidence.groups("synthetic", lambda spec: True)


def validation(path: Path, spec: TrialSpec) -> float:
    with open_store(path, read_only=True) as store:
        return store.validation().value(spec.key, "ndcg", 10)


def test_a_single_run_can_win_against_a_line_of_five(tmp_path: Path) -> None:
    """On the seed they share, and only there."""
    alphas = [0.05 * step for step in range(1, 9)]
    path = database(tmp_path, {alpha: SEEDS if alpha == alphas[0] else SEEDS[:1] for alpha in alphas})
    scores = {alpha: validation(path, fake.spec(alpha=alpha)) for alpha in alphas}
    best = max(scores, key=lambda alpha: scores[alpha])
    assert best != alphas[0], "these invented ranks make a single run the best"
    with open_store(path, read_only=True) as store:
        groups = groups_of(store)
        choice = choose(groups, store.validation())
    assert choice.group.spec.aux.alpha == best and choice.score == scores[best]
    assert (choice.compared, choice.candidates, choice.left_out) == (SEEDS[:1], len(alphas), 0)


@pytest.mark.parametrize("draw", range(12))
def test_the_view_and_the_reports_choose_the_same(draw: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(draw)
    pool = (*SEEDS[:3], LATE)
    seeds = {
        alpha: tuple(sorted(rng.choice(pool, rng.integers(1, 5), replace=False).tolist())) for alpha in (0.1, 0.2, 0.3)
    }
    path = database(tmp_path, seeds | {0.4: (LATE,)})
    with open_store(path, read_only=True) as store:
        groups = groups_of(store)
        choice = choose(groups, store.validation())
        there, common = comparable(groups)
    first, out = chosen_by_view(path)
    assert first == {choice.group.spec.aux.alpha}
    assert out == {group.spec.aux.alpha for group in groups} - {group.spec.aux.alpha for group in there}
    assert common and all(set(common) <= set(group.seeds) for group in there)
    assert choice.left_out == len(out)


@pytest.mark.parametrize("more", [0.1, 0.2])
def test_of_equals_the_one_with_more_runs_is_chosen(more: float, tmp_path: Path) -> None:
    """As where an auxiliary term begins after the best epoch, so that its weight makes no difference."""
    runs = [
        replace(fake.result(fake.spec(alpha=0.3, seed=seed), SPLIT), spec=fake.spec(alpha=alpha, seed=seed))
        for alpha in (0.1, 0.2)
        for seed in SEEDS[: 3 if alpha == more else 1]
    ]
    path = world.write(tmp_path / "btsr.db", "alpha_lambda", [run.spec for run in runs], runs, [SPLIT])
    with open_store(path, read_only=True) as store:
        choice = choose(groups_of(store), store.validation())
    assert (choice.group.spec.aux.alpha, choice.candidates, choice.compared) == (more, 2, SEEDS[:1])
    assert chosen_by_view(path) == ({more}, set())


def test_alpha_zero_takes_part_in_the_view_only_alone(tmp_path: Path) -> None:
    assert chosen_by_view(database(tmp_path, {0.0: SEEDS, 0.1: SEEDS[:1]})) == ({0.1}, {0.0})
    alone = tmp_path / "alone"
    alone.mkdir()
    assert chosen_by_view(database(alone, {0.0: SEEDS[:2]})) == ({0.0}, set())


def test_seeds_come_in_the_order_of_the_five(tmp_path: Path) -> None:
    path = database(tmp_path, {0.1: (LATE, *reversed(SEEDS))})
    with open_store(path, read_only=True) as store:
        (group,) = groups_of(store)
    assert group.seeds == (*SEEDS, LATE)


def test_a_view_of_another_version_is_replaced_by_the_next_driver(tmp_path: Path) -> None:
    path = database(tmp_path, {0.1: SEEDS[:1]})
    connection = sqlite3.connect(path)
    connection.executescript(
        "DROP VIEW results; CREATE VIEW results AS SELECT 1 AS one; DELETE FROM meta WHERE name = 'results_view'"
    )
    connection.close()
    with open_store(path, create=True) as store, store.driver_lock():
        pass
    assert chosen_by_view(path) == ({0.1}, set())
