"""Spread over seeds and over users, and tests of a difference between two methods (spec 6.9).

The unit of pairing is (user, seed): the same test users are evaluated after training with the same seeds. Seeds and
users are crossed, so both are sources of chance. Three views of one difference: the t test over seeds (users fixed),
the permutation test over users (trained models fixed), and the bootstrap over both. A difference is called
significant only if both tests say so (`Comparison.p`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from harness.metrics import USER_METRICS
from harness.values import UserRanks
from reports.names import count

Float64 = NDArray[np.float64]

LEVEL = 0.05
POWER = 0.8
RESAMPLES = 10_000
RESAMPLES_PER_CELL = 2_000
"""Of the interval of one configuration's mean in tables and pictures of many: one number has one interval."""
STREAM = 20_26
"""Resampling draws from its own generator with this seed: a report gives the same numbers every time."""
CHUNK = 8_000_000
"""Resampled counts held at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Replications of one number."""

    mean: float
    std: float | None
    """Sample standard deviation (ddof 1); None for a single value."""
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One metric of one configuration, run by run."""

    seeds: tuple[int, ...]
    by_seed: Float64
    """[S] the metric of every run."""
    by_user: Float64 | None = None
    """[S, V] every user's value, whose mean over users is `by_seed`; None for a metric of all lists together (cov)."""

    def of(self, seeds: Sequence[int]) -> "Measured":
        """The same, only these seeds, in this order."""
        at = [self.seeds.index(seed) for seed in seeds]
        users = None if self.by_user is None else self.by_user[at]
        return Measured(seeds=tuple(seeds), by_seed=self.by_seed[at], by_user=users)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % interval, and what it generalises over."""

    low: float
    high: float
    over: Literal["seeds and users", "seeds", "users"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One method against another on the seeds that both have."""

    n: int
    """Common seeds."""
    difference: float
    """Mean of ours minus mean of theirs."""
    interval: Interval | None
    """Of the difference; None where there is nothing to resample."""
    p_seeds: float | None
    """Two-sided paired t test over seeds, the paper's; None for fewer than two."""
    p_users: float | None
    """Two-sided paired permutation test over users, where users differ Welch's t test; None for metrics that are no
    mean over users."""
    p_exact: float | None
    """Two-sided exact signed-rank test over seeds: no assumption of normality, but see `least_exact`."""
    detectable: float | None
    """The true difference that the t test finds with probability 0.8, given the observed spread."""

    @property
    def p(self) -> float | None:
        """The larger of the tests over seeds and over users: small only if neither new seeds nor new users explain it.

        None where there are not enough runs for the test over seeds.
        """
        if self.p_seeds is None:
            return None
        return self.p_seeds if self.p_users is None else max(self.p_seeds, self.p_users)

    @property
    def note(self) -> str:
        """What the number of runs does not allow; empty if nothing."""
        if self.n < 2:
            return f"not enough runs: {count(self.n, 'common seed')}, a test over seeds needs 2"
        if least_exact(self.n) >= LEVEL:
            return (
                f"not enough runs for an exact test: {self.n} runs cannot reach p < {least_exact(self.n):g}; "
                "the t test assumes normal differences"
            )
        return ""


def summarise(values: Sequence[float] | Float64) -> Summary:
    """Mean, sample standard deviation and count of at least one value."""
    assert len(values), "nothing to summarise"
    data = np.asarray(values, np.float64)
    return Summary(mean=float(data.mean()), std=float(data.std(ddof=1)) if len(data) > 1 else None, n=len(data))


def user_standard_error(replications: Sequence[UserRanks], metric: str, k: int) -> float | None:
    """`standard_error` of a metric that is a mean over users (hr, ndcg, mrr); None for fewer than two users."""
    assert replications
    values = np.stack([USER_METRICS[metric](ranks.rank, k) for ranks in replications])
    return standard_error(values) if values.shape[1] > 1 else None


def standard_error(by_user: Float64 | None) -> float:
    """Over the users, of the mean of [S, V] values, each user's averaged over the seeds first; 0 where not defined.

    This is the uncertainty from having only so many test users, which the deviation over seeds does not contain.
    """
    if by_user is None or by_user.shape[1] < 2:
        return 0.0
    values = by_user.mean(axis=0)
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def same(values: Float64) -> bool:
    """Whether all values are equal but for rounding."""
    return float(np.ptp(values)) <= 1e-12 * max(float(np.abs(values).max()), 1e-300)


def paired_t(differences: Float64) -> float | None:
    """p of the two-sided t test that the mean of [S] differences is 0; None for fewer than two.

    Without any variance it is 1 if the differences are 0, else the least of an exact test (`least_exact`). Spec 6.9 has
    0 there: but hits and coverage are counts, of which two runs with the same small difference are common.
    """
    if len(differences) < 2:
        return None
    if same(differences):
        return least_exact(len(differences)) if abs(float(differences.mean())) > 1e-15 else 1.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def least_exact(runs: int) -> float:
    """The smallest p that an exact two-sided test can reach with so many runs: 2 / 2^n (5 runs: 0.0625)."""
    return min(1.0, 2.0 / 2.0**runs)


def exact_signed_rank(differences: Float64) -> float | None:
    """p of the two-sided signed-rank test over all 2^S sign patterns of [S] differences; None for fewer than two."""
    if len(differences) < 2:
        return None
    if not np.any(differences):
        return 1.0
    enough = 2 ** len(differences) if len(differences) <= 13 else RESAMPLES
    method = stats.PermutationMethod(n_resamples=enough, rng=np.random.default_rng(STREAM))
    return float(stats.wilcoxon(differences, zero_method="pratt", method=method).pvalue)


def paired_permutation(differences: Float64, *, resamples: int = RESAMPLES) -> float:
    """p of the two-sided test that exchanges the two methods user by user, of differences [S, V].

    A user's runs are exchanged together: they share the user. Users with the same sum over seeds are drawn together
    (the signs of n equal users sum to a binomial); where most sums are different each user has a random bit. 10,000
    resamples of 20,000 users take a second at most.
    """
    size, counts = np.unique(np.abs(differences.sum(axis=0).round(12)), return_counts=True)
    size, counts = size[size > 0], counts[size > 0]
    if not len(size):
        return 1.0
    observed = abs(float(differences.sum()))
    rng = np.random.default_rng(STREAM)
    alone = _mostly_distinct(counts)
    if alone:
        size = np.repeat(size, counts)
    extreme, step = 0, max(1, CHUNK // len(size))
    for start in range(0, resamples, step):
        shape = min(step, resamples - start), len(size)
        if alone:
            bits = np.unpackbits(rng.integers(256, size=(shape[0], -(-shape[1] // 8)), dtype=np.uint8), axis=1)
            ups = bits[:, : shape[1]]
            totals = 2 * (ups @ size) - size.sum()
        else:
            totals = (2 * rng.binomial(counts, 0.5, size=shape) - counts) @ size
        extreme += int((np.abs(totals) >= observed - 1e-9).sum())
    return (extreme + 1) / (resamples + 1)


def _mostly_distinct(counts: NDArray[np.int64]) -> bool:
    """Whether drawing equal users together saves nothing, of users that fall into patterns of these counts."""
    return bool(2 * len(counts) > counts.sum())


def _resampled(counts: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """[size, P] how often each pattern of users is drawn, of `counts` [P] as many users as there are."""
    n_users = int(counts.sum())
    if not _mostly_distinct(counts):
        return rng.multinomial(n_users, counts / n_users, size=size)
    owner = np.repeat(np.arange(len(counts)), counts)
    drawn = (owner[rng.integers(n_users, size=n_users)] for _ in range(size))
    return np.stack([np.bincount(users, minlength=len(counts)) for users in drawn])


def bootstrap_means(values: Float64, minus: Float64 | None = None, *, resamples: int = RESAMPLES) -> Float64:
    """[R] means of [S, V] values with seeds resampled, then users; users are drawn once for all seeds of a resample,
    because every run is evaluated on the same users. `minus` [S, W] is what other users had with the same seeds: its
    means are subtracted, with the same seeds drawn and users of its own.

    Drawing S of S seeds shows only (S-1)/S of their variance, a fifth less with five runs: the deviation of the drawn
    weights is widened by sqrt(S / (S-1)). With one seed only users are resampled. Users with the same values are
    drawn together by a multinomial, where there are many such, which changes nothing but the time.
    """
    n_seeds = len(values)
    blocks = [
        (sign, *np.unique(block, axis=1, return_counts=True))
        for sign, block in ((1, values), (-1, minus))
        if block is not None
    ]
    rng = np.random.default_rng(STREAM)
    out, step = np.empty(resamples), max(1, CHUNK // max(len(counts) for _, _, counts in blocks))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        means = np.zeros((size, n_seeds))
        for sign, patterns, counts in blocks:
            means += sign * (_resampled(counts, size, rng) @ patterns.T / counts.sum())
        drawn = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=size) / n_seeds
        widen = np.sqrt(n_seeds / (n_seeds - 1)) if n_seeds > 1 else 1.0
        out[start : start + size] = (means * (1 / n_seeds + (drawn - 1 / n_seeds) * widen)).sum(axis=1)
    return out


def interval(measured: Measured, *, resamples: int = RESAMPLES) -> Interval | None:
    """95 % interval of a mean or of a mean difference.

    With users: the bootstrap over seeds and users, as wide as few seeds ask (`_middle`). Without (cov): Student's t
    over seeds, because a resample of users always has fewer distinct users, hence less coverage, than the users
    themselves. None where neither is possible, and without users where all runs have the same value: that so few have
    it says nothing of the next.
    """
    users = measured.by_user
    if users is not None and users.shape[1] > 1:
        return _middle(bootstrap_means(users, resamples=resamples), measured.by_seed, [users.mean(axis=0)])
    if len(measured.seeds) < 2 or same(measured.by_seed):
        return None
    spread = summarise(measured.by_seed)
    assert spread.std is not None
    half = float(stats.t.ppf(1 - LEVEL / 2, spread.n - 1)) * spread.std / np.sqrt(spread.n)
    return Interval(low=spread.mean - half, high=spread.mean + half, over="seeds")


def _middle(means: Float64, by_seed: Float64, by_user: Sequence[Float64]) -> Interval:
    """The 95 % in the middle of resampled means, from their centre wider by t over normal quantile.

    The degrees of freedom are Welch and Satterthwaite's of the two sources of chance: means of the [S] runs, and of
    the users (of each side, where users differ). Where users are most of it nothing changes; where seeds are, it is
    about Student's t over the seeds. (Simulated, seeds having twice to four times the users' standard error: two to
    five runs cover 87 % to 95 %, and 77 % to 88 % without this.)
    """
    n_seeds, centre = len(by_seed), float(by_seed.mean())
    low, high = np.quantile(means, (LEVEL / 2, 1 - LEVEL / 2))
    wider = 1.0
    if n_seeds > 1:
        samples = [sample for sample in (by_seed, *by_user) if len(sample) > 1]
        parts = [(float(sample.var(ddof=1)) / len(sample), len(sample) - 1) for sample in samples]
        total = sum(part for part, _ in parts)
        if total > 0:
            freedom = total**2 / sum(part**2 / degrees for part, degrees in parts)
            wider = float(stats.t.ppf(1 - LEVEL / 2, freedom) / stats.norm.ppf(1 - LEVEL / 2))
    return Interval(
        low=centre + wider * (float(low) - centre),
        high=centre + wider * (float(high) - centre),
        over="users" if n_seeds == 1 else "seeds and users",
    )


def detectable_difference(differences: Float64, *, power: float = POWER) -> float | None:
    """The true mean difference that the paired t test (two-sided, 0.05) finds with this probability.

    Uses the sample standard deviation of the [S] differences; None for fewer than two, and where they show none.
    """
    if len(differences) < 2 or same(differences):
        return None
    std = float(differences.std(ddof=1))
    n = len(differences)
    return std * float(TTestPower().solve_power(nobs=n, alpha=LEVEL, power=power, alternative="two-sided"))


def difference(ours: Measured, theirs: Measured) -> Measured | None:
    """Ours minus theirs, run by run and user by user, on the seeds that both have; None without a common seed."""
    common = [seed for seed in ours.seeds if seed in theirs.seeds]
    if not common:
        return None
    a, b = ours.of(common), theirs.of(common)
    users = None if a.by_user is None or b.by_user is None else a.by_user - b.by_user
    return Measured(seeds=a.seeds, by_seed=a.by_seed - b.by_seed, by_user=users)


def compare(ours: Measured, theirs: Measured, *, resamples: int = RESAMPLES, with_interval: bool = True) -> Comparison:
    """Everything that can be said of the difference between two configurations on the same test users.

    `with_interval=False` leaves out the bootstrap, the slow part, where only the tests are needed.
    """
    gap = difference(ours, theirs)
    if gap is None:
        return Comparison(
            n=0,
            difference=float(ours.by_seed.mean() - theirs.by_seed.mean()),
            interval=None,
            p_seeds=None,
            p_users=None,
            p_exact=None,
            detectable=None,
        )
    return Comparison(
        n=len(gap.seeds),
        difference=float(gap.by_seed.mean()),
        interval=interval(gap, resamples=resamples) if with_interval else None,
        p_seeds=paired_t(gap.by_seed),
        p_users=None if gap.by_user is None else paired_permutation(gap.by_user, resamples=resamples),
        p_exact=exact_signed_rank(gap.by_seed),
        detectable=detectable_difference(gap.by_seed),
    )


def compare_apart(ours: Measured, theirs: Measured, *, resamples: int = RESAMPLES) -> Comparison:
    """The same of two configurations whose test users are others: runs pair by seed, users do not.

    Over users Welch's t test of each user's mean over the common seeds; in the bootstrap each side draws its own.
    """
    a_users, b_users = ours.by_user, theirs.by_user
    found = compare(replace(ours, by_user=None), replace(theirs, by_user=None), with_interval=a_users is None)
    if a_users is None or b_users is None or not found.n:
        return found
    common = [seed for seed in ours.seeds if seed in theirs.seeds]
    a, b = ours.of(common).by_user, theirs.of(common).by_user
    assert a is not None and b is not None
    return replace(
        found,
        interval=_middle(
            bootstrap_means(a, b, resamples=resamples),
            a.mean(axis=1) - b.mean(axis=1),
            [a.mean(axis=0), b.mean(axis=0)],
        ),
        p_users=_welch(a.mean(axis=0), b.mean(axis=0)),
    )


def _welch(ours: Float64, theirs: Float64) -> float | None:
    """p of Welch's two-sided t test of two samples; None where one has a single value."""
    if min(len(ours), len(theirs)) < 2:
        return None
    if same(ours) and same(theirs):  # no variance on either side
        return 1.0 if same(np.concatenate((ours, theirs))) else 0.0
    return float(stats.ttest_ind(ours, theirs, equal_var=False).pvalue)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p of a family of tests; those that could not be made (None) are not part of it."""
    made = [value for value in values if value is not None]
    adjusted = iter(multipletests(made, method="holm")[1].tolist() if made else [])
    return [None if value is None else next(adjusted) for value in values]
