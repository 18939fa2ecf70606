"""Ours, published, gap and verdict of every cell that has a published number."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.rules import metric_name
from reports.findings import Findings
from reports.groups import SELECT_K, SELECT_NAME, SELECT_ON
from reports.missing import table_commands
from reports.names import dataset_title
from reports.notes import place_notes, selection_note
from reports.published import Published, published
from reports.ran import odd_ones
from reports.sheet import Sheet
from reports.stats import RESAMPLES_PER_CELL, Interval, interval
from reports.table import DECIMALS, number, within

Verdict = Literal["inside our 95 % interval", "within 5 %", "not reproduced", "other data", "not run"]
CLOSE = 0.05
HALF_A_DIGIT = 0.5 * 10.0**-DECIMALS
"""A printed value stands for all that round to it."""
FEW = 3
"""Seeds below which an interval says little of the chance of training."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A printed number beside ours."""

    column: str
    """Title of its column."""
    printed: Published
    ours: float | None
    n: int
    """Seeds behind `ours`."""
    span: Interval | None
    applies: bool
    """The printed number is of the same population of test users."""

    @property
    def said(self) -> Verdict:
        """See `verdict`."""
        return verdict(self.ours, self.span, self.printed.value, applies=self.applies)

    @property
    def percent(self) -> float | None:
        """By how much ours is above the printed one."""
        return None if self.ours is None else 100 * (self.ours / self.printed.value - 1)

    @property
    def row(self) -> tuple[str, ...]:
        """In words."""
        span = self.span
        return (
            dataset_title(self.printed.dataset),
            self.printed.metric,
            self.column,
            "—" if self.ours is None else number(self.ours),
            str(self.n),
            "—" if span is None else f"{number(span.low)} to {number(span.high)} ({span.over})",
            number(self.printed.value) + (" (doubtful)" if self.printed.doubtful else ""),
            "—" if self.percent is None else f"{number(self.percent, percent=True)} %",
            self.said,
        )

    @property
    def record(self) -> Mapping[str, object]:
        """All numbers at full precision, for CSV."""
        return {
            "dataset": self.printed.dataset,
            "metric": self.printed.metric,
            "method": self.printed.method,
            "ours": self.ours,
            "n": self.n,
            "low": self.span.low if self.span else None,
            "high": self.span.high if self.span else None,
            "interval_over": self.span.over if self.span else None,
            "published": self.printed.value,
            "doubtful": self.printed.doubtful,
            "difference": None if self.ours is None else self.ours - self.printed.value,
            "percent": self.percent,
            "verdict": self.said,
        }


def verdicts(found: Findings, *, alone: bool = True) -> Sheet:
    """One row for each printed number of the table, in its order; `alone`: with the table's notes on data, seeds,
    configurations and what is missing."""
    judged = tuple(_judged(found))
    return Sheet(
        name=f"verdict{found.plan.number}",
        title=(
            f"Table {found.plan.number}, ours beside published: study {found.evidence.study}, "
            f"profile {found.evidence.profile}"
        ),
        header=("data set", "metric", "method", "ours", "n", "95 % interval over", "published", "gap", "verdict"),
        rows=tuple(one.row for one in judged),
        footnotes=(
            _counted(judged),
            "n: seeds. Interval: bootstrap over seeds, then users; coverage: Student's t over seeds, none where all "
            "runs agree; one seed: users alone, which does not contain the chance of training. A printed value is "
            "inside where one that rounds to it is.",
            "other data: our test users are not known to be the authors', so nothing is reproduced or refuted.",
            *_chosen_on_test(found),
            *((selection_note(found), *place_notes(found)) if alone else ()),
        ),
        commands=table_commands(found),
        records=tuple(one.record for one in judged),
    )


def _judged(found: Findings) -> Iterator[Judged]:
    for dataset in found.evidence.datasets:
        _, odd = odd_ones(found.columns_ran(dataset))
        for metric in found.metrics:
            for column in found.plan.columns:
                printed = published().get((found.plan.number, dataset, metric_name(metric), column.key))
                if printed is None:
                    continue
                mine = found.measured.get((dataset, column.key, metric))
                span = None if mine is None else interval(mine, resamples=RESAMPLES_PER_CELL)
                yield Judged(
                    column=column.title + (" ‡" if column.key in odd else ""),
                    printed=printed,
                    ours=None if mine is None else float(mine.by_seed.mean()),
                    n=0 if mine is None else len(mine.seeds),
                    span=within(span, metric[0]),
                    applies=found.applies(dataset),
                )


def _counted(judged: Sequence[Judged]) -> str:
    """How often each verdict was given, and on how little."""
    if not judged:
        return "The paper prints a number for none of these rows."
    counts = Counter(one.said for one in judged)
    few = sum(0 < one.n < FEW for one in judged)
    doubtful = Counter(one.said for one in judged if one.printed.doubtful and one.ours is not None)
    return (
        "; ".join(f"{said}: {times}" for said, times in sorted(counts.items()))
        + (f". {few} of these cells {'rests' if few == 1 else 'rest'} on fewer than {FEW} seeds." if few else ".")
        + "".join(
            f" Of '{said}' {times} {'is' if times == 1 else 'are'} against a doubtful printed value."
            for said, times in sorted(doubtful.items())
        )
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
