"""Ours, published, gap and verdict of every cell that has a published number."""

from collections.abc import Iterator
from typing import Literal

from reports.findings import Findings
from reports.groups import SELECT_K, SELECT_NAME, SELECT_ON
from reports.names import dataset_title
from reports.notes import table_commands
from reports.published import published
from reports.sheet import Sheet
from reports.stats import RESAMPLES_PER_CELL, Interval, interval
from reports.table import DECIMALS, number

Verdict = Literal["inside our 95 % interval", "within 5 %", "not reproduced", "other data", "not run"]
CLOSE = 0.05
HALF_A_DIGIT = 0.5 * 10.0**-DECIMALS
"""A printed value stands for all that round to it."""


def verdict(ours: float | None, found: Interval | None, printed: float, *, applies: bool) -> Verdict:
    """What our value says about the printed one; a verdict needs the same population of test users."""
    if ours is None:
        return "not run"
    if not applies:
        return "other data"
    slack = HALF_A_DIGIT + 1e-12  # the end itself is not exact in binary
    if found is not None and found.low - slack <= printed <= found.high + slack:
        return "inside our 95 % interval"
    return "within 5 %" if abs(ours - printed) <= CLOSE * printed else "not reproduced"


def verdicts(found: Findings) -> Sheet:
    """One row for each printed number of the table, in its order."""
    rows = []
    counts: dict[str, int] = {}
    for dataset in found.evidence.datasets:
        for name, k in found.metrics:
            for column in found.plan.columns:
                printed = published().get((found.plan.number, dataset, f"{name}@{k}", column.key))
                if printed is None:
                    continue
                mine = found.measured.get((dataset, column.key, (name, k)))
                mean = None if mine is None else float(mine.by_seed.mean())
                span = None if mine is None else interval(mine, resamples=RESAMPLES_PER_CELL)
                said = verdict(mean, span, printed.value, applies=found.applies(dataset))
                counts[said] = counts.get(said, 0) + 1
                rows.append((
                    dataset_title(dataset),
                    f"{name}@{k}",
                    column.title,
                    "—" if mean is None else number(mean),
                    "—" if span is None else f"{number(span.low)} to {number(span.high)} ({span.over})",
                    number(printed.value) + (" (doubtful)" if printed.doubtful else ""),
                    "—" if mean is None else f"{100 * (mean / printed.value - 1):+.1f} %",
                    said,
                ))
    return Sheet(
        name=f"verdict{found.plan.number}",
        title=(
            f"Table {found.plan.number}, ours beside published: study {found.evidence.study}, "
            f"profile {found.evidence.profile}"
        ),
        header=("data set", "metric", "method", "ours", "95 % interval over", "published", "gap", "verdict"),
        rows=tuple(rows),
        footnotes=(
            "; ".join(f"{said}: {count}" for said, count in sorted(counts.items())) + "."
            if counts
            else "The paper prints a number for none of these rows.",
            "Interval: bootstrap over seeds, then users; coverage: Student's t over seeds; one seed: users alone, "
            "which does not contain the chance of training. A printed value is inside where one that rounds to it is.",
            "other data: our test users are not known to be the authors', so nothing is reproduced or refuted.",
            *_chosen_on_test(found),
        ),
        commands=table_commands(found),
    )


def _chosen_on_test(found: Findings) -> Iterator[str]:
    """What single runs would be shown where test values chose them, as for the published ones (spec 0.3 and 9)."""
    for dataset in found.data:
        shown = []
        for column in found.plan.columns:
            keys = [key for group in found.evidence.groups(dataset, column.fits) for key in group.keys]
            stored = found.evidence.store.metrics(keys, part="test", names=[SELECT_NAME])
            runs = [
                m.value
                for of in stored.values()
                for m in of
                if (m.k, m.bucket) == (SELECT_K, 0) and m.value is not None
            ]
            if runs:
                shown.append(f"{column.title} {number(max(runs))} (of {len(runs)})")
        if shown and found.applies(dataset):
            yield (
                f"Diagnostic, no result: published single runs had the highest test {SELECT_ON} of several. "
                f"Chosen so among our runs of this study, {dataset_title(dataset)}: {', '.join(shown)}."
            )
