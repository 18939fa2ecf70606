"""Our side: the split as files, a training with the same budget, and our metrics of anybody's lists."""

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from harness.config import DataConfig, StudyOptions, TrialSpec
from harness.exposure import Shown, exposure
from harness.metrics import evaluate
from harness.provenance import versions
from harness.trial import trial_steps
from harness.values import Int32, Split, TrialResult, UserRanks
from studies.profiles import data_config, trial, varied
from tests.bench.cases import PROGRAMS
from tests.bench.datasets import ROOT
from tests.bench.runner import revision
from tests.bench.sources import Digests, imported_files
from tests.peers.job import ARRAYS, Fit, Fitted, Place, lists_file

DATASET = "ml1m"
OPTIONS = StudyOptions(datasets=(DATASET,))
COMPARED = ("hr", "ndcg", "mrr", "cov", "novelty", "arp")

DRIVERS: Mapping[str, str] = {"btsr": "tests.peers.ours", "rectools": "tests.peers.drive_rectools"}
"""Program -> the module that trains it."""
IDLE = ("tests.bench.cases", "tests.bench.datasets", "tests.bench.runner", "tests.bench.sources")
"""Modules that a driver imports and that decide nothing of a training."""


def data() -> DataConfig:
    """What both programs train on."""
    return data_config(DATASET, OPTIONS)


def code_of(program: str, digests: Digests) -> str:
    """By which a training is known to be of the present sources and installed versions."""
    installed = digests.versions[PROGRAMS[program].environment]
    names = ("python", *PROGRAMS[program].distributions)
    digest = hashlib.sha256(json.dumps([[name, installed.get(name, "")] for name in names]).encode())
    for path in sorted(imported_files([DRIVERS[program]], without=IDLE)):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def spec_of(fit: Fit) -> TrialSpec:
    """The trial; it is validated once, after its last epoch, so that the last weights are evaluated, as theirs are."""
    base = trial(f"sasrec_{fit.loss}", DATASET, OPTIONS, fit.seed)
    sizes = {"dim": fit.dim, "blocks": fit.blocks, "heads": fit.heads}
    return varied(
        base,
        encoder={**sizes, "max_len": fit.max_len, "dropout": fit.dropout},
        loss={"negatives": fit.negatives} if fit.loss == "bce" else {},
        train={
            "batch_size": fit.batch_size, "lr": fit.lr, "max_epochs": fit.epochs, "validate_every": fit.epochs,
        },
    )  # fmt: skip


def save_split(split: Split, folder: Path) -> None:
    """The arrays that RecTools needs."""
    (folder / "split").mkdir(parents=True, exist_ok=True)
    for name in ARRAYS:
        np.save(folder / "split" / f"{name}.npy", getattr(split, name))


def train(fit: Fit, split: Split, folder: Path) -> Fitted:
    """Train, recommend to the evaluated users, and leave lists and seconds in the folder."""
    steps = trial_steps(spec_of(fit), split, threads=fit.threads)
    begun, cpu = time.perf_counter(), time.process_time()
    for _ in range(fit.epochs):
        log = next(steps)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    assert log.epoch == fit.epochs
    result: TrialResult | None = None
    try:
        next(steps)
    except StopIteration as end:
        result = end.value
    assert result is not None and result.best_epoch == fit.epochs, "the last weights are evaluated"
    np.save(lists_file(folder, fit.name), result.test.top)
    done = Fitted(
        fit=fit,
        cpu_seconds=cpu_seconds,
        seconds=seconds,
        items=split.n_items,
        versions=dict(versions()) | {"kernels": result.provenance.kernels, "revision": revision()},
    )
    done.save(folder)
    return done


def ranks_of(top: Int32, targets: Int32) -> UserRanks:
    """Lists with the place of every target in them; 0 where it is not there."""
    hit = top == targets[:, None]
    rank = np.where(hit.any(1), hit.argmax(1) + 1, 0)
    return UserRanks(rank=rank.astype(np.int32), top=top)


def measured(split: Split, top: Int32) -> dict[Place, float]:
    """Our values of the metrics that both programs have."""
    targets = split.targets("test")
    ranks = ranks_of(top, targets)
    shown = Shown(top=top, popularity=split.popularity, n_users=split.n_train_users, item_bucket=split.bucket)
    everything = (
        *evaluate(ranks, targets=targets, bucket=split.bucket, part="test"),
        *exposure(shown, part="test"),
    )  # fmt: skip
    return {
        (metric.name, metric.k, metric.bucket): metric.value
        for metric in everything
        if metric.name in COMPARED and metric.value is not None
    }
