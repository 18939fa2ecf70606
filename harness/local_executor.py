"""`LocalExecutor`: worker processes on this machine, without Ray."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path

from harness.config import TrialSpec
from harness.executors import (
    STOPPING,
    Driver,
    RunContext,
    StopError,
    Task,
    TrialStarted,
    Work,
    attempt,
    processors,
    train_trial,
    worker_died,
)
from harness.values import EpochEvent, EpochLog, Outcome, TrialFailure, TrialPruned, TrialResult

STOP_SECONDS = 3.0
"""How long a worker may take to go when asked."""

DEATH_SECONDS = 60.0
"""How long one that has hung up may take to end: its exit code is known only then."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class LocalExecutor:
    """Worker processes on this machine; each imports torch once and then runs one trial after the other."""

    def __init__(self, workers: int | None = None, work: Work = train_trial) -> None:
        assert workers is None or workers >= 1
        self._workers = workers or processors()
        self._work = work

    def run(self, driver: Driver, context: RunContext) -> None:
        """See `Executor.run`. A worker that dies costs its trial; another one takes its place."""
        idle: list[_Worker] = []
        busy: dict[Connection, _Worker] = {}
        task: Task | None = None
        try:
            while True:
                while sum(worker.slots for worker in busy.values()) < self._workers and (task := task or driver.take()):
                    wanted = min(task.share, self._workers)
                    if sum(worker.slots for worker in busy.values()) + wanted > self._workers:
                        break
                    while task.share > 1 and idle:  # an idle worker still holds memory, of a GPU above all
                        idle.pop().stop()
                    worker = idle.pop() if idle else _Worker(self._work, context)
                    busy[worker.connection] = worker
                    worker.take(task.spec, wanted)
                    driver.heard(TrialStarted(key=task.spec.key))
                    task = None
                if not busy:
                    return
                for connection in wait(list(busy)):
                    assert isinstance(connection, Connection)
                    worker = busy[connection]
                    event = worker.news()
                    if isinstance(event, EpochEvent):
                        worker.answer(driver.heard(event))
                    elif isinstance(event, StopError):
                        raise event
                    else:
                        assert isinstance(event, Outcome)
                        del busy[connection]
                        idle += [worker] if worker.alive else []
                        driver.heard(event)
        finally:
            for worker in (*idle, *busy.values()):
                worker.ask_to_stop()
            for worker in (*idle, *busy.values()):
                worker.stop()


class _Worker:
    """A worker process as the driver sees it."""

    def __init__(self, work: Work, context: RunContext) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.connection, far_end = spawn.Pipe()
        self.alive = True
        self.slots = 1
        """How many of the executor's workers it stands for."""
        self._waits = context.ask_each_epoch
        self._spec: TrialSpec | None = None
        self._logs: list[EpochLog] = []
        self._killed_before = 0
        self._process = spawn.Process(target=_serve, args=(far_end, work, context), daemon=True)
        with _quiet_start(context.threads):
            self._process.start()
        far_end.close()

    def take(self, spec: TrialSpec, slots: int) -> None:
        """Begin a trial; a worker that is already dead says so as its next news."""
        self._spec, self._logs, self.slots = spec, [], slots
        self._killed_before = _kills_for_memory()
        self._send(spec)

    def answer(self, go_on: bool) -> None:
        """Whether the trial goes on after the epoch it has told; only where it waits for that."""
        if self._waits:
            self._send(go_on)

    def _send(self, what: object) -> None:
        try:
            self.connection.send(what)
        except OSError:
            self.alive = False

    def news(self) -> EpochEvent | Outcome | StopError:
        """What the worker has to say; its death is the failure of its trial."""
        assert self._spec is not None
        try:
            event = self.connection.recv()
        except (EOFError, OSError):
            return self._died(self._spec)
        if event is None:
            return TrialPruned(spec=self._spec, epochs=tuple(self._logs))
        if isinstance(event, EpochEvent):
            self._logs.append(event.log)
        assert isinstance(event, EpochEvent | TrialResult | TrialFailure | StopError)
        return event

    def _died(self, spec: TrialSpec) -> TrialFailure:
        self._process.join(DEATH_SECONDS)
        code = self._process.exitcode
        self.alive = False
        self.stop()
        if code is None:
            how = "it hung at its end"
        else:
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        starved = code == -signal.SIGKILL and _kills_for_memory() > self._killed_before
        last = self._logs[-1].epoch if self._logs else 0
        return worker_died(spec, how, last_epoch=last, out_of_memory=starved)

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


def _kills_for_memory() -> int:
    """How many processes the kernel has killed for want of memory; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


@contextmanager
def deaf() -> Iterator[None]:
    """A process that is started meanwhile does not hear Ctrl-C, which a terminal sends to all: it is the driver's."""
    resource_tracker.ensure_running()  # else the first start would do that, and leave the signal unblocked
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def _quiet_start(threads: int) -> Iterator[None]:
    """What a new process inherits: thread counts, which its libraries read when loaded, and deafness to Ctrl-C."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    try:
        with deaf():
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, work: Work, context: RunContext) -> None:
    """The worker's life: take a trial, tell its epochs, tell its end, None if it was told to give up; until the end."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=leave_with_parent, daemon=True).start()
    while True:
        try:
            spec = connection.recv()
        except EOFError:
            return
        steps = attempt(work, spec, context)
        try:
            told = _Told(steps)
            for log in told:
                connection.send(EpochEvent(key=spec.key, log=log))
                if context.ask_each_epoch and not connection.recv():
                    steps.close()
            connection.send(told.outcome)
        except STOPPING as error:
            connection.send(error)


class _Told:
    """Iterates over a trial's epochs and keeps its outcome; None for one that was closed."""

    def __init__(self, steps: Generator[EpochLog, None, TrialResult | TrialFailure]) -> None:
        self._steps = steps
        self.outcome: TrialResult | TrialFailure | None = None

    def __iter__(self) -> Iterator[EpochLog]:
        self.outcome = yield from self._steps


def leave_with_parent() -> None:
    """End this process, in the middle of whatever it does, once the driver is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
