"""What selection may read of the results: a type without test values, so that the rule needs no discipline."""

from typing import TYPE_CHECKING

from harness.errors import StoreError

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
