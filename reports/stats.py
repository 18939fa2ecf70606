"""Spread over seeds and over users."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.metrics import USER_METRICS
from harness.values import UserRanks


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Replications of one number."""

    mean: float
    std: float | None
    """Sample standard deviation (ddof 1); None for a single value."""
    n: int


def summarise(values: Sequence[float]) -> Summary:
    """Mean, sample standard deviation and count of at least one value."""
    assert len(values), "nothing to summarise"
    data = np.asarray(values, np.float64)
    return Summary(mean=float(data.mean()), std=float(data.std(ddof=1)) if len(data) > 1 else None, n=len(data))


def user_standard_error(replications: Sequence[UserRanks], metric: str, k: int) -> float | None:
    """Standard error over the test users of a metric that is a mean over users (hr, ndcg, mrr).

    With several seeds every user's value is averaged over the seeds first. This is the uncertainty from having only
    so many test users; the standard deviation over seeds does not contain it. None for fewer than two users.
    """
    assert replications
    values = np.mean([USER_METRICS[metric](ranks.rank, k) for ranks in replications], axis=0)
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
