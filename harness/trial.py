"""One trial from specification to result: the only place that composes training, evaluation and metrics."""

import platform
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from harness import provenance
from harness.checkpoint import Checkpoint
from harness.config import TrialSpec
from harness.device import current, device_of, repeatable, shown, uuid
from harness.evaluate import evaluate
from harness.exposure import Shown, exposure, input_buckets
from harness.geometry import geometry
from harness.memory import give_back_gpu, keep_freed_memory
from harness.metrics import evaluate as metrics_of
from harness.sample import sample_of
from harness.train import Trained, Training
from harness.values import THEN, EpochLog, Metric, Part, Provenance, Sample, Split, TrialResult, UserRanks
from models.kernels.used import kernels_used

PARTS: tuple[Part, ...] = ("valid", "test")


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Adam's moments decay into denormal numbers, many times slower; the caller's arithmetic is left as it was."""
    before = sys.float_info.min / 2 == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def _arithmetic(device: torch.device) -> Iterator[None]:
    """What a trial's numbers are computed in: its GPU the current one, repeatable products, denormals flushed."""
    with current(device), repeatable(device), _denormals_flushed():
        yield


def run_trial(
    spec: TrialSpec,
    split: Split,
    *,
    on_epoch: Callable[[EpochLog], None] | None = None,
    device: str = "cpu",
    threads: int = 1,
    command: str = "",
    checkpoints: Path | None = None,
) -> TrialResult:
    """Train, restore the best weights by validation, evaluate validation and test once; see `trial_steps`."""
    steps = trial_steps(spec, split, device=device, threads=threads, command=command, checkpoints=checkpoints)
    while True:
        try:
            log = next(steps)
        except StopIteration as end:
            result: TrialResult = end.value
            return result
        if on_epoch:
            on_epoch(log)


def trial_steps(
    spec: TrialSpec,
    split: Split,
    *,
    device: str = "cpu",
    threads: int = 1,
    command: str = "",
    checkpoints: Path | None = None,
    keep_best: bool = False,
) -> Generator[EpochLog, None, TrialResult]:
    """A trial an epoch at a time: yields each epoch's log, returns the result. Sets torch's thread count and what glibc
    does with freed memory.

    Same spec, same data, same machine and thread count: the same numbers, bit for bit; on CUDA by torch's deterministic
    algorithms and as far as they go, with a warning where there is none. With a folder of `checkpoints`
    a trial that was killed goes on after its last whole epoch; what it had told before is told again first.
    """
    assert spec.data == split.config
    where = device_of(device)
    steps = _steps(
        spec,
        split,
        where,
        threads=threads,
        command=command,
        checkpoints=checkpoints,
        keep_best=keep_best,
    )
    try:
        while True:
            with _arithmetic(where):  # anew for each step: in between, the caller's or another trial's is in force
                try:
                    log = next(steps)
                except StopIteration as end:
                    result: TrialResult = end.value
                    return result
            yield log
    finally:
        with _arithmetic(where):
            steps.close()


def _steps(
    spec: TrialSpec,
    split: Split,
    where: torch.device,
    *,
    threads: int,
    command: str,
    checkpoints: Path | None,
    keep_best: bool,
) -> Generator[EpochLog, None, TrialResult]:
    """`trial_steps` in the `_arithmetic` of the device."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    give_back_gpu()
    provenance.reset_peak_memory()
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
    checkpoint = Checkpoint(checkpoints, spec, split.fingerprint) if checkpoints else None
    with ExitStack() as stack:
        kernels = kernels_used(where, spec.encoder, spec.loss, spec.train.precision)
        begun, meter = time.perf_counter(), provenance.EnergyMeter(uuid(where))
        past: dict[str, Any] = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": 0.0,
            "joules": 0.0,
            "devices": [],
            "kernels": [],
        }
        training = Training(spec, split, where)
        if checkpoint:
            stack.enter_context(checkpoint.held())
        saved = checkpoint.load(where) if checkpoint else None
        if saved:
            past = saved["past"]
            training.load(saved["training"])
            yield from tuple(training.epochs)
        used = {"devices": _with(past["devices"], shown(where)), "kernels": _with(past["kernels"], kernels)}
        while not training.finished:
            log = training.epoch()
            if checkpoint:
                spent = {
                    "seconds": past["seconds"] + time.perf_counter() - begun,
                    "joules": meter.total(past["joules"]),
                }
                checkpoint.save({"training": training.state(), "past": past | used | spent})
            yield log
        trained = training.end()
        if checkpoint and keep_best:
            checkpoint.keep_best(trained.objective.state_dict())
        tested = time.perf_counter()
        ranks: dict[Part, UserRanks] = {
            part: evaluate(trained.objective.model, split, part, device=where) for part in PARTS
        }
        sample = sample_of(trained.objective.model, split, device=where)
        metrics = _metrics(ranks, sample, split)
        now = time.perf_counter()
        return TrialResult(
            spec=spec,
            fingerprint=split.fingerprint,
            metrics=metrics,
            epochs=trained.epochs,
            best_epoch=trained.best_epoch,
            valid=ranks["valid"],
            test=ranks["test"],
            sample=sample,
            provenance=_provenance(
                trained,
                where,
                precision=spec.train.precision,
                device=THEN.join(used["devices"]),
                kernels=THEN.join(used["kernels"]),
                threads=threads,
                command=command,
                started=past["started"],
                seconds={"test": now - tested, "total": past["seconds"] + now - begun},
                joules=meter.total(past["joules"]),
            ),
        )


def _with(names: list[str], name: str) -> list[str]:
    return names if names[-1:] == [name] else [*names, name]


def _metrics(ranks: Mapping[Part, UserRanks], sample: Sample, split: Split) -> tuple[Metric, ...]:
    """All numbers of a trial."""
    found: list[Metric] = []
    for part, users in ranks.items():
        found += metrics_of(users, targets=split.targets(part), bucket=split.bucket, part=part)
        shown = Shown(
            top=users.top,
            popularity=split.popularity,
            n_users=split.n_train_users,
            item_bucket=split.bucket,
            inputs=input_buckets(split) if part == "test" else None,
        )
        found += [metric for metric in exposure(shown, part=part) if part == "test" or metric.name != "popcal"]
    return (*found, *geometry(sample, split.targets("test")))


def _provenance(
    trained: Trained,
    where: torch.device,
    *,
    device: str,
    precision: str,
    kernels: str,
    threads: int,
    command: str,
    started: str,
    seconds: dict[str, float],
    joules: float | None,
) -> Provenance:
    revision, dirty = provenance.git_state()
    on_gpu = where.type == "cuda"
    return Provenance(
        git_revision=revision,
        git_dirty=dirty,
        versions=provenance.versions(),
        host=platform.node(),
        device=device,
        threads=threads,
        precision=precision,
        kernels=kernels,
        command=command,
        started=started,
        seconds={
            "train": sum(log.seconds_train for log in trained.epochs),
            "valid": sum(log.seconds_valid for log in trained.epochs),
            **seconds,
        },
        peak_mib=provenance.peak_mib(),
        batch_size=trained.batch_size,
        gpu_peak_mib=torch.cuda.max_memory_allocated(where) / 2**20 if on_gpu else None,
        joules=joules,
    )
