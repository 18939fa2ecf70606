"""Driver of RecTools: run by `tests.bench.runner` in the peers' environment.

A preparation is what its tutorials do: SNAP's file by `pandas.read_csv` (user, time and location; RecTools reads no
files), `Dataset.construct`, the last row of every user for the test and the one before for validation by
`LastNSplitter` with its defaults, training sequences in time order by `SASRecDataPreparator`. RecTools has no filter
of rare users and items: every row is kept, which is more work behind the filter than the others have.

RecTools numbers the items that it is trained on, so a training is given users who hold those that nobody has
(`Task.completed`); an epoch is as many batches as the others' users fill.
"""

import logging
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from rectools.dataset import Dataset
from rectools.model_selection import LastNSplitter
from rectools.models import SASRecModel
from rectools.models.nn.transformers.sasrec import SASRecDataPreparator

from tests.bench.job import CHECKINS, Answer, CannotMeasure, Job, available_mib, peak_mib, serve, versions
from tests.bench.task import HELD_OUT, Task


class Clock(pl.Callback):
    """Seconds of every epoch, from the first batch after the warm-up to the end of the last one."""

    def __init__(self, warm_batches: int) -> None:
        self.warm_batches = warm_batches
        self.started = 0.0
        self.ran = 0
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.started, self.ran = time.perf_counter(), 0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == self.warm_batches:
            self.started, self.ran = time.perf_counter(), 0
        else:
            self.ran += 1

    def on_train_epoch_end(self, *_: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)


def interactions(task: Task) -> pd.DataFrame:
    """Rows in RecTools' columns, with `left`: how many rows of the same user follow."""
    return pd.DataFrame({
        "user_id": task.user_of_row(),
        "item_id": task.items,
        "datetime": pd.Timestamp("2000-01-01") + pd.to_timedelta(task.place_of_row(), unit="s"),
        "weight": 1.0,
        "left": task.left_of_row(),
    })


def prepared(job: Job) -> Answer:
    """Seconds from SNAP's file to the loader of training sequences."""
    start_mib = peak_mib()
    started, cpu = time.perf_counter(), time.process_time()
    names = ["user_id", "datetime", "item_id"]
    rows = pd.read_csv(Path(job.data) / CHECKINS, sep="\t", header=None, usecols=[0, 1, 4], names=names)
    rows["datetime"] = pd.to_datetime(rows["datetime"], format="%Y-%m-%dT%H:%M:%SZ")
    rows["weight"] = 1.0
    dataset = Dataset.construct(rows)
    folds = list(LastNSplitter(n=1, n_splits=HELD_OUT).split(dataset.interactions))
    kept = dataset.filter_interactions(row_indexes_to_keep=folds[0][0])
    preparator = SASRecDataPreparator(
        session_max_len=job.max_len, batch_size=job.batch_size, dataloader_num_workers=0, item_extra_tokens=("PAD",)
    )
    preparator.process_dataset_train(kept)
    loader = preparator.get_dataloader_train()
    assert len(loader) > 0 and len(folds[1][1]) > 0
    return Answer(
        seconds=[time.perf_counter() - started],
        cpu_seconds=time.process_time() - cpu,
        ran=1,
        full=1,
        targets=len(dataset.interactions.df),
        users=dataset.user_id_map.size,
        start_mib=start_mib,
        peak_mib=peak_mib(),
        detail=versions(["rectools", "torch", "numpy", "pandas"]),
    )


def measure(job: Job) -> Answer:
    """The job's seconds."""
    if job.work == "prepare":
        return prepared(job)
    if job.work == "sweep" or job.loss != "ce":
        raise CannotMeasure("RecTools has neither a Barlow Twins term nor a sweep of this kind")
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(job.threads)
    task = Task.load(Path(job.data)).head(job.users)
    needed = 4 * job.batch_size * job.max_len * task.n_items * 4 / 2**20
    if needed > 0.8 * available_mib():
        raise CannotMeasure(f"one batch's logits and gradients need {needed / 1024:.0f} GiB, more than is free")
    rows = interactions(task.completed(job.max_len) if job.work == "train" else task)
    full = -(-task.n_users // job.batch_size)
    bounded = 0 < job.batches < full - job.warm_batches
    measured = job.batches if job.work == "train" else 2
    epochs = 1 if bounded or job.work == "evaluate" else 1 + job.epochs
    warm = job.warm_batches if bounded else 0

    def trainer() -> pl.Trainer:
        return pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=epochs,
            min_epochs=epochs,
            callbacks=[Clock(warm)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_train_batches=measured + warm if bounded or job.work == "evaluate" else 1.0,
        )

    model = SASRecModel(
        n_factors=64,
        n_blocks=2,
        n_heads=1,
        session_max_len=job.max_len,
        loss="softmax",
        batch_size=job.batch_size,
        dropout_rate=0.2,
        epochs=epochs,
        get_trainer_func=trainer,
        lr=1e-3,
        recommend_batch_size=256,
        recommend_torch_device="cpu",
    )
    train = Dataset.construct(rows[rows.left >= HELD_OUT].drop(columns="left"))
    start_mib = peak_mib()
    model.fit(train)
    if job.work == "train":
        assert model.data_preparator.item_id_map.size - 1 == task.n_items
        clock = next(c for c in model.fit_trainer.callbacks if isinstance(c, Clock))  # fit works on copies
        ran = clock.ran
        seconds = [s * full / ran for s in clock.seconds[-job.epochs :]]
    else:
        known = Dataset.construct(rows[rows.left >= 1].drop(columns="left"))
        users = rows.user_id.unique()
        ran, full, seconds = 1, 1, []
        for _ in range(1 + job.epochs):
            started = time.perf_counter()
            model.recommend(users=users, dataset=known, k=50, filter_viewed=True)
            seconds.append(time.perf_counter() - started)
        del seconds[0]
    return Answer(
        seconds=seconds,
        ran=ran,
        full=full,
        targets=task.targets(job.max_len),
        users=task.n_users,
        start_mib=start_mib,
        peak_mib=peak_mib(),
        detail=versions(["rectools", "torch", "pytorch-lightning", "numpy", "pandas"]),
    )


if __name__ == "__main__":
    serve(measure)
