"""Answers to a user's own queries, and all tables as Parquet files."""

from collections.abc import Hashable
from pathlib import Path

import pandas as pd

from harness.errors import ConfigError
from harness.exchange import query, rows, tables
from harness.store import Store
from reports.names import count
from reports.output import made, whole
from reports.sheet import Sheet


def answer(store: Store, sql: str) -> Sheet:
    """What a query of the user's own returns. Raises ConfigError for SQL that is refused."""
    columns, found = query(store, sql)
    return Sheet(
        name="query",
        title=" ".join(sql.split()),
        header=columns,
        rows=tuple(tuple(map(_words, row)) for row in found),
        exact=tuple(tuple(_words(value) if isinstance(value, bytes) else value for value in row) for row in found),
        footnotes=(f"{count(len(found), 'row')}.",),
    )


def _words(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"({len(value):,} bytes)"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def to_parquet(store: Store, folder: Path) -> tuple[Path, ...]:
    """Every table, and the view `results`, as `<name>.parquet` in the folder.

    Raises ConfigError where the folder cannot be written.
    """
    made(folder)
    written = []
    for name in tables(store):
        columns, found = rows(store, name)
        header: list[Hashable] = list(columns)
        path = folder / f"{name}.parquet"
        try:
            with whole(path) as part:
                pd.DataFrame(list(found), columns=header).to_parquet(part, index=False)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written ({error.strerror}): choose another --out") from error
        written.append(path)
    return tuple(written)
