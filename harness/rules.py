"""How a setting is picked by validation numbers alone, in reports and for serving: rules, Pareto front, fair seeds."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.config import SEEDS, TrialSpec
from harness.errors import ConfigError, unknown_name
from harness.exposure import EXPOSURE
from harness.exposure import LOWER_IS_BETTER as LESS_EXPOSED
from harness.geometry import ERANKS, GEOMETRY
from harness.metrics import CUTOFFS, METRICS
from harness.values import TOP_K

Run = TypeVar("Run")
Metric = tuple[str, int]
"""Name and K; K is 0 of those of `GEOMETRY`, which have none."""

LOWER_IS_BETTER: frozenset[str] = LESS_EXPOSED | {*GEOMETRY} - {*ERANKS}
"""Names of metrics of which less is better."""

PRECISION, DIVERSITY = ("ndcg", 10), ("cov", 10)

PRESETS: Mapping[str, str] = {
    "precise": "max ndcg@10",
    "balanced": "max cov@10 subject to ndcg@10 >= 0.99*best",
    "diverse": "max cov@10 subject to ndcg@10 >= 0.9*best",
}
"""Rules by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What to pick: the best of one metric, among settings whose other metric is good enough."""

    words: str
    sign: int
    """1: max, -1: min."""
    metric: Metric
    limited: Metric | None = None
    at_least: bool = True
    """The limit is a lower one."""
    limit: float = 0.0
    of_best: bool = False
    """`limit` is a share of the best value of the limited metric: the least of one where less is better."""


def rule_of(words: str) -> Rule:
    """The rule that the words (or the name of a preset) say. Raises ConfigError for others."""
    text = " ".join(PRESETS.get(words.strip(), words).split())
    metric, number = r"([a-zA-Z]+@\d+)", r"(\d+(?:\.\d*)?|\.\d+)"
    pattern = rf"(max|min) {metric}(?: subject to {metric} ?(>=|<=) ?(?:{number} ?\* ?(best)|(best)|{number}))?"
    found = re.fullmatch(pattern, text)
    if not found:
        raise ConfigError(
            f"rule '{words}' is not understood: write it as '{PRESETS['balanced']}', or one of {', '.join(PRESETS)}"
        )
    goal, first, second, compare, share, best, only_best, plain = found.groups()
    metrics = [_validated(name) for name in (first, second) if name]
    return Rule(
        words=text,
        sign=1 if goal == "max" else -1,
        metric=metrics[0],
        limited=metrics[1] if second else None,
        at_least=compare != "<=",
        limit=float(share or plain or 1.0),
        of_best=bool(best or only_best),
    )


def _validated(words: str) -> Metric:
    name, k = metric_of(words)
    if name == "popcal":
        raise ConfigError(f"'{words}' is kept for test alone, a rule sees validation: name another metric")
    if k not in CUTOFFS:
        raise ConfigError(f"'{words}' is not kept for validation: use a K of {', '.join(map(str, CUTOFFS))}")
    return name, k


_BY_BUCKET = (
    "select method, seed, bucket, value from metric join trial using (trial_key) where part = 'test' and name = 'hr' "
    "and k = 10 and bucket > 0"
)


def metric_name(metric: Metric) -> str:
    """ndcg@10; of a metric without K its name alone."""
    name, k = metric
    return f"{name}@{k}" if k else name


def metric_of(words: str) -> Metric:
    """(name, K) of words such as ndcg@10, or erank. Raises ConfigError for others, and for a K that is not stored."""
    known = (*METRICS, *EXPOSURE)
    plain = words.strip().lower()
    if plain in GEOMETRY:
        return plain, 0
    found = re.fullmatch(r"([a-z_]+)@(\d+)", plain)
    if not found:
        raise ConfigError(
            f"metric '{words}' is not understood: write it as ndcg@10 ({', '.join(known)}), or as "
            f"{', '.join(GEOMETRY)}; "
            f'of one popularity bucket (1 head, 2, 3 tail) ask btsr-report --sql "{_BY_BUCKET}"'
        )
    if found[1] in GEOMETRY:
        raise ConfigError(f"metric '{words}' has no K: write it as {found[1]}")
    name, k = found[1], int(found[2])
    if name not in known:
        raise unknown_name("metric", name, known)
    if not 1 <= k <= TOP_K:
        raise ConfigError(
            f"metric '{words}': K = {k} is not stored, lists have {TOP_K} items: use a K from 1 to {TOP_K}"
        )
    return name, k


def pick(rule: Rule, valid: Callable[[Metric], NDArray[np.float64]], dataset: str) -> int:
    """The place that the rule chooses among validation values [settings] by metric; of equals the one that has most to
    spare of the limited metric, then the first.

    Raises ConfigError where none is within the limit.
    """
    goal = rule.sign * valid(rule.metric)
    allowed, spare = np.ones(len(goal), np.bool_), np.zeros(len(goal))
    if rule.limited is not None:
        values = valid(rule.limited)
        best = values.min() if rule.limited[0] in LOWER_IS_BETTER else values.max()
        limit = rule.limit * best if rule.of_best else rule.limit
        spare = values - limit if rule.at_least else limit - values
        allowed = spare >= -1e-12
        if not allowed.any():
            raise ConfigError(
                f"no setting on {dataset} satisfies '{rule.words}': {rule.limited[0]}@{rule.limited[1]} on validation "
                f"is {values.min():.4f} to {values.max():.4f}"
            )
    foremost = allowed & (goal >= goal[allowed].max() - 1e-12)
    return int(np.argmax(np.where(foremost, spare, -np.inf)))


def pareto(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[int, ...]:
    """Places that no other place dominates (at least as good in both, better in one), by ascending `first`."""
    better = (first[:, None] >= first) & (second[:, None] >= second)
    strictly = (first[:, None] > first) | (second[:, None] > second)
    free = ~(better & strictly).any(axis=0)
    return tuple(sorted(np.flatnonzero(free).tolist(), key=lambda i: (first[i], -second[i])))


def family(spec: TrialSpec) -> str:
    """Everything of a specification but the seed, alpha and lambda: only within a family do points compare."""
    still = spec.aux.model_copy(update={"alpha": 0.0, "lam": 0.0})
    return spec.model_copy(update={"aux": still, "seed": 0}).canonical_json()


def seed_order(seed: int) -> tuple[int, int]:
    """The order of `harness.config.SEEDS`, then of the numbers."""
    return SEEDS.index(seed) if seed in SEEDS else len(SEEDS), seed


def same_seeds(seeds: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which settings compare fairly, given the finished seeds of each, and the seeds to compare them on.

    They are those with the seed that most settings have (of equals, the first of `SEEDS`), compared on the seeds that
    all of them have: a mean over few seeds is never held against a mean over others. The view `results` follows the
    same rule (`harness.schema.results_view`).
    """
    counts = Counter(seed for mine in seeds for seed in mine)
    if not counts:
        return (), ()
    usual = min(counts, key=lambda seed: (-counts[seed], seed_order(seed)))
    kept = tuple(i for i, mine in enumerate(seeds) if usual in mine)
    common = set.intersection(*(set(seeds[i]) for i in kept))
    return kept, tuple(sorted(common, key=seed_order))


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best of some settings, and what it was compared with."""

    place: int
    score: float
    """Its mean over `seeds`."""
    seeds: tuple[int, ...]
    candidates: int
    """Settings that were compared, this one included."""


def best_setting(settings: Sequence[Mapping[int, Run]], value: Callable[[Run], float]) -> Best:
    """The setting (seed -> run) with the largest mean value over the seeds of `same_seeds`; of equals that
    with most runs, then the first."""
    assert settings
    kept, seeds = same_seeds([tuple(runs) for runs in settings])
    scores = {i: float(np.mean([value(settings[i][seed]) for seed in seeds])) for i in kept}
    place = max(kept, key=lambda i: (scores[i], len(settings[i]), -i))
    return Best(place=place, score=scores[place], seeds=seeds, candidates=len(kept))
