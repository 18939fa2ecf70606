"""The values that travel between modules: frozen, in memory only, numpy and no other heavy library."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.config import DataConfig, TrialSpec

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

Part = Literal["valid", "test"]
"""Of the evaluation: what is selected on, and what is reported."""

N_BUCKETS = 3
FailureKind = Literal["error", "diverged", "out_of_memory", "worker_died"]
"""Why a trial failed; only `diverged` would fail again in the same way, all others are worth another attempt."""

TOP_K = 50
"""How many recommendations of each test user are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One data set after filter, temporal split and re-coding (spec 6.1); arrays are memory-mapped and read-only.

    Items are 0..N-1 in the order of their sorted raw ids (training items only). Sequences are chronological.
    """

    config: DataConfig
    fingerprint: str
    """32 hexadecimal digits of the content: the arrays below and the configuration."""
    boundary: int
    """Unix seconds: rows at or after it are the test part."""
    n_items: int
    train_items: Int32
    """[E] item ids of all training users, one user after the other."""
    train_offsets: Int64
    """[U+1] where each training user begins in `train_items`."""
    test_items: Int32
    """[F] the remaining rows of the evaluated users: input, validation target, test target."""
    test_offsets: Int64
    """[V+1] where each evaluated user begins in `test_items`; every user has at least three rows."""
    popularity: Int32
    """[N] distinct training users of each item."""
    bucket: NDArray[np.int8]
    """[N] popularity bucket 1 (head), 2 or 3 (tail) of each item (spec 6.4)."""
    item_ids: NDArray[np.str_]
    """[N] the raw item ids."""
    user_ids: NDArray[np.str_]
    """[V] the raw ids of the evaluated users."""
    report: Mapping[str, float]
    """Counts for humans: rows, users, items before and after each step, dropped rows, repeat share."""
    file: str = ""
    """Name of the registry's raw file that it was read from; empty: it was generated, or from a file of the user's."""
    edition: str = ""
    """Which published edition that file is; empty where there is only one."""

    @property
    def n_train_users(self) -> int:
        return len(self.train_offsets) - 1

    @property
    def n_test_users(self) -> int:
        return len(self.test_offsets) - 1

    def targets(self, part: Part) -> Int32:
        """[V] the target of each evaluated user: the last row (test) or the last but one (valid)."""
        return np.asarray(self.test_items[self.test_offsets[1:] - (1 if part == "test" else 2)])


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRanks:
    """What a model recommends to every evaluated user; all metrics are computed from this."""

    rank: Int32
    """[V] 1-based rank of the target among the unseen items (ties: smaller id first), with `rank_non_items` among two
    rows more; 0: the target is itself in the input, hence masked, and can never be hit."""
    top: Int32
    """[V, min(50, N)] the best items, best first; -1 where fewer unseen items exist, or where what is no item has the
    place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """States and scores of some test users, kept so that metrics of them need no model (spec 6.5, 6.6).

    Users and negatives depend on the data alone: they are the same for every model.
    """

    users: Int32
    """[S] places among the evaluated users, ascending."""
    states: NDArray[np.float16]
    """[S, D] states at the last position of the test input."""
    positive: NDArray[np.float32]
    """[S] score of the test target."""
    negative: NDArray[np.float16]
    """[S, M] scores of the same number of unseen items for every user."""
    spectrum: NDArray[np.float32]
    """[D] singular values of the states of all test users (at most 10,000), largest first."""
    spectrum_centred: NDArray[np.float32]
    """[D] the same after subtracting the mean state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number of one evaluation."""

    part: Part
    name: str
    """hr, ndcg, mrr, cov, itemcov, ..."""
    k: int
    bucket: int
    """0: all users; 1, 2, 3: popularity bucket of the target (for itemcov: of the recommended item)."""
    value: float | None
    """None: the bucket is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochLog:
    """One epoch of training."""

    epoch: int
    """1-based."""
    loss: float
    """Mean training loss (prediction + alpha * auxiliary) over the epoch's steps."""
    parts: Mapping[str, float]
    """The loss by part and its diagnostics, means over steps: prediction, auxiliary, on_diagonal,
    off_diagonal, partner_share, clamped_dims."""
    valid: Mapping[str, float]
    """Validation metrics such as ndcg@10; empty where the epoch was not validated."""
    seconds_train: float
    seconds_valid: float


THEN = "; then "
"""Between the devices, and the kernels, of a trial that went on elsewhere after it was cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a number comes from."""

    git_revision: str | None
    git_dirty: bool | None
    versions: Mapping[str, str]
    host: str
    device: str
    threads: int
    precision: str
    kernels: str
    command: str
    started: str
    """ISO 8601, UTC."""
    seconds: Mapping[str, float]
    """By phase: train, valid, test, total."""
    peak_mib: float
    """Peak resident memory of the worker process, MiB."""
    batch_size: int
    """Sequences per training step after clamping to the training users."""
    gpu_peak_mib: float | None = None
    """Peak memory that torch held on the GPU, MiB; None without one."""
    joules: float | None = None
    """Energy of the whole device, or processor package, while the trial ran; None where the system does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """A finished trial, as it crosses the process border."""

    spec: TrialSpec
    fingerprint: str
    """Of the `Split` that it was trained on."""
    metrics: tuple[Metric, ...]
    epochs: tuple[EpochLog, ...]
    best_epoch: int
    valid: UserRanks
    test: UserRanks
    provenance: Provenance
    sample: Sample | None = None
    """None: none was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFailure:
    """A trial that ended in an error."""

    spec: TrialSpec
    error: str
    """One line: type and message."""
    traceback: str
    last_epoch: int
    kind: FailureKind = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPruned:
    """A trial of a search that was given up because others are better; it has no test numbers."""

    spec: TrialSpec
    epochs: tuple[EpochLog, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEvent:
    """News from a running trial."""

    key: str
    log: EpochLog


Outcome = TrialResult | TrialFailure | TrialPruned
"""How a trial can end."""

Cell = tuple[str, str, str]
"""Data set, method, profile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one trial of a data set and method is expected to take."""

    dataset: str
    method: str
    profile: str
    seconds: float
    peak_mib: float
    source: str
    """Where the numbers come from, in words."""

    @property
    def cell(self) -> Cell:
        """What it is for."""
        return self.dataset, self.method, self.profile
