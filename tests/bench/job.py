"""What the runner asks of a driver and what a driver answers: one JSON value each way.

Standard library only, since drivers run in environments of their own.
"""

import json
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

Overhead = Literal["each", "start", "whole", "idle"]
"""Of a sweep of tiny trials: what each trial costs, the start, a start that finds nothing to do."""
Work = Literal["train", "evaluate", "sweep", "prepare", "profile", "each", "start", "whole", "idle"]
OVERHEADS: tuple[Overhead, ...] = ("each", "start", "whole", "idle")
CHECKINS = "loc-gowalla_totalCheckins.txt"
"""File of a preparation's folder, in the layout and under the name of SNAP."""
ATOMIC = "checkins"
"""The same rows as RecBole's atomic file, `checkins/checkins.inter`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One measurement."""

    data: str
    """Folder of a `tests.bench.task.Task`; of a preparation, of a `tests.bench.datasets.Checkins`; "": none."""
    work: Work
    loss: Literal["ce", "bt"] = "ce"
    max_len: int = 50
    batch_size: int = 128
    threads: int = 2
    users: int = 0
    """Take only the first users of the data; 0: all."""
    epochs: int = 1
    """Epochs (train, sweep) or passes (evaluate) that are measured, after a warm-up."""
    batches: int = 0
    """Batches per measured epoch, the rest extrapolated; 0: whole epochs."""
    warm_batches: int = 3
    """Batches before the clock starts, for programs whose batches all have one shape."""
    eval_users: int = 0
    """Users validated in a sweep, the rest extrapolated; 0: all."""
    precision: Literal["fp32", "bf16"] = "fp32"
    trials: int = 1
    """Trials that one worker of a sweep runs; of an overhead, all trials."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Job":
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a driver measured."""

    seconds: list[float] = field(default_factory=list)
    """Per epoch, evaluation of all users, trial-epoch, preparation, trial or command; extrapolated if `ran < full`."""
    cpu_seconds: float = 0.0
    """Processor time of a preparation or an overhead, all threads; 0 for other work."""
    ran: int = 0
    """Batches behind each value of `seconds`."""
    full: int = 0
    """Batches of a whole epoch (or of an evaluation)."""
    targets: int = 0
    """Targets that a whole epoch trains on; of a preparation, the rows that its filter keeps."""
    users: int = 0
    start_mib: float = 0.0
    """Peak resident memory once libraries and data are loaded."""
    peak_mib: float = 0.0
    """Peak resident memory of the driver process when the work is done (children not counted)."""
    detail: dict[str, str] = field(default_factory=dict)
    """Versions and settings that a reader wants to know."""
    profile: dict[str, float] = field(default_factory=dict)
    """Of a profile: seconds of an epoch by operation."""
    resident: dict[str, float] = field(default_factory=dict)
    """Of a profile: peak resident MiB until some moments of a training."""
    skipped: str = ""
    """Why nothing was measured."""


class CannotMeasure(Exception):
    """The work cannot be done here; the message says why in one line."""


def peak_mib() -> float:
    """Peak resident memory of this process, MiB (Linux: VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise CannotMeasure("/proc/self/status has no VmHWM line: peak memory is measured on Linux only")


def available_mib() -> float:
    """Memory that could be taken now without swapping, MiB (Linux)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    raise CannotMeasure("/proc/meminfo has no MemAvailable line")


def bound_memory() -> float:
    """Let this process take nine tenths of what is free, so that nothing swaps; returns the bound in GiB."""
    most = int(0.9 * available_mib() * 2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    return most / 2**30


def versions(names: Sequence[str]) -> dict[str, str]:
    """Installed versions of the named distributions."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def wait_for_go() -> None:
    """Tell the runner that this worker is ready and wait until it says that all are."""
    print("READY", flush=True)
    if not sys.stdin.readline():
        raise CannotMeasure("the runner went away before the start")


def serve(measure: Callable[[Job], Answer], *, bounded: bool = True) -> None:
    """Entry point of a driver: the job is the only argument, the answer the last line of standard output.

    bounded: what would take more memory than there is ends as an answer that says so.
    """
    most = bound_memory() if bounded else 0.0
    try:
        answer = measure(Job.from_json(sys.argv[1]))
    except CannotMeasure as error:
        answer = Answer(skipped=str(error))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):  # torch has no class for it
            raise
        answer = Answer(skipped=f"it takes more than {most:.0f} GiB, nine tenths of what is free")
    print("\n" + json.dumps(asdict(answer)), flush=True)
