"""What a table is made of: one configuration by data set and column, chosen on validation, and its test numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.rules import LOWER_IS_BETTER, Metric
from harness.stored import DataRow
from reports.groups import Choice, choose, replicated
from reports.measure import Measurer, refuse_beyond
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


def candidates(evidence: Evidence, dataset: str, column: ColumnPlan) -> Choice | None:
    """The configuration that stands in a column: best on validation of those that fit. None where none has ended.

    In a column of one alpha, of those with most seeds: beside a line over alpha with five seeds a study has a grid with
    one, whose best lambda is easily the luckiest, and shows no spread.
    """
    groups = evidence.groups(dataset, column.fits)
    if not groups and column.anywhere:
        groups = evidence.elsewhere(dataset, column.fits)
    if column.alpha is not None:
        groups = replicated(groups)
    return choose(groups, evidence.store.validation()) if groups else None


def findings(evidence: Evidence, plan: TablePlan, metrics: Sequence[Metric] = ()) -> Findings:
    """Choose (on validation), then measure (on test); methods that the paper's table does not have get columns, too.

    Raises ConfigError for one of the `metrics` whose K is above the items of a data set.
    """
    plan = plan.with_more({spec.method for spec in evidence.specs})
    chosen = {
        (dataset, column.key): choice
        for dataset in evidence.datasets
        for column in plan.columns
        if (choice := candidates(evidence, dataset, column)) is not None
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
