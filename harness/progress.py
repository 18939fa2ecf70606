"""The progress of a sweep: bars in a terminal, otherwise a line for every trial that ends."""

import math
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from harness.config import TrialSpec
from harness.executors import Event, TrialStarted
from harness.values import THEN, EpochEvent, EpochLog, Outcome, TrialFailure, TrialPruned, TrialResult

SLOW = {"torch": "native kernels", "torch_ce": "a native cross-entropy"}
"""What lacks where a trial's provenance names torch, and gives a reason."""
SHOWN = "ndcg@10"
"""The validation metric that is shown."""


def describe(spec: TrialSpec) -> str:
    """A trial in a few words."""
    aux = "" if spec.aux.kind == "none" else f" alpha {spec.aux.alpha:g}"
    if spec.aux.kind == "barlow_twins":
        aux += f" lambda {spec.aux.lam:g}" + (f" view {spec.aux.bt_view}" if spec.aux.bt_view != "supervised" else "")
    return f"{spec.data.dataset} {spec.method}{aux} seed {spec.seed}"


def duration(seconds: float) -> str:
    """A length of time in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


class Display:
    """Progress of a sweep: bars in a terminal, otherwise a line for every trial that ends."""

    def __init__(self, specs: Sequence[TrialSpec], *, total: int, console: Console, quiet: bool) -> None:
        self._specs = {spec.key: spec for spec in specs}
        self._expected = total
        self._quiet = quiet
        self._console = console
        self._share: dict[str, float] = {}
        self._best: dict[str, float] = {}
        self._ended = 0
        self._begun = time.monotonic()
        self._told_slow = False
        self._overall = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._total = self._overall.add_task("trials", total=total, left="")
        self._running = Progress(
            TextColumn("  {task.description}", markup=False), MofNCompleteColumn(), TextColumn("{task.fields[note]}")
        )
        self._live = (
            None if quiet or not console.is_terminal else Live(Group(self._overall, self._running), console=console)
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Display":
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

    def show(self, event: Event, *, again: bool = False) -> None:
        """Tell the news; a failure that is tried `again` is not an end."""
        if isinstance(event, TrialStarted):
            spec = self._specs[event.key]
            self._tasks[event.key] = self._running.add_task(describe(spec), total=spec.train.max_epochs, note="")
        elif isinstance(event, EpochEvent):
            self._epoch(event.key, event.log)
        else:
            self._end(event, again)

    def add(self, spec: TrialSpec) -> None:
        """A trial that was not known at the beginning."""
        self._specs[spec.key] = spec

    def _epoch(self, key: str, log: EpochLog) -> None:
        self._share[key] = log.epoch / self._specs[key].train.max_epochs
        self._best[key] = max(self._best.get(key, -math.inf), log.valid.get(SHOWN, -math.inf))
        if key in self._tasks:
            note = f"best {SHOWN} {self._best[key]:.4f}" if math.isfinite(self._best[key]) else ""
            self._running.update(self._tasks[key], completed=log.epoch, note=note)
        self._overall.update(self._total, left=self._left())

    def _end(self, outcome: Outcome, again: bool) -> None:
        key = outcome.spec.key
        self._ended += not again
        self._share.pop(key, None)
        best = self._best.pop(key, -math.inf)
        if key in self._tasks:
            self._running.remove_task(self._tasks.pop(key))
        self._overall.update(self._total, completed=self._ended, left=self._left())
        if self._quiet:
            return
        if isinstance(outcome, TrialResult):
            self._tell_slow(outcome.provenance.kernels)
        words = describe(outcome.spec)
        if isinstance(outcome, TrialFailure):
            retry = ", will be tried again" if again else ""
            self._say(f"{words}: FAILED after epoch {outcome.last_epoch}{retry}: {outcome.error}")
        elif isinstance(outcome, TrialPruned):
            if not self._console.is_terminal:
                self._say(f"{words}: given up after epoch {len(outcome.epochs)}, others are better")
        elif not self._console.is_terminal:
            shown = f", validation {SHOWN} {best:.4f}" if math.isfinite(best) else ""
            self._say(f"{words}: best epoch {outcome.best_epoch} of {len(outcome.epochs)}{shown}")

    def _tell_slow(self, kernels: str) -> None:
        """Say once why trials run without native kernels, or without that of the loss, unless switched off."""
        name, _, rest = kernels.rpartition(THEN)[2].partition(" (")
        if self._told_slow or name not in SLOW or not rest or "BTSR_KERNELS=off" in rest:
            return
        self._told_slow = True
        head, more, _ = rest.partition("), ")
        words = f"trials run without {SLOW[name]}, which makes them slower: {head if more else rest.removesuffix(')')}"
        self._console.print(words, markup=False, highlight=False, soft_wrap=True)

    def _left(self) -> str:
        """How long the rest takes if it goes on like this; epochs of running trials count as parts of trials."""
        finished = self._ended + sum(self._share.values())
        if self._ended == self._expected or not finished:
            return ""
        seconds = (time.monotonic() - self._begun) / finished * (self._expected - finished)
        return f"about {duration(seconds)} left"

    def _say(self, words: str) -> None:
        left = self._left()
        words = f"[{self._ended}/{self._expected}] {words}{'; ' if left else ''}{left}"
        self._console.print(words, markup=False, highlight=False, soft_wrap=True)
