"""Who runs the trials: one small interface, and two who implement it.

An executor is given specifications and yields news: a trial has begun, an epoch has passed, a trial has ended. It never
touches the results database; whatever happens to a worker becomes a `TrialFailure` of its trial.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from typing import Protocol

from harness.config import DataConfig, RunPaths, TrialSpec
from harness.errors import ConfigError
from harness.values import EpochEvent, EpochLog, Split, TrialFailure, TrialResult

STOP_SECONDS = 3.0
"""How long a worker may take to go when asked."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What all trials of a sweep share; none of it is part of a trial's key."""

    paths: RunPaths
    device: str = "cpu"
    threads: int = 1
    """Torch threads of each trial."""
    command: str = ""
    """What was typed, for the provenance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted:
    """A worker has taken a trial."""

    key: str


Event = TrialStarted | EpochEvent | TrialResult | TrialFailure

Work = Callable[[TrialSpec, RunContext, Callable[[EpochLog], None]], TrialResult]
"""What is done for one trial: specification, context, what to call after each epoch."""


class Executor(Protocol):
    """Runs trials somewhere."""

    def run(self, specs: Sequence[TrialSpec], context: RunContext) -> Generator[Event, None, None]:
        """Run every specification, begun in this order, and yield exactly one result or failure for each.

        Closing the iterator stops whatever is running. Raises ConfigError when what the user asked for cannot be.
        """


@lru_cache(maxsize=4)
def _split(config: DataConfig, paths: RunPaths) -> Split:
    from harness.prepare import prepare

    return prepare(config, paths)


def train_trial(spec: TrialSpec, context: RunContext, on_epoch: Callable[[EpochLog], None]) -> TrialResult:
    """Train and evaluate on the prepared, memory-mapped data, which a process opens once."""
    from harness.trial import run_trial

    return run_trial(
        spec,
        _split(spec.data, context.paths),
        on_epoch=on_epoch,
        device=context.device,
        threads=context.threads,
        command=context.command,
    )


def _attempt(work: Work, spec: TrialSpec, context: RunContext, on_epoch: Callable[[EpochLog], None]) -> Event:
    """The result, or the failure that an error became; a ConfigError, which no other trial would survive, is raised."""
    last_epoch = 0

    def counted(log: EpochLog) -> None:
        nonlocal last_epoch
        last_epoch = log.epoch
        on_epoch(log)

    try:
        return work(spec, context, counted)
    except ConfigError:
        raise
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        return TrialFailure(
            spec=spec,
            error=f"{type(error).__name__}: {first}",
            traceback=traceback.format_exc(),
            last_epoch=last_epoch,
        )


class FakeExecutor:
    """Runs a given function in this very process, one trial after the other."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def run(self, specs: Sequence[TrialSpec], context: RunContext) -> Generator[Event, None, None]:
        """See `Executor.run`; epochs are told when their trial has ended."""
        for spec in specs:
            yield TrialStarted(key=spec.key)
            logs: list[EpochLog] = []
            ended = _attempt(self._work, spec, context, logs.append)
            yield from (EpochEvent(key=spec.key, log=log) for log in logs)
            yield ended


class LocalExecutor:
    """Worker processes on this machine; each imports torch once and then runs one trial after the other."""

    def __init__(self, workers: int | None = None, work: Work = train_trial) -> None:
        assert workers is None or workers >= 1
        self._workers = workers or os.cpu_count() or 1
        self._work = work

    def run(self, specs: Sequence[TrialSpec], context: RunContext) -> Generator[Event, None, None]:
        """See `Executor.run`. A worker that dies costs its trial; another one takes its place."""
        waiting = deque(specs)
        busy: dict[Connection, _Worker] = {}
        try:
            for _ in range(min(self._workers, len(specs))):
                worker = _Worker(self._work, context)
                busy[worker.connection] = worker
                yield worker.take(waiting.popleft())
            while busy:
                for connection in wait(list(busy)):
                    assert isinstance(connection, Connection)
                    worker = busy[connection]
                    event = worker.news()
                    if isinstance(event, ConfigError):
                        raise event
                    yield event
                    if isinstance(event, EpochEvent):
                        continue
                    if not worker.alive:
                        worker.stop()
                        del busy[connection]
                        if not waiting:
                            continue
                        worker = _Worker(self._work, context)
                        busy[worker.connection] = worker
                    if waiting:
                        yield worker.take(waiting.popleft())
                    else:
                        del busy[connection]
                        worker.stop()
        finally:
            for worker in busy.values():
                worker.ask_to_stop()
            for worker in busy.values():
                worker.stop()


class _Worker:
    """A worker process as the driver sees it."""

    def __init__(self, work: Work, context: RunContext) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.connection, far_end = spawn.Pipe()
        self.alive = True
        self._spec: TrialSpec | None = None
        self._last_epoch = 0
        self._process = spawn.Process(target=_serve, args=(far_end, work, context), daemon=True)
        with _quiet_start(context.threads):
            self._process.start()
        far_end.close()

    def take(self, spec: TrialSpec) -> TrialStarted:
        """Begin a trial; a worker that is already dead says so as its next news."""
        self._spec, self._last_epoch = spec, 0
        try:
            self.connection.send(spec)
        except OSError:
            self.alive = False
        return TrialStarted(key=spec.key)

    def news(self) -> EpochEvent | TrialResult | TrialFailure | ConfigError:
        """What the worker has to say; its death is the failure of its trial."""
        assert self._spec is not None
        try:
            event = self.connection.recv()
        except (EOFError, OSError):
            self.alive = False
            self._process.join(STOP_SECONDS)
            code = self._process.exitcode
            how = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
            hint = " (out of memory?)" if code == -signal.SIGKILL else ""
            return TrialFailure(
                spec=self._spec,
                error=f"WorkerDied: the worker process ended during the trial: {how}{hint}",
                traceback="",
                last_epoch=self._last_epoch,
            )
        if isinstance(event, EpochEvent):
            self._last_epoch = event.log.epoch
        assert isinstance(event, EpochEvent | TrialResult | TrialFailure | ConfigError)
        return event

    def ask_to_stop(self) -> None:
        """End the process, whatever it is doing."""
        if self._process.is_alive():
            self._process.terminate()

    def stop(self) -> None:
        """End the process and wait until it is gone."""
        self.connection.close()
        self.ask_to_stop()
        self._process.join(STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


@contextmanager
def _quiet_start(threads: int) -> Iterator[None]:
    """What a new process inherits: thread counts, which its libraries read when loaded, and deafness to Ctrl-C."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, work: Work, context: RunContext) -> None:
    """The worker's life: take a trial, tell its epochs, tell its end; until the driver goes."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    while True:
        try:
            spec = connection.recv()
        except EOFError:
            return

        def tell(log: EpochLog, key: str = spec.key) -> None:
            connection.send(EpochEvent(key=key, log=log))

        try:
            connection.send(_attempt(work, spec, context, tell))
        except ConfigError as error:
            connection.send(error)


def _leave_with_parent() -> None:
    """End this process, in the middle of whatever it does, once the driver is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
