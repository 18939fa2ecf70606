"""Driver of RecTools, run in the peers' environment: `fit FOLDER JSON` or `metrics FOLDER NAME...`.

RecTools sees our split as it is: the training users' sequences, then the evaluated users' inputs (all but the last
row), and recommends unseen items. Its model knows only items that occur in some training window of T + 1 rows.
"""

import json
import logging
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import MRR, NDCG, AvgRecPopularity, CatalogCoverage, HitRate, MeanInvUserFreq, calc_metrics
from rectools.models import SASRecModel

from tests.peers.job import CUTOFFS, Fit, Fitted, Place, lists_file, load_split

TEST_USERS = 10_000_000
"""Numbers of evaluated users begin here, those of training users at 0: nobody is both."""
LOSSES = {"ce": "softmax", "bce": "BCE"}
LISTED = 50


def rows_of(items: NDArray[np.generic], offsets: NDArray[np.generic], first_user: int) -> pd.DataFrame:
    """Sequences as interactions, in order of time."""
    lengths = np.diff(offsets)
    place = np.arange(len(items)) - np.repeat(offsets[:-1], lengths)
    return pd.DataFrame({
        Columns.User: first_user + np.repeat(np.arange(len(lengths)), lengths),
        Columns.Item: items,
        Columns.Weight: 1.0,
        Columns.Datetime: pd.Timestamp("2000-01-01") + pd.to_timedelta(place, unit="s"),
    })


def inputs_and_targets(split: dict[str, NDArray[np.generic]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The evaluated users' rows but the last, and the last."""
    rows = rows_of(split["test_items"], split["test_offsets"], TEST_USERS)
    is_last = np.zeros(len(rows), bool)
    is_last[split["test_offsets"][1:] - 1] = True
    return rows[~is_last], rows[is_last]


def fit(folder: Path, job: Fit) -> None:
    """Train, recommend to the evaluated users, and leave lists and seconds in the folder."""
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(job.threads)
    pl.seed_everything(job.seed, verbose=False)
    split = load_split(folder)
    inputs, _ = inputs_and_targets(split)
    model = SASRecModel(
        n_factors=job.dim,
        n_blocks=job.blocks,
        n_heads=job.heads,
        session_max_len=job.max_len,
        dropout_rate=job.dropout,
        loss=LOSSES[job.loss],
        n_negatives=job.negatives,
        batch_size=job.batch_size,
        lr=job.lr,
        epochs=job.epochs,
        recommend_torch_device="cpu",
    )
    begun, cpu = time.perf_counter(), time.process_time()
    model.fit(Dataset.construct(rows_of(split["train_items"], split["train_offsets"], 0)))
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    n_users = len(split["test_offsets"]) - 1
    reco = model.recommend(
        users=TEST_USERS + np.arange(n_users), dataset=Dataset.construct(inputs), k=LISTED, filter_viewed=True
    )
    top = np.full((n_users, LISTED), -1, np.int32)
    top[reco[Columns.User] - TEST_USERS, reco[Columns.Rank] - 1] = reco[Columns.Item]
    np.save(lists_file(folder, job.name), top)
    names = ("rectools", "torch", "pytorch-lightning", "numpy", "pandas")
    Fitted(
        fit=job,
        cpu_seconds=cpu_seconds,
        seconds=seconds,
        items=len(model.data_preparator.get_known_item_ids()),
        versions={name: version(name) for name in names},
    ).save(folder)


def measured(split: dict[str, NDArray[np.generic]], top: NDArray[np.int32]) -> dict[Place, float]:
    """RecTools' values of the metrics that both programs have."""
    _, targets = inputs_and_targets(split)
    train = rows_of(split["train_items"], split["train_offsets"], 0)
    users, places = np.nonzero(top >= 0)
    reco = pd.DataFrame({
        Columns.User: TEST_USERS + users, Columns.Item: top[users, places], Columns.Rank: places + 1
    })  # fmt: skip
    catalog = np.arange(len(split["bucket"]))
    of_user = split["bucket"][targets[Columns.Item].to_numpy()]
    found: dict[Place, float] = {}
    for bucket in (0, 1, 2, 3):
        chosen = targets if bucket == 0 else targets[of_user == bucket]
        shown = reco[reco[Columns.User].isin(chosen[Columns.User])]
        for k in CUTOFFS:
            metrics = {
                "hr": HitRate(k=k),
                "ndcg": NDCG(k=k, divide_by_achievable=True),
                "mrr": MRR(k=k),
                "cov": CatalogCoverage(k=k, normalize=True),
            }
            if bucket == 0:
                metrics |= {"novelty": MeanInvUserFreq(k=k), "arp": AvgRecPopularity(k=k)}
            values = calc_metrics(metrics, shown, chosen, prev_interactions=train, catalog=catalog)
            found |= {(name, k, bucket): float(value) for name, value in values.items()}
    return found


def main() -> None:
    work, where, *words = sys.argv[1:]
    folder = Path(where)
    if work == "fit":
        fit(folder, Fit(**json.loads(words[0])))
        return
    assert work == "metrics"
    split = load_split(folder)
    for name in words:
        values = measured(split, np.load(lists_file(folder, name)))
        rows = [[*place, value] for place, value in values.items()]
        (folder / f"{name}.metrics.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
