"""A sweep: plan what is missing, prepare data, run, record every trial the moment it ends.

The database library is imported only where there is a database.

A trial is done if and only if the store says so; a stopped or killed sweep goes on with the same command.
"""

import math
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from harness.config import DataConfig, RunPaths, Study, TrialSpec
from harness.executors import Event, Executor, RunContext, TrialStarted
from harness.values import EpochEvent, EpochLog, Split, TrialFailure, TrialResult

if TYPE_CHECKING:
    from harness.store import Status, Store

SHOWN = "ndcg@10"
"""The validation metric that the progress display shows."""


def database(paths: RunPaths) -> Path:
    """The results database of a run folder."""
    return paths.work_dir / "btsr.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """Counts of one data set and method."""

    dataset: str
    method: str
    trials: int
    done: int
    failed: int

    @property
    def missing(self) -> int:
        """What the next start runs: failed trials included."""
        return self.trials - self.done


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A study against what is there."""

    study: Study
    statuses: "dict[str, Status]"
    """Of this study's trials."""

    @property
    def missing(self) -> tuple[TrialSpec, ...]:
        """What is to run, all cells' first seed before any second one."""
        seen: defaultdict[str, int] = defaultdict(int)
        turns = []
        for spec in self.study.specs:
            turns.append(seen[spec.group])
            seen[spec.group] += 1
        in_order = sorted(range(len(turns)), key=lambda index: (turns[index], index))
        specs = (self.study.specs[index] for index in in_order)
        return tuple(spec for spec in specs if self.statuses.get(spec.key) != "done")

    @property
    def rows(self) -> tuple[PlanRow, ...]:
        """Counts by data set and method, in the study's order."""
        cells: dict[tuple[str, str], list[Status | None]] = {}
        for spec in self.study.specs:
            cells.setdefault((spec.data.dataset, spec.method), []).append(self.statuses.get(spec.key))
        return tuple(
            PlanRow(
                dataset=dataset,
                method=method,
                trials=len(found),
                done=found.count("done"),
                failed=found.count("failed"),
            )
            for (dataset, method), found in cells.items()
        )

    @property
    def done(self) -> int:
        """Finished trials."""
        return sum(row.done for row in self.rows)

    @property
    def failed(self) -> int:
        """Trials whose last attempt failed."""
        return sum(row.failed for row in self.rows)


def plan(study: Study, store: "Store | None") -> Plan:
    """What is done, failed and missing; without a store nothing is done."""
    known = store.statuses() if store else {}
    return Plan(study=study, statuses={spec.key: known[spec.key] for spec in study.specs if spec.key in known})


def current_plan(study: Study, paths: RunPaths) -> Plan:
    """The plan against the run folder as it is, which is only read. Raises StoreError for a bad database."""
    if not database(paths).exists():
        return plan(study, None)
    from harness.store import open_store

    with open_store(database(paths), read_only=True) as store:
        return plan(study, store)


def run_study(study: Study, executor: Executor, context: RunContext, *, console: Console, quiet: bool = False) -> Plan:
    """Run what is missing of a study and record it; returns the plan as it is afterwards.

    Only one sweep at a time: raises SweepLocked while another holds the database. Raises DataError before anything is
    written where data are missing, ConfigError and StoreError as their messages say.
    """
    from harness.store import open_store

    paths = context.paths
    splits = _prepared(current_plan(study, paths), paths, console=console, quiet=quiet)
    with open_store(database(paths), create=True) as store, store.driver_lock():
        store.register_study(study)
        run(plan(study, store), store, executor, context, splits=splits, console=console, quiet=quiet)
        return plan(study, store)


def _prepared(wanted: Plan, paths: RunPaths, *, console: Console, quiet: bool) -> dict[DataConfig, Split]:
    """The data of all missing trials, each prepared once, here, before any worker asks for it."""
    configs = dict.fromkeys(spec.data for spec in wanted.missing)
    if not configs:
        return {}
    from harness.prepare import prepare

    splits = {}
    for config in configs:
        if quiet or not console.is_terminal:
            splits[config] = prepare(config, paths)
        else:
            with console.status(f"preparing {config.dataset}"):
                splits[config] = prepare(config, paths)
        if not quiet:
            split = splits[config]
            console.print(
                f"{config.dataset}: {split.n_train_users} training users, {split.n_items} items, "
                f"{split.n_test_users} test users, data {split.fingerprint[:8]}",
                highlight=False,
            )
    return splits


def run(
    todo: Plan,
    store: "Store",
    executor: Executor,
    context: RunContext,
    *,
    splits: dict[DataConfig, Split],
    console: Console,
    quiet: bool = False,
) -> None:
    """Run the plan's missing trials and record each as it ends; `splits` has the data of all of them."""
    specs = todo.missing
    if not specs:
        return
    for config in dict.fromkeys(spec.data for spec in specs):
        store.record_data(splits[config])
    with _Display(specs, console=console, quiet=quiet) as display, closing(executor.run(specs, context)) as events:
        for event in events:
            if isinstance(event, TrialResult | TrialFailure):
                with _uninterrupted():
                    store.record(event)
            display.show(event)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def describe(spec: TrialSpec) -> str:
    """A trial in a few words."""
    aux = "" if spec.aux.kind == "none" else f" alpha {spec.aux.alpha:g} lambda {spec.aux.lam:g}"
    return f"{spec.data.dataset} {spec.method}{aux} seed {spec.seed}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


class _Display:
    """Progress of a sweep: bars in a terminal, otherwise a line for every trial that ends."""

    def __init__(self, specs: Sequence[TrialSpec], *, console: Console, quiet: bool) -> None:
        self._specs = {spec.key: spec for spec in specs}
        self._quiet = quiet
        self._console = console
        self._share: dict[str, float] = {}
        self._best: dict[str, float] = {}
        self._ended = 0
        self._begun = time.monotonic()
        self._overall = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._total = self._overall.add_task("trials", total=len(specs), left="")
        self._running = Progress(
            TextColumn("  {task.description}"), MofNCompleteColumn(), TextColumn("{task.fields[note]}")
        )
        self._live = (
            None if quiet or not console.is_terminal else Live(Group(self._overall, self._running), console=console)
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "_Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks.values():
            self._running.remove_task(task)
        if self._live:
            self._live.stop()

    def show(self, event: Event) -> None:
        """Tell the news."""
        if isinstance(event, TrialStarted):
            spec = self._specs[event.key]
            self._tasks[event.key] = self._running.add_task(describe(spec), total=spec.train.max_epochs, note="")
        elif isinstance(event, EpochEvent):
            self._epoch(event.key, event.log)
        else:
            self._end(event)

    def _epoch(self, key: str, log: EpochLog) -> None:
        self._share[key] = log.epoch / self._specs[key].train.max_epochs
        self._best[key] = max(self._best.get(key, -math.inf), log.valid.get(SHOWN, -math.inf))
        if key in self._tasks:
            note = f"best {SHOWN} {self._best[key]:.4f}" if math.isfinite(self._best[key]) else ""
            self._running.update(self._tasks[key], completed=log.epoch, note=note)
        self._overall.update(self._total, left=self._left())

    def _end(self, outcome: TrialResult | TrialFailure) -> None:
        key = outcome.spec.key
        self._ended += 1
        self._share.pop(key, None)
        best = self._best.pop(key, -math.inf)
        if key in self._tasks:
            self._running.remove_task(self._tasks.pop(key))
        self._overall.update(self._total, completed=self._ended, left=self._left())
        if self._quiet:
            return
        words = describe(outcome.spec)
        if isinstance(outcome, TrialFailure):
            self._say(f"{words}: FAILED after epoch {outcome.last_epoch}: {outcome.error}")
        elif not self._console.is_terminal:
            shown = f", validation {SHOWN} {best:.4f}" if math.isfinite(best) else ""
            self._say(f"{words}: best epoch {outcome.best_epoch} of {len(outcome.epochs)}{shown}")

    def _left(self) -> str:
        """How long the rest takes if it goes on like this; epochs of running trials count as parts of trials."""
        finished = self._ended + sum(self._share.values())
        if self._ended == len(self._specs) or not finished:
            return ""
        seconds = (time.monotonic() - self._begun) / finished * (len(self._specs) - finished)
        return f"about {_duration(seconds)} left"

    def _say(self, words: str) -> None:
        left = self._left()
        words = f"[{self._ended}/{len(self._specs)}] {words}{'; ' if left else ''}{left}"
        self._console.print(words, markup=False, highlight=False, soft_wrap=True)
