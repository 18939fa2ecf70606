"""Sensitivity lines (spec 7.4, rows 3, 4 and 6 to 9): how the metrics move with alpha, or with lambda."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.config import TrialSpec
from harness.errors import ConfigError
from harness.rules import family
from reports.groups import SELECT_ON, Group, choose, replicated
from reports.names import count, dataset_title
from reports.plans import OURS
from reports.ran import mixed_words
from reports.results import Evidence
from reports.stats import summarise

Axis = Literal["alpha", "lambda"]

_COORDINATES: Mapping[Axis, Callable[[TrialSpec], tuple[float, float]]] = {
    "alpha": lambda spec: (spec.aux.alpha, spec.aux.lam),
    "lambda": lambda spec: (spec.aux.lam, spec.aux.alpha),
}
"""Axis: (what moves, what is fixed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A metric at one place of the line."""

    x: float
    mean: float
    std: float | None
    """Sample standard deviation over seeds; None for one seed."""
    n: int
    """Seeds."""
    complete: bool
    """As many seeds as the line's best covered points have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One data set's sensitivity to alpha or lambda."""

    dataset: str
    axis: Axis
    fixed: float
    """The other one of alpha and lambda."""
    optimum: float
    """Where the mean validation ndcg@10 is best among the complete points."""
    groups: tuple[Group, ...]
    """The configurations behind the points, ascending."""
    metrics: Mapping[tuple[str, int, int], tuple[Point, ...]]
    """Test points by (name, k, bucket), ascending; empty where the bucket has no targets."""
    which: str
    """Which of several families of configurations this is, in words; empty where it is the only one."""
    title: str
    caption: str

    def points(self, name: str, k: int, bucket: int) -> tuple[Point, ...]:
        """The line of one metric."""
        return self.metrics.get((name, k, bucket), ())


def families(evidence: Evidence, dataset: str) -> list[list[Group]]:
    """Finished BT-SR configurations that differ in nothing but alpha and lambda, the largest family first; of equals
    that with most trials. Of another base loss with BT where that is the only one that the study varies here."""
    asked = (spec for spec in evidence.specs if spec.data.dataset == dataset and spec.aux.kind == "barlow_twins")
    methods = {spec.method for spec in asked} or {OURS}
    shown = methods.pop() if len(methods) == 1 else OURS
    found: dict[str, list[Group]] = {}
    for group in evidence.groups(dataset, lambda spec: spec.method == shown):
        found.setdefault(family(group.spec), []).append(group)
    return sorted(found.values(), key=lambda mine: (len(mine), sum(len(group.runs) for group in mine)), reverse=True)


def clearest(families: Sequence[Sequence[Group]], axis: Axis) -> list[Group]:
    """The groups of the line to draw, ascending; none where there is none.

    It is the one with most points of as many seeds as any has (a grid of one seed beside it has more points), then with
    most points, then with most trials; of equals the first family, and the smaller fixed value.

    With alpha = 0 lambda has no effect: such a group joins every line over alpha, and is on none over lambda.
    """
    where = _COORDINATES[axis]
    most = max((len(group.runs) for groups in families for group in groups), default=0)
    best: tuple[tuple[int, int, int], list[Group]] = (0, 0, 0), []
    for groups in families:
        fixed = sorted({where(group.spec)[1] for group in groups if group.spec.aux.alpha > 0})
        for value in fixed or [0.0]:
            at: dict[float, Group] = {}
            for group in groups:
                x, other = where(group.spec)
                if other == value or (axis == "alpha" and x == 0 and 0.0 not in at):
                    at[x] = group
            full = sum(len(group.runs) == most and where(group.spec)[1] == value for group in at.values())
            size = full, len(at), sum(len(group.runs) for group in at.values())
            if size > best[0]:
                best = size, [at[x] for x in sorted(at)]
    return best[1]


def line(evidence: Evidence, dataset: str, axis: Axis) -> Line:
    """The line of one data set from what its study has finished so far.

    Raises ConfigError (with the command to run) where it has fewer than two points.
    """
    there = families(evidence, dataset)
    groups = clearest(there, axis)
    if len(groups) < 2:
        raise ConfigError(
            f"study {evidence.study} has {count(len(groups), 'finished value')} of {axis} on {dataset} with profile "
            f"{evidence.profile}, a line needs two: {evidence.remedy(dataset)}"
        )
    most = max(len(group.runs) for group in groups)
    optimum = choose(replicated(groups), evidence.store.validation()).group
    where = _COORDINATES[axis]
    which = (
        f"{len(there)} configurations exist; of n = {most}, that with most values of {axis} is shown "
        f"(precision {groups[-1].spec.train.precision})"
        if len(there) > 1
        else ""
    )
    return Line(
        dataset=dataset,
        axis=axis,
        fixed=where(groups[-1].spec)[1],
        optimum=where(optimum.spec)[0],
        groups=tuple(groups),
        metrics=_points(evidence, groups, axis, most),
        which=which,
        title=f"{dataset_title(dataset)}: sensitivity to {axis}",
        caption=_caption(evidence, groups, axis, optimum, most, which),
    )


def _points(
    evidence: Evidence, groups: Sequence[Group], axis: Axis, most: int
) -> dict[tuple[str, int, int], tuple[Point, ...]]:
    points: dict[tuple[str, int, int], tuple[Point, ...]] = {}
    for group in groups:
        for place, values in evidence.test_metrics(group).items():
            if values:
                spread = summarise(values)
                point = Point(
                    x=_COORDINATES[axis](group.spec)[0],
                    mean=spread.mean,
                    std=spread.std,
                    n=spread.n,
                    complete=len(group.runs) == most,
                )
                points[place] = (*points.get(place, ()), point)
    return points


def _caption(evidence: Evidence, groups: Sequence[Group], axis: Axis, optimum: Group, most: int, which: str) -> str:
    """Profile, data, B, base loss, reduction, seeds, how the optimum was found: never an alpha without them."""
    spec, data = groups[-1].spec, evidence.data(optimum)
    best, fixed = _COORDINATES[axis](optimum.spec)[0], _COORDINATES[axis](spec)[1]
    seeds = max((group.seeds for group in groups), key=len)
    sentences = [
        f"study {evidence.study}, profile {evidence.profile}",
        f"data {data.fingerprint[:8]} ({data.n_test_users:,} test users, ties {data.config.tie})",
        f"{'lambda' if axis == 'alpha' else 'alpha'} {fixed:g}, B {spec.train.batch_size}, "
        f"base loss {spec.loss.kind.upper()}, bt_reduction {spec.aux.bt_reduction}, bt_std {spec.aux.bt_std}",
        f"n = {most} seed{'s' if most > 1 else ''} ({', '.join(map(str, seeds))})",
    ]
    if most > 1:
        sentences.append("band: one sample std over seeds")
    if any(len(group.runs) < most for group in groups):
        sentences.append("hollow: fewer seeds")
    of = " of the filled points" if any(len(group.runs) < most for group in groups) else ""
    sentences.append(f"dashed: best mean validation {SELECT_ON}{of} ({axis} {best:g})")
    sentences += mixed_words(evidence.store, groups)
    return "; ".join([*sentences, *([which] if which else [])])
