"""A small split made in memory, with a structure that a model can learn."""

import numpy as np

from harness.config import DataConfig
from harness.values import Split


def markov_split(
    *, n_items: int = 40, n_train: int = 200, n_test: int = 30, length: int = 12, noise: float = 0.2, seed: int = 0
) -> Split:
    """Every item is followed by item + 1, but for a share `noise` of uniform jumps; no user repeats an item."""
    rng = np.random.default_rng(seed)

    def sequence() -> np.ndarray:
        items = [int(rng.integers(n_items))]
        while len(items) < length:
            after = (items[-1] + 1) % n_items
            if rng.random() < noise or after in items:
                after = int(rng.choice(np.setdiff1d(np.arange(n_items), items)))
            items.append(after)
        return np.array(items[: int(rng.integers(4, length + 1))], np.int32)

    train = [sequence() for _ in range(n_train)]
    test = [sequence() for _ in range(n_test)]
    popularity = np.bincount(np.concatenate(train), minlength=n_items).astype(np.int32)
    return Split(
        config=DataConfig(dataset="synthetic"),
        fingerprint="0" * 32,
        boundary=1_000_000_000,
        n_items=n_items,
        train_items=np.concatenate(train),
        train_offsets=np.cumsum([0, *map(len, train)]).astype(np.int64),
        test_items=np.concatenate(test),
        test_offsets=np.cumsum([0, *map(len, test)]).astype(np.int64),
        popularity=popularity,
        bucket=(1 + np.arange(n_items) * 3 // n_items).astype(np.int8),
        item_ids=np.arange(n_items).astype(str),
        user_ids=np.arange(n_test).astype(str),
        report={},
    )
