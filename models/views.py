"""Second views of a training sequence: another user's sequence with the same target (spec section 3.1)."""

import numpy as np
from numpy.typing import NDArray


class PartnerPool:
    """For every sequence the other sequences whose final item is the same."""

    def __init__(self, targets: NDArray[np.int32]) -> None:
        """targets: [S] final item of each sequence."""
        order = np.argsort(targets, kind="stable")
        ordered = targets[order]
        self._order = order
        self._first = np.searchsorted(ordered, targets, side="left")
        self._size = np.searchsorted(ordered, targets, side="right") - self._first
        self._place = np.empty(len(targets), np.int64)
        self._place[order] = np.arange(len(targets))

    @property
    def share(self) -> float:
        """Share of sequences that have a partner."""
        return float((self._size > 1).mean())

    def draw(self, anchors: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """A partner for each anchor, uniform over its pool without itself; the anchor itself where there is none.

        Returns the partners [B] and whether each is another sequence [B].
        """
        size, first = self._size[anchors], self._first[anchors]
        place = first + rng.integers(0, np.maximum(size - 1, 1))
        place = np.where((place >= self._place[anchors]) & (size > 1), place + 1, place)
        return np.where(size > 1, self._order[place], anchors), size > 1
