"""Same-target partners of a training sequence: drawn uniformly (spec 3.1) or by explanation (spec 4.3)."""

import numpy as np
from numpy.typing import NDArray

from models.augment import Ragged
from models.negatives import draw_distinct
from models.packed import ranges

MOST_CANDIDATES = 64
"""Candidates looked at for one anchor; more are thinned out at random."""


class PartnerPool:
    """For every example the other examples whose target is the same; with owners, those of others alone."""

    def __init__(self, targets: NDArray[np.int32], owners: NDArray[np.int64] | None = None) -> None:
        """targets: [S] the item that each example leads to; owners: [S] ascending numbers, whose it is."""
        order = np.argsort(targets, kind="stable")
        ordered = targets[order]
        self._order = order
        self._first = np.searchsorted(ordered, targets, side="left")
        self._size = np.searchsorted(ordered, targets, side="right") - self._first
        place = np.empty(len(targets), np.int64)
        place[order] = np.arange(len(targets))
        # an owner's examples of one target stand together; without owners each stands alone
        owned = place if owners is None else _starts_of_runs(ordered, owners[order])[place]
        self._own_first, self._own_size = owned, np.bincount(owned, minlength=len(targets))[owned]

    @property
    def share(self) -> float:
        """Share of examples that have a partner."""
        return float((self._size > self._own_size).mean())

    def draw(self, anchors: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """A partner for each anchor, uniform over its pool without its owner's; the anchor itself where there is none.

        Returns the partners [B] and whether each is another example [B].
        """
        first, own_first, own_size = self._first[anchors], self._own_first[anchors], self._own_size[anchors]
        others = self._size[anchors] - own_size
        place = first + rng.integers(0, np.maximum(others, 1))
        place += np.where((place >= own_first) & (others > 0), own_size, 0)
        return np.where(others > 0, self._order[place], anchors), others > 0

    def candidates(
        self, anchors: NDArray[np.int64], most: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Up to `most` partners of each anchor: number in `anchors` and example [P], uniform where there are more."""
        others = self._size[anchors] - self._own_size[anchors]
        count = np.minimum(others, most)
        number = np.repeat(np.arange(len(anchors)), count)
        place = ranges(np.zeros_like(count), count)
        many = np.flatnonzero(others > most)
        if len(many):
            place[ranges((np.cumsum(count) - count)[many], count[many])] = draw_distinct(
                others[many], most, rng
            ).ravel()
        place += self._first[anchors][number]
        place += np.where(place >= self._own_first[anchors][number], self._own_size[anchors][number], 0)
        return number, self._order[place]


def _starts_of_runs(targets: NDArray[np.int32], owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """[S] where the run of equal target and owner begins that each row is in."""
    begins = np.flatnonzero(np.diff(targets, prepend=-1) | np.diff(owners, prepend=-1))
    return np.repeat(begins, np.diff(begins, append=len(targets)))


def utilities(
    x: Ragged,
    importance: NDArray[np.float32],
    anchors: NDArray[np.int64],
    number: NDArray[np.int64],
    candidates: NDArray[np.int64],
    *,
    max_len: int,
) -> NDArray[np.float64]:
    """[P] exp(g) * o of each candidate sequence for anchor anchors[number] (spec 4.3).

    g: sum of the candidate's importances at places whose items the anchor has too; o: number of such places over
    max_len, with none of which the product is 0 whatever g is. importance: aligned with x.items.
    """
    n_items = int(x.items.max()) + 1
    mine = x.take(anchors)
    keys = np.unique(mine.owner * n_items + mine.items)
    rows = x.rows(candidates)
    pair = np.repeat(np.arange(len(candidates)), x.lengths[candidates])
    wanted = number[pair] * n_items + x.items[rows]
    common = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted
    overlap = np.bincount(pair[common], minlength=len(candidates))
    g = np.bincount(pair[common], weights=importance[rows][common], minlength=len(candidates))
    return np.exp(g) * overlap / max_len


def draw_by_explanation(
    pool: PartnerPool,
    x: Ragged,
    importance: NDArray[np.float32],
    anchors: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    max_len: int,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """A partner for each anchor with probability softmax(utility) over its candidates; like `PartnerPool.draw`."""
    number, candidates = pool.candidates(anchors, MOST_CANDIDATES, rng)
    partners, real = anchors.copy(), np.zeros(len(anchors), np.bool_)
    if len(candidates):
        value = utilities(x, importance, anchors, number, candidates, max_len=max_len) + rng.gumbel(
            size=len(candidates)
        )
        order = np.lexsort((value, number))  # the last of each anchor is its maximum, a draw by softmax
        last = order[np.append(np.flatnonzero(np.diff(number[order])), len(order) - 1)]
        partners[number[last]], real[number[last]] = candidates[last], True
    return partners, real
