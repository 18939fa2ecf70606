"""The embedded data set: repeatable, shaped as promised, learnable, with a known ceiling."""

import numpy as np
import pytest

from harness.config import DataConfig
from harness.data.split import split_rows
from harness.data.synthetic import best_achievable, chain, generate, oracle_ranks
from harness.metrics import user_ndcg
from harness.values import Int32, Split


@pytest.fixture(scope="module")
def split() -> Split:
    return split_rows(generate(), DataConfig(dataset="synthetic"))[0]


def ranks_by(split: Split, scores: np.ndarray) -> Int32:
    """[V] ranks of the test targets for scores [V, N], the input masked; ties count against the target."""
    ranks = []
    for v, (a, b) in enumerate(zip(split.test_offsets[:-1], split.test_offsets[1:], strict=True)):
        *seen, target = split.test_items[a:b].tolist()
        row = scores[v].copy()
        row[seen] = -np.inf
        ranks.append((row >= row[target]).sum())
    return np.array(ranks, np.int32)


def test_same_seed_same_rows() -> None:
    frame = generate(seed=3, users=50, items=60)
    assert frame.equals(generate(seed=3, users=50, items=60))
    assert not frame.equals(generate(seed=4, users=50, items=60))


def test_rows_are_what_the_readers_give() -> None:
    frame = generate(users=300)
    assert [str(dtype) for dtype in frame.dtypes] == ["str", "str", "int64"]
    assert frame["user"].nunique() == 300
    assert not frame.duplicated(["user", "item"]).any()
    assert (frame.groupby("user")["time"].diff().dropna() > 0).all()
    assert frame.groupby("user").size().between(8, 24).all()


def test_chain_is_a_distribution_with_few_successors() -> None:
    walk = chain(items=80)
    np.testing.assert_allclose(walk.transition.sum(axis=1), 1)
    np.testing.assert_allclose(walk.popularity.sum(), 1)
    assert walk.transition.min() > 0
    assert ((walk.transition > 0.2 * walk.popularity.max() + 0.07).sum(axis=1) <= 4).all()
    assert (np.diag(walk.transition) < 0.2).all()


def test_default_size_leaves_enough_of_everything(split: Split) -> None:
    assert split.n_test_users >= 200
    assert 500 <= split.n_items <= 800
    assert 2_000 <= split.n_train_users <= 3_000
    assert 15 <= np.diff(split.train_offsets).mean() <= 20
    assert split.report["repeat_share"] == 0
    assert np.bincount(split.bucket[split.targets("test")], minlength=4)[1:].min() > 40


def test_known_scores(split: Split) -> None:
    assert split.fingerprint == "381ddd2f6f959b99e2c9fa688bca575f"
    assert best_achievable(split) == pytest.approx(0.66616, abs=1e-4)
    assert best_achievable(split, "valid") == pytest.approx(0.66464, abs=1e-4)


def test_oracle_follows_the_definition(split: Split) -> None:
    number = split.item_ids.astype(int) - 1
    last = split.test_items[split.test_offsets[1:] - 2]
    expected = ranks_by(split, chain().transition[number[last]][:, number])
    np.testing.assert_array_equal(oracle_ranks(split), expected)
    assert best_achievable(split) == pytest.approx(user_ndcg(expected, 10).mean())


def test_popularity_is_far_below_and_counted_transitions_near_the_ceiling(split: Split) -> None:
    ceiling = best_achievable(split)
    popular = np.tile(split.popularity.astype(float), (split.n_test_users, 1))
    assert user_ndcg(ranks_by(split, popular), 10).mean() < 0.2 * ceiling
    inner = np.ones(len(split.train_items), bool)
    inner[split.train_offsets[1:] - 1] = False
    before = np.flatnonzero(inner)
    counts = np.zeros((split.n_items, split.n_items))
    np.add.at(counts, (split.train_items[before], split.train_items[before + 1]), 1)
    last = split.test_items[split.test_offsets[1:] - 2]
    counted = counts[last] + 1e-3 * split.popularity
    assert 0.85 * ceiling < user_ndcg(ranks_by(split, counted), 10).mean() <= ceiling
