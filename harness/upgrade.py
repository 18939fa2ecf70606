"""From an older schema to the present one, in place, under the driver's lock, after a copy was kept."""

import sqlite3
from pathlib import Path

from sqlalchemy import Connection, text

from harness import schema
from harness.errors import ELSEWHERE, SchemaError


def upgrade(path: Path, version: int) -> None:
    """Bring a SQLite file from `version` to the present schema; `<file>.v<version>` keeps it as it was.

    All or nothing. Raises SchemaError where there is no room, or no right, to do it.
    """
    copy = path.with_name(f"{path.name}.v{version}")
    draft = copy.with_name(f"{copy.name}.partial")
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            if not copy.exists():
                draft.unlink(missing_ok=True)
                try:
                    connection.execute("VACUUM INTO ?", (str(draft),))
                    draft.replace(copy)
                finally:
                    draft.unlink(missing_ok=True)
            connection.execute("PRAGMA foreign_keys = OFF")
            connection.execute("BEGIN IMMEDIATE")
            if version < 2:
                _from_1_to_2(connection)
            _from_2_to_3(connection)
            assert not connection.execute("PRAGMA foreign_key_check").fetchall()
            connection.execute("COMMIT")
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise SchemaError(
            f"{path} cannot be upgraded from schema version {version} to {schema.SCHEMA_VERSION} ({error}): "
            f"free some space there, or {ELSEWHERE}"
        ) from error


def _from_1_to_2(connection: sqlite3.Connection) -> None:
    """Pruned trials, estimates, energy."""
    names = ", ".join(column.name for column in schema.trial.columns)
    connection.execute("DROP VIEW results")
    (table,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'trial'").fetchone()
    (index,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'ix_trial_group_key'").fetchone()
    assert "('done', 'failed')" in table
    wider = table.replace("('done', 'failed')", "('done', 'failed', 'pruned')")
    connection.execute(wider.replace("CREATE TABLE trial", "CREATE TABLE trial_2", 1))
    connection.execute(f"INSERT INTO trial_2 ({names}) SELECT {names} FROM trial")
    connection.execute("DROP TABLE trial")
    connection.execute("ALTER TABLE trial_2 RENAME TO trial")
    connection.execute(index)
    for column in schema.ADDED_IN_2:
        connection.execute(f"ALTER TABLE provenance ADD COLUMN {column} FLOAT")
    connection.execute(schema.create_sql(schema.estimate))
    connection.execute("UPDATE meta SET value = '2' WHERE name = 'schema_version'")


def _from_2_to_3(connection: sqlite3.Connection) -> None:
    """Samples of states and scores; what users had in their input."""
    connection.execute(schema.create_sql(schema.sample))
    for column in schema.ADDED_IN_3:
        connection.execute(f"ALTER TABLE data ADD COLUMN {column} BLOB")
    connection.execute("UPDATE meta SET value = '3' WHERE name = 'schema_version'")


def upgrade_server(connection: Connection, version: int) -> None:
    """The same for a database server, from version 2 on, within the connection's transaction."""
    assert version == 2, "version 1 knew files only"
    schema.sample.create(connection)
    for column in schema.ADDED_IN_3:
        connection.execute(text(f"ALTER TABLE data ADD COLUMN {column} BYTEA"))
    connection.execute(text("UPDATE meta SET value = '3' WHERE name = 'schema_version'"))
