"""What goes in and out of a results database as a whole: merging another one, a user's own queries, all rows."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, delete, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError, ResourceClosedError

from harness import database, schema
from harness.errors import ConfigError, StoreError
from harness.store import Store

OF_A_TRIAL = tuple(
    table for table in schema.metadata.sorted_tables if any(key.references(schema.trial) for key in table.foreign_keys)
)
"""Tables with rows of a trial, beside `trial` itself."""

WISHES = tuple(
    table for table in schema.metadata.sorted_tables if any(key.references(schema.study) for key in table.foreign_keys)
)
"""Tables with rows of a study: what it asks for, and what was known of it before it ran."""

TABLES: tuple[str, ...] = ("results", *(name for name in schema.metadata.tables if name != "meta"))
"""What `rows` knows: the view `results`, and the tables."""


BEST_FIRST: tuple[str, ...] = ("done", "pruned", "failed")
"""How a trial ended: what comes earlier replaces what comes later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What a merge did."""

    added: int
    """Finished trials that were copied."""
    known: int
    """Finished trials that both have; ours stayed."""
    differing: tuple[str, ...]
    """Keys among them whose numbers differ, of the metrics that both have: the same specification gave other results
    there."""
    unfinished: int
    """Failed and pruned trials that were copied."""


def merge(into: Store, other: Store) -> Merged:
    """Copy everything of `other` that `into` lacks, in one transaction; what `into` has finished stays as it is.

    The caller holds the driver's lock of `into`, which has the present schema. A failure of ours is replaced by a
    result of theirs. Raises StoreError, and changes nothing, where results of one data configuration saw other data.
    """
    with other.transaction() as theirs, into.transaction() as ours:
        _merge_data(ours, theirs, into.shown, other.shown)
        _copy_new(ours, theirs, schema.study)
        mine = {row.trial_key: BEST_FIRST.index(row.status) for row in ours.execute(_statuses())}
        copied: list[str] = []
        known: list[str] = []
        for row in theirs.execute(_statuses()).all():
            key, status = row.trial_key, row.status
            if mine.get(key, len(BEST_FIRST)) > BEST_FIRST.index(status):
                for table in (*OF_A_TRIAL, schema.trial):
                    ours.execute(delete(table).where(table.c.trial_key == key))
                for table in (schema.trial, *OF_A_TRIAL):
                    _insert(ours, table, _rows(theirs, table, table.c.trial_key == key))
                copied.append(status)
            elif status == "done":
                known.append(key)
        for table in WISHES:
            _copy_new(ours, theirs, table)
        return Merged(
            added=copied.count("done"),
            known=len(known),
            differing=tuple(key for key in known if _differ(_numbers(ours, key), _numbers(theirs, key))),
            unfinished=len(copied) - copied.count("done"),
        )


def _statuses() -> Select[Any]:
    return select(schema.trial.c.trial_key, schema.trial.c.status).order_by(schema.trial.c.trial_key)


def _rows(connection: Connection, table: Table, *where: ColumnElement[bool]) -> list[dict[str, Any]]:
    """Rows by column; of an older schema only the columns, and the tables, that it has."""
    known = inspect(connection)
    if not known.has_table(table.name):
        return []
    there = {column["name"] for column in known.get_columns(table.name)}
    columns = [column for column in table.c if column.name in there]
    return [dict(row) for row in connection.execute(select(*columns).where(*where)).mappings()]


def _insert(connection: Connection, table: Table, new: list[dict[str, Any]]) -> None:
    if new:
        connection.execute(insert(table), new)


def _copy_new(ours: Connection, theirs: Connection, table: Table, *, but: Collection[str] = ()) -> None:
    """Rows whose primary key we do not have, without those whose first key column is in `but`."""
    names = [column.name for column in table.primary_key]
    known = {tuple(row[name] for name in names) for row in _rows(ours, table)}
    new = [row for row in _rows(theirs, table) if tuple(row[name] for name in names) not in known]
    _insert(ours, table, [row for row in new if row[names[0]] not in but])


def _merge_data(ours: Connection, theirs: Connection, where: str, other: str) -> None:
    """Copy unknown data sets. Raises StoreError where results of one configuration saw two contents.

    Data that nothing was trained on contradict nothing: ours make room, theirs are left behind.
    """
    known = {row["config"]: row["fingerprint"] for row in _rows(ours, schema.data)}
    behind: set[str] = set()
    for row in _rows(theirs, schema.data):
        mine = known.get(row["config"], row["fingerprint"])
        if mine == row["fingerprint"]:
            continue
        if not _used(theirs, row["fingerprint"]):
            behind.add(row["fingerprint"])
        elif not _used(ours, mine):
            ours.execute(delete(schema.data).where(schema.data.c.fingerprint == mine))
        else:
            raise StoreError(
                f"{row['dataset']}: {where} has data {mine[:8]} and {other} has data {row['fingerprint'][:8]} for the "
                "same configuration, their results do not belong together: merge into a new database instead"
            )
    _copy_new(ours, theirs, schema.data, but=behind)


def _used(connection: Connection, fingerprint: str) -> bool:
    """Whether results come from this data."""
    mine = select(schema.trial.c.trial_key).where(schema.trial.c.fingerprint == fingerprint).limit(1)
    return connection.execute(mine).first() is not None


def _numbers(connection: Connection, key: str) -> dict[tuple[Any, ...], float | None]:
    """(part, name, k, bucket) -> value of a trial's metrics."""
    table = schema.metric
    found = select(table.c.part, table.c.name, table.c.k, table.c.bucket, table.c.value)
    return {tuple(place): value for *place, value in connection.execute(found.where(table.c.trial_key == key))}


def _differ(ours: Mapping[tuple[Any, ...], float | None], theirs: Mapping[tuple[Any, ...], float | None]) -> bool:
    """Whether metrics that both have differ; another version of btsr may have recorded more of them."""
    return any(ours[place] != theirs[place] for place in ours.keys() & theirs.keys())


def query(store: Store, sql: str) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Column names and rows of a user's own query; the store should be open for reading only.

    Raises ConfigError for SQL that the database refuses or that returns no rows.
    """
    try:
        with store.transaction() as connection:
            found = database.one_statement(connection, sql)
            return tuple(found.keys()), [tuple(row) for row in found]
    except (StoreError, DBAPIError) as error:
        cause = error.__cause__ if isinstance(error, StoreError) and error.__cause__ else error
        reason = database.one_line(getattr(cause, "orig", None) or cause)
        raise ConfigError(f"--sql: {reason}; reading only, from {', '.join(TABLES)}") from error
    except ResourceClosedError as error:
        raise ConfigError("--sql returned no rows: only queries are answered, such as select * from results") from error


def tables(store: Store) -> tuple[str, ...]:
    """Those of `TABLES` that the database has: one of an older schema has fewer."""
    with store.transaction() as connection:
        known = inspect(connection)
        there = {*known.get_table_names(), *known.get_view_names()}
    return tuple(name for name in TABLES if name in there)


def rows(store: Store, name: str) -> tuple[tuple[str, ...], Iterator[tuple[Any, ...]]]:
    """All rows of a table or of the view `results`; blobs as they are."""
    assert name in TABLES
    with store.transaction() as connection:
        found = connection.execute(text(f"SELECT * FROM {name}"))
        return tuple(found.keys()), iter([tuple(row) for row in found])
