"""What a report lacks: trials that are not done, in words for its notes, and the commands that run them."""

from collections.abc import Iterator, Sequence
from functools import partial

from harness.config import TrialSpec
from reports.commands import sweep_command
from reports.findings import Findings
from reports.names import count, dataset_title
from reports.plans import PART_OF, PLANS, TablePlan
from reports.results import Evidence
from reports.unasked import Unasked, unasked


def _unstarted(evidence: Evidence) -> tuple[str, ...]:
    """Data sets of the table that the study was never asked for."""
    listed = {spec.data.dataset for spec in evidence.specs}
    return tuple(dataset for dataset in evidence.datasets if dataset not in listed)


def progress(evidence: Evidence, asked: Sequence[TrialSpec]) -> str:
    """2 of 5 trials done: what a search gave up is not."""
    done = {row.key for row in evidence.rows if row.status == "done"}
    return f"{sum(spec.key in done for spec in asked)} of {len(asked)} trials done"


def _shown(plan: TablePlan, spec: TrialSpec) -> bool:
    """Whether a trial may stand in a column of the table."""
    return any(column.fits(spec) for column in plan.columns)


def missing_notes(found: Findings) -> Iterator[str]:
    """Cells of a table that are not there or not complete; counts are of trials that may stand in a column of it."""
    evidence, plan = found.evidence, found.plan
    absent = _unstarted(evidence)
    for dataset in evidence.datasets:
        mine = [spec for spec in evidence.specs if spec.data.dataset == dataset and _shown(plan, spec)]
        lacking = {spec.key for spec in evidence.missing(dataset)}
        parts = []
        for column in plan.columns:
            asked = [spec for spec in mine if column.fits(spec)]
            if any(spec.key in lacking for spec in asked):
                parts.append(f"{column.title} {progress(evidence, asked)}")
        failed = sum(_shown(plan, row.spec) for row in evidence.failed(dataset))
        if parts:
            yield f"{dataset_title(dataset)}: incomplete: {', '.join(parts)}{f' ({failed} failed)' if failed else ''}."
        if any(_shown(plan, spec) for spec in evidence.outdated(dataset)):
            yield from outdated_notes(evidence, dataset)
        if pruned := sum(_shown(plan, row.spec) for row in evidence.pruned(dataset)):
            yield (
                f"{dataset_title(dataset)}: {pruned} of {len(mine)} trials were given up early (pruned, censored): "
                "they are in no cell, and the choice is among the others."
            )
        if any(column.anywhere for column in plan.columns) and (words := evidence.unchosen(dataset)):
            yield words
    if absent:
        narrowed = f" in {evidence.request.precision}" if evidence.request.precision else ""
        yield f"Never started{narrowed}: {', '.join(map(dataset_title, absent))}."
    yield from _outside_notes(found)
    yield from unnamed_notes(evidence)


def _outside_notes(found: Findings) -> Iterator[str]:
    """Columns of which the study was asked for nothing, and which study to ask where it never is."""
    evidence = found.evidence
    for group in _outside(found):
        titles = ", ".join(column.title for column in group.columns)
        where = (
            "" if {*group.datasets} == {*evidence.finished} else f" on {', '.join(map(dataset_title, group.datasets))}"
        )
        there = f" (study {group.study} has them)" if group.study and not group.shown else ""
        other = [
            column.title
            for column in group.columns
            if column.anywhere and any(evidence.elsewhere(dataset, column.fits) for dataset in group.datasets)
        ]
        ran = f"; of {', '.join(other)} another study ran what differs in T, padded keys, ranked rows or precision"
        yield f"Not asked for in study {evidence.study}{where}: {titles}{there}{ran if other else ''}."


def _outside(found: Findings) -> tuple[Unasked, ...]:
    """What the study was not asked for and no other gives, on the data sets that have other columns."""
    evidence = found.evidence
    lacking = {
        dataset: columns
        for dataset in evidence.finished
        if (
            columns := [
                column
                for column in found.plan.columns
                if (dataset, column.key) not in found.chosen
                and not any(column.fits(spec) for spec in evidence.specs if spec.data.dataset == dataset)
            ]
        )
    }
    return unasked(evidence, found.plan.study, lacking)


def outdated_notes(evidence: Evidence, dataset: str) -> Iterator[str]:
    """Trials that no command runs, and what makes the study forget them."""
    if old := len(evidence.outdated(dataset)):
        yield (
            f"{dataset_title(dataset)}: of those not done {count(old, 'trial')} {'is' if old == 1 else 'are'} not "
            f"what study {evidence.study}, as it is today, asks for; `{evidence.replacing(dataset)}` forgets them."
        )


def table_commands(found: Findings) -> tuple[str, ...]:
    """What runs the missing cells of a table, then columns that its study was not asked for; of a table whose own study
    never began, that study like the part there is."""
    evidence, plan = found.evidence, found.plan
    if PART_OF.get(plan.study) != evidence.study:
        return *commands(evidence), *(group.command for group in _outside(found) if group.study and group.shown)
    part = [spec for spec in evidence.specs if any(column.fits(spec) for column in PLANS[plan.number].columns)]
    begun = [dataset for dataset in evidence.datasets if any(spec.data.dataset == dataset for spec in part)]
    others = [dataset for dataset in evidence.datasets if dataset not in begun]
    return tuple(
        sweep_command(
            plan.study,
            evidence.profile,
            datasets,
            mine,
            evidence.store.shown,
            narrow=False,
            unsaid=partial(evidence.usual_options, datasets),
        )
        for datasets in (begun, others)
        if datasets
        for mine in ([spec for spec in part if spec.data.dataset in datasets],)
    )


def commands(evidence: Evidence) -> tuple[str, ...]:
    """What runs the missing cells: of data sets that were started, and of those that were not."""
    started = tuple(dataset for dataset in evidence.datasets if evidence.runnable(dataset))
    told = (evidence.command(datasets) for datasets in (started, _unstarted(evidence)) if datasets)
    return tuple(command for command in told if command)


def unnamed_notes(evidence: Evidence) -> Iterator[str]:
    """What to do for what is missing where no command can be told: of a study file of the user's own."""
    started = tuple(filter(evidence.runnable, evidence.datasets))
    if started and not evidence.command(started):
        yield f"To run what is missing, {evidence.to_run(started)}."
