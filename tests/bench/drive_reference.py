"""Driver of the padded reference: run by `tests.bench.runner` in this project's environment."""

import time
from collections.abc import Iterable
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
            raise CannotMeasure(f"one batch's logits and gradients need {needed / 1024:.0f} GiB, more than is free")
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

    def run(self, batches: Iterable[list[Tensor]]) -> int:
        """Train on the batches; returns how many there were."""
        self.model.train()
        return sum(1 for _ in map(self.step, batches))

    def timed_epoch(self, job: Job) -> tuple[float, int]:
        """Seconds of a whole epoch, and the batches behind them; a bounded epoch's clock starts after its warm-up."""
        full = len(self.loader)
        if not 0 < job.batches < full - job.warm_batches:
            started = time.perf_counter()
            self.run(self.loader)
            return time.perf_counter() - started, full
        batches = iter(self.loader)
        self.run(islice(batches, job.warm_batches))
        started = time.perf_counter()
        ran = self.run(islice(batches, job.batches))
        return (time.perf_counter() - started) * full / ran, ran


def timed_evaluation(model: PaddedSASRec, task: Task, *, held_out: int) -> float:
    """Seconds for scores, top 50 and NDCG of all users of the task."""
    needed = score_mib(task)
    if needed > 0.8 * available_mib():
        raise CannotMeasure(f"the score matrix and its copies need {needed / 1024:.0f} GiB, more than is free")
    started = time.perf_counter()
    evaluate(model, task, held_out=held_out, k=TOP_K, batch_size=EVAL_BATCH)
    return time.perf_counter() - started


def sweep(task: Task, job: Job) -> tuple[list[float], int]:
    """Seconds of every trial-epoch with its validation, and the batches behind each; trials differ in alpha."""
    some = task.head(job.eval_users)
    seconds, ran = [], 0
    for trial in range(job.trials):
        training = Training(task, job, alpha=0.05 * (1 + trial))
        for _ in range(job.epochs):
            train, ran = training.timed_epoch(job)
            valid = timed_evaluation(training.model, some, held_out=2)
            seconds.append(train + valid * task.n_users / some.n_users)
    return seconds, ran


def measure(job: Job) -> Answer:
    """The job's seconds."""
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    if job.precision == "bf16":
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    task = Task.load(Path(job.data)).head(job.users)
    start_mib = peak_mib()
    full = task.n_users // job.batch_size
    if job.work == "sweep":
        wait_for_go()
        seconds, ran = sweep(task, job)
    elif job.work == "train":
        training = Training(task, job)
        training.run(islice(training.loader, job.warm_batches))
        epochs = [training.timed_epoch(job) for _ in range(job.epochs)]
        seconds, ran = [s for s, _ in epochs], epochs[-1][1]
    else:
        model = PaddedSASRec(task.n_items, dim=64, blocks=2, max_len=job.max_len, dropout=0.2)
        timed_evaluation(model, task.head(2 * EVAL_BATCH), held_out=1)
        seconds = [timed_evaluation(model, task, held_out=1) for _ in range(job.epochs)]
        ran = full = -(-task.n_users // EVAL_BATCH)
    return Answer(
        seconds=seconds,
        ran=ran,
        full=full,
        targets=task.targets(job.max_len),
        users=task.n_users,
        start_mib=start_mib,
        peak_mib=peak_mib(),
        detail=versions(["torch", "numpy"]),
    )


if __name__ == "__main__":
    serve(measure)
