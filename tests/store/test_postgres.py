"""The same sweep on PostgreSQL, of a server that the test starts and stops: the same tables, one driver at a time."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, text

from harness import schema
from harness.config import Study
from harness.errors import ConfigError, StoreError
from harness.exchange import query, rows
from harness.paths import RunPaths
from harness.store import open_store
from tests.store import fake
from tests.sweep import driver, work

TIMES = {"recorded_at", "started", "seconds", "seconds_train", "seconds_valid", "peak_mib", "command"}
"""Columns that differ between two runs of the same sweep."""


def programs() -> Path:
    """Where the server's programs are; Debian keeps them off the path."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    usable = [folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()]
    if not usable:
        pytest.skip("no PostgreSQL server here: install Debian's package postgresql")
    return usable[-1]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of an empty server on a loopback port, its files in a temporary folder."""
    where = programs()
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="btsr-pg-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        if user:
            shutil.chown(folder, user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        made_ready = subprocess.run(
            [where / "initdb", "-D", folder / "data", "-U", "btsr", "--auth=trust", "--no-sync", "-E", "UTF8"],
            user=user,
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert made_ready.returncode == 0, made_ready.stderr
        rules = folder / "data" / "pg_hba.conf"
        rules.write_text("host all locked 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-c", "fsync=off"]
        process = subprocess.Popen(
            [where / "postgres", "-D", folder / "data", *options],
            user=user,
            cwd=folder,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 500
            while subprocess.run([where / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]).returncode:
                assert process.poll() is None and time.monotonic() < deadline, "the server does not start"
                time.sleep(0.1)
            yield f"postgresql+psycopg://btsr@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def start(out: Path, executor: str, *where: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen([sys.executable, driver.__file__, str(out), executor, "smoke", *where], env=environment)


def content(url: str) -> dict[str, list[tuple[object, ...]]]:
    """All tables but what differs between any two runs."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            found = {
                table.name: sorted(
                    (
                        tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)
                        for row in connection.execute(select(*(c for c in table.columns if c.name not in TIMES)))
                    ),
                    key=repr,
                )
                for table in schema.metadata.sorted_tables
            }
            whole = connection.execute(text("SELECT COUNT(*) FROM results")).scalar_one()
            return found | {"results": [(whole,)]}
    finally:
        engine.dispose()


def test_the_same_sweep_gives_the_same_tables_through_a_kill_and_a_rival(server: str, tmp_path: Path) -> None:
    for name in ("file", "server"):
        (tmp_path / name).mkdir()
    assert start(tmp_path / "file", "inline").wait(500) == 0
    out = tmp_path / "server"
    killed = start(out, "local", server)
    deadline = time.monotonic() + 500
    while len(work.log_lines(out)) < 5:
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGSTOP)  # it holds the database for as long as the rival needs
    try:
        assert start(out, "inline", server).wait(500) == driver.LOCKED
    finally:
        killed.kill()
        killed.wait()
    deadline = time.monotonic() + 500
    while (code := start(out, "local", server).wait(500)) == driver.LOCKED:
        assert time.monotonic() < deadline, "the server does not release the lock of a dead driver"
    assert code == 0
    file = content(f"sqlite:///{RunPaths(work_dir=tmp_path / 'file').results}")
    assert len(file["trial"]) == 10 and len(file["metric"]) == 2000 and file["results"] != [(0,)]
    assert content(server) == file
    seen = len(work.log_lines(out))
    assert start(out, "inline", server).wait(500) == 0
    assert len(work.log_lines(out)) == seen, "nothing is left to do"
    engine = create_engine(server)
    with engine.connect() as connection:
        states = dict(map(tuple, connection.execute(text("SELECT state::text, COUNT(*) FROM trials GROUP BY 1"))))
    engine.dispose()
    assert states.pop("COMPLETE") == 10 and set(states) <= {"FAIL"}


def test_the_lock_ends_with_the_sweep_not_with_the_process(server: str) -> None:
    open_store(server, create=True).close()
    with open_store(server) as store:
        with store.driver_lock():
            assert f"process {os.getpid()}" in (store.holder() or "")
        deadline = time.monotonic() + 30
        while store.holder() and time.monotonic() < deadline:
            time.sleep(0.05)  # the server ends a session a moment after it was told
        with open_store(server) as other, other.driver_lock():
            assert store.holder()


def test_a_password_is_asked_for_and_never_told(server: str) -> None:
    open_store(server, create=True).close()  # the tables that the role may not read yet
    engine = create_engine(server)
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE locked LOGIN PASSWORD 'the right one'"))
    engine.dispose()
    place = server.partition("@")[2].partition("/")[0] + "/postgres"
    mine = f"postgresql://locked:the%20right%20one@{place}"
    with pytest.raises(StoreError, match="permission denied"):
        open_store(mine, read_only=True)
    engine = create_engine(server)
    with engine.begin() as connection:
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO locked"))
    engine.dispose()
    open_store(mine, read_only=True).close()
    for database_url, says in (
        (f"postgresql://locked:wrong-one@{place}", "password authentication failed"),
        (f"postgresql://locked@{place}", "no password supplied"),
        (f"postgresql://btsr:any@{place}-that-is-not-there", "does not exist"),
    ):
        with pytest.raises(StoreError, match=says) as error:
            open_store(database_url, create=True)
        words = str(error.value)
        assert "\n" not in words and "check host, port, database, user and password" in words
        assert "wrong-one" not in words


def test_a_query_of_the_users_own_reads_and_changes_nothing(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simple protocol takes several statements at once, of which the first may end the read-only transaction."""
    open_store(server, create=True).close()
    with open_store(server) as store:
        store.register_study(Study(name="mine", title="mine", specs=(fake.spec(),)))
    with open_store(server, read_only=True) as store:
        wished = "select count(*) from study_trial"
        before = query(store, wished)[1]
        assert before[0][0] > 0
        names = "select name from study where name like '%ine' or name like '10%% (:x)' order by 1 -- %s"
        assert query(store, names) == (("name",), [("mine",)])
        for sql, expected in (
            ("commit; delete from study_trial; select 1", "cannot insert multiple commands into a prepared statement"),
            ("set transaction read write; delete from study_trial; select 1", "cannot insert multiple commands"),
            ("rollback", "returned no rows"),
            ("set transaction read write", "returned no rows|must be set before any query"),
            ("set session characteristics as transaction read write", "returned no rows"),
            ("select set_config('transaction_read_only', 'off', true)", "must be set before any query"),
            ("delete from study_trial returning 1", "cannot execute DELETE in a read-only transaction"),
            ("with d as (delete from study_trial returning 1) select * from d", "in a read-only transaction"),
            ("selekt 1", "syntax error"),
        ):
            with pytest.raises(ConfigError, match=expected) as raised:
                query(store, sql)
            assert "\n" not in str(raised.value)
            assert query(store, wished)[1] == before, sql
        monkeypatch.setattr(store._engine.dialect, "driver", "psycopg2")  # which cannot be asked for one statement
        with pytest.raises(ConfigError, match=r"driver psycopg2 .*: use postgresql\+psycopg://"):
            query(store, wished)
        assert ("mine",) in [row[:1] for row in rows(store, "study")[1]], "whole tables need no such driver"
    with open_store(server, read_only=True) as store, pytest.raises(StoreError, match="read-only transaction"):
        store.register_study(Study(name="other", title="other", specs=(fake.spec(),)))
