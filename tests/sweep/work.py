"""What workers do in tests instead of training; importable by spawned processes."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from harness.config import TrialSpec
from harness.errors import ConfigError
from harness.executors import RunContext
from harness.prepare import prepare
from harness.values import EpochLog, TrialResult
from tests.store import fake

EPOCHS = 3


def deterministic(spec: TrialSpec, context: RunContext, on_epoch: Callable[[EpochLog], None]) -> TrialResult:
    """A result that follows from the key."""
    for epoch in range(1, EPOCHS + 1):
        on_epoch(fake.epoch(epoch, epoch / 10))
    return fake.result(spec, fake.split(), epochs=EPOCHS)


def slow_and_logged(spec: TrialSpec, context: RunContext, on_epoch: Callable[[EpochLog], None]) -> TrialResult:
    """The same on prepared data, in a tenth of a second, with a line when it begins and when it ends."""
    split = prepare(spec.data, context.paths)
    log = context.paths.work_dir / "executed.log"

    def line(word: str) -> None:
        with log.open("a") as file:
            file.write(f"{word} {spec.key} {os.getpid()}\n")

    line("begin")
    for epoch in range(1, EPOCHS + 1):
        time.sleep(0.03)
        on_epoch(fake.epoch(epoch, epoch / 10))
    result = fake.result(spec, split, epochs=EPOCHS)
    line("end")
    return result


def killed_at_alpha_02(spec: TrialSpec, context: RunContext, on_epoch: Callable[[EpochLog], None]) -> TrialResult:
    """Dies as under the out-of-memory killer for one alpha."""
    if spec.aux.alpha == 0.2:
        on_epoch(fake.epoch(1, 0.1))
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    return deterministic(spec, context, on_epoch)


def fails_at_alpha_02(spec: TrialSpec, context: RunContext, on_epoch: Callable[[EpochLog], None]) -> TrialResult:
    """Raises for one alpha."""
    if spec.aux.alpha == 0.2:
        on_epoch(fake.epoch(1, 0.1))
        raise ValueError("no luck\nat all")
    return deterministic(spec, context, on_epoch)


def exits(spec: TrialSpec, context: RunContext, on_epoch: Callable[[EpochLog], None]) -> TrialResult:
    """Leaves the process in an orderly way."""
    sys.exit(7)


def refuses(spec: TrialSpec, context: RunContext, on_epoch: Callable[[EpochLog], None]) -> TrialResult:
    """Says that what the user asked for cannot be."""
    raise ConfigError("device 'cuda' cannot be used here: use --device cpu")


def reports_its_process(spec: TrialSpec, context: RunContext, on_epoch: Callable[[EpochLog], None]) -> TrialResult:
    """Fails with what the process looks like from inside."""
    deaf = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    raise ValueError(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']} {deaf} {'torch' in sys.modules}")


def sleeps(spec: TrialSpec, context: RunContext, on_epoch: Callable[[EpochLog], None]) -> TrialResult:
    """Takes a minute, after writing its process id."""
    (context.paths.work_dir / f"pid-{os.getpid()}").touch()
    time.sleep(60)
    return deterministic(spec, context, on_epoch)


def log_lines(out: Path) -> list[tuple[str, str, int]]:
    """What `slow_and_logged` wrote: word, key, process id."""
    log = out / "executed.log"
    if not log.exists():
        return []
    lines = (line.split() for line in log.read_text().splitlines())
    return [(line[0], line[1], int(line[2])) for line in lines if len(line) == 3]
