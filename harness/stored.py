"""What the results database gives back of trials, studies and data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.config import DataConfig, TrialSpec
from harness.values import Int32, Part

Status = Literal["done", "failed", "pruned"]
"""How a trial ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """A trial that has ended, one way or the other."""

    key: str
    group: str
    spec: TrialSpec
    status: Status
    attempt: int
    """1 for the first; counts failures too."""
    fingerprint: str | None
    """Of its data; None for a failure."""
    best_epoch: int | None
    last_epoch: int
    error: str | None
    traceback: str | None
    recorded_at: str
    """ISO 8601, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """What a study asks for, run or not."""

    name: str
    title: str
    specs: tuple[TrialSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRow:
    """What metrics need to know of a data set: with it and the ranks they can be computed anew."""

    fingerprint: str
    config: DataConfig
    n_items: int
    n_train_users: int
    n_test_users: int
    boundary: int
    """Unix seconds."""
    report: Mapping[str, float]
    file: str
    edition: str
    """What was read, as in `Split`; empty also where an earlier version recorded it."""
    bucket: NDArray[np.int8]
    """[N] popularity bucket of each item."""
    popularity: Int32
    """[N] distinct training users of each item."""
    targets_valid: Int32
    """[V] validation targets."""
    targets_test: Int32
    """[V] test targets."""
    input_buckets: Int32 | None
    """[V, 3] items of each popularity bucket in the test input; None: recorded by an earlier version."""

    def targets(self, part: Part) -> Int32:
        """[V] the target of each evaluated user."""
        return self.targets_test if part == "test" else self.targets_valid
