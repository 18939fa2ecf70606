"""Augmented copies of input sequences (spec 4.1, 4.3 and 5), for a whole batch at once.

An operator takes sequences and a generator and returns new sequences; the same rule holds for every one of them. A
sequence of one item comes back as it is, unless `substitute` has another in its place. Shares are of the sequence's
length, rounded down.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.packed import ranges

CO_OCCURRENCE_WINDOW = 5
"""Two items co-occur where they stand at most this many steps apart in a training sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ragged:
    """B sequences laid end to end."""

    items: NDArray[np.int32]
    """[n]"""
    lengths: NDArray[np.int64]
    """[B] each at least 1; their sum is n."""

    @property
    def starts(self) -> NDArray[np.int64]:
        """[B] first row of each sequence."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def owner(self) -> NDArray[np.int64]:
        """[n] sequence of each row."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def place(self) -> NDArray[np.int64]:
        """[n] 0-based place of each row in its sequence."""
        return ranges(np.zeros_like(self.lengths), self.lengths)

    def rows(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of the chosen sequences end to end."""
        return ranges(self.starts[chosen], self.lengths[chosen])

    def take(self, chosen: NDArray[np.int64]) -> "Ragged":
        """The chosen sequences, in that order."""
        return Ragged(items=self.items[self.rows(chosen)], lengths=self.lengths[chosen])

    def kept(self, keep: NDArray[np.bool_]) -> "Ragged":
        """The rows [n] where `keep` holds; at least one of every sequence."""
        lengths = np.bincount(self.owner[keep], minlength=len(self.lengths)).astype(np.int64)
        return Ragged(items=self.items[keep], lengths=lengths)

    def replaced(self, where: NDArray[np.bool_], item: int) -> "Ragged":
        """`item` in the rows [n] where `where` holds."""
        return Ragged(items=np.where(where, np.int32(item), self.items), lengths=self.lengths)

    def shuffled(self, where: NDArray[np.bool_], rng: np.random.Generator) -> "Ragged":
        """Within each sequence, the items where `where` holds change places among themselves, uniformly."""
        rows = np.flatnonzero(where)
        items = self.items.copy()
        items[rows] = items[rows[np.lexsort((rng.random(len(rows)), self.owner[rows]))]]
        return Ragged(items=items, lengths=self.lengths)


def share_of(lengths: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """floor(share * length), immune to the rounding of the product (0.7 * 10 is 7)."""
    return np.asarray(np.floor(share * lengths + 1e-9), np.int64)


def rank_within(
    values: NDArray[np.floating], owner: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """[n] 0-based rank of each value within its sequence, smallest first, ties by place."""
    rank = np.empty(len(values), np.int64)
    rank[np.lexsort((values, owner))] = ranges(np.zeros_like(lengths), lengths)
    return rank


def _run(x: Ragged, size: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """[n] True in a run of `size` [B] rows at a uniform start in each sequence."""
    start = rng.integers(0, x.lengths - size + 1)
    after = x.place - np.repeat(start, x.lengths)
    return (after >= 0) & (after < np.repeat(size, x.lengths))


def crop(x: Ragged, eta: float, rng: np.random.Generator) -> Ragged:
    """A contiguous run of floor(eta * length) items, at least one, at a uniform start."""
    return x.kept(_run(x, np.maximum(1, share_of(x.lengths, eta)), rng))


def mask(x: Ragged, gamma: float, mask_item: int, rng: np.random.Generator) -> Ragged:
    """`mask_item` at floor(gamma * length) distinct uniform places."""
    rank = rank_within(rng.random(len(x.items)), x.owner, x.lengths)
    return x.replaced(rank < np.repeat(share_of(x.lengths, gamma), x.lengths), mask_item)


def reorder(x: Ragged, beta: float, rng: np.random.Generator) -> Ragged:
    """A contiguous run of floor(beta * length) items at a uniform start, shuffled."""
    return x.shuffled(_run(x, share_of(x.lengths, beta), rng), rng)


def substitute(x: Ragged, p: float, similar: NDArray[np.int32], rng: np.random.Generator) -> Ragged:
    """Each item with probability p replaced by `similar` [N] of it."""
    return Ragged(items=np.where(rng.random(len(x.items)) < p, similar[x.items], x.items), lengths=x.lengths)


def most_co_occurring(x: Ragged, n_items: int, window: int = CO_OCCURRENCE_WINDOW) -> NDArray[np.int32]:
    """[N] for every item the other item that co-occurs most often (ties: smaller id); itself where none does."""
    owner, keys = x.owner, []
    for step in range(1, window + 1):
        same = (owner[step:] == owner[:-step]) & (x.items[step:] != x.items[:-step])
        a, b = x.items[:-step][same].astype(np.int64), x.items[step:][same].astype(np.int64)
        keys += [a * n_items + b, b * n_items + a]
    pairs, counts = np.unique(np.concatenate(keys), return_counts=True)
    item = pairs // n_items
    order = np.lexsort((-counts, item))
    best = order[np.unique(item[order], return_index=True)[1]]
    similar = np.arange(n_items, dtype=np.int32)
    similar[item[best]] = (pairs % n_items)[best]
    return similar


Operator = Callable[[NDArray[np.int64]], Ragged]
"""Sequence numbers [b] to the augmented copies of these sequences."""


def mixed(choice: NDArray[np.int64], operators: Sequence[Operator]) -> Ragged:
    """Sequence b as operator choice[b] augments it, for all b in order."""
    chosen = [np.flatnonzero(choice == number) for number in range(len(operators))]
    made = [operator(mine) for operator, mine in zip(operators, chosen, strict=True) if len(mine)]
    together = Ragged(
        items=np.concatenate([part.items for part in made]), lengths=np.concatenate([part.lengths for part in made])
    )
    return together.take(np.argsort(np.concatenate(chosen)))


def two_different(count: int, kinds: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[count] first and second choice out of `kinds`, uniform over ordered pairs of different ones."""
    first = rng.integers(0, kinds, count)
    return first, (first + rng.integers(1, kinds, count)) % kinds
