"""Where the tasks come from: real research files, or synthetic catalogues of a given shape."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from tests.bench.job import ATOMIC, CHECKINS, CannotMeasure
from tests.bench.task import LEAST_LENGTH, Task
from tests.data import checkins

ROOT = Path(__file__).resolve().parents[2]


def research_folder() -> Path:
    """Folder of the real files: BTSR_TEST_DATA, else `shared/data` beside the checkout."""
    named = os.environ.get("BTSR_TEST_DATA")
    return Path(named) if named else ROOT.parent / "shared" / "data"


def real(file: str) -> Task:
    """Chronological sequences of a research file with columns user_id, item_id, timestamp (ties: the file's order).

    Raises CannotMeasure where the file is not there.
    """
    path = research_folder() / file
    if not path.is_file():
        raise CannotMeasure(f"{file} not found: set BTSR_TEST_DATA to the folder that holds it")
    rows = pd.read_parquet(path, columns=["user_id", "item_id", "timestamp"])
    rows = rows.sort_values(["user_id", "timestamp"], kind="stable")
    items, raw = pd.factorize(rows["item_id"], sort=True)
    lengths = rows.groupby("user_id", sort=True).size().to_numpy()
    return Task(
        items=items.astype(np.int32), offsets=np.concatenate([[0], lengths.cumsum()]).astype(np.int64), n_items=len(raw)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A synthetic data set."""

    users: int
    items: int
    mean_length: float
    least_length: int = LEAST_LENGTH + 1

    def make(self, seed: int = 0) -> Task:
        """Geometric lengths, item popularity falling like rank^-0.8, no user with the same item twice."""
        rng = np.random.default_rng(seed)
        extra = rng.geometric(1 / (self.mean_length - self.least_length + 1), self.users) - 1
        lengths = np.minimum(self.least_length + extra, self.items // 4)
        offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
        weight = np.arange(1, self.items + 1) ** -0.8
        shuffled = rng.permutation(self.items)
        places = np.searchsorted(weight.cumsum() / weight.sum(), rng.random(int(offsets[-1])))
        items = shuffled[np.minimum(places, self.items - 1)]
        users = np.repeat(np.arange(self.users), lengths)
        while len(again := _repeats(users * self.items + items)):
            items[again] = rng.integers(0, self.items, len(again))
        return Task(items=items.astype(np.int32), offsets=offsets, n_items=self.items)


def _repeats(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows whose key occurred before."""
    first = np.unique(keys, return_index=True)[1]
    return np.setdiff1d(np.arange(len(keys)), first, assume_unique=True)


BEAUTY_54K = Shape(users=40_226, items=54_542, mean_length=8.8)
"""The unfiltered Beauty file's shape: 353,962 interactions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkins:
    """Raw check-ins to prepare: the same rows in SNAP's layout and as RecBole's atomic file."""

    rows: int

    def save(self, folder: Path) -> None:
        """RecBole's file first, since SNAP's says that the folder is complete; an interrupted one never does."""
        table = checkins.checkins(self.rows)
        names = ["user_id:token", "item_id:token", "timestamp:float"]
        columns = [table["user"], table["location"], table["time"].cast(pa.int64())]
        (folder / ATOMIC).mkdir(parents=True, exist_ok=True)
        options = pyarrow.csv.WriteOptions(delimiter="\t", quoting_style="none", quoting_header="none")
        pyarrow.csv.write_csv(pa.table(columns, names=names), folder / ATOMIC / f"{ATOMIC}.inter", options)
        unfinished = folder / f"{CHECKINS}.part"
        checkins.write(unfinished, self.rows)
        unfinished.replace(folder / CHECKINS)


TASKS: dict[str, Callable[[], Task | Checkins]] = {
    "ml1m": lambda: real("ml-1m.parquet"),
    "beauty": lambda: real("amazon-beauty-2014-5core.parquet"),
    "beauty54k": BEAUTY_54K.make,
    **{f"items{exponent}": Shape(users=1_280, items=10**exponent, mean_length=25).make for exponent in (3, 4, 5, 6)},
    **{f"users{n}": Shape(users=n, items=10_000, mean_length=25).make for n in (512, 2_048, 8_192, 32_768)},
    **{f"checkins{n}": partial(Checkins, rows=n) for n in (20_000, checkins.ROWS // 10, checkins.ROWS)},
    "long": Shape(users=1_280, items=10_000, mean_length=500, least_length=420).make,
}
"""Every data set by name."""


def data_folder(name: str, out: Path) -> str:
    """Where a data set is below `out`, as a driver is told; "" for no data."""
    return str((out / "data" / name).resolve()) if name else ""


def folder_of(name: str, out: Path) -> Path:
    """The folder of a task's arrays or of check-ins below `out`, made when it is not there yet."""
    folder = Path(data_folder(name, out))
    if not any((folder / last).is_file() for last in ("items.npy", CHECKINS)):
        TASKS[name]().save(folder)
    return folder
