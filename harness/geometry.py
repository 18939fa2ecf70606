"""Geometry of user states and separation of scores (spec 6.5, 6.6, 6.7): arrays in, numbers out; numpy only.

Everything is computed from a stored `Sample` of a trial, so that reports need no model.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.values import Metric, Sample

Array = NDArray[np.float64]
GRID = 1000
"""Points of a density curve."""
BINS = 50
_AT_ONCE = 1 << 20

ERANKS = ("erank", "erank_centred")
GEOMETRY: tuple[str, ...] = (
    *ERANKS,
    *("overlap_kde", "overlap_hist", "alignment", "alignment_ref", "uniformity", "uniformity_ref"),
)
"""Names of what `geometry` computes. More is better of `ERANKS` alone."""


def singular_values(states: NDArray[np.floating], *, centred: bool = False) -> Array:
    """[min(V, D)] singular values of the states [V, D], largest first."""
    matrix = np.asarray(states, np.float64)
    if centred:
        matrix = matrix - matrix.mean(axis=0)
    return np.asarray(np.linalg.svd(matrix, compute_uv=False))


def effective_rank(values: NDArray[np.floating]) -> float:
    """exp of the entropy of the singular values' shares (equation 9); 0 where all are zero."""
    s = np.asarray(values, np.float64)
    if s.sum() == 0:
        return 0.0
    p = s[s > 0] / s.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Densities:
    """Gaussian kernel densities of two sets of scores on a common grid."""

    grid: Array
    """[1000] scores."""
    positive: Array
    negative: Array


def _bandwidth(values: Array) -> float:
    """Scott's, std * n^(-1/5)."""
    return float(values.std(ddof=1) * len(values) ** -0.2)


def _density(values: Array, grid: Array) -> Array:
    """Gaussian kernel density with Scott's bandwidth."""
    width = _bandwidth(values)
    distinct, counts = np.unique(values, return_counts=True)  # scores in half precision repeat
    total = np.zeros_like(grid)
    step = max(1, _AT_ONCE // len(grid))
    for start in range(0, len(distinct), step):
        some = slice(start, start + step)
        total += np.exp(-0.5 * ((grid[:, None] - distinct[some]) / width) ** 2) @ counts[some]
    return np.asarray(total / (len(values) * width * np.sqrt(2 * np.pi)))


def densities(
    positive: NDArray[np.floating], negative: NDArray[np.floating], *, beyond: float = 0.0
) -> Densities | None:
    """Both densities over the joint range, and so many bandwidths beyond it; None where one of them does not vary."""
    p, n = np.ravel(positive).astype(np.float64), np.ravel(negative).astype(np.float64)
    if min(len(p), len(n)) < 2 or p.std() == 0 or n.std() == 0:
        return None
    tails = [(values, beyond * _bandwidth(values)) for values in (p, n)]
    low, high = (min(v.min() - tail for v, tail in tails), max(v.max() + tail for v, tail in tails))
    grid = np.linspace(low, high, GRID)
    return Densities(grid=grid, positive=_density(p, grid), negative=_density(n, grid))


def overlap_kde(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> float | None:
    """Integral of the smaller density over the integral of the positives'; 0: separated, 1: alike."""
    found = densities(positive, negative)
    if found is None:
        return None
    shared = np.trapezoid(np.minimum(found.positive, found.negative), found.grid)
    return float(shared / np.trapezoid(found.positive, found.grid))


def overlap_hist(positive: NDArray[np.floating], negative: NDArray[np.floating], *, bins: int = BINS) -> float | None:
    """Sum over equal bins of the joint range of the smaller share; None where there are no scores, or all alike."""
    p, n = np.ravel(positive).astype(np.float64), np.ravel(negative).astype(np.float64)
    if not len(p) or not len(n):
        return None
    low, high = min(p.min(), n.min()), max(p.max(), n.max())
    if low == high:
        return None
    shares = [np.histogram(values, bins, (low, high))[0] / len(values) for values in (p, n)]
    return float(np.minimum(*shares).sum())


def _unit(states: NDArray[np.floating]) -> Array:
    z = np.asarray(states, np.float64)
    return np.asarray(z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12))


def alignment(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Mean squared distance of pairs [P, D] of l2-normalised states."""
    return float(((_unit(first) - _unit(second)) ** 2).sum(axis=1).mean())


def alignment_ref(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """The reference's: mean distance of pairs of raw states."""
    return float(np.linalg.norm(np.asarray(first, np.float64) - np.asarray(second, np.float64), axis=1).mean())


def _squared_distances(z: Array) -> Array:
    """[V * (V - 1)] over ordered pairs of different rows."""
    norms = (z**2).sum(axis=1)
    squared = np.maximum(norms[:, None] + norms - 2 * z @ z.T, 0.0)
    return np.asarray(squared[~np.eye(len(z), dtype=np.bool_)])


def uniformity(states: NDArray[np.floating]) -> float:
    """log mean exp(-2 * squared distance) over pairs of l2-normalised states [V, D]; lower: more spread out."""
    return float(np.log(np.exp(-2 * _squared_distances(_unit(states))).mean()))


def uniformity_ref(states: NDArray[np.floating]) -> float:
    """The reference's: distances that are not squared, of raw states."""
    distances = np.sqrt(_squared_distances(np.asarray(states, np.float64)))
    low = 2 * distances.min()  # raw states may be so far apart that every term underflows
    return float(np.log(np.exp(low - 2 * distances).mean()) - low)


def same_target(targets: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of places with equal targets: each with the next one of its target, the last with the first."""
    order = np.argsort(targets, kind="stable")
    first, second = [], []
    for group in np.split(order, np.flatnonzero(np.diff(targets[order])) + 1):
        if len(group) > 1:
            first.append(group)
            second.append(np.roll(group, -1))
    none = np.empty(0, np.int64)
    return np.concatenate([none, *first]), np.concatenate([none, *second])


def geometry(sample: Sample, targets: NDArray[np.integer]) -> tuple[Metric, ...]:
    """Every number of a sample; `targets` [V] of all evaluated users. K and bucket are 0: they have none.

    Alignment is over sampled users with the same test target; None where there are none.
    """
    states = sample.states.astype(np.float64)
    first, second = same_target(targets[sample.users])
    pairs = len(first) > 0
    several = len(states) > 1
    values = {
        "erank": effective_rank(sample.spectrum),
        "erank_centred": effective_rank(sample.spectrum_centred),
        "overlap_kde": overlap_kde(sample.positive, sample.negative),
        "overlap_hist": overlap_hist(sample.positive, sample.negative),
        "alignment": alignment(states[first], states[second]) if pairs else None,
        "alignment_ref": alignment_ref(states[first], states[second]) if pairs else None,
        "uniformity": uniformity(states) if several else None,
        "uniformity_ref": uniformity_ref(states) if several else None,
    }
    return tuple(Metric(part="test", name=name, k=0, bucket=0, value=value) for name, value in values.items())
