"""Negatives: distinct, unseen, uniform, and the same by table and by search."""

import numpy as np
import pytest
from scipy import stats

from models import negatives
from models.negatives import UnseenItems, below, draw_any, draw_distinct


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("size", "k"), [(20, 5), (20, 10), (20, 11), (20, 19), (20, 20), (7, 1), (1, 1)])
def test_ranks_are_distinct_in_range_and_uniform(size: int, k: int) -> None:
    drawn = draw_distinct(np.full(4000, size), k, rng())
    assert drawn.shape == (4000, k) and drawn.min() >= 0 and drawn.max() < size
    assert (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all()
    if k < size:
        counts = np.bincount(drawn.ravel(), minlength=size)
        assert stats.chisquare(counts).pvalue > 1e-4  # conservative: distinct draws vary less


def test_every_subset_is_equally_likely() -> None:
    drawn = np.sort(draw_distinct(np.full(30_000, 6), 3, rng()), axis=1)
    dense = np.unique(drawn @ [36, 6, 1], return_counts=True)[1]
    assert len(dense) == 20 and stats.chisquare(dense).pvalue > 1e-4
    drawn = np.sort(draw_distinct(np.full(30_000, 6), 2, rng()), axis=1)
    sparse = np.unique(drawn @ [6, 1], return_counts=True)[1]
    assert len(sparse) == 15 and stats.chisquare(sparse).pvalue > 1e-4


def test_rows_of_every_kind_together_and_scarce_rows_with_replacement() -> None:
    sizes = np.array([100, 5, 3, 2, 1, 8])
    drawn = draw_distinct(sizes, 4, rng())
    assert (drawn < sizes[:, None]).all()
    assert all(len(set(drawn[row].tolist())) == 4 for row in (0, 1, 5))


def seen_by(users: int, n_items: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    flat = rng(1).integers(0, n_items, users * length).astype(np.int32)  # users repeat items
    starts = np.arange(users) * length
    return flat, starts, starts + length


@pytest.mark.parametrize("cells", [0, 1 << 25], ids=["search", "table"])
def test_unseen_items_by_rank_are_those_of_a_set(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negatives, "TABLE_CELLS", cells)
    flat, starts, stops = seen_by(6, 30, 12)
    unseen = UnseenItems(flat, starts, stops, 30)
    users = np.array([4, 4, 0, 5])
    for user in users:
        expected = np.setdiff1d(np.arange(30), flat[starts[user] : stops[user]])
        assert unseen.sizes[user] == len(expected)
        ranks = np.tile(np.arange(len(expected)), (3, 1))
        assert (unseen.at(np.full(3, user), ranks) == expected).all()
    drawn = unseen.draw(users, 5, rng())
    for user, row in zip(users, drawn, strict=True):
        assert len(set(row.tolist())) == 5 and not set(row.tolist()) & set(flat[starts[user] : stops[user]].tolist())


def test_table_and_search_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    unseen = UnseenItems(*seen_by(6, 300, 12), 300)
    users = np.repeat(np.arange(6), 40)
    by_table = unseen.draw(users, 20, rng())
    monkeypatch.setattr(negatives, "TABLE_CELLS", 0)
    assert (unseen.draw(users, 20, rng()) == by_table).all()


def test_a_user_who_has_seen_nearly_everything() -> None:
    flat = np.array([0, 1, 2, 3, 0, 1, 2], np.int32)
    unseen = UnseenItems(flat, np.array([0, 4]), np.array([4, 7]), 4)
    drawn = unseen.draw(np.array([0, 1, 1]), 3, rng())
    assert (drawn[1:] == 3).all() and drawn.max() < 4, "one item is left to user 1, none to user 0"
    assert UnseenItems(flat[:4], np.array([0]), np.array([4]), 4).draw(np.array([0]), 2, rng()).max() < 4


def test_a_million_items_and_thousands_of_negatives() -> None:
    unseen = UnseenItems(*seen_by(20, 1_000_000, 50), 1_000_000)
    drawn = unseen.draw(np.arange(20), 4096, rng())
    assert (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all()
    ks = stats.kstest(drawn.ravel() / 1_000_000, "uniform")
    assert ks.pvalue > 1e-4


def test_with_replacement() -> None:
    drawn = draw_any(200, 50, 10, rng())
    counts = np.bincount(drawn.ravel(), minlength=10)
    assert stats.chisquare(counts).pvalue > 1e-4
    assert below(np.array([[1], [5]]), (2, 100), rng()).max(1).tolist() == [0, 4]
