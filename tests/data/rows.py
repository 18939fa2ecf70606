"""Raw rows as tuples, and a split read back as lists."""

from typing import Any

import numpy as np
import pandas as pd

from harness.config import DataConfig
from harness.values import Split

Row = tuple[str, str, int]
"""User, item, Unix seconds."""


def frame(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user", "item", "time"])


def unfiltered(**changes: Any) -> DataConfig:
    return DataConfig(**{"dataset": "synthetic", "filter": "none", "min_item": 1, "min_user": 1} | changes)


def sequences(items: np.ndarray, offsets: np.ndarray, ids: np.ndarray) -> list[list[str]]:
    return [ids[items[a:b]].tolist() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]


def parts(split: Split) -> tuple[list[list[str]], list[list[str]]]:
    return (
        sequences(split.train_items, split.train_offsets, split.item_ids),
        sequences(split.test_items, split.test_offsets, split.item_ids),
    )
