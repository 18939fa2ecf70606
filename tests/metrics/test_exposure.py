"""Novelty, popularity and their calibration against hand-computed numbers and scipy."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from harness.exposure import EXPOSURE, Shown, arp, exposure, gini, input_buckets, jensen_shannon, novelty, popcal
from harness.metrics import CUTOFFS
from tests.splits import markov_split

SHOWN = Shown(
    top=np.array([[0, 1], [0, 2], [3, -1]], np.int32),
    popularity=np.array([8, 4, 2, 1], np.int32),
    n_users=16,
    item_bucket=np.array([1, 2, 3, 3], np.int8),
    inputs=np.array([[2, 2, 0], [1, 0, 1], [5, 0, 0]], np.int32),
)


def test_by_hand() -> None:
    assert novelty(SHOWN, 1) == pytest.approx((1 + 1 + 4) / 3)
    assert novelty(SHOWN, 2) == pytest.approx((1 + 2 + 1 + 3 + 4) / 5)
    assert arp(SHOWN, 2) == pytest.approx((8 + 4 + 8 + 2 + 1) / 5)
    assert gini(SHOWN, 2) == pytest.approx(0.15)  # counts 1, 1, 1, 2
    assert gini(SHOWN, 1) == pytest.approx((-3 * 0 - 1 * 0 + 1 * 1 + 3 * 2) / (4 * 3))
    assert popcal(SHOWN, 2) == pytest.approx((0 + 0 + 1) / 3)


def test_divergence_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, (50, 3)), rng.integers(0, 9, (50, 3))
    first[:, 0] += 1
    second[:, 2] += 1
    expected = [jensenshannon(p, q, base=2) ** 2 for p, q in zip(first, second, strict=True)]
    assert jensen_shannon(first, second) == pytest.approx(expected, abs=1e-12)


def test_what_is_not_there_is_none() -> None:
    nobody = Shown(top=SHOWN.top[:0], popularity=SHOWN.popularity, n_users=16, item_bucket=SHOWN.item_bucket)
    assert [function(nobody, 10) for function in EXPOSURE.values()] == [None] * 4


def test_every_metric_at_every_k() -> None:
    names = [(m.name, m.k, m.bucket) for m in exposure(SHOWN, part="test")]
    assert sorted(names) == sorted((name, k, 0) for name in EXPOSURE for k in CUTOFFS)


def test_inputs_leave_the_target_out() -> None:
    split = markov_split()
    found = input_buckets(split)
    for user, row in enumerate(found):
        items = split.test_items[split.test_offsets[user] : split.test_offsets[user + 1] - 1]
        assert row.tolist() == [(split.bucket[items] == b).sum() for b in (1, 2, 3)]
