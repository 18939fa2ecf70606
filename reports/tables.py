"""The paper's tables from our own results, the published numbers beside them."""

from collections.abc import Container, Sequence
from dataclasses import replace

from harness.errors import ConfigError
from harness.rules import LOWER_IS_BETTER, Metric, metric_name
from harness.store import Store
from reports.findings import Findings, best_other, findings
from reports.missing import table_commands
from reports.names import dataset_title
from reports.notes import footnotes
from reports.plans import IMPROVE, OURS, PLANS, ColumnPlan, TablePlan
from reports.published import published
from reports.ran import joined, odd_ones
from reports.results import Request, gather, narrowed
from reports.stats import compare, holm, summarise
from reports.table import Cell, Column, Contest, Row, Table, marked


def _cell(found: Findings, dataset: str, column: ColumnPlan, metric: Metric, odd: Container[str]) -> Cell:
    """`odd`: keys of the data set's columns whose runs were made on something else than most."""
    printed = published().get((found.plan.number, dataset, metric_name(metric), column.key))
    cell = Cell(
        published=printed.value if printed else None,
        published_std=printed.std if printed else None,
        published_star=printed is not None and printed.starred,
        doubtful=printed is not None and printed.doubtful,
        applies=found.applies(dataset),
    )
    mine = found.measured.get((dataset, column.key, metric))
    if mine is None:
        return replace(cell, undefined=(dataset, column.key) in found.chosen)
    spread = summarise(mine.by_seed)
    spec = found.chosen[dataset, column.key].group.spec
    rival = best_other(found, dataset, metric, column.beats)
    runs = found.ran[dataset, column.key]
    theirs = None if rival is None else found.measured[dataset, rival, metric]
    return replace(
        cell,
        value=spread.mean,
        std=spread.std,
        n=spread.n,
        fingerprint=found.data[dataset].fingerprint,
        base=spec.loss.kind.upper(),
        device=joined([run.device for run in runs]),
        precision=joined([run.precision for run in runs]),
        odd=column.key in odd,
        test=Contest(
            against=rival,
            comparison=compare(mine, theirs, with_interval=False),
            lower=metric[0] in LOWER_IS_BETTER,
        )
        if rival and theirs
        else None,
    )


def improve(found: Findings, dataset: str, metric: Metric) -> Cell:
    """100 * (ours - best other) / best other, from unrounded means, the sign turned where less is better."""
    printed = published().get((found.plan.number, dataset, metric_name(metric), IMPROVE))
    others = found.plan.column(OURS).beats
    rival = best_other(found, dataset, metric, others)
    mine = found.measured.get((dataset, OURS, metric))
    base = float(found.measured[dataset, rival, metric].by_seed.mean()) if rival else 0.0
    sign = -1 if metric[0] in LOWER_IS_BETTER else 1
    change = sign * 100 * (float(mine.by_seed.mean()) - base) / base if mine is not None and base > 0 else None
    return Cell(
        value=change,
        published=printed.value if printed else None,
        doubtful=printed is not None and printed.doubtful,
        applies=found.applies(dataset),
        percent=True,
        undefined=change is None and mine is not None and rival is not None,
    )


def _corrected(cells: Sequence[tuple[Cell, ...]]) -> list[tuple[Cell, ...]]:
    """The same with Holm's p over all tests of the table."""
    tested = [cell.test.comparison.p for row in cells for cell in row if cell.test]
    adjusted = iter(holm(tested))
    return [
        tuple(replace(c, test=replace(c.test, p_holm=next(adjusted))) if c.test else c for c in row) for row in cells
    ]


def build(found: Findings) -> Table:
    """Mean and sample standard deviation over seeds, published numbers, marks, tests, and everything in footnotes."""
    plan, evidence = found.plan, found.evidence
    rows, cells = [], []
    for dataset in evidence.datasets:
        _, odd = odd_ones(found.columns_ran(dataset))
        for metric in found.metrics:
            line = [_cell(found, dataset, column, metric, odd) for column in plan.columns]
            marks = marked([cell.value for cell in line], lower=metric[0] in LOWER_IS_BETTER)
            line = [cell.with_mark(mark) for cell, mark in zip(line, marks, strict=True)]
            if plan.improve:
                line.append(improve(found, dataset, metric))
            rows.append(Row(dataset=dataset, title=dataset_title(dataset), metric=metric_name(metric)))
            cells.append(tuple(line))
    columns = [Column(key=column.key, title=column.title) for column in plan.columns]
    if plan.improve:
        columns.append(Column(key=IMPROVE, title="Improve", derived=True))
    corrected = _corrected(cells)
    return Table(
        name=f"table{plan.number}",
        title=f"Table {plan.number}: {plan.titled(found.metrics)}, study {evidence.study}, profile {evidence.profile}",
        profile=evidence.profile,
        columns=tuple(columns),
        rows=tuple(rows),
        cells=tuple(corrected),
        footnotes=tuple(footnotes(found, corrected)),
        commands=table_commands(found),
    )


def plan_of(number: int) -> TablePlan:
    """The plan of a table. Raises ConfigError for a number that the paper does not have."""
    if number not in PLANS:
        raise ConfigError(f"there is no table {number}: use --table {', '.join(map(str, PLANS))}")
    return PLANS[number]


def table(number: int, store: Store, request: Request, metrics: Sequence[Metric] = ()) -> Table:
    """A table of the paper from the results of a store; `metrics` replaces its rows.

    Raises ConfigError, StoreError as `gather` does.
    """
    plan = plan_of(number)
    return build(findings(gather(store, narrowed(request, plan.datasets)), plan, metrics))
