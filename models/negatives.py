"""Negative items, drawn for whole blocks of rows at once (spec sections 2.1, 2.2 and 2.4).

Distinct negatives are drawn as ranks among the items that a user has not seen, which needs no rejection of seen
items, and then mapped to items.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.packed import ranges

Negatives = Callable[[int, int], Tensor]
"""First and last+1 row to the negatives [rows, k] of these rows, int64; rows are asked for once, in order."""

TABLE_CELLS = 1 << 25
"""Largest [users, N] table of unseen items; larger ones are searched instead."""
DRAW_ELEMENTS = 1 << 20
"""Negatives drawn at a time."""
_WORD = 1 << 32


def below(bounds: NDArray[np.int64], shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int64]:
    """Integers of `shape`, uniform in [0, bound) with bounds broadcast to it; the bias is below bound / 2**32."""
    words = rng.integers(0, _WORD, size=shape, dtype=np.uint32).astype(np.uint64)
    words *= bounds.astype(np.uint64)
    words >>= np.uint64(32)
    return words.view(np.int64)


def draw_distinct(sizes: NDArray[np.int64], k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """[R, k] ranks, in each row k distinct ones uniform over all k-subsets of 0..size-1.

    Where a row has fewer than k ranks they are drawn with replacement; every size must be at least 1.
    """
    out = np.empty((len(sizes), k), np.int64)
    scarce, dense = sizes < k, (sizes >= k) & (sizes < 2 * k)
    if scarce.any():
        out[scarce] = below(sizes[scarce, None], (int(scarce.sum()), k), rng)
    if dense.any():  # most ranks are taken: order them at random and keep the first k
        mine = sizes[dense]
        keys = rng.random((len(mine), int(mine.max())), dtype=np.float32)
        keys[np.arange(keys.shape[1]) >= mine[:, None]] = 2.0
        out[dense] = np.argpartition(keys, k - 1, axis=1)[:, :k]
    rest = ~(scarce | dense)
    if rest.any():
        out[rest] = _redraw_repeats(sizes[rest], k, rng)
    return out


def _redraw_repeats(sizes: NDArray[np.int64], k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw with replacement, then draw anew whatever repeats, until nothing does: no rank is preferred by that."""
    out = below(sizes[:, None], (len(sizes), k), rng).astype(np.uint32)
    open_rows = np.arange(len(sizes))
    while len(open_rows):
        some = np.sort(out[open_rows], axis=1)
        row, column = np.divmod(np.flatnonzero(some[:, 1:] == some[:, :-1]), max(1, k - 1))
        some[row, column + 1] = below(sizes[open_rows[row]], (len(row),), rng).astype(np.uint32)
        out[open_rows] = some
        open_rows = open_rows[np.unique(row)]
    return out.astype(np.int64)


class UnseenItems:
    """For every user the items that are not in their sequence."""

    def __init__(
        self, flat: NDArray[np.int32], starts: NDArray[np.int64], stops: NDArray[np.int64], n_items: int
    ) -> None:
        """flat: items of all users; starts, stops: [S] the rows of each user, past and future."""
        self.n_items = n_items
        lengths = stops - starts
        owner = np.repeat(np.arange(len(starts)), lengths)
        pairs = np.sort(owner * n_items + flat[ranges(starts, lengths)])
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]
        self._seen = pairs % n_items
        self._offsets = np.searchsorted(pairs, np.arange(len(starts) + 1) * n_items)
        self.sizes = n_items - np.diff(self._offsets)
        """[S] number of unseen items of each user."""

    def at(self, users: NDArray[np.int64], ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        """[R, k] the items of the given ranks [R, k] among what users [R] have not seen, in the order of ids."""
        distinct, local = np.unique(users, return_inverse=True)
        cells = len(distinct) * self.n_items
        if cells <= min(TABLE_CELLS, 4 * ranks.size):
            return self._by_table(distinct, local, ranks)
        return self._by_search(distinct, local, ranks)

    def _rows(self, users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Seen items of the users end to end, and how many each has."""
        counts = self._offsets[users + 1] - self._offsets[users]
        return self._seen[ranges(self._offsets[users], counts)], counts

    def _by_table(
        self, users: NDArray[np.int64], local: NDArray[np.int64], ranks: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """All unseen items written out, then one look-up each."""
        seen, counts = self._rows(users)
        unseen = np.ones((len(users), self.n_items), np.bool_)
        unseen[np.repeat(np.arange(len(users)), counts), seen] = False
        items = np.nonzero(unseen.ravel())[0] % self.n_items
        first = np.cumsum(self.sizes[users]) - self.sizes[users]
        return np.asarray(items[first[local][:, None] + ranks])

    def _by_search(
        self, users: NDArray[np.int64], local: NDArray[np.int64], ranks: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """rank + the number of seen items before it: the j-th seen item s_j is before it where s_j - j <= rank."""
        seen, counts = self._rows(users)
        first = np.cumsum(counts) - counts
        place = np.arange(len(seen)) - np.repeat(first, counts)
        base = np.arange(len(users)) * (self.n_items + 1)
        keys = np.repeat(base, counts) + seen - place
        found = np.searchsorted(keys, base[local][:, None] + ranks, side="right")
        return ranks + found - first[local][:, None]

    def draw(self, users: NDArray[np.int64], k: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """[R, k] distinct unseen items for each user of [R], uniform.

        A user with fewer than k unseen items gets them with replacement; one who has seen every item gets any items.
        """
        sizes = self.sizes[users]
        nothing = sizes == 0
        ranks = draw_distinct(np.where(nothing, self.n_items, sizes), k, rng)
        if not nothing.any():
            return self.at(users, ranks)
        ranks[~nothing] = self.at(users[~nothing], ranks[~nothing]) if not nothing.all() else 0
        return ranks


def draw_any(rows: int, k: int, n_items: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """[rows, k] items, uniform over all of them with replacement (gBCE)."""
    return below(np.array(n_items), (rows, k), rng)
