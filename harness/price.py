"""What a sweep will cost: from finished trials of the same kind in the database, or from short runs made for that."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from harness.executors import RunContext
from harness.sweep import Plan
from harness.values import Cell, Estimate

if TYPE_CHECKING:
    from harness.store import Store

CALIBRATION_SECONDS = 120.0
"""Longest calibration run of one data set and method; it also ends after `CALIBRATION_EPOCHS`."""

CALIBRATION_EPOCHS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What is still to run."""

    hours: float
    """Of work, on one worker."""
    peak_mib: float
    """Of the largest trial."""
    unknown: tuple[Cell, ...]
    """Data sets and methods about which nothing is known; not in `hours`."""

    def hours_with(self, workers: int) -> float:
        """From the start to the end."""
        return self.hours / workers


def from_past(store: "Store | None") -> dict[Cell, Estimate]:
    """The median of the finished trials of each data set, method and profile."""
    found: defaultdict[Cell, list[tuple[float, float]]] = defaultdict(list)
    for cell, seconds, peak in store.costs() if store else ():
        found[cell].append((seconds, peak))
    return {
        cell: Estimate(
            dataset=cell[0],
            method=cell[1],
            profile=cell[2],
            seconds=median(seconds for seconds, _ in rows),
            peak_mib=max(peak for _, peak in rows),
            source=f"median of {len(rows)} finished",
        )
        for cell, rows in found.items()
    }


def calibrate(plan: Plan, context: RunContext, known: Sequence[Cell]) -> dict[Cell, Estimate]:
    """A few epochs, at most two minutes, of the first trial to come of every cell that is not known.

    The trial is taken to run all its epochs, which early stopping usually spares it. Nothing is recorded.
    """
    from harness import provenance
    from harness.prepare import prepare
    from harness.trial import trial_steps

    found: dict[Cell, Estimate] = {}
    for spec in plan.upcoming:
        cell: Cell = (spec.data.dataset, spec.method, spec.profile)
        if cell in known or cell in found:
            continue
        steps = trial_steps(spec, prepare(spec.data, context.paths), device=context.device, threads=context.threads)
        spent: list[float] = []
        for log in steps:
            spent.append(log.seconds_train + log.seconds_valid)
            if sum(spent) > CALIBRATION_SECONDS or len(spent) == CALIBRATION_EPOCHS:
                break
        steps.close()
        each = fmean(spent[1:] or spent)
        found[cell] = Estimate(
            dataset=cell[0],
            method=cell[1],
            profile=cell[2],
            seconds=each * spec.train.max_epochs,
            peak_mib=provenance.peak_mib(),
            source=f"{len(spent)} epochs here, at most {spec.train.max_epochs}",
        )
    return found


def price(plan: Plan, estimates: dict[Cell, Estimate]) -> Price:
    """The sum over what is missing."""
    seconds, peaks, unknown = 0.0, [0.0], []
    for row in plan.rows:
        cell = (row.dataset, row.method, row.profile)
        if not row.missing:
            continue
        if cell in estimates:
            seconds += row.missing * estimates[cell].seconds
            peaks.append(estimates[cell].peak_mib)
        else:
            unknown.append(cell)
    return Price(hours=seconds / 3600, peak_mib=max(peaks), unknown=tuple(unknown))
