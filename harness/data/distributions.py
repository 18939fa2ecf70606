"""How the rows of a data set are distributed, for the descriptive report, and the file that keeps it."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from harness.data.archives import DAMAGED
from harness.data.split import Kept
from harness.errors import DataError
from harness.values import Int64

TIME_BINS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Distributions:
    """Of the rows that repeats policy and filter leave."""

    user_rows: Int64
    """[U] rows of each user, falling."""
    item_rows: Int64
    """[I] rows of each item, falling."""
    time_edges: Int64
    """[121] Unix seconds: the borders of equal bins from the first to the last row."""
    time_rows: Int64
    """[120] rows in each bin."""


def distributions(kept: Kept) -> Distributions:
    """The three distributions of kept rows."""
    edges = np.linspace(kept.times.min(), kept.times.max() + 1, TIME_BINS + 1).astype(np.int64)
    # Not np.histogram: integer edges are exact, whatever the range.
    counts = np.diff(np.searchsorted(np.sort(kept.times), edges))
    return Distributions(
        user_rows=np.sort(np.bincount(kept.users))[::-1].astype(np.int64),
        item_rows=np.sort(np.bincount(kept.items))[::-1].astype(np.int64),
        time_edges=edges,
        time_rows=counts.astype(np.int64),
    )


def save_distributions(found: Distributions, path: Path) -> None:
    """Write to an .npz file."""
    np.savez(path, **{field.name: getattr(found, field.name) for field in fields(found)})


def load_distributions(path: Path) -> Distributions:
    """Read what `save_distributions` wrote. Raises DataError for a file that is missing or damaged."""
    try:
        with path.open("rb") as file, np.load(file) as stored:
            return Distributions(**{field.name: stored[field.name] for field in fields(Distributions)})
    except (*DAMAGED, KeyError) as error:
        raise DataError(f"{path} is damaged ({type(error).__name__}): delete it and prepare again") from error
