"""What `btsr-sweep` prints beside progress: studies, the plan and its price, the status, failures."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from harness.config import Study, StudyOptions, TrialSpec
from harness.options import is_search
from harness.paths import RunPaths
from harness.plain import plain
from harness.plan import Plan, results_so_far
from harness.plan import plan as compared
from harness.price import Price
from harness.progress import describe, duration
from harness.values import Cell, Estimate
from studies import STUDIES, default_datasets

if TYPE_CHECKING:
    from harness.store import Store

RECIPES = {"slurm": "slurm.sh", "onprem": "onprem.yaml", "aws": "aws.yaml"}
"""Files of the folder `recipes`: how a cluster is begun, a sweep run on it, and the cluster ended."""


def studies() -> None:
    """The studies by name."""
    table = Table("study", "data sets by default", "what", box=box.SIMPLE)
    for name, function in STUDIES.items():
        title = function(StudyOptions(datasets=default_datasets(name), reduced=True)).title
        table.add_row(name, ", ".join(default_datasets(name)), title)
    plain().print(table)


def plan(
    todo: Plan,
    where: str | Path,
    estimates: Mapping[Cell, Estimate],
    price: Price,
    workers: int,
    *,
    here: bool = True,
) -> None:
    """Counts by data set and method with their sum, and what the missing trials cost as far as it is known."""
    table = Table(box=box.SIMPLE, show_footer=True, title=f"{todo.study.name} in {where}")
    for header, field in (("data set", "dataset"), ("method", "method")):
        longest = max((len(getattr(row, field)) for row in todo.rows), default=0)
        table.add_column(header, min_width=min(20, longest))
    table.columns[0].footer = "total"
    columns = ("trials", "done", *(["pruned"] if todo.pruned else []), "failed", "missing")
    for name in columns:
        total = sum(getattr(row, name) for row in todo.rows)
        table.add_column(name, justify="right", footer=f"{total:,}")
    for name in ("each", "hours", "MiB"):
        table.add_column(name, justify="right", footer=f"{price.hours:.2f}" if name == "hours" and price.hours else "")
    for row in todo.rows:
        counts = [f"{getattr(row, name):,}" for name in columns]
        known = estimates.get((row.dataset, row.method, row.profile))
        cost = ("", "", "")
        if known:
            hours = row.missing * known.seconds / 3600
            cost = (duration(known.seconds), f"{hours:.2f}", f"{known.peak_mib:,.0f}")
        table.add_row(row.dataset, row.method, *counts, *cost)
    console = plain()
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        whole = console.measure(table, options=console.options.update(max_width=1_000)).maximum
        console = plain(width=max(console.width, whole))  # in a file nothing is cut off
    console.print(table)
    console.print("missing: what a start would run, failed trials that may be tried again included", style="dim")
    if todo.forgets:
        console.print(f"{todo.forgets} unfinished trials would be forgotten: no longer asked for")
    if price.hours:
        workers = min(workers, todo.waiting)
        end = datetime.now() + timedelta(hours=price.hours_with(workers))
        console.print(
            f"about {duration(price.hours_with(workers) * 3600)} with {workers} worker{'s' * (workers > 1)}, "
            f"until {end:%Y-%m-%d %H:%M}; {price.peak_mib * workers:,.0f} MiB at once",
        )
    if price.unknown:
        names = ", ".join(f"{dataset} {method}" for dataset, method, _ in price.unknown)
        hint = "add --calibrate to measure it" if here else "the first trials that finish will tell"
        console.print(f"no price for {names}: {hint}", style="dim", soft_wrap=True)


def status(todo: Plan, paths: RunPaths) -> None:
    """Who sweeps, how far this study is, and what of it runs now."""
    store = results_so_far(paths)
    if store is None:
        print(f"{todo.study.name}: nothing has run yet in {paths.shown}")
        return
    with store:
        holder = store.holder()
    _say(f"{_counted(todo)}; " + (f"running on {holder}" if holder else "nothing runs now"))
    if holder:
        _running(todo.study.specs, paths)


def status_of_all(paths: RunPaths) -> None:
    """How far every study is that was ever started in these results, who sweeps, and what runs now.

    Missing is what a start without further options would run.
    """
    store = results_so_far(paths)
    if store is None:
        print(f"nothing has run yet in {paths.shown}")
        return
    with store:
        holder, found = store.holder(), [store.study(name) for name in store.studies()]
        asked = [Study(name=row.name, title=row.title, specs=row.specs) for row in found]
        for study in asked:
            _say(_counted(_as_started(study, store)) + _chosen(study))
    _say(f"running on {holder}" if holder else "nothing runs now")
    if holder:
        _running([spec for study in asked for spec in study.specs], paths)


def _as_started(study: Study, store: "Store") -> Plan:
    """The plan of a stored study: of a search, which its name tells, what was given up is not missing."""
    todo = compared(study, store)
    return replace(todo, ended=frozenset({"done", "pruned"})) if is_search(study.name) else todo


def _counted(todo: Plan) -> str:
    counts = f"{todo.study.name}: {todo.done} of {todo.total} done, {todo.failed} failed, {todo.waiting} missing"
    return counts + (f", {todo.pruned} pruned by a search" if todo.pruned else "")


def _chosen(study: Study) -> str:
    return " (of the points chosen so far)" if is_search(study.name) else ""


def _running(specs: Iterable[TrialSpec], paths: RunPaths) -> None:
    """A line for each of these trials that runs."""
    from harness.ledger_storage import running

    known = {spec.key: spec for spec in specs}
    for key, epoch, value in running(paths.results):
        if key in known:
            shown = "" if value is None else f", validation ndcg@10 {value:.4f}"
            _say(f"  {describe(known[key])}: epoch {epoch} of {known[key].train.max_epochs}{shown}")


def _say(words: str) -> None:
    plain().print(words, soft_wrap=True)


def failures(after: Plan, paths: RunPaths) -> None:
    """The errors of failed trials, each once with its count, and how to try again; searches that found no new point."""
    from harness.store import open_store

    mine = {spec.key for spec in after.study.specs}
    with open_store(paths.results, read_only=True) as store:
        failed = [error for key, (_, error) in store.failures().items() if key in mine]
    console = plain(stderr=True)
    for error, count in Counter(failed).most_common(5):
        console.print(f"{count} failed: {error}", soft_wrap=True)
    for place, left in after.unproposed.items():
        words = f"{place}: no new point was found for {left} of {after.budget} trials: its space is (nearly) used up"
        console.print(words, soft_wrap=True)
    if not failed:
        return
    flag = " with --retry-failed" if after.given_up and not after.missing else ""
    console.print(f"give the same command again{flag} to try what failed once more", soft_wrap=True)


def recipe(name: str) -> None:
    """The text of a recipe, to be written into a file and changed."""
    print((Path(__file__).with_name("recipes") / RECIPES[name]).read_text(), end="")
