"""What a sweep will cost: from finished trials of the same kind in the database, or from short runs made for that."""

import json
import math
import platform
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

from harness.choices import DataChoices
from harness.config import TrialSpec
from harness.executors import RunContext
from harness.paths import RunPaths
from harness.plan import Plan, results_so_far
from harness.values import Cell, EpochLog, Estimate

if TYPE_CHECKING:
    from harness.store import Store

CALIBRATION_SECONDS = 120.0
"""Longest calibration run of one data set and method; it also ends after `CALIBRATION_EPOCHS`."""

CALIBRATION_EPOCHS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a calibration found, and on what."""

    dataset: str
    method: str
    profile: str
    work: str
    """What decides an epoch's time beside the method: data, sizes and precision, in words."""
    host: str
    device: str
    threads: int
    epochs: int
    seconds_train: float
    """Of an epoch without its validation."""
    seconds_valid: float
    """Of a validation."""
    peak_mib: float
    day: str

    @property
    def circumstances(self) -> tuple[str | int, ...]:
        """Where it holds."""
        return (self.dataset, self.method, self.profile, self.work, self.host, self.device, self.threads)

    def of(self, spec: TrialSpec) -> Estimate:
        """What a trial takes that runs all its epochs, which early stopping usually spares it."""
        most = spec.train.max_epochs
        validations = math.ceil(most / spec.train.validate_every)  # the last epoch has one in any case
        return Estimate(
            dataset=self.dataset,
            method=self.method,
            profile=self.profile,
            seconds=self.seconds_train * most + self.seconds_valid * validations,
            peak_mib=self.peak_mib,
            source=f"{self.epochs} epochs here on {self.day}, at most {most}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What is still to run."""

    hours: float
    """Of work, on one worker."""
    peak_mib: float
    """Of the largest trial."""
    longest_seconds: float
    """Of one trial."""
    unknown: tuple[Cell, ...]
    """Data sets and methods about which nothing is known; not in `hours`."""

    def hours_with(self, workers: int) -> float:
        """From the start to the end, which no number of workers brings below the longest trial."""
        return max(self.hours / workers, self.longest_seconds / 3600)


def _cell(spec: TrialSpec) -> Cell:
    return spec.data.dataset, spec.method, spec.profile


def _kind(spec: TrialSpec) -> tuple[object, ...]:
    """What of a cell costs alike: its rows, its precision, how many epochs it may take, and what ends it sooner."""
    rows = (getattr(spec.data, name) for name in DataChoices.model_fields)
    return (*_cell(spec), *rows, spec.train.precision, spec.train.max_epochs, spec.train.validate_every)


def from_past(store: "Store", plan: Plan) -> dict[Cell, Estimate]:
    """The median of the finished trials of each data set, method and profile.

    Where some are still to come, of those on data that are filtered and split likewise, in the same precision, with as
    many epochs at most and as many between validations, which early stopping counts.
    """
    to_come = {_cell(spec) for spec in plan.upcoming}
    kinds = {_kind(spec) for spec in plan.upcoming}
    found: defaultdict[Cell, list[tuple[float, float]]] = defaultdict(list)
    for spec, seconds, peak in store.costs():
        if _cell(spec) not in to_come or _kind(spec) in kinds:
            found[_cell(spec)].append((seconds, peak))
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


def _work(spec: TrialSpec) -> str:
    encoder, train = spec.encoder, spec.train
    sizes = f"T {encoder.max_len}, D {encoder.dim}, {encoder.blocks} blocks, B {train.batch_size}, {train.precision}"
    return f"{spec.data.protocol()}; {spec.loss.kind}, {sizes}"


def _circumstances(spec: TrialSpec, context: RunContext) -> tuple[str | int, ...]:
    where = (platform.node(), context.device, context.threads)
    return (*_cell(spec), _work(spec), *where)


def _note(paths: RunPaths) -> Path:
    return paths.work_dir / "prices.json"


def _kept(paths: RunPaths) -> dict[tuple[str | int, ...], Measured]:
    """What earlier calibrations wrote down; nothing where the note is missing, torn or of another version."""
    try:
        found = [Measured(**row) for row in json.loads(_note(paths).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return {}
    return {one.circumstances: one for one in found}


def _keep(measured: Measured, paths: RunPaths) -> None:
    """Write it down in place of an earlier one; where that cannot be, it is measured again another time."""
    kept = _kept(paths) | {measured.circumstances: measured}
    draft = _note(paths).with_suffix(".partial")
    with suppress(OSError):
        draft.write_text(json.dumps([asdict(one) for one in kept.values()], indent=1), encoding="utf-8")
        draft.replace(_note(paths))


def from_calibration(plan: Plan, context: RunContext) -> dict[Cell, Estimate]:
    """What was measured on this machine, device and number of threads, of every cell with a trial to come.

    On data that are filtered and split likewise, with a model and batches of the same size.
    """
    kept = _kept(context.paths)
    found: dict[Cell, Estimate] = {}
    for spec in plan.upcoming:
        measured = kept.get(_circumstances(spec, context))
        if measured is not None:
            estimate = measured.of(spec)
            found.setdefault(estimate.cell, estimate)
    return found


def _in_full(spec: TrialSpec) -> TrialSpec:
    """The trial with everything that it does in some epochs done from the first one on."""
    aux = spec.aux.model_copy(update={"explain_start": 1}) if spec.aux.first_epoch > 1 else spec.aux
    return spec.model_copy(update={"train": spec.train.model_copy(update={"validate_every": 1}), "aux": aux})


def calibrate(
    plan: Plan, context: RunContext, known: Sequence[Cell], tell: Callable[[str], object]
) -> dict[Cell, Estimate]:
    """A few epochs, at most two minutes, of the first trial to come of every cell that is not known.

    Each epoch with a validation, however few of them the trial has, and with its auxiliary term, however late that
    begins. Nothing is recorded in the database; `from_calibration` knows each from its end on. `tell` hears of each
    before it begins.
    """
    from harness import provenance
    from harness.memory import give_back_gpu
    from harness.prepare import prepare
    from harness.trial import trial_steps

    found: dict[Cell, Estimate] = {}
    todo: dict[Cell, TrialSpec] = {}
    for spec in plan.upcoming:
        if _cell(spec) not in known:
            todo.setdefault(_cell(spec), spec)
    for number, (cell, spec) in enumerate(todo.items(), 1):
        most = min(CALIBRATION_EPOCHS, spec.train.max_epochs)
        tell(f"measuring {number} of {len(todo)}: {spec.data.dataset} {spec.method}, {most} epochs or two minutes")
        steps = trial_steps(
            _in_full(spec), prepare(spec.data, context.paths), device=context.device, threads=context.threads
        )
        logs: list[EpochLog] = []
        for log in steps:
            logs.append(log)
            spent = sum(log.seconds_train + log.seconds_valid for log in logs)
            if spent > CALIBRATION_SECONDS or len(logs) == CALIBRATION_EPOCHS:
                break
        steps.close()
        give_back_gpu()
        counted = logs[1:] or logs
        measured = Measured(
            dataset=spec.data.dataset,
            method=spec.method,
            profile=spec.profile,
            work=_work(spec),
            host=platform.node(),
            device=context.device,
            threads=context.threads,
            epochs=len(logs),
            seconds_train=fmean(log.seconds_train for log in counted),
            seconds_valid=fmean(log.seconds_valid for log in counted),
            peak_mib=provenance.peak_mib(),
            day=date.today().isoformat(),
        )
        _keep(measured, context.paths)
        found[cell] = measured.of(spec)
    return found


def estimates_of(
    plan: Plan, context: RunContext, *, measure: bool, tell: Callable[[str], object]
) -> dict[Cell, Estimate]:
    """What is known about the cost of a trial of the plan; with `measure` what is not known is found by short runs.

    Those take minutes: `tell` hears of each.
    """
    estimates: dict[Cell, Estimate] = {}
    if store := results_so_far(context.paths):
        with store:
            estimates = from_past(store, plan)
    if measure:
        estimates |= calibrate(plan, context, tuple(estimates), tell)
    else:
        estimates = from_calibration(plan, context) | estimates
    wanted = {(row.dataset, row.method, row.profile) for row in plan.rows}
    return {cell: estimate for cell, estimate in estimates.items() if cell in wanted}


def price(plan: Plan, estimates: dict[Cell, Estimate]) -> Price:
    """The sum over what is missing."""
    seconds, longest, peaks, unknown = 0.0, 0.0, [0.0], []
    for row in plan.rows:
        cell = (row.dataset, row.method, row.profile)
        if not row.missing:
            continue
        if cell in estimates:
            seconds += row.missing * estimates[cell].seconds
            longest = max(longest, estimates[cell].seconds)
            peaks.append(estimates[cell].peak_mib)
        else:
            unknown.append(cell)
    return Price(hours=seconds / 3600, peak_mib=max(peaks), longest_seconds=longest, unknown=tuple(unknown))
