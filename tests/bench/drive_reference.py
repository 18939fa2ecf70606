"""Driver of the padded reference: run by `tests.bench.runner`, in this project's environment."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tests.bench.job import Answer, CannotMeasure, Job, available_mib, peak_mib, serve, versions, wait_for_go
from tests.bench.reference import PaddedSASRec, UserSequences, barlow_twins, evaluate, logits_mib, score_mib
from tests.bench.task import Task

LOADER_WORKERS = 2
EVAL_BATCH = 256
TOP_K = 50


class Training:
    """One model with its optimiser and loader, as the released training script sets them up."""

    def __init__(self, task: Task, job: Job, *, alpha: float = 0.2, lam: float = 0.05) -> None:
        needed = logits_mib(task.n_items, batch_size=job.batch_size, max_len=job.max_len)
        if needed > 0.8 * available_mib():
            raise CannotMeasure(f"logits of one batch need {needed / 1024:.0f} GiB, more than this machine has free")
        self.model = PaddedSASRec(task.n_items, dim=64, blocks=2, max_len=job.max_len, dropout=0.2)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, betas=(0.9, 0.98))
        self.loader = DataLoader(
            UserSequences(task, job.max_len, partners=job.loss == "bt"),
            batch_size=job.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=LOADER_WORKERS,
        )
        self.alpha, self.lam = alpha, lam

    def step(self, batch: list[Tensor]) -> float:
        """One update; returns the loss."""
        hidden = self.model(batch[0])
        loss = self.model.prediction_loss(hidden, batch[1])
        if len(batch) == 3:
            loss = loss + self.alpha * barlow_twins(self.model(batch[2])[:, -1], hidden[:, -1], self.lam)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def run(self, batches: Iterator[list[Tensor]]) -> int:
        """Train on the batches; returns how many there were."""
        self.model.train()
        done = 0
        for batch in batches:
            self.step(batch)
            done += 1
        return done

    def timed_epoch(self, job: Job) -> tuple[float, int]:
        """Seconds of an epoch and the batches measured; the clock of a bounded epoch starts after its warm-up."""
        full = len(self.loader)
        if not job.batches or job.batches + job.warm_batches >= full:
            started = time.perf_counter()
            return time.perf_counter() - started if not self.run(iter(self.loader)) else _since(started), full
        batches = iter(self.loader)
        self.run(islice(batches, job.warm_batches))
        started = time.perf_counter()
        ran = self.run(islice(batches, job.batches))
        return _since(started) * full / ran, ran


def _since(started: float) -> float:
    return time.perf_counter() - started
