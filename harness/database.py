"""How a database is reached: engine, lock and plain errors, of a SQLite file and of a PostgreSQL server."""

import fcntl
import os
import platform
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError
from sqlalchemy import Connection, CursorResult, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from harness.choices import what_is_wrong
from harness.errors import ELSEWHERE, StoreError, SweepLocked

LOOKS, LOOK_SECONDS = 20, 0.01
"""How often and in what steps a driver tries a file's lock before it takes it to be another driver's."""

BUSY_SECONDS = 60
"""How long a writer waits for another one."""

CONNECT_SECONDS = 10
"""How long a database server may take to answer at all."""

LOCK_KEY = 0x62747372
"""Of the advisory lock on a database server: `btsr` in ASCII."""

NETWORK_FILE_SYSTEMS = (
    *("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "9p", "sshfs"),
    *("pvfs2", "orangefs", "panfs", "wekafs", "juicefs", "s3fs", "gcsfuse", "goofys", "rclone", "davfs", "blobfuse"),
)
"""What the type of a mount begins with, after `fuse.`, where SQLite's locks and shared memory cannot be relied on."""


def is_url(where: str | Path) -> bool:
    """Whether this is the URL of a database server; a `sqlite:///` URL is a file like any other."""
    return isinstance(where, str) and "://" in where and not where.startswith("sqlite:///")


def file_of(where: str | Path) -> Path:
    """The SQLite file that is meant."""
    return Path(str(where).removeprefix("sqlite:///")).absolute()


def shown(where: str | Path) -> str:
    """For messages: without passwords."""
    if not isinstance(where, str) or not is_url(where):
        return str(where)
    try:
        url = make_url(where)
    except (ArgumentError, ValueError):
        return "the database URL"
    hidden = {name: "..." for name in url.query if "password" in name}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def engine_of(where: str | Path, *, create: bool = False, read_only: bool = False) -> Engine:
    """An engine for a URL, or for a SQLite file: WAL, synchronous NORMAL, foreign keys, a minute of patience.

    Reading a file leaves nothing behind: where its folder can be written, SQLite's side files vanish with the last
    connection; where it cannot and no log is there, the file is taken as unchanging. `create` makes the folder.
    Raises StoreError for a missing file, a folder, a network file system, or a URL that cannot be used.
    """
    if isinstance(where, str) and is_url(where):
        return _server_engine(where, read_only=read_only)
    path = file_of(where)
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise StoreError(f"{where} is a folder, not a database: name the file, such as {Path(where) / 'btsr.db'}")
        if not create and not path.is_file():
            raise StoreError(f"there is no results database {where}: run btsr-sweep first, or {ELSEWHERE}")
    except OSError as error:
        raise StoreError(f"{where} cannot be used ({error.strerror}): {ELSEWHERE}") from error
    if not read_only:
        _refuse_network(path)
    options = {"mode": "rwc" if create else "rw"}
    if read_only and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        log = path.with_name(path.name + "-wal")
        options["mode"] = "ro"
        if not (log.exists() and log.stat().st_size):
            options["immutable"] = "1"
    engine = create_engine(file_url(path, **options), connect_args={"timeout": BUSY_SECONDS})

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


def file_url(path: Path, **options: str) -> URL:
    """The URL of a SQLite file with options of SQLite's own; any character may be in its path."""
    return URL.create("sqlite+pysqlite", database=f"file:{quote(str(path))}", query={"uri": "true", **options})


def _server_engine(where: str, *, read_only: bool) -> Engine:
    """An engine for a database server, tried once; `read_only`: for transactions that the server lets read only.

    Raises StoreError for any but PostgreSQL.
    """
    try:
        if make_url(where).get_backend_name() != "postgresql":
            raise StoreError(
                f"database '{shown(where)}' is of a kind that is not supported: use a SQLite file, such as "
                "runs/btsr.db, or PostgreSQL, as postgresql://user@host/name"
            )
        name = f"btsr on host {platform.node()}, process {os.getpid()}"
        options = {"connect_timeout": CONNECT_SECONDS, "application_name": name[:63], "keepalives_idle": 30}
        engine = create_engine(where, connect_args=options)
        if read_only:
            event.listen(engine, "connect", _reads_only)
        with plain_errors(where), engine.connect():
            return engine
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        hint = "install btsr[postgres]" if "psycopg" in str(error) else "check it"
        raise StoreError(f"database URL '{shown(where)}' cannot be used ({one_line(error)}): {hint}") from error


def _reads_only(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    """Every transaction of this connection to a server is for reading unless it says otherwise."""
    cursor = connection.cursor()
    cursor.execute("SET default_transaction_read_only = on")
    cursor.close()
    connection.commit()


def one_statement(connection: Connection, sql: str) -> CursorResult[Any]:
    """Run a statement of the user's own, of which nothing is a parameter; the database refuses a text of several.

    PostgreSQL takes several where it is not asked to prepare them: the first could end a read-only transaction.
    Raises StoreError for a driver of PostgreSQL that cannot be asked.
    """
    if connection.dialect.name == "postgresql":
        if connection.dialect.driver != "psycopg":
            raise StoreError(f"driver {connection.dialect.driver} runs no single statement: use postgresql+psycopg://")
        driver: Any = connection.connection.driver_connection
        driver.prepare_threshold = 0  # prepares what it runs for the first time
        connection.execute(text("SET TRANSACTION READ ONLY"))
    elif connection.dialect.name == "sqlite":
        file: Any = connection.connection.driver_connection
        file.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)  # ATTACH makes the file that it names
    return connection.execution_options(no_parameters=True).exec_driver_sql(sql)


def optuna_url(where: str | Path) -> str:
    """The same database as Optuna and its dashboard are told of it."""
    if isinstance(where, str) and is_url(where):
        return where
    return URL.create("sqlite", database=str(file_of(where))).render_as_string(hide_password=False)


def _refuse_network(path: Path) -> None:
    """Raise StoreError for a place where SQLite would lose data sooner or later."""
    kind = file_system(path)
    if kind.removeprefix("fuse.").startswith(NETWORK_FILE_SYSTEMS):
        raise StoreError(
            f"{path} is on a network file system ({kind}), where SQLite cannot lock: keep the database on a local disk "
            "by --db FILE (data and checkpoints may stay), or use a server by --db postgresql://..."
        )


def file_system(path: Path) -> str:
    """The type of the mount that holds this path, such as ext4; empty where the system does not say (not Linux)."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    mounts = {
        point.encode().decode("unicode_escape").encode("latin-1").decode(errors="replace"): kind
        for _, point, kind, *_ in map(str.split, lines)
    }
    real = path.resolve()
    return next((mounts[str(place)] for place in (real, *real.parents) if str(place) in mounts), "")


def one_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def plain_errors(where: str | Path) -> Iterator[None]:
    """Turn what the database driver says, and what makes a stored configuration none of ours, into a StoreError."""
    try:
        yield
    except ValidationError as error:
        raise StoreError(
            f"database {shown(where)} holds a configuration that this btsr does not know ({what_is_wrong(error)}): use "
            f"the btsr that wrote it, or {ELSEWHERE}"
        ) from error
    except DBAPIError as error:
        reason = one_line(error.orig or error)
        hint = f"check its folder, the free space and that it can be written, or {ELSEWHERE}"
        if "not a database" in reason or "malformed" in reason:
            hint = f"it is damaged or not a SQLite file: restore it, or {ELSEWHERE}"
        elif is_url(where):
            hint = "check host, port, database, user and password in the URL, and that the server runs"
        raise StoreError(f"database {shown(where)} cannot be used ({reason}): {hint}") from error


@contextmanager
def driver_lock(engine: Engine, where: str) -> Iterator[None]:
    """Hold a database for one driver; released by the system, or the server, at the driver's death.

    A SQLite file by an advisory lock on `<file>.lock`, PostgreSQL by one of its own. Raises SweepLocked with the
    holder's host and process id, StoreError where it cannot be locked.
    """
    if engine.dialect.name == "sqlite":
        with _file_lock(Path(f"{file_of(where)}.lock"), where):
            yield
    else:
        with plain_errors(where), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.detach()  # its end ends the session, and with it the lock: no pool keeps it
            if not connection.execute(text(f"SELECT pg_try_advisory_lock({LOCK_KEY})")).scalar_one():
                raise SweepLocked(_taken(where, lock_holder(engine, where) or "unknown"))
            yield


def _taken(where: str, holder: str) -> str:
    return f"another sweep writes {shown(where)} ({holder}): wait for it, stop it, or {ELSEWHERE}"


@contextmanager
def _file_lock(path: Path, where: str) -> Iterator[None]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror}): {ELSEWHERE}") from error
    try:
        try:
            if not _got(handle):
                holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "unknown"
                raise SweepLocked(_taken(where, holder))
        except OSError as error:
            raise StoreError(
                f"{path} cannot be locked ({error.strerror}): keep it on a local disk, or {ELSEWHERE}"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"host {platform.node()}, process {os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def _got(handle: int) -> bool:
    """Whether the lock is ours now; who only looks at it, as `lock_holder` does, has it for microseconds."""
    for _ in range(LOOKS):
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(LOOK_SECONDS)
    return False


def check_free(engine: Engine, where: str) -> None:
    """Raise SweepLocked where another driver sweeps into this database now."""
    if holder := lock_holder(engine, where):
        raise SweepLocked(_taken(where, holder))


def lock_holder(engine: Engine, where: str) -> str | None:
    """Who sweeps into this database now: host and process; None where nobody does."""
    if engine.dialect.name == "postgresql":
        query = (
            "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' "
            f"AND objid = {LOCK_KEY} AND granted AND datname = current_database()"
        )
        with plain_errors(where), engine.connect() as connection:
            found = connection.execute(text(query)).scalar()
            return None if found is None else str(found)
    path = Path(f"{file_of(where)}.lock")
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return os.pread(handle, 200, 0).decode(errors="replace").strip() or "unknown"
    except OSError:  # of a file system without locks, which a driver is told by `driver_lock`
        return None
    finally:
        os.close(handle)


def identity(engine: Engine, where: str) -> tuple[int, int] | None:
    """Which file it is, to notice that it was deleted or replaced; None for a server."""
    if engine.dialect.name != "sqlite":
        return None
    try:
        found = file_of(where).stat()
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


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


def fold_log(engine: Engine) -> None:
    """Move the log of a SQLite file into the file, so that a copy of it alone is whole while others have it open."""
    if engine.dialect.name == "sqlite":
        with suppress(DBAPIError, sqlite3.Error):  # what stays in the log is found there
            connection = engine.raw_connection()
            try:
                connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")
            finally:
                connection.close()
