"""What selection may read of the results: a type without test values, so that the rule needs no discipline."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from harness.errors import StoreError
from harness.values import EpochLog, Metric

if TYPE_CHECKING:
    from harness.store import Store


class ValidationReader:
    """What selection may see of a store: validation numbers. It has no way to a test value."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def value(self, key: str, name: str, k: int, bucket: int = 0) -> float:
        """One validation number of a finished trial. Raises StoreError where there is none."""
        for found in self._store.metrics((key,), part="valid", names=(name,)).get(key, ()):
            if (found.k, found.bucket) == (k, bucket) and found.value is not None:
                return found.value
        raise StoreError(f"{self._store.shown} has no validation {name}@{k} (bucket {bucket}) of trial {key}")

    def metrics(self, keys: Collection[str], names: Sequence[str] | None = None) -> dict[str, tuple[Metric, ...]]:
        """The validation numbers of these trials."""
        return self._store.metrics(keys, part="valid", names=names)

    def epochs(self, key: str) -> tuple[EpochLog, ...]:
        """The trial's training log: losses and validation metrics."""
        return self._store.epochs(key)
