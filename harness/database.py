"""How a database is reached: engine, lock and plain errors; the only place that knows one kind from another."""

import fcntl
import os
import platform
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from harness.errors import StoreError, SweepLocked

BUSY_SECONDS = 60
"""How long a writer waits for another one."""


def engine_of(where: str | Path, *, create: bool = False, read_only: bool = False) -> Engine:
    """An engine for a URL, or for a SQLite file: WAL, synchronous NORMAL, foreign keys, a minute of patience.

    Reading a file leaves nothing behind: where its folder can be written, SQLite's side files vanish with the last
    connection; where it cannot and no log is there, the file is taken as unchanging. `create` makes the folder.
    Raises StoreError for a missing file, a folder, or a URL that cannot be used.
    """
    if isinstance(where, str) and "://" in where:
        try:
            return create_engine(where)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise StoreError(f"database URL '{where}' cannot be used ({one_line(error)}): check it") from error
    path = Path(where).absolute()
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise StoreError(f"{where} is a folder, not a database: name the file, such as {Path(where) / 'btsr.db'}")
        if not create and not path.is_file():
            raise StoreError(f"there is no results database {where}: run btsr-sweep first, or name another one")
    except OSError as error:
        raise StoreError(f"{where} cannot be used ({error.strerror}): choose another --out") from error
    options = {"uri": "true", "mode": "rwc" if create else "rw"}
    if read_only and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        log = path.with_name(path.name + "-wal")
        options["mode"] = "ro"
        if not (log.exists() and log.stat().st_size):
            options["immutable"] = "1"
    query = "&".join(f"{name}={value}" for name, value in options.items())
    engine = create_engine(
        f"sqlite+pysqlite:///file:{quote(str(path))}?{query}", connect_args={"timeout": BUSY_SECONDS}
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # transactions begin where SQLAlchemy says so, DDL included
        cursor = connection.cursor()
        for pragma in ("foreign_keys = ON", "synchronous = NORMAL", f"query_only = {'ON' if read_only else 'OFF'}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def one_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def plain_errors(where: str) -> Iterator[None]:
    """Turn what the database driver says into a StoreError of one line."""
    try:
        yield
    except DBAPIError as error:
        reason = one_line(error.orig or error)
        hint = "check its folder, the free space and that it can be written, or choose another --out"
        if "not a database" in reason or "malformed" in reason:
            hint = "it is damaged or not a SQLite file: restore it, or choose another --out"
        raise StoreError(f"database {where} cannot be used ({reason}): {hint}") from error


@contextmanager
def driver_lock(engine: Engine, where: str) -> Iterator[None]:
    """Hold a SQLite file for one driver: an advisory lock on `<file>.lock`, released by the system at death.

    Raises SweepLocked with the holder's host and process id, StoreError where it cannot be locked.
    """
    if engine.dialect.name != "sqlite":
        raise StoreError(f"{where}: only SQLite files can be swept into so far: choose another --out")
    path = Path(f"{where}.lock")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror}): choose another --out") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "unknown"
            raise SweepLocked(
                f"another sweep writes {where} ({holder}): wait for it, stop it, or choose another --out"
            ) from None
        except OSError as error:
            raise StoreError(f"{path} cannot be locked ({error.strerror}): choose a local --out") from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"host {platform.node()}, process {os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def is_claimed(connection: Connection, application_id: int) -> bool:
    """Whether a SQLite file bears this application id; other databases have none, there the answer is yes."""
    if connection.dialect.name != "sqlite":
        return True
    return bool(connection.exec_driver_sql("PRAGMA application_id").scalar_one() == application_id)


def claim(connection: Connection, application_id: int) -> None:
    """Stamp a SQLite file as ours, within the connection's transaction."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id = {application_id}")


def use_wal(engine: Engine) -> None:
    """Switch a SQLite file to write-ahead logging, which readers of a running sweep need; persists in the file."""
    if engine.dialect.name == "sqlite":
        connection = engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA journal_mode = WAL")
        except sqlite3.Error as error:
            raise StoreError(f"database {engine.url.database} cannot keep a write-ahead log ({error})") from error
        finally:
            connection.close()
