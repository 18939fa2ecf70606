"""Metrics against the numbers of spec 6.3 and 6.4, and their properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.metrics import CUTOFFS, METRICS, evaluate, repeat_share
from harness.values import Metric, UserRanks


def _value(metrics: tuple[Metric, ...], name: str, k: int, bucket: int = 0) -> float | None:
    found = [m.value for m in metrics if (m.name, m.k, m.bucket) == (name, k, bucket)]
    assert len(found) == 1
    return found[0]


def _ranks(rank: list[int], n_items: int) -> UserRanks:
    """Ranks with every user's list 0, 1, 2, ... (as long as the lists of a catalogue of `n_items` are)."""
    width = min(50, n_items)
    top = np.tile(np.arange(width, dtype=np.int32), (len(rank), 1))
    return UserRanks(rank=np.array(rank, np.int32), top=top)


def _case(
    rank: list[int], targets: list[int], bucket: list[int]
) -> tuple[UserRanks, NDArray[np.int32], NDArray[np.int8]]:
    return _ranks(rank, len(bucket)), np.array(targets, np.int32), np.array(bucket, np.int8)


def test_vector_of_the_specification() -> None:
    """Ranks 1, 3, 11, miss: hr@10 0.5, ndcg@10 0.375, mrr@10 0.333333."""
    ranks, targets, bucket = _case([1, 3, 11, 60], [0, 0, 0, 0], [1] * 70)
    metrics = evaluate(ranks, targets=targets, bucket=bucket, part="test")
    assert _value(metrics, "hr", 10) == 0.5
    assert _value(metrics, "ndcg", 10) == 0.375
    assert _value(metrics, "mrr", 10) == pytest.approx(1 / 3, abs=1e-12)
    assert _value(metrics, "hr", 20) == 0.75
    assert _value(metrics, "ndcg", 50) == pytest.approx((1 + 0.5 + 1 / math.log2(12)) / 4)
    assert {m.part for m in metrics} == {"test"}


def test_masked_target_is_a_miss_at_every_k() -> None:
    ranks, targets, bucket = _case([0, 1], [2, 0], [1, 1, 1])
    metrics = evaluate(ranks, targets=targets, bucket=bucket, part="valid")
    for name in ("hr", "ndcg", "mrr"):
        for k in CUTOFFS:
            assert _value(metrics, name, k) == 0.5
    assert repeat_share(ranks) == 0.5


def test_coverage_by_hand() -> None:
    """Three users, six items in buckets 1,1,2,2,3,3; targets in buckets 1, 1, 3."""
    top = np.array([[0, 1, 2, 3, 4, 5], [0, 2, 1, 3, 4, -1], [4, 0, 1, 2, -1, -1]], np.int32)
    ranks = UserRanks(rank=np.array([1, 0, 2], np.int32), top=top)
    bucket = np.array([1, 1, 2, 2, 3, 3], np.int8)
    metrics = evaluate(ranks, targets=np.array([0, 1, 5], np.int32), bucket=bucket, part="test")
    assert _value(metrics, "cov", 1) == pytest.approx(2 / 6)  # 0 and 4
    assert _value(metrics, "cov", 1, 1) == pytest.approx(1 / 6)  # the first two users get 0
    assert _value(metrics, "cov", 1, 3) == pytest.approx(1 / 6)  # the third gets 4
    assert _value(metrics, "cov", 1, 2) is None
    assert _value(metrics, "cov", 5, 1) == pytest.approx(5 / 6)  # 0..4
    assert _value(metrics, "cov", 5, 3) == pytest.approx(4 / 6)
    assert _value(metrics, "itemcov", 1, 1) == 0.5  # of items 0 and 1, item 0
    assert _value(metrics, "itemcov", 1, 2) == 0.0  # nobody's first item is 2 or 3, though no target is in bucket 2
    assert _value(metrics, "itemcov", 1, 3) == 0.5
    assert _value(metrics, "itemcov", 1, 0) == _value(metrics, "cov", 1)
    assert _value(metrics, "hr", 5, 1) == 0.5
    assert _value(metrics, "hr", 5, 2) is None
    assert _value(metrics, "hr", 5, 3) == 1.0


def test_k_beyond_the_catalogue_counts_what_is_there() -> None:
    ranks, targets, bucket = _case([3, 2], [2, 1], [1, 2, 3])
    metrics = evaluate(ranks, targets=targets, bucket=bucket, part="test")
    for k in (5, 10, 20, 50):
        assert _value(metrics, "cov", k) == 1.0
        assert _value(metrics, "hr", k) == 1.0


def test_item_bucket_without_items_has_no_item_coverage() -> None:
    ranks, targets, bucket = _case([1], [0], [1, 1])
    metrics = evaluate(ranks, targets=targets, bucket=bucket, part="test")
    assert _value(metrics, "itemcov", 10, 3) is None


def test_lists_too_short_for_the_largest_k_are_a_bug() -> None:
    ranks = UserRanks(rank=np.array([1], np.int32), top=np.zeros((1, 10), np.int32))
    with pytest.raises(AssertionError, match="too short"):
        evaluate(ranks, targets=np.array([0], np.int32), bucket=np.ones(60, np.int8), part="test")


def test_every_metric_at_every_k_and_bucket_once() -> None:
    ranks, targets, bucket = _case([1], [0], [1, 2])
    metrics = evaluate(ranks, targets=targets, bucket=bucket, part="test")
    names = {(m.name, m.k, m.bucket) for m in metrics}
    assert names == {(name, k, b) for name in METRICS for k in CUTOFFS for b in range(4)}
    assert len(metrics) == len(names)


@st.composite
def _random(draw: st.DrawFn) -> tuple[UserRanks, NDArray[np.int32], NDArray[np.int8]]:
    """Random score matrices with masks: consistent ranks and lists, ties to the smaller id."""
    seed = draw(st.integers(0, 2**32 - 1))
    n_users, n_items = draw(st.integers(1, 12)), draw(st.integers(1, 70))
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, (n_users, n_items)).astype(float)
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    sorted_scores = np.take_along_axis(scores, order, axis=1)
    top = np.where(np.isneginf(sorted_scores), -1, order)[:, :50].astype(np.int32)
    targets = rng.integers(0, n_items, n_users).astype(np.int32)
    place = np.argmax(order == targets[:, None], axis=1) + 1
    rank = np.where(np.isneginf(scores[np.arange(n_users), targets]), 0, place).astype(np.int32)
    return UserRanks(rank=rank, top=top), targets, rng.integers(1, 4, n_items).astype(np.int8)


@settings(max_examples=60)
@given(_random())
def test_properties(case: tuple[UserRanks, NDArray[np.int32], NDArray[np.int8]]) -> None:
    ranks, targets, bucket = case
    metrics = evaluate(ranks, targets=targets, bucket=bucket, part="test")
    for b in range(4):
        for name in METRICS:
            values = [_value(metrics, name, k, b) for k in CUTOFFS]
            present = [v for v in values if v is not None]
            assert len(present) in {0, len(values)}
            assert present == sorted(present), "a larger K never lowers a metric"
            assert all(0 <= v <= 1 for v in present)
        assert _value(metrics, "hr", 1, b) == _value(metrics, "ndcg", 1, b) == _value(metrics, "mrr", 1, b)
    users = [int((bucket[targets] == b).sum()) for b in (1, 2, 3)]
    for k in CUTOFFS:  # sum check of spec 6.4
        parts = [(_value(metrics, "hr", k, b) or 0.0) * n for b, n in zip((1, 2, 3), users, strict=True)]
        assert _value(metrics, "hr", k) == pytest.approx(sum(parts) / sum(users))
        # a hit is exactly a target that stands in the user's list
        listed = (ranks.top[:, :k] == targets[:, None]).any(axis=1)
        assert _value(metrics, "hr", k) == pytest.approx(listed.mean())


@settings(max_examples=30)
@given(_random(), st.integers(0, 2**32 - 1))
def test_permuting_users_changes_nothing(
    case: tuple[UserRanks, NDArray[np.int32], NDArray[np.int8]], seed: int
) -> None:
    ranks, targets, bucket = case
    order = np.random.default_rng(seed).permutation(len(targets))
    turned = UserRanks(rank=ranks.rank[order], top=ranks.top[order])
    before = evaluate(ranks, targets=targets, bucket=bucket, part="test")
    after = evaluate(turned, targets=targets[order], bucket=bucket, part="test")
    for a, b in zip(before, after, strict=True):
        assert (a.name, a.k, a.bucket) == (b.name, b.k, b.bucket)
        assert a.value == pytest.approx(b.value, rel=1e-12) if a.value is not None else b.value is None
