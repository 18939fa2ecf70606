"""What stands first on the page: who is best, whether the difference is real, what of the paper is found again."""

from collections.abc import Iterator

from reports.findings import Findings
from reports.groups import SELECT_K, SELECT_NAME, SELECT_ON
from reports.names import count, dataset_title
from reports.plans import IMPROVE, OURS
from reports.sheet import Sheet
from reports.stats import LEVEL, RESAMPLES_PER_CELL, Interval, interval
from reports.table import Cell, Contest, Table, number, within


def table_summary(found: Findings, table: Table) -> Iterator[str]:
    """A sentence or two for each data set with results, of its row of the metric that decides on validation."""
    for row, cells in zip(table.rows, table.cells, strict=True):
        if row.metric != SELECT_ON or row.dataset not in found.data:
            continue
        by_key = {column.key: cell for column, cell in zip(table.columns, cells, strict=True) if column.key != IMPROVE}
        there = {key: cell for key, cell in by_key.items() if cell.value is not None}
        best = max(there, key=lambda key: there[key].value or 0.0)
        place = row.dataset, best, (SELECT_NAME, SELECT_K)
        span = within(interval(found.measured[place], resamples=RESAMPLES_PER_CELL), SELECT_NAME)
        users = f"{found.data[row.dataset].n_test_users:,} test users"
        yield (
            f"{dataset_title(row.dataset)} ({users}, {len(there)} of {len(by_key)} methods run): the best mean "
            f"{SELECT_ON} is that of {found.plan.column(best).title}, {_value(there[best], span)}."
            + _ours(found, row.dataset, there, best)
        )


def _value(cell: Cell, span: Interval | None) -> str:
    assert cell.value is not None
    around = f"; 95 % interval {number(span.low)} to {number(span.high)} over {span.over}" if span else ""
    return f"{number(cell.value)} (n = {cell.n}{around})"


def _ours(found: Findings, dataset: str, there: dict[str, Cell], best: str) -> str:
    """BT-SR against the best other column, and what the tests say of it."""
    ours = there.get(OURS)
    if ours is None:
        return " BT-SR was not run."
    if ours.test is None:
        return ""
    other = there[ours.test.against]
    assert ours.value is not None and other.value is not None
    mine, theirs = (found.measured[dataset, key, (SELECT_NAME, SELECT_K)] for key in (OURS, ours.test.against))
    common = [seed for seed in mine.seeds if seed in theirs.seeds]
    base = float(theirs.of(common or theirs.seeds).by_seed.mean())  # what the difference, and its test, are of
    gap = f"{number(100 * ours.test.comparison.difference / base, percent=True)} % " if base else ""
    apart = {*mine.seeds} != {*theirs.seeds}
    shared = f" (gap and test over {count(len(common), 'common seed')})" if apart and common else ""
    said = "That is" if best == OURS else f"BT-SR has {number(ours.value)},"
    return (
        f" {said} {gap}against the best other, {found.plan.column(ours.test.against).title} "
        f"with {number(other.value)}{shared}: {_said(ours.test)}."
    )


def _said(test: Contest) -> str:
    p = test.p_holm
    if p is None:
        return test.comparison.note
    if p < LEVEL:
        return f"significant over seeds and users after Holm (p = {p:.4f})"
    note = "" if test.star == "" else "; by the paper's rule alone, paired t uncorrected, it would bear an asterisk"
    return f"not significant after Holm (p = {p:.2f}){note}"


def counted(title: str, sheet: Sheet) -> str:
    """How often each answer of a sheet was given, which its first footnote says."""
    return f"{title}: {sheet.footnotes[0]}"
