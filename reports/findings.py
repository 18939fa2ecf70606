"""What a table is made of: one configuration by data set and column, chosen on validation, and its test numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.rules import LOWER_IS_BETTER, Metric, family
from harness.stored import DataRow
from harness.validation import ValidationReader
from reports.groups import Choice, Group, choose, replicated
from reports.measure import Measurer, refuse_beyond
from reports.opponents import protocol, under
from reports.plans import ColumnPlan, TablePlan
from reports.published import same_population
from reports.ran import Ran, ran
from reports.results import Evidence
from reports.stats import Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a table is made of: one configuration for each data set and column, and its numbers."""

    evidence: Evidence
    plan: TablePlan
    metrics: tuple[Metric, ...]
    chosen: Mapping[tuple[str, str], Choice]
    """By (data set, column key)."""
    data: Mapping[str, DataRow]
    """By data set; only those with something chosen."""
    ran: Mapping[tuple[str, str], tuple[Ran, ...]]
    """By (data set, column key): on what each run was made."""
    measured: Mapping[tuple[str, str, Metric], Measured]
    """Test numbers by (data set, column key, metric)."""

    def columns_ran(self, dataset: str) -> dict[str, tuple[Ran, ...]]:
        """Column key -> on what its runs were made."""
        return {key: runs for (name, key), runs in self.ran.items() if name == dataset}

    def applies(self, dataset: str) -> bool:
        """Whether published numbers compare with ours; nothing of ours contradicts nothing."""
        return dataset not in self.data or same_population(dataset, self.data[dataset].n_test_users)


def chosen_of(evidence: Evidence, dataset: str, columns: Sequence[ColumnPlan]) -> dict[str, Choice]:
    """Column key -> the configuration that stands there: best on validation of those that fit. Without what never ran.

    All are of one precision where a column has both (`one_precision`). Several columns of one alpha each differ in it
    alone, where they can; otherwise in such a column those with most seeds compete: beside a line over alpha with five
    seeds a study has a grid with one, whose best lambda is easily the luckiest, and shows no spread.
    """
    there = one_precision({column.key: _fitting(evidence, dataset, column) for column in columns})
    there = {key: groups for key, groups in there.items() if groups}
    reader = evidence.store.validation()
    of_alpha = {column.key: there[column.key] for column in columns if column.alpha is not None and column.key in there}
    alike = _alike_but_for_alpha(of_alpha, reader) if len(of_alpha) > 1 else {}
    return {
        key: alike.get(key) or choose(replicated(groups) if key in of_alpha else groups, reader)
        for key, groups in there.items()
    }


def _fitting(evidence: Evidence, dataset: str, column: ColumnPlan) -> tuple[Group, ...]:
    """Of another study only what was run under a protocol of this one."""
    groups = evidence.groups(dataset, column.fits)
    if groups or not column.anywhere:
        return groups
    here = {protocol(group.spec) for group in evidence.groups(dataset, lambda _: True)}
    return under(evidence.elsewhere(dataset, column.fits), here)


def one_precision(there: Mapping[str, tuple[Group, ...]]) -> dict[str, tuple[Group, ...]]:
    """Of columns that have both precisions the groups in one alone: it is no hyperparameter to be tuned. That which
    most columns have, then most runs, then fp32; other columns stay as they are."""
    found = {key: {group.spec.train.precision for group in groups} for key, groups in there.items()}

    def most(precision: str) -> tuple[int, int, bool]:
        runs = [len(g.runs) for groups in there.values() for g in groups if g.spec.train.precision == precision]
        return sum(precision in mine for mine in found.values()), sum(runs), precision == "fp32"

    usual = max(set().union(*found.values()), key=most, default="fp32")
    return {
        key: tuple(g for g in groups if g.spec.train.precision == usual) if len(found[key]) > 1 else groups
        for key, groups in there.items()
    }


def _alike_but_for_alpha(there: Mapping[str, tuple[Group, ...]], reader: ValidationReader) -> dict[str, Choice]:
    """For columns of one alpha each, configurations with all else equal: of those with most seeds, in the column that
    has fewest, the best in their mean on validation. Nothing where there are none."""
    places = [{(family(g.spec), g.spec.aux.lam): g for g in groups} for groups in there.values()]
    shared = {place: [mine[place] for mine in places] for place in sorted(set.intersection(*map(set, places)))}
    if not shared:
        return {}
    seeds = {place: min(len(group.runs) for group in groups) for place, groups in shared.items()}
    found = [
        [choose([group], reader) for group in groups]
        for place, groups in shared.items()
        if seeds[place] == max(seeds.values())
    ]
    best = max(found, key=lambda choices: sum(choice.score for choice in choices))
    return {key: replace(choice, candidates=len(found)) for key, choice in zip(there, best, strict=True)}


def findings(evidence: Evidence, plan: TablePlan, metrics: Sequence[Metric] = ()) -> Findings:
    """Choose (on validation), then measure (on test); methods that the paper's table does not have get columns, too.

    Raises ConfigError for one of the `metrics` whose K is above the items of a data set.
    """
    plan = plan.with_more({spec.method for spec in evidence.specs})
    chosen = {
        (dataset, key): choice
        for dataset in evidence.datasets
        for key, choice in chosen_of(evidence, dataset, plan.columns).items()
    }
    data = {dataset: evidence.data(choice.group) for (dataset, _), choice in chosen.items()}
    refuse_beyond(metrics, data.values())
    wanted = tuple(metrics) or plan.metrics
    measurer = Measurer(evidence.store)
    measured = {
        (*place, metric): found
        for place, choice in chosen.items()
        for metric in wanted
        if (found := measurer(choice.group, *metric)) is not None
    }
    return Findings(
        evidence=evidence,
        plan=plan,
        metrics=wanted,
        chosen=chosen,
        data=data,
        ran={place: ran(evidence.store, choice.group) for place, choice in chosen.items()},
        measured=measured,
    )


def best_other(found: Findings, dataset: str, metric: Metric, keys: Sequence[str]) -> str | None:
    """The key with the best mean among those that were run; the first of equals."""
    there = [key for key in keys if (dataset, key, metric) in found.measured]
    sign = -1 if metric[0] in LOWER_IS_BETTER else 1
    return max(there, key=lambda key: sign * found.measured[dataset, key, metric].by_seed.mean(), default=None)
