"""Histories in, recommendations out: CSV, Parquet or JSON lines, by the file's suffix; ids are text."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import ConfigError, DataError

SUFFIXES: tuple[str, ...] = (".csv", ".parquet", ".jsonl")
COLUMNS: tuple[str, str, str] = ("user", "item", "timestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommended:
    """One line of the answer."""

    user: str
    rank: int
    """1-based."""
    item: str
    score: float


def known_format(path: Path) -> str:
    """The suffix. Raises ConfigError for one that is not understood."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"{path}: the format is told by the name, which must end in {', '.join(SUFFIXES)}")
    return suffix


def read_histories(path: Path) -> dict[str, tuple[str, ...]]:
    """User -> items, oldest first, in the order in which users appear.

    Columns `user` and `item`, and `timestamp` where there is one: a number or a date, equal times in the order of the
    file; without it the file's order is time's. Raises DataError for a file that is missing, empty or of another
    layout, and for a row without user, item or time.
    """
    frame = _read(path, known_format(path))
    user, item, time = COLUMNS
    lacking = [name for name in (user, item) if name not in frame.columns]
    if lacking:
        there = ", ".join(map(str, frame.columns)) or "none"
        raise DataError(f"{path} has no column {' and '.join(lacking)} (it has: {there}): name them user, item")
    if frame.empty:
        raise DataError(f"{path} has no rows: give at least one history, a row for each user and item")
    wanted = [name for name in COLUMNS if name in frame.columns]
    empty = frame[wanted].isna() | (frame[wanted].astype(str) == "")
    if empty.to_numpy().any():
        row = int(empty.any(axis=1).to_numpy().argmax())
        name = wanted[int(empty.iloc[row].to_numpy().argmax())]
        raise DataError(f"{path}, row {row + 1} has no {name}: fill it in, or leave the row out")
    if time in frame.columns:
        frame = frame.assign(**{time: _times(frame[time], path)}).sort_values(time, kind="stable")
    first = dict.fromkeys(_text(frame.sort_index()[user]))
    items: dict[str, list[str]] = {name: [] for name in first}
    for name, thing in zip(_text(frame[user]), _text(frame[item]), strict=True):
        items[name].append(thing)
    return {name: tuple(mine) for name, mine in items.items()}


def write_recommendations(path: Path, found: Sequence[Recommended]) -> None:
    """Columns user, rank, item, score; the file appears whole or not at all.

    Raises DataError where it cannot be written.
    """
    suffix, fresh = known_format(path), path.with_name(f"{path.name}.new")
    frame = pd.DataFrame({
        "user": [row.user for row in found],
        "rank": [row.rank for row in found],
        "item": [row.item for row in found],
        "score": [row.score for row in found],
    })
    writers: Mapping[str, Callable[[], object]] = {
        ".csv": lambda: frame.to_csv(fresh, index=False),
        ".parquet": lambda: frame.to_parquet(fresh, index=False),
        ".jsonl": lambda: frame.to_json(fresh, orient="records", lines=True, force_ascii=False, double_precision=15),
    }
    try:
        writers[suffix]()
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}): name another file by --output"
        ) from error


def _read(path: Path, suffix: str) -> pd.DataFrame:
    try:
        if suffix == ".csv":
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
            if not isinstance(frame.index, pd.RangeIndex):
                raise ValueError("its rows have more fields than its header names")
            return frame
        if suffix == ".parquet":
            frame = pd.read_parquet(path)
            lifted = [name for name in frame.index.names if name is not None and name not in frame.columns]
            return frame.reset_index(lifted).reset_index(drop=True)  # the file's order, and all its columns
        with path.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is no object")
        return pd.DataFrame(rows, columns=None if rows else list(COLUMNS[:2]), dtype=object)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}: check the path") from error
    except (OSError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} cannot be read as {suffix[1:]} ({reason}): check its content") from error


def _text(ids: "pd.Series[Any]") -> list[str]:
    """Ids as text; whole numbers without a decimal point."""
    return [str(int(x)) if isinstance(x, float) and x.is_integer() else str(x) for x in ids.tolist()]


def _times(column: "pd.Series[Any]", path: Path) -> "pd.Series[Any]":
    """Numbers or dates that can be compared."""
    numbers = pd.to_numeric(column, errors="coerce")
    if not numbers.isna().any():
        return numbers
    dates = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
    if dates.isna().any():
        row = int(dates.isna().to_numpy().argmax())
        raise DataError(
            f"{path}, row {row + 1}: timestamp '{column.iloc[row]}' is neither a number nor a date such as 2024-05-31"
        )
    return dates
