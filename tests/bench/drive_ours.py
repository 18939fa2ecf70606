"""Driver of this project's engine: run by `tests.bench.runner` in this project's environment."""

import os
import time
from pathlib import Path

import numpy as np
import torch

from harness.config import DataConfig, TrialSpec
from harness.evaluate import evaluate
from harness.memory import keep_freed_memory
from harness.metrics import evaluate as metrics_of
from harness.train import Trainer
from harness.trial import run_trial
from harness.values import Split
from models.kernels.used import kernels_used
from models.linear import native_bf16
from tests.bench.job import CHECKINS, Answer, CannotMeasure, Job, peak_mib, serve, versions, wait_for_go
from tests.bench.task import HELD_OUT, Task

CPU = torch.device("cpu")


def leave_one_out(task: Task) -> Split:
    """All but the last two rows of every user are trained on; every user is evaluated."""
    place = task.left_of_row()
    train = task.items[place >= HELD_OUT]
    popularity = np.bincount(train, minlength=task.n_items).astype(np.int32)
    return Split(
        config=DataConfig(dataset="bench"),
        fingerprint="0" * 32,
        boundary=0,
        n_items=task.n_items,
        train_items=train,
        train_offsets=task.offsets - HELD_OUT * np.arange(task.n_users + 1),
        test_items=task.items,
        test_offsets=task.offsets,
        popularity=popularity,
        bucket=np.ones(task.n_items, np.int8),
        item_ids=np.array(["-"]),
        user_ids=np.array(["-"]),
        report={},
    )


def spec_of(job: Job, *, alpha: float = 0.2) -> TrialSpec:
    """The job as a trial: the defaults of the configuration are the bench's width, blocks, heads and dropout."""
    train = {"batch_size": job.batch_size, "max_epochs": job.epochs, "patience": job.epochs, "precision": job.precision}
    return TrialSpec.model_validate({
        "method": "bt_sr" if job.loss == "bt" else "sasrec_ce",
        "data": {"dataset": "bench"},
        "encoder": {"max_len": job.max_len, "dim": 64, "blocks": 2, "heads": 1, "dropout": 0.2},
        "aux": {"kind": "barlow_twins", "alpha": alpha, "lam": 0.05} if job.loss == "bt" else {"kind": "none"},
        "train": train,
    })


def timed_epochs(task: Task, job: Job) -> tuple[list[float], int]:
    """Seconds per epoch after a warm-up epoch, and its batches; a bounded epoch is one over the first users."""
    some = task.head(job.batches * job.batch_size)
    trainer = Trainer(spec_of(job), leave_one_out(some), CPU)
    trainer.run_epoch(1)
    scale = (task.n_users // job.batch_size) / (some.n_users // job.batch_size)
    seconds = []
    for epoch in range(job.epochs):
        started = time.perf_counter()
        trainer.run_epoch(epoch + 2)
        seconds.append((time.perf_counter() - started) * scale)
    return seconds, some.n_users // job.batch_size


def timed_evaluations(split: Split, job: Job) -> list[float]:
    """Seconds per evaluation of all users: scores, target ranks, top 50 and every metric."""
    model = Trainer(spec_of(job), split, CPU).objective.model
    seconds = []
    for _ in range(1 + job.epochs):
        started = time.perf_counter()
        ranks = evaluate(model, split, "test", device=CPU)
        metrics_of(ranks, targets=split.targets("test"), bucket=split.bucket, part="test")
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def sweep(split: Split, job: Job) -> list[float]:
    """Seconds of every trial-epoch with its validation; trials differ in alpha."""
    seconds = []
    for trial in range(job.trials):
        result = run_trial(spec_of(job, alpha=0.05 * (1 + trial)), split, threads=job.threads)
        seconds += [log.seconds_train + log.seconds_valid for log in result.epochs]
    return seconds


def code_used(job: Job) -> str:
    """Which code does the job; raises CannotMeasure where kernels or bfloat16 products were asked for in vain."""
    if job.precision == "bf16" and not native_bf16(CPU):
        raise CannotMeasure("this processor has no bfloat16 products (AVX512_BF16 or AMX)")
    spec = spec_of(job)
    name = kernels_used(CPU, spec.encoder, spec.loss, job.precision)
    if name.startswith("torch") and os.environ.get("BTSR_KERNELS") == "auto":
        raise CannotMeasure(f"no native kernels: {name}")
    return name


def prepared(job: Job) -> Answer:
    """Seconds from SNAP's file to a split on disk, loaded again, with the defaults of `DataConfig`."""
    from tests.data import scale  # pandas and pyarrow, 74 MiB that training has no part in

    start_mib = peak_mib()
    found = scale.measure(Path(job.data) / CHECKINS)
    return Answer(
        seconds=[float(found["seconds"])],
        cpu_seconds=float(found["cpu_seconds"]),
        ran=1,
        full=1,
        targets=int(found["kept_rows"]),
        users=int(found["kept_users"]),
        start_mib=start_mib,
        peak_mib=peak_mib(),
        detail=versions(["torch", "numpy", "pyarrow"]),
    )


def measure(job: Job) -> Answer:
    """The job's seconds."""
    if job.work == "prepare":
        return prepared(job)
    if job.work == "profile":
        from tests.bench.profiled import profiled  # which imports this module

        return profiled(job)
    code = code_used(job)
    torch.set_num_threads(job.threads)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    task = Task.load(Path(job.data)).head(job.users)
    start_mib = peak_mib()
    ran = full = task.n_users // job.batch_size
    if job.work == "sweep":
        split = leave_one_out(task)
        wait_for_go()
        seconds = sweep(split, job)
    elif job.work == "train":
        seconds, ran = timed_epochs(task, job)
    else:
        seconds = timed_evaluations(leave_one_out(task), job)
    return Answer(
        seconds=seconds,
        ran=ran,
        full=full,
        targets=task.targets(job.max_len),
        users=task.n_users,
        start_mib=start_mib,
        peak_mib=peak_mib(),
        detail=versions(["torch", "numpy"]) | {"kernels": code},
    )


if __name__ == "__main__":
    serve(measure)
