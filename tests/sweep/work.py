"""What workers do in tests instead of training; importable by spawned processes."""

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Generator
from multiprocessing.connection import Connection
from pathlib import Path

from harness.config import TrialSpec
from harness.errors import ConfigError
from harness.executors import RunContext, train_trial
from harness.prepare import prepare
from harness.values import EpochLog, TrialResult
from tests.store import fake

EPOCHS = 3

Steps = Generator[EpochLog, None, TrialResult]


def deterministic(spec: TrialSpec, context: RunContext) -> Steps:
    """A result that follows from the key."""
    for epoch in range(1, EPOCHS + 1):
        yield fake.epoch(epoch, epoch / 10)
    return fake.result(spec, fake.split(), epochs=EPOCHS)


def slow_and_logged(spec: TrialSpec, context: RunContext) -> Steps:
    """The same on prepared data, in a tenth of a second, with a line when it begins and when it ends."""
    split = prepare(spec.data, context.paths)
    log = context.paths.work_dir / "executed.log"

    def line(word: str) -> None:
        with log.open("a") as file:
            file.write(f"{word} {spec.key} {os.getpid()}\n")

    line("begin")
    for epoch in range(1, EPOCHS + 1):
        time.sleep(0.03)
        yield fake.epoch(epoch, epoch / 10)
    result = fake.result(spec, split, epochs=EPOCHS)
    line("end")
    return result


def lasting_and_logged(spec: TrialSpec, context: RunContext) -> Steps:
    """The same as `slow_and_logged`, but two seconds longer."""
    steps = slow_and_logged(spec, context)
    try:
        while True:
            log = next(steps)
            time.sleep(0.7)
            yield log
    except StopIteration as end:
        result: TrialResult = end.value
        return result


def trained_and_logged(spec: TrialSpec, context: RunContext) -> Steps:
    """Real training, with a line when it begins, after each epoch that was trained here, and when it ends."""
    from harness import trial
    from harness.train import Training

    log = context.paths.work_dir / "executed.log"

    def line(word: str) -> None:
        with log.open("a") as file:
            file.write(f"{word} {spec.key} {os.getpid()}\n")

    class Logged(Training):
        def epoch(self) -> EpochLog:
            trained = super().epoch()
            line(f"epoch-{trained.epoch}")
            return trained

    trial.Training = Logged
    line("begin")
    result = yield from train_trial(spec, context)
    line("end")
    return result


def killed_at_alpha_02(spec: TrialSpec, context: RunContext) -> Steps:
    """Dies as under the out-of-memory killer for one alpha."""
    if spec.aux.alpha == 0.2:
        yield fake.epoch(1, 0.1)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    return (yield from deterministic(spec, context))


def fails_at_alpha_02(spec: TrialSpec, context: RunContext) -> Steps:
    """Raises for one alpha."""
    if spec.aux.alpha == 0.2:
        yield fake.epoch(1, 0.1)
        raise ValueError("no luck\nat all")
    return (yield from deterministic(spec, context))


def out_of_memory_once(spec: TrialSpec, context: RunContext) -> Steps:
    """Runs out of memory on the first attempt of one alpha."""
    if spec.aux.alpha == 0.2 and not (mark := context.paths.work_dir / "starved").exists():
        mark.touch()
        raise MemoryError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
    return (yield from deterministic(spec, context))


def mixed(spec: TrialSpec, context: RunContext) -> Steps:
    """One alpha ends, one dies, one raises, one runs out of memory."""
    if spec.aux.alpha == 0.4:
        yield from ()
        raise MemoryError("DefaultCPUAllocator: can't allocate memory")
    if spec.aux.alpha == 0.3:
        yield fake.epoch(1, 0.1)
        raise ValueError("no luck\nat all")
    return (yield from killed_at_alpha_02(spec, context))


def unhurried(spec: TrialSpec, context: RunContext) -> Steps:
    """A result that follows from the key, with epochs that take a while."""
    for epoch in range(1, EPOCHS + 1):
        time.sleep(0.15)
        yield fake.epoch(epoch, epoch / 10)
    return fake.result(spec, fake.split(), epochs=EPOCHS)


def exits(spec: TrialSpec, context: RunContext) -> Steps:
    """Leaves the process in an orderly way."""
    yield from ()
    sys.exit(7)


def hangs_up(spec: TrialSpec, context: RunContext) -> Steps:
    """Ends a second after its connection to the driver, as a process with much to put away; for one alpha never."""
    yield from ()
    for each in gc.get_objects():
        if type(each) is Connection:
            each.close()
    time.sleep(1 if spec.aux.alpha != 0.2 else 1000)
    os._exit(7)


def refuses(spec: TrialSpec, context: RunContext) -> Steps:
    """Says that what the user asked for cannot be."""
    yield from ()
    raise ConfigError("device 'cuda' cannot be used here: use --device cpu")


def reports_its_process(spec: TrialSpec, context: RunContext) -> Steps:
    """Fails with what the process looks like from inside."""
    yield from ()
    deaf = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    raise ValueError(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']} {deaf} {'torch' in sys.modules}")


def sleeps(spec: TrialSpec, context: RunContext) -> Steps:
    """Takes a minute, after writing its process id."""
    (context.paths.work_dir / f"pid-{os.getpid()}").touch()
    time.sleep(60)
    return (yield from deterministic(spec, context))


def four_at_once(spec: TrialSpec, context: RunContext) -> Steps:
    """Ends only when four of its kind run at the same time; tells which GPU it was given."""
    here = context.paths.work_dir
    (here / f"here-{spec.key}").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
    deadline = time.monotonic() + 500
    while len(list(here.glob("here-*"))) < 4:
        assert time.monotonic() < deadline, "fewer than four run at once"
        time.sleep(0.05)
    return (yield from deterministic(spec, context))


def says_its_resources(spec: TrialSpec, context: RunContext) -> Steps:
    """Writes what Ray has given it of processors and GPUs."""
    import ray

    given = ray.get_runtime_context().get_assigned_resources()
    shown = {name: given.get(name, 0.0) for name in ("CPU", "GPU")}
    (context.paths.work_dir / f"resources-{spec.aux.alpha}").write_text(json.dumps(shown))
    return (yield from deterministic(spec, context))


def log_lines(out: Path) -> list[tuple[str, str, int]]:
    """What `slow_and_logged` wrote: word, key, process id."""
    log = out / "executed.log"
    if not log.exists():
        return []
    lines = (line.split() for line in log.read_text().splitlines())
    return [(line[0], line[1], int(line[2])) for line in lines if len(line) == 3]
