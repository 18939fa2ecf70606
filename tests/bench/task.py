"""The common task: the same interactions for every program, as two flat arrays; numpy only.

Leave-one-out: the last interaction of a user is the test target, the last but one the validation target, everything
before it is trained on.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HELD_OUT = 2
LEAST_LENGTH = HELD_OUT + 2
"""A user needs two training rows, or there is no transition to learn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Chronological sequences of item ids 0..n_items-1."""

    items: NDArray[np.int32]
    """[E] one user after the other."""
    offsets: NDArray[np.int64]
    """[U+1] where each user begins."""
    n_items: int

    def __post_init__(self) -> None:
        assert self.offsets[0] == 0 and self.offsets[-1] == len(self.items)
        assert np.diff(self.offsets).min() >= LEAST_LENGTH
        assert 0 <= self.items.min() and self.items.max() < self.n_items

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "offsets.npy", self.offsets)
        np.save(folder / "n_items.npy", np.array(self.n_items))
        np.save(folder / "items.npy", self.items)

    @classmethod
    def load(cls, folder: Path) -> "Task":
        """Memory-mapped, so that loading costs no memory of its own."""
        return cls(
            items=np.load(folder / "items.npy", mmap_mode="r"),
            offsets=np.load(folder / "offsets.npy", mmap_mode="r"),
            n_items=int(np.load(folder / "n_items.npy")),
        )

    def head(self, users: int) -> "Task":
        """The first users, with the same catalogue; 0: all of them."""
        if users == 0 or users >= self.n_users:
            return self
        offsets = self.offsets[: users + 1]
        return Task(items=self.items[: offsets[-1]], offsets=offsets, n_items=self.n_items)

    def completed(self, max_len: int) -> "Task":
        """With users behind the others who hold every item that no user's last `max_len` transitions hold.

        For programs that number only the items that they are trained on: their catalogue is then everybody's.
        """
        left = self.left_of_row()
        trained = self.items[(left >= HELD_OUT) & (left <= HELD_OUT + max_len)]
        missing = np.setdiff1d(np.arange(self.n_items, dtype=np.int32), trained)
        if not len(missing):
            return self
        users = -(-len(missing) // (max_len + 1))
        rows = np.resize(missing, (users, max_len + 1))
        rows = np.hstack([rows, rows[:, :HELD_OUT]])
        ends = self.offsets[-1] + rows.shape[1] * np.arange(1, users + 1)
        return Task(
            items=np.concatenate([self.items, rows.ravel()]),
            offsets=np.concatenate([self.offsets, ends]),
            n_items=self.n_items,
        )

    def user_of_row(self) -> NDArray[np.int64]:
        """[E] user number of each row."""
        return np.repeat(np.arange(self.n_users), np.diff(self.offsets))

    def place_of_row(self) -> NDArray[np.int64]:
        """[E] 0, 1, 2, ... within each user: what stands for the time stamp."""
        return np.arange(len(self.items)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))

    def left_of_row(self) -> NDArray[np.int64]:
        """[E] how many rows of the same user come after it: 0 is the test target, 1 the validation target."""
        return np.repeat(self.offsets[1:], np.diff(self.offsets)) - np.arange(len(self.items)) - 1

    def sequences(self) -> list[NDArray[np.int32]]:
        """One array per user."""
        return np.split(self.items, self.offsets[1:-1])

    def targets(self, max_len: int) -> int:
        """Training targets per epoch: at most the last `max_len` transitions of every user."""
        return int(np.minimum(np.diff(self.offsets) - HELD_OUT - 1, max_len).sum())
