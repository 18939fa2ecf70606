"""Who runs the trials: one small interface, implemented by `local_executor` and by `ray_executor`.

An executor takes trials from a driver, one whenever it has room, and tells it the news: a trial has begun, an epoch has
passed, a trial has ended. It never touches the results database; whatever happens to a worker becomes a `TrialFailure`.
"""

import os
import traceback
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, get_args

from harness.config import DataConfig, TrialSpec
from harness.errors import ConfigError, ShadowedPackageError, StoreError, TrialError
from harness.memory import give_back_gpu
from harness.paths import RunPaths
from harness.values import (
    EpochEvent,
    EpochLog,
    FailureKind,
    Outcome,
    TrialFailure,
    TrialResult,
)

StopError = ConfigError | StoreError | ShadowedPackageError
"""What no other trial would survive either: it stops the sweep."""

STOPPING: tuple[type[Exception], ...] = get_args(StopError)
"""The same, for `except`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What all trials of a sweep share; none of it is part of a trial's key."""

    paths: RunPaths
    device: str = "cpu"
    threads: int = 1
    """Torch threads of each trial."""
    command: str = ""
    """What was typed, for the provenance."""
    keep_checkpoints: bool = False
    """Whether the best weights of every trial stay."""
    ask_each_epoch: bool = False
    """Whether a trial waits after each epoch to be told whether it goes on."""
    prepared: Mapping[DataConfig, Path] = field(default_factory=dict)
    """Folders of data that are prepared already: a worker needs no raw file then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A trial to run."""

    spec: TrialSpec
    share: int = 1
    """How many times the usual resources it is given, after it ran out of memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted:
    """A worker has taken a trial."""

    key: str


Event = TrialStarted | EpochEvent | Outcome

Work = Callable[[TrialSpec, RunContext], Generator[EpochLog, None, TrialResult]]
"""What is done for one trial: yields every epoch, those before a resumption included, and returns the result."""


class Driver(Protocol):
    """Where an executor gets its trials and brings its news; called in the driver's process and thread alone."""

    def take(self) -> Task | None:
        """The next trial; None where none is left, unless one that is running fails."""

    def heard(self, event: Event) -> bool:
        """Take the news; after an epoch: whether the trial is to go on."""


class Executor(Protocol):
    """Runs trials somewhere."""

    def run(self, driver: Driver, context: RunContext) -> None:
        """Run what the driver has, until nothing is left: one result, failure or pruning for each.

        An exception, of the driver or Ctrl-C, stops whatever is running. Raises ConfigError where what the user asked
        for cannot be, StoreError where checkpoints cannot be written.
        """


_MINE = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
"""Read before torch is imported: OMP_PROC_BIND lets its OpenMP bind the process to one of them then."""


def processors() -> int:
    """Processors that this process may use: fewer than there are under taskset, Slurm or a container's cpuset.

    A quota of their time (docker --cpus) is not seen.
    """
    return len(_MINE) if _MINE else os.cpu_count() or 1


def unbind() -> None:
    """Let this process, and those that it starts, use all its processors again after torch was imported in it."""
    if _MINE:
        os.sched_setaffinity(0, _MINE)


def train_trial(spec: TrialSpec, context: RunContext) -> Generator[EpochLog, None, TrialResult]:
    """Train and evaluate on the prepared, memory-mapped data, opened once, checked for leaks anew for every trial."""
    from harness.prepare import for_trial
    from harness.trial import trial_steps

    return trial_steps(
        spec,
        for_trial(spec.data, context.paths, context.prepared.get(spec.data)),
        device=context.device,
        threads=context.threads,
        command=context.command,
        checkpoints=context.paths.checkpoints,
        keep_best=context.keep_checkpoints,
    )


def attempt(work: Work, spec: TrialSpec, context: RunContext) -> Generator[EpochLog, None, TrialResult | TrialFailure]:
    """The work, with the failure that an error becomes as its result; errors that must stop the sweep are raised."""
    last_epoch = 0
    try:
        steps = work(spec, context)
        while True:
            log = next(steps)
            last_epoch = log.epoch
            yield log
    except StopIteration as end:
        result: TrialResult = end.value
        return result
    except STOPPING:
        raise
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        return TrialFailure(
            spec=spec,
            error=f"{type(error).__name__}: {first}",
            traceback=traceback.format_exc(),
            last_epoch=last_epoch,
            kind=kind_of(error),
        )
    finally:
        give_back_gpu()  # by now nothing holds the trial's tensors, not even its error


def kind_of(error: BaseException) -> FailureKind:
    """Whether another attempt, or one with more memory, may help."""
    words = str(error).lower()
    if isinstance(error, TrialError):
        return "diverged"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out_of_memory"
    if isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words):
        return "out_of_memory"
    return "error"


def worker_died(spec: TrialSpec, how: str, *, last_epoch: int, out_of_memory: bool, report: str = "") -> TrialFailure:
    """The failure of the trial whose worker is gone; `report` is all that is known, in place of a traceback."""
    return TrialFailure(
        spec=spec,
        error=f"WorkerDied: the worker process ended during the trial: {how}"
        + (" for want of memory" if out_of_memory else ""),
        traceback=report,
        last_epoch=last_epoch,
        kind="out_of_memory" if out_of_memory else "worker_died",
    )
