"""The dial between precision and diversity: BT-SR over (alpha, lambda), its Pareto front, and the setting that a rule
picks. Rules see validation numbers only; the outcome on test is read afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.config import TrialSpec
from harness.errors import ConfigError
from harness.rules import DIVERSITY, PRECISION, PRESETS, Metric, Rule, metric_name, pareto, pick, rule_of
from harness.validation import ValidationReader
from models.config import AuxConfig
from reports.groups import Group, comparable
from reports.lines import families
from reports.measure import Measurer
from reports.names import count, dataset_title
from reports.notes import settings as words_of
from reports.results import Evidence
from reports.sheet import Sheet
from reports.stats import interval, same, summarise
from reports.table import number, within


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One (alpha, lambda) and the runs whose validation numbers count."""

    group: Group
    keys: tuple[str, ...]
    """Trials with the seeds that all settings have."""

    @property
    def spec(self) -> TrialSpec:
        """Of the first run."""
        return self.group.spec

    @property
    def name(self) -> str:
        """Alpha and lambda in words."""
        return f"alpha {self.spec.aux.alpha:g}, lambda {self.spec.aux.lam:g}"


@dataclass(frozen=True, kw_only=True)
class Dial:
    """All settings of one data set that compare with one another."""

    dataset: str
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    """Behind every validation number."""
    left_out: int
    """Settings without these seeds."""
    families: int
    """Configurations of BT-SR of which this is the one with most settings."""
    validation: ValidationReader

    @property
    def which(self) -> str:
        """Which of several families this is, in words; empty where it is the only one."""
        precision = self.settings[0].spec.train.precision
        words = f"{self.families} configurations exist, that with most settings is shown (precision {precision})"
        return words if self.families > 1 else ""

    def valid(self, metric: Metric) -> NDArray[np.float64]:
        """[settings] mean validation value over the common seeds."""
        name, k = metric
        values = [[self.validation.value(key, name, k) for key in setting.keys] for setting in self.settings]
        means: NDArray[np.float64] = np.asarray(values, np.float64).mean(axis=1)
        return means

    @cached_property
    def front(self) -> tuple[int, ...]:
        """Settings that no other beats in one of validation ndcg@10 and cov@10 without losing in the other."""
        return pareto(self.valid(PRECISION), self.valid(DIVERSITY))

    def pick(self, rule: Rule) -> int:
        """The setting that the rule chooses, on validation; ties go to the smaller alpha, then lambda.

        Raises ConfigError where no setting is within the limit.
        """
        return pick(rule, self.valid, self.dataset)


def dial(evidence: Evidence, dataset: str) -> Dial:
    """The settings of the largest family of BT-SR on a data set, on the seeds that all of them have.

    Figures of one line follow the most replicated family; a choice needs a grid, however few its seeds.
    A grid is run with one seed and its lines with five: settings compare fairly only on common seeds. Settings
    without the most common seed are left out. With alpha = 0 lambda has no effect: one such setting stays. Raises
    ConfigError (with the command to run) for fewer than two settings.
    """
    there = families(evidence, dataset)
    groups: dict[tuple[float, float], Group] = {}
    for group in sorted(there[0] if there else [], key=lambda g: (-len(g.runs), g.spec.aux.lam)):
        aux = group.spec.aux
        groups.setdefault((aux.alpha, aux.lam if aux.alpha else 0.0), group)
    kept, common = comparable([groups[place] for place in sorted(groups)]) if groups else ((), ())
    if len(kept) < 2:
        raise ConfigError(
            f"study {evidence.study} has {count(len(kept), 'finished setting')} of alpha and lambda on {dataset} with "
            f"profile {evidence.profile}, a choice needs two: {evidence.remedy(dataset)}"
        )
    return Dial(
        dataset=dataset,
        settings=tuple(
            Setting(group=g, keys=tuple(run.key for run in g.runs if run.spec.seed in common)) for g in kept
        ),
        seeds=common,
        left_out=len(groups) - len(kept),
        families=len(there),
        validation=evidence.store.validation(),
    )


def grid(found: Dial, metric: Metric) -> tuple[list[float], list[float], NDArray[np.float64]] | None:
    """The largest complete alpha x lambda grid (alpha > 0): alphas [A], lambdas [L], validation values [A, L].

    None where there is none of at least two by two.
    """
    values = dict(
        zip([(s.spec.aux.alpha, s.spec.aux.lam) for s in found.settings], found.valid(metric).tolist(), strict=True)
    )
    rows: dict[float, set[float]] = {}
    for alpha, lam in values:
        if alpha > 0:
            rows.setdefault(alpha, set()).add(lam)
    best: tuple[list[float], list[float]] = [], []
    for lams in rows.values():
        alphas = sorted(alpha for alpha, mine in rows.items() if lams <= mine)
        if min(len(alphas), len(lams)) >= 2 and len(alphas) * len(lams) > len(best[0]) * len(best[1]):
            best = alphas, sorted(lams)
    if not best[0]:
        return None
    return *best, np.array([[values[alpha, lam] for lam in best[1]] for alpha in best[0]])


def importance(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Shares of the variance over a complete grid [A, L]: alpha alone, lambda alone, both together (and noise).

    This is functional ANOVA computed exactly, which on other designs needs a surrogate model.
    """
    if same(values):
        return 0.0, 0.0, 0.0
    total = float(values.var())
    alpha, lam = float(values.mean(axis=1).var()), float(values.mean(axis=0).var())
    return alpha / total, lam / total, max(0.0, 1 - (alpha + lam) / total)


def picks(evidence: Evidence, found: Sequence[Dial], rule: Rule) -> Sheet:
    """What the rule picks on each data set, beside the most precise setting: chosen on validation, outcome on test."""
    shown = tuple(dict.fromkeys((rule.metric, *((rule.limited,) if rule.limited else ()), PRECISION, DIVERSITY)))
    return _sheet(
        evidence,
        found,
        {"picked": rule, "most precise": rule_of("precise")},
        shown,
        name="pick",
        title=f"'{rule.words}': study {evidence.study}, profile {evidence.profile}",
    )


def presets(evidence: Evidence, found: Sequence[Dial]) -> Sheet:
    """The same of every rule that has a name."""
    rules = {f"{name}: {words}": rule_of(name) for name, words in PRESETS.items()}
    return _sheet(
        evidence,
        found,
        rules,
        (PRECISION, DIVERSITY),
        name="picks",
        title=f"What the rules pick: study {evidence.study}, profile {evidence.profile}",
    )


def _sheet(
    evidence: Evidence,
    found: Sequence[Dial],
    rules: Mapping[str, Rule],
    shown: Sequence[Metric],
    *,
    name: str,
    title: str,
) -> Sheet:
    """A row for each data set and rule (by the words for what it picks), two columns for each metric."""
    measure = Measurer(evidence.store)
    rows, notes = [], []
    records: list[Mapping[str, object]] = []
    for one in found:
        for role, rule in rules.items():
            place = one.pick(rule)
            setting = one.settings[place]
            row = [dataset_title(one.dataset), role, setting.name]
            for metric in shown:
                mine = measure(setting.group, *metric)
                assert mine is not None, "bucket 0 has all users"
                spread, span = summarise(mine.by_seed), within(interval(mine), metric[0])
                chosen = float(one.valid(metric)[place])
                around = f" ({number(span.low)} to {number(span.high)}, {span.over})" if span else " (one seed)"
                row += [number(chosen), f"{number(spread.mean)}{around}"]
                records.append({
                    "dataset": one.dataset,
                    "setting": role,
                    "rule": rule.words,
                    "alpha": setting.spec.aux.alpha,
                    "lambda": setting.spec.aux.lam,
                    "metric": metric_name(metric),
                    "validation": chosen,
                    "validation_n": len(one.seeds),
                    "test": spread.mean,
                    "std": spread.std,
                    "n": spread.n,
                    "low": span.low if span else None,
                    "high": span.high if span else None,
                    "interval_over": span.over if span else None,
                })
            rows.append(tuple(row))
        spec = one.settings[0].spec
        base = f"{words_of(spec.model_copy(update={'aux': AuxConfig()}))}, bt_reduction {spec.aux.bt_reduction}"
        notes.append(
            f"{dataset_title(one.dataset)}: {len(one.settings)} settings on common seeds "
            f"{', '.join(map(str, one.seeds))}; {base}"
            + (f"; {count(one.left_out, 'setting')} without these seeds left out" if one.left_out else "")
            + (f"; {one.which}." if one.which else ".")
        )
    return Sheet(
        name=name,
        title=title,
        header=(
            "data set",
            "setting",
            "alpha and lambda",
            *(f"{part} {metric_name(metric)}" for metric in shown for part in ("validation", "test")),
        ),
        rows=tuple(rows),
        records=tuple(records),
        footnotes=(
            "The rule sees validation only; test (mean over the setting's seeds, 95 % interval) is its outcome.",
            *notes,
        ),
    )
