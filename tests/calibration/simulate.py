"""Tables of invented methods whose truth is known, made of the ranks of real runs.

A pool holds real runs of one configuration on the same test users. A simulated run mixes them: it has weights of its
own over the pool (its quality, shared by all its users), and each of its users takes rank and list of one run of the
pool by these weights. Users are drawn anew, with replacement, for every table. Methods made this way are identical
but for the seed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.config import SEEDS, Profile
from harness.errors import ConfigError
from harness.metrics import USER_METRICS
from harness.rules import seed_order
from harness.store import open_store
from harness.stored import TrialRow
from harness.values import Int32
from reports.stats import Measured, compare, holm
from reports.table import Contest

METRICS: tuple[tuple[str, int], ...] = (
    *(("hr", k) for k in (1, 5, 10)),
    *(("ndcg", k) for k in (5, 10, 50)),
    *(("cov", k) for k in (1, 5, 10)),
)
CONCENTRATION = 4.0
"""Of the Dirichlet weights: the smaller, the more do simulated runs differ in quality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Real runs of one configuration."""

    rank: Int32
    """[S, V]"""
    top: Int32
    """[S, V, 10]"""
    n_items: int
    words: str
    """Where it comes from."""


def pool_of(
    database: str,
    *,
    study: str | None = None,
    dataset: str | None = None,
    method: str | None = None,
    profile: Profile | None = None,
) -> Pool:
    """The most replicated configuration (of equals, the one on more test users) of all that fit, its first five runs.

    Raises BtsrError for a database that cannot be read, and where nothing fits.
    """
    with open_store(database, read_only=True) as store:
        found: dict[tuple[str, str], list[TrialRow]] = {}
        for row in store.trials(study=study, dataset=dataset, profile=profile):
            if method in {None, row.spec.method} and row.fingerprint is not None:
                found.setdefault((row.group, row.fingerprint), []).append(row)
        if not found:
            asked = ", ".join(word for word in (study, dataset, method, profile) if word) or "any study"
            raise ConfigError(f"{database} has no finished trial of {asked}: name what it has, or drop the option")
        data = {fingerprint: store.data(fingerprint) for _, fingerprint in found}
        place = max(found, key=lambda place: (len(found[place]), data[place[1]].n_test_users))
        rows = sorted(found[place], key=lambda row: seed_order(row.spec.seed))[: len(SEEDS)]
        runs = [store.ranks(row.key, "test") for row in rows]
        spec = rows[0].spec
        return Pool(
            rank=np.stack([run.rank for run in runs]),
            top=np.stack([run.top[:, :10] for run in runs]),
            n_items=data[place[1]].n_items,
            words=(
                f"{len(runs)} runs of {spec.method} on {spec.data.dataset} ({runs[0].rank.shape[0]:,} test users, data "
                f"{place[1][:8]}, profile {spec.profile}, seeds {', '.join(str(row.spec.seed) for row in rows)})"
            ),
        )


def invented_pool(rng: np.random.Generator, n_runs: int = 5, n_users: int = 750, n_items: int = 3000) -> Pool:
    """Users of very different difficulty, runs that agree on most of them, lists of popular items."""
    ease = rng.normal(-2.5, 1.5, n_users) + rng.normal(0, 0.05, (n_runs, 1)) + rng.normal(0, 0.6, (n_runs, n_users))
    hit = rng.random((n_runs, n_users)) < 1 / (1 + np.exp(-ease))
    rank = np.where(hit, rng.geometric(0.2, hit.shape), rng.integers(11, n_items, hit.shape)).astype(np.int32)
    popular = 1.0 / np.arange(1, n_items + 1)
    top = rng.choice(n_items, size=(n_runs, n_users, 10), p=popular / popular.sum()).astype(np.int32)
    return Pool(rank=rank, top=top, n_items=n_items, words=f"{n_runs} invented runs ({n_users:,} test users)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """The runs of one invented method on the users of one table."""

    rank: Int32
    """[R, V]"""
    top: Int32
    """[R, V, 10]"""
    n_items: int

    def measured(self, name: str, k: int) -> Measured:
        """A metric, run by run."""
        seeds = SEEDS[: len(self.rank)]
        if name in USER_METRICS:
            by_user = np.stack([USER_METRICS[name](rank, k) for rank in self.rank])
            return Measured(seeds=seeds, by_seed=by_user.mean(axis=1), by_user=by_user)
        shares = [len(np.unique(top[:, :k][top[:, :k] >= 0])) / self.n_items for top in self.top]
        return Measured(seeds=seeds, by_seed=np.array(shares))


def draw_users(pool: Pool, rng: np.random.Generator) -> NDArray[np.int64]:
    """[V] the users of a table."""
    n_users = pool.rank.shape[1]
    return rng.integers(n_users, size=n_users)


def draw_method(
    pool: Pool, users: NDArray[np.int64], rng: np.random.Generator, n_runs: int = 5, gain: float = 0.0
) -> Simulated:
    """Runs of a method; with probability `gain` a user takes the rank of a hit (at most 10) instead."""
    n_pool = len(pool.rank)
    weights = rng.dirichlet(np.full(n_pool, CONCENTRATION), size=n_runs)
    places = (rng.random((n_runs, len(users), 1)) > weights.cumsum(axis=1)[:, None, :]).sum(axis=2)
    places = np.minimum(places, n_pool - 1)
    rank = pool.rank[places, users]
    if gain:
        hits = pool.rank[(pool.rank >= 1) & (pool.rank <= 10)]
        rank = np.where(rng.random(rank.shape) < gain, rng.choice(hits, size=rank.shape), rank)
    return Simulated(rank=rank.astype(np.int32), top=pool.top[places, users], n_items=pool.n_items)


def contests(ours: Simulated, theirs: Simulated, resamples: int) -> dict[tuple[str, int], Contest]:
    """One table row by row, tested and corrected as the harness does it."""
    found = {
        metric: compare(ours.measured(*metric), theirs.measured(*metric), resamples=resamples, with_interval=False)
        for metric in METRICS
    }
    adjusted = holm([one.p for one in found.values()])
    return {
        metric: Contest(against="other", comparison=one, p_holm=p)
        for (metric, one), p in zip(found.items(), adjusted, strict=True)
    }
