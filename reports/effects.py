"""What a study that switches one setting at a time found: every switch, its effect, an interval and a test.

Base and switches are read from the specifications: of the configurations of one data set and method, the base is the
one from which most others differ in a single setting, and these others are its variants; of two in all the first is the
base, and the other may differ from it in several settings at once. Nothing is chosen by results.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from harness.config import DataConfig, TrainConfig, TrialSpec
from harness.rules import Metric
from harness.stored import DataRow
from models.config import AuxConfig, EncoderConfig, Frozen, LossConfig
from reports.groups import Group
from reports.measure import Measurer
from reports.ran import apart, ran
from reports.results import Evidence
from reports.stats import Comparison, Measured, Summary, compare, compare_apart, holm, summarise

METRICS: tuple[Metric, ...] = (("ndcg", 10), ("hr", 10), ("cov", 10))
"""Shown where the command line names none."""

_NOT_SETTINGS = {"method", "profile", "seed"}
_PARTS: tuple[type[Frozen], ...] = (DataConfig, EncoderConfig, LossConfig, AuxConfig, TrainConfig)
_COUNTS = Counter(name for part in _PARTS for name in part.model_fields)
_OF_SEVERAL_PARTS = {name for name, count in _COUNTS.items() if count > 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A setting and its two values."""

    setting: str
    """Such as data.tie."""
    before: str
    after: str
    parts: tuple["Switch", ...] = ()
    """The settings that are switched at once, where they are several: their paths and values are joined above."""

    @property
    def words(self) -> str:
        """tie: stable -> random; with its part where several have such a setting, as in loss.kind: ce -> bce."""
        if self.parts:
            return f"{len(self.parts)} settings at once"
        name = self.setting.rpartition(".")[2]
        return f"{self.setting if name in _OF_SEVERAL_PARTS else name}: {self.before} -> {self.after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A configuration that a study asks for, run or not."""

    specs: tuple[TrialSpec, ...]
    """Trials that differ in nothing but the seed."""
    group: Group | None
    """Those of them that are done."""

    @property
    def spec(self) -> TrialSpec:
        """The first: all but its seed holds for all."""
        return self.specs[0]

    @property
    def progress(self) -> str:
        """2 of 5."""
        return f"{len(self.group.runs) if self.group else 0} of {len(self.specs)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """The configurations of one data set and method, seen from their base."""

    base: Arm
    variants: tuple[tuple[Switch, Arm], ...]
    """In the study's order."""
    left_out: int
    """Configurations that differ from the base in several settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one switch does to one metric on the test users: variant minus base on their common seeds."""

    design: Design
    switch: Switch
    variant: Arm
    metric: Metric
    paired: bool
    """Over the same test users; False: the switch changes who is tested, runs pair by seed alone."""
    base: float | None = None
    """Mean over the common seeds; None where one of the two was not run, or nothing is in common."""
    relative: Summary | None = None
    """Mean and standard deviation over seeds of the differences, in percent of `base`; None also where that is not
    above 0."""
    comparison: Comparison | None = None
    """None where one of the two was not run."""
    by_user: bool = False
    """The metric is a mean over users."""
    p_holm: float | None = None
    """`comparison.p` after Holm over all effects of the table."""
    comparable: bool = True
    """False: of the lists of all test users together, which are others: no difference is computed."""
    defined: bool = True
    """False: a run has no such number."""
    apart: str = ""
    """Device, precision or kernels that the two do not share beside what is switched."""


def _values(spec: TrialSpec) -> dict[str, Any]:
    """Every setting by its path."""
    return {path: value for path, value in spec.flat().items() if path not in _NOT_SETTINGS}


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "''"


def switches(before: TrialSpec, after: TrialSpec) -> tuple[Switch, ...]:
    """The settings in which two trials differ, seed and name of the method apart."""
    old, new = _values(before), _values(after)
    return tuple(
        Switch(setting=path, before=_word(value), after=_word(new[path]))
        for path, value in old.items()
        if value != new[path]
    )


def _together(found: Sequence[Switch]) -> Switch:
    """One switch of all of them."""
    if len(found) == 1:
        return found[0]
    joined = (", ".join(getattr(switch, name) for switch in found) for name in ("setting", "before", "after"))
    setting, before, after = joined
    return Switch(setting=setting, before=before, after=after, parts=tuple(found))


def designs(evidence: Evidence) -> tuple[Design, ...]:
    """One for each data set and method that has a base and a variant, in the study's order."""

    def place(spec: TrialSpec) -> tuple[int, str]:
        return evidence.datasets.index(spec.data.dataset), spec.method

    order = {method: i for i, method in enumerate(dict.fromkeys(spec.method for spec in evidence.specs))}
    there = sorted(evidence.specs, key=lambda spec: (place(spec)[0], order[spec.method]))
    found = (_design(_arms(evidence, tuple(specs))) for _, specs in groupby(there, key=place))
    return tuple(design for design in found if design)


def _arms(evidence: Evidence, specs: Sequence[TrialSpec]) -> tuple[Arm, ...]:
    done = {g.key: g for g in evidence.groups(specs[0].data.dataset, lambda spec: spec.method == specs[0].method)}
    grouped: dict[str, list[TrialSpec]] = {}
    for spec in specs:
        grouped.setdefault(spec.group, []).append(spec)
    return tuple(Arm(specs=tuple(mine), group=done.get(key)) for key, mine in grouped.items())


def _design(arms: Sequence[Arm]) -> Design | None:
    """Around the arm with most one-setting neighbours, of equals the first listed; of two far apart the first.

    Where a study was edited or extended, its arms of before stand in it too: what was run, the arm itself included,
    counts first.
    """
    values = [_values(arm.spec) for arm in arms]
    distance = [[sum(mine[path] != theirs[path] for path in mine) for theirs in values] for mine in values]

    def around(at: int) -> tuple[int, int]:
        near = [arm for arm, apart in zip(arms, distance[at], strict=True) if apart <= 1]
        return sum(arm.group is not None for arm in near), len(near)

    several = len(arms) == 2 and distance[0][1] > 1
    at = 0 if several else max(range(len(arms)), key=around)
    variants = [arm for arm, apart in zip(arms, distance[at], strict=True) if apart == 1 or (apart and several)]
    if not variants:
        return None
    return Design(
        base=arms[at],
        variants=tuple((_together(switches(arms[at].spec, arm.spec)), arm) for arm in variants),
        left_out=0 if several else sum(apart > 1 for apart in distance[at]),
    )


def same_users(one: DataRow, other: DataRow) -> bool:
    """Whether two versions of a data set evaluate the same users, who then stand in the same places.

    The tie rule alone changes what users have as targets, not who they are; that it did so here is checked by all that
    the database knows of them. Users of other versions have no recorded identity, and count as others.
    """
    if one.fingerprint == other.fingerprint:
        return True
    if one.config.model_copy(update={"tie": other.config.tie}) != other.config or one.n_items != other.n_items:
        return False
    rows, others = _rows_of_users(one), _rows_of_users(other)
    recorded = rows is None or others is None or np.array_equal(rows, others)
    return recorded and one.n_test_users == other.n_test_users and np.array_equal(one.popularity, other.popularity)


def _rows_of_users(data: DataRow) -> np.ndarray[Any, Any] | None:
    """[V, 3] how many rows of each popularity bucket every test user has, in whatever order."""
    if data.input_buckets is None:
        return None
    rows = data.input_buckets.copy()
    rows[np.arange(len(rows)), data.bucket[data.targets_test] - 1] += 1
    return rows


def effects(evidence: Evidence, found: Sequence[Design], metrics: Sequence[Metric] = METRICS) -> tuple[Effect, ...]:
    """Switch by switch, metric by metric; Holm over all of them."""
    measure = Measurer(evidence.store)
    out = [effect for design in found for effect in _effects(evidence, design, metrics, measure)]
    adjusted = holm([effect.comparison.p if effect.comparison else None for effect in out])
    return tuple(replace(effect, p_holm=p) for effect, p in zip(out, adjusted, strict=True))


def _effects(evidence: Evidence, design: Design, metrics: Sequence[Metric], measure: Measurer) -> Iterator[Effect]:
    ours = design.base.group
    for switch, variant in design.variants:
        theirs = variant.group
        paired = ours is None or theirs is None or same_users(evidence.data(ours), evidence.data(theirs))
        differ = _apart(evidence, switch, ours, theirs) if ours and theirs else ""
        for metric in metrics:
            effect = Effect(design=design, switch=switch, variant=variant, metric=metric, paired=paired, apart=differ)
            if ours is None or theirs is None:
                yield effect
                continue
            base, other = measure(ours, *metric), measure(theirs, *metric)
            yield _measured(effect, base, other) if base and other else replace(effect, defined=False)


def _apart(evidence: Evidence, switch: Switch, base: Group, variant: Group) -> str:
    """What the runs of both do not share; of the precision and the kernels nothing where the precision is switched."""
    sides = [ran(evidence.store, group) for group in (base, variant)]
    if any(one.setting == "train.precision" for one in switch.parts or (switch,)):
        sides = [tuple(replace(run, precision="", kernels="") for run in side) for side in sides]
    return apart(*sides)


def _measured(effect: Effect, base: Measured, variant: Measured) -> Effect:
    common = [seed for seed in variant.seeds if seed in base.seeds]
    mean = float(base.of(common).by_seed.mean()) if common else None
    if not effect.paired and base.by_user is None:
        return replace(effect, base=mean, comparable=False)
    relative = None
    if mean is not None and mean > 0:
        spread = summarise(variant.of(common).by_seed - base.of(common).by_seed)
        relative = Summary(
            mean=100 * spread.mean / mean, std=None if spread.std is None else 100 * spread.std / mean, n=spread.n
        )
    return replace(
        effect,
        base=mean,
        relative=relative,
        comparison=(compare if effect.paired else compare_apart)(variant, base),
        by_user=base.by_user is not None,
    )
