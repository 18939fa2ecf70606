"""One trial from specification to result: the only place that composes training, evaluation and metrics."""

import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime

import torch

from harness import provenance
from harness.config import TrialSpec
from harness.errors import ConfigError
from harness.evaluate import evaluate
from harness.metrics import evaluate as metrics_of
from harness.train import train
from harness.values import EpochLog, Metric, Provenance, Split, TrialResult


def _device(name: str) -> torch.device:
    """The device that `name` means; raises ConfigError where this machine does not have it."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device '{name}' cannot be used here ({reason}): use --device cpu") from error
    return device


def run_trial(
    spec: TrialSpec,
    split: Split,
    *,
    on_epoch: Callable[[EpochLog], None] | None = None,
    device: str = "cpu",
    threads: int = 1,
    command: str = "",
) -> TrialResult:
    """Train, restore the best weights by validation, evaluate validation and test once.

    Same spec, same data, same machine and thread count: the same numbers, bit for bit. Sets torch's thread count.
    """
    assert spec.data == split.config
    where = _device(device)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    provenance.reset_peak_memory()
    started, begin = datetime.now(UTC), time.perf_counter()
    trained = train(spec, split, device=where, on_epoch=on_epoch)
    model = trained.objective.model
    seconds = {
        "train": sum(log.seconds_train for log in trained.epochs),
        "valid": sum(log.seconds_valid for log in trained.epochs),
    }
    tested = time.perf_counter()
    ranks = {part: evaluate(model, split, part, device=where) for part in ("valid", "test")}
    metrics: tuple[Metric, ...] = tuple(
        metric
        for part in ("valid", "test")
        for metric in metrics_of(ranks[part], targets=split.targets(part), bucket=split.bucket, part=part)
    )
    now = time.perf_counter()
    revision, dirty = provenance.git_state()
    return TrialResult(
        spec=spec,
        fingerprint=split.fingerprint,
        metrics=metrics,
        epochs=trained.epochs,
        best_epoch=trained.best_epoch,
        valid=ranks["valid"],
        test=ranks["test"],
        provenance=Provenance(
            git_revision=revision,
            git_dirty=dirty,
            versions=provenance.versions(),
            host=platform.node(),
            device=torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
            threads=threads,
            precision="fp32",
            kernels="torch",
            command=command,
            started=started.isoformat(timespec="seconds"),
            seconds={**seconds, "test": now - tested, "total": now - begin},
            peak_mib=provenance.peak_mib(),
            batch_size=trained.batch_size,
        ),
    )
