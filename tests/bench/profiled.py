"""Where the time and the memory of one of our training epochs go, by torch's profiler and by resident size."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from harness.memory import keep_freed_memory
from harness.train import Trainer
from tests.bench.drive_ours import CPU, code_used, leave_one_out, spec_of
from tests.bench.job import Answer, Job, peak_mib, versions
from tests.bench.task import Task

OPERATIONS: dict[str, tuple[str, ...]] = {
    "cross-entropy with its gradients": (
        "_FusedCrossEntropy",
        "_FusedCrossEntropyBackward",
        "_ChunkedCrossEntropy",
        "_ChunkedCrossEntropyBackward",
    ),
    "attention, forward": ("_FusedAttention", "_PackedAttention"),
    "attention, backward": ("_FusedAttentionBackward", "_PackedAttentionBackward"),
    "feed forward (kernels)": ("_FeedForward", "_FeedForwardBackward"),
    "norms and linear layers (torch: with the feed forward)": (
        "_NormLinear",
        "_NormLinearBackward",
        "_Linear",
        "_LinearBackward",
        "aten::native_layer_norm",
        "aten::native_layer_norm_backward",
    ),
    "random words": ("aten::random_",),
    "Adam": ("aten::_fused_adam_",),
}
"""Events of the profiler by what they do; what they call is theirs, unless it has a name of its own here."""
REST, OUTSIDE = "all other operations", "outside of operations (Python)"
_NAMED = {event: name for name, events in OPERATIONS.items() for event in events}


def by_operation(events: Any, seconds: float) -> dict[str, float]:
    """Seconds by operation, and what is left of all `seconds`.

    The events are of one thread: on processors autograd works in the one that calls it.
    """
    found = dict.fromkeys([*OPERATIONS, REST], 0.0)
    for event in events:
        owner = event
        while owner is not None and owner.name not in _NAMED:
            owner = owner.cpu_parent
        found[_NAMED[owner.name] if owner else REST] += event.self_cpu_time_total / 1e6
    found[OUTSIDE] = max(seconds - sum(found.values()), 0.0)
    return {name: value for name, value in found.items() if value}


def imported_mib() -> float:
    """Peak resident MiB of a process that imports torch and does nothing."""
    code = "import torch; from tests.bench.job import peak_mib; print(peak_mib())"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def profiled(job: Job) -> Answer:
    """A first step, an epoch and, after memory has been read, an epoch under the profiler."""
    code = code_used(job)
    torch.set_num_threads(job.threads)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    resident = {"import of torch, alone": imported_mib(), "imports of the harness, too": peak_mib()}
    task = Task.load(Path(job.data)).head(job.users)
    split = leave_one_out(task)
    resident["data"] = peak_mib()
    trainer = Trainer(spec_of(job), split, CPU)
    resident["model and trainer"] = peak_mib()
    loss, _ = trainer.objective(next(iter(trainer.steps(1))))
    loss.backward()
    trainer.optimizer.step()
    resident["first step"] = peak_mib()
    trainer.run_epoch(1)
    resident["epoch"] = peak_mib()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        started = time.perf_counter()
        trainer.run_epoch(2)
        seconds = time.perf_counter() - started
    steps = task.n_users // job.batch_size
    return Answer(
        seconds=[seconds],
        ran=steps,
        full=steps,
        targets=task.targets(job.max_len),
        users=task.n_users,
        start_mib=resident["data"],
        peak_mib=resident["epoch"],
        detail=versions(["torch", "numpy"]) | {"kernels": code},
        profile=by_operation(profiler.events(), seconds),
        resident=resident,
    )
