"""The driver of a sweep: hands out trials, records every end the moment it comes, tries failures again.

The results database is the truth; the ledger, which is the queue that the dashboard shows, follows it.
"""

import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from harness.checkpoint import forget
from harness.config import SearchSpace, Study, TrialSpec
from harness.executors import Event, Task, TrialStarted
from harness.ledger import Ledger
from harness.options import SweepOptions
from harness.paths import RunPaths
from harness.progress import Display
from harness.store import Store
from harness.values import EpochEvent, Outcome, TrialFailure

MOST_SHARES = 8
"""The largest multiple of its usual resources that a trial is given after it ran out of memory."""


MOST_REPEATS = 100
"""How often in a row a search may propose what was run before, or cannot be; then its space is taken as exhausted."""


class SweepDriver:
    """Between the store, the ledger and the display on one side and an executor on the other."""

    def __init__(
        self,
        todo: Sequence[TrialSpec],
        store: Store,
        ledger: Ledger,
        display: Display,
        paths: RunPaths,
        *,
        study: Study,
        options: SweepOptions,
        spaces: Mapping[str, SearchSpace],
    ) -> None:
        self._queue = deque(Task(spec=spec) for spec in todo)
        self._store, self._ledger, self._display, self._paths = store, ledger, display, paths
        self._study, self._options, self._spaces = study, options, spaces
        self._specs = list(study.specs)
        self._exhausted: set[str] = set()
        self._known = {key for key, status in store.statuses().items() if status != "failed"}
        self._running: dict[str, Task] = {}
        failures = {} if options.retry_failed or options.only else store.failures()
        self._failed = {key: attempt for key, (attempt, _) in failures.items()}

    def take(self) -> Task | None:
        """See `executors.Driver.take`."""
        task = self._queue.popleft() if self._queue else self._proposed()
        if task is None:
            return None
        self._running[task.spec.key] = task
        self._repair()
        self._ledger.claim(task.spec)
        return task

    def _proposed(self) -> Task | None:
        """A new point of the space with the fewest, while any has fewer than are wanted."""
        known = {place: len(self._ledger.known(place)) for place in self._spaces}
        wanting = [place for place in known if known[place] < self._options.trials and place not in self._exhausted]
        for place in sorted(wanting, key=known.__getitem__):
            spec = self._new_point(place)
            if spec is None:
                self._exhausted.add(place)
                continue
            self._specs.append(spec)
            self._store.register_study(self._study.model_copy(update={"specs": (spec,)}), keep_wishes=True)
            if spec.key in self._known:  # another study ran it
                self._reconcile()
                return self._proposed()
            self._display.add(spec)
            return Task(spec=spec)
        return None

    def _new_point(self, place: str) -> TrialSpec | None:
        """What the search proposes there; None where it keeps proposing what was run before, or cannot be."""
        for _ in range(MOST_REPEATS):
            self._repair()
            if spec := self._ledger.propose(place):
                return spec
        return None

    def heard(self, event: Event) -> bool:
        """See `executors.Driver.heard`."""
        if isinstance(event, TrialStarted):
            self._display.show(event)
            return True
        if isinstance(event, EpochEvent):
            self._display.show(event)
            self._repair()
            return self._ledger.epoch(self._running[event.key].spec, event.log)
        with uninterrupted():
            self._end(event)
        return True

    def _end(self, outcome: Outcome) -> None:
        key = outcome.spec.key
        attempt = self._store.record(outcome)
        task = self._running.pop(key)
        again = False
        if isinstance(outcome, TrialFailure):
            self._failed[key] = self._failed.get(key, 0) + 1
            again = not self._options.is_final(self._failed[key], outcome.error)
            if again:
                share = task.share * (2 if outcome.kind == "out_of_memory" else 1)
                self._queue.append(Task(spec=outcome.spec, share=min(share, MOST_SHARES)))
        else:
            assert attempt >= 1
            forget(self._paths.checkpoints, key)
        self._repair()
        self._ledger.ended(outcome, again=again)
        self._display.show(outcome, again=again)

    def _repair(self) -> None:
        """Make the ledger anew where somebody changed it in the dashboard."""
        if self._ledger.damaged:
            self._reconcile()

    def _reconcile(self) -> None:
        waiting = {task.spec.key for task in self._queue}
        given_up = {k for k in self._failed if k not in self._running and k not in waiting}
        self._ledger.reconcile(self._specs, self._store, running=tuple(self._running), skip=given_up)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []

    def later(number: int, _: FrameType | None) -> None:
        caught.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    usual = {number: signal.signal(number, later) or signal.SIG_DFL for number in numbers}
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
    if caught:
        signal.raise_signal(caught[0])
