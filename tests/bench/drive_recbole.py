"""Driver of RecBole: run by `tests.bench.runner` in the peers' environment.

RecBole makes one sample of every prefix and trains on its last position only, so an epoch has more samples than the
others have targets wherever users are longer than T; its own default batches are kept (2048 samples, 4096 users of an
evaluation). It numbers the items that it sees, so a training is given users who hold those that nobody has
(`Task.completed`); they are in no count, and an epoch is as many batches as the others' users fill.

A preparation is `create_dataset` and `data_preparation` on its atomic file: read, filtered to the iterative 5-core by
`user_inter_num_interval` and `item_inter_num_interval`, renumbered, sorted by user and time (its float32 time stamps
tell about two minutes apart), one padded sample per prefix, the last two samples of every user held out, loaders. To
its advantage the atomic file is made beforehand, from rows that are numbers already.
"""

import time
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

from tests.bench.job import ATOMIC, Answer, CannotMeasure, Job, available_mib, peak_mib, serve, versions
from tests.bench.task import Task

BATCH = 2048


def write_interactions(task: Task, folder: Path, max_len: int) -> str:
    """RecBole's own file of the task below `folder`; returns its data set name."""
    name = f"first{task.n_users}for{max_len}"
    path = folder / name / f"{name}.inter"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = pd.DataFrame({
            "user_id:token": task.user_of_row(),
            "item_id:token": task.items,
            "timestamp:float": task.place_of_row(),
        })
        rows.to_csv(path, sep="\t", index=False)
    return name


def config_of(name: str, folder: Path, job: Job, **more: Any) -> Config:
    """The common task in RecBole's words; what is not named here is its default."""
    return Config(
        model="SASRec",
        dataset=name,
        config_dict={
            "data_path": str(folder),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "USER_ID_FIELD": "user_id",
            "ITEM_ID_FIELD": "item_id",
            "TIME_FIELD": "timestamp",
            "MAX_ITEM_LIST_LENGTH": job.max_len,
            "loss_type": "CE",
            "train_neg_sample_args": None,
            "epochs": job.epochs,
            "train_batch_size": BATCH,
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
            "n_layers": 2,
            "n_heads": 1,
            "hidden_size": 64,
            "inner_size": 64,
            "hidden_dropout_prob": 0.2,
            "attn_dropout_prob": 0.2,
            "use_gpu": False,
            "gpu_id": "",
            "show_progress": False,
            "state": "ERROR",
            "topk": [10, 50],
            "metrics": ["Recall", "NDCG"],
            "valid_metric": "NDCG@10",
            **more,
        },
    )


def prepared(job: Job) -> Answer:
    """Seconds from the atomic file to the loaders."""
    folder = Path(job.data)
    with (folder / ATOMIC / f"{ATOMIC}.inter").open("rb") as file:
        rows = sum(1 for _ in file) - 1
    needed = 2 * rows * job.max_len * (8 + 4) / 2**20  # padded items and times, of the whole and of its parts
    if needed > 0.8 * available_mib():
        raise CannotMeasure(f"padded samples need {needed / 1024:.0f} GiB, more than is free")
    torch.set_num_threads(job.threads)
    start_mib = peak_mib()
    started, cpu = time.perf_counter(), time.process_time()
    core = dict.fromkeys(("user_inter_num_interval", "item_inter_num_interval"), "[5,inf)")
    config = config_of(ATOMIC, folder, job, **core)
    train, valid, test = data_preparation(config, create_dataset(config))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    users = train.dataset.user_num - 1
    return Answer(
        seconds=[seconds],
        cpu_seconds=cpu_seconds,
        ran=1,
        full=1,
        targets=sum(len(part.dataset) for part in (train, valid, test)) + users,  # a user's first row is no sample
        users=users,
        start_mib=start_mib,
        peak_mib=peak_mib(),
        detail=versions(["recbole", "torch", "numpy", "pandas"]),
    )


def measure(job: Job) -> Answer:
    """The job's seconds."""
    if job.work == "prepare":
        return prepared(job)
    if job.work == "sweep" or job.loss != "ce":
        raise CannotMeasure("RecBole has neither a Barlow Twins term nor a sweep of this kind")
    torch.set_num_threads(job.threads)
    task = Task.load(Path(job.data)).head(job.users)
    needed = 4 * BATCH * task.n_items * 4 / 2**20
    if needed > 0.8 * available_mib():
        raise CannotMeasure(f"one batch's logits and gradients need {needed / 1024:.0f} GiB, more than is free")
    folder = Path(job.data) / "recbole"
    given = task.completed(job.max_len) if job.work == "train" else task
    config = config_of(write_interactions(given, folder, job.max_len), folder, job)
    init_seed(1, True)
    train, _, test = data_preparation(config, create_dataset(config))
    model = get_model("SASRec")(config, train.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], "SASRec")(config, model)
    start_mib = peak_mib()
    samples = task.targets(len(task.items))
    full = ran = -(-samples // BATCH)

    def run(batches: int) -> int:
        done = 0
        for interaction in islice(train, batches):
            trainer.optimizer.zero_grad()
            model.calculate_loss(interaction).backward()
            trainer.optimizer.step()
            done += 1
        return done

    seconds = []
    model.train()
    if job.work == "train":
        assert train.dataset.item_num - 1 == task.n_items
        run(job.warm_batches)
        for _ in range(job.epochs):
            started = time.perf_counter()
            ran = run(job.batches or full)
            seconds.append((time.perf_counter() - started) * full / ran)
    else:
        full = ran = len(test)
        for _ in range(1 + job.epochs):
            started = time.perf_counter()
            trainer.evaluate(test, load_best_model=False, show_progress=False)
            seconds.append(time.perf_counter() - started)
        del seconds[0]
    return Answer(
        seconds=seconds,
        ran=ran,
        full=full,
        targets=samples,
        users=task.n_users,
        start_mib=start_mib,
        peak_mib=peak_mib(),
        detail=versions(["recbole", "torch", "numpy", "pandas"]),
    )


if __name__ == "__main__":
    serve(measure)
