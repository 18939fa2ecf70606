"""Batches of raw columns gathered into rows: ids as text, times as Unix seconds, every refusal with its line.

Ids are kept as they are written: leading zeros stay, `NA` and `nan` are names. Times are UTC.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from harness.data.archives import AGAIN
from harness.errors import DataError
from harness.values import Int64

EARLIEST, LATEST = 788_918_400, 1_893_456_000
"""1995 and 2030 in Unix seconds: the median time of a file in the right unit lies between them."""

_LAST = 4_102_444_800
"""2100 in Unix seconds: a single time from here on is in another unit than the rest."""

_FRACTIONS = pa.timestamp("ns"), pa.timestamp("ns", tz="UTC")
"""Of dates with fractions of a second, without and with a zone."""

Place = Callable[[int], str]
"""Where the row of this number, from 0 on, stands in the file, such as `line 7`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRows:
    """What a reader gives."""

    frame: pd.DataFrame
    """Columns user (str), item (str), time (int64, Unix seconds UTC), in raw row order."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason -> rows of the file that are not in `frame`."""


class Gather:
    """Collects the rows of one file; raises DataError in one line with file and place for a bad row."""

    def __init__(self, path: Path, place: Place, *, per_second: int = 1, nameless_users: bool = False) -> None:
        """`per_second`: time units in a second; `nameless_users`: rows without a user are dropped and counted."""
        self._path = path
        self._place = place
        self._per_second = per_second
        self._nameless_users = nameless_users
        self.seen = 0
        """Rows added so far, dropped ones included."""
        self._nameless = 0
        self._late: tuple[int, int] | None = None
        self._users: list[pa.Array] = []
        self._items: list[pa.Array] = []
        self._times: list[Int64] = []

    def add(self, user: pa.Array, item: pa.Array, time: pa.Array) -> None:
        """The next rows of the file, as columns of equal length."""
        users, items = self._ids("user", user), self._ids("item", item)
        there = np.asarray(pc.not_equal(pc.fill_null(users, ""), ""))
        number = self.seen + np.arange(len(users))
        self.seen += len(users)
        if not there.all():
            if not self._nameless_users:
                raise self._bad(number[there.argmin()], "the user id is missing")
            self._nameless += int((~there).sum())
            named = pa.array(there)
            number, users, items, time = number[there], users.filter(named), items.filter(named), time.filter(named)
        no_item = np.asarray(pc.equal(pc.fill_null(items, ""), ""))
        if no_item.any():
            raise self._bad(number[no_item.argmax()], "the item id is missing")
        times, bad = seconds(time, self._per_second)
        if bad.any():
            first = int(bad.argmax())
            raise self._bad(
                number[first], f"the time {_shown(time[first])} is not a positive, whole number of seconds or a date"
            )
        if self._late is None and times.max(initial=0) >= _LAST:
            self._late = int(number[times.argmax()]), int(times.max())
        self._users.append(users)
        self._items.append(items)
        self._times.append(times)

    def rows(self) -> RawRows:
        """All rows. Raises DataError for none, and for times in another unit than seconds."""
        times = np.concatenate(self._times) if self._times else np.empty(0, np.int64)
        if not len(times):
            nameless = f", only {self._nameless} without a user" if self._nameless else ""
            raise DataError(f"{self._path} has no rows{nameless}: {AGAIN}")
        median = int(np.median(times))
        if not EARLIEST <= median < LATEST:
            hint = "milliseconds or finer" if median >= LATEST else "not Unix seconds"
            raise DataError(
                f"{self._path}: the median time {median} lies outside 1995..2030, so it is {hint}: "
                "convert to Unix seconds"
            )
        if self._late:
            row, late = self._late
            raise self._bad(row, f"the time {late} lies after 2100, while the median {median} does not")
        table = pa.table({
            "user": pa.chunked_array(self._users, pa.large_string()),
            "item": pa.chunked_array(self._items, pa.large_string()),
        })
        self._users, self._items, self._times = [], [], []
        frame = table.to_pandas()
        frame["time"] = times
        return RawRows(frame=frame, dropped={"no user": self._nameless} if self._nameless else {})

    def _ids(self, what: str, column: pa.Array) -> pa.Array:
        """The column as text; raises DataError for other types than text and whole numbers."""
        kind = column.type
        if pa.types.is_dictionary(kind):
            column = column.dictionary_decode()
            kind = column.type
        if pa.types.is_null(kind):
            return pa.nulls(len(column), pa.large_string())
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
            raise DataError(
                f"{self._path}: {what} ids are of type {kind}: store them as text or whole numbers, "
                "or name another column"
            )
        text = column.cast(pa.large_string())
        nul = np.asarray(pc.fill_null(pc.match_substring(text, "\0"), False))
        if nul.any():
            raise self._bad(self.seen + nul.argmax(), f"the {what} id holds a zero byte")
        return text

    def _bad(self, row: int | np.integer[Any], what: str) -> DataError:
        """The error for the row of this number."""
        return DataError(f"{self._path}: {self._place(int(row))}: {what}: correct or remove it, or {AGAIN}")


def seconds(column: pa.Array, per_second: int = 1) -> tuple[Int64, NDArray[np.bool_]]:
    """[n] Unix seconds of times given as numbers, dates or text; [n] which are none (all behind the first of these).

    Dates without a zone are UTC; fractions of a second of a date are cut off; numbers must be positive and whole.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return seconds(column.dictionary_decode(), per_second)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _seconds_of_text(column, per_second)
    if pa.types.is_temporal(kind) and not (pa.types.is_time(kind) or pa.types.is_duration(kind)):
        stamps = column.cast(pa.timestamp("s", tz=getattr(kind, "tz", None)), safe=False).cast(pa.int64())
        return _positive(stamps, 1)
    if pa.types.is_integer(kind):
        return _positive(column.cast(pa.int64(), safe=False), per_second)
    if pa.types.is_floating(kind):
        value = column.to_numpy(zero_copy_only=False).astype(np.float64)
        whole = (value == np.floor(value)) & (value > 0) & (value < 2**62)
        number = np.where(whole, value, 0).astype(np.int64)
        return number // per_second, ~whole
    return np.zeros(len(column), np.int64), np.ones(len(column), np.bool_)


def _positive(column: pa.Array, per_second: int) -> tuple[Int64, NDArray[np.bool_]]:
    number = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
    return number // per_second, ~((number > 0) & (number < 2**62))


def _seconds_of_text(column: pa.Array, per_second: int) -> tuple[Int64, NDArray[np.bool_]]:
    """A column of text as whole numbers, as dates or as decimal numbers, whichever all of it is; else one by one."""
    for kind in (pa.int64(), pa.timestamp("s", tz="UTC"), pa.timestamp("s"), *_FRACTIONS, pa.float64()):
        try:
            return seconds(column.cast(kind), per_second)
        except pa.ArrowInvalid:
            continue
    if len(column) == 1:
        return np.zeros(1, np.int64), np.ones(1, np.bool_)
    # Of a column that is bad somewhere, the first half is looked at; behind the first bad time all count as bad.
    half = len(column) // 2
    number, bad = _seconds_of_text(column[:half], per_second)
    if bad.any():
        rest = np.zeros(len(column) - half, np.int64), np.ones(len(column) - half, np.bool_)
    else:
        rest = _seconds_of_text(column[half:], per_second)
    return np.concatenate([number, rest[0]]), np.concatenate([bad, rest[1]])


def _shown(value: pa.Scalar) -> str:
    text = repr(value.as_py())
    return text if len(text) <= 60 else f"{text[:60]}..."
