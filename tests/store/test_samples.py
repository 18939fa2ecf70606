"""Samples in the database: round trip, merge, and databases of earlier versions."""

import sqlite3
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine, inspect

from harness import schema
from harness.errors import ConfigError, SchemaError
from harness.exchange import merge
from harness.exposure import input_buckets
from harness.store import Store, open_store
from harness.upgrade import upgrade_server
from harness.values import Sample
from reports.measure import measure
from tests.store import fake

SPLIT = fake.split()
GOLDEN = Path(__file__).parent / "golden" / "v1.sql"


def sample(users: int = 7, width: int = 5, negatives: int = 11) -> Sample:
    rng = np.random.default_rng(3)
    return Sample(
        users=np.arange(users, dtype=np.int32),
        states=rng.standard_normal((users, width)).astype(np.float16),
        positive=rng.standard_normal(users).astype(np.float32),
        negative=rng.standard_normal((users, negatives)).astype(np.float16),
        spectrum=rng.random(width).astype(np.float32),
        spectrum_centred=rng.random(width).astype(np.float32),
    )


def same(first: Sample | None, second: Sample) -> bool:
    return first is not None and all(
        np.array_equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(Sample)
    )


def written(path: Path) -> Store:
    store = open_store(path, create=True)
    store.record_data(SPLIT)
    store.record(replace(fake.result(fake.spec(), SPLIT), sample=sample()))
    store.record(fake.result(fake.spec(alpha=0.2), SPLIT))
    return store


def test_round_trip_and_merge(tmp_path: Path) -> None:
    with written(tmp_path / "one.db") as one, open_store(tmp_path / "two.db", create=True) as two:
        assert same(one.sample(fake.spec().key), sample())
        assert one.sample(fake.spec(alpha=0.2).key) is None
        assert one.data(SPLIT.fingerprint).input_buckets.tolist() == input_buckets(SPLIT).tolist()  # type: ignore[union-attr]
        merge(two, one)
        assert same(two.sample(fake.spec().key), sample())
        assert np.array_equal(two.data(SPLIT.fingerprint).input_buckets, input_buckets(SPLIT))


def test_version_1_is_read_and_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "btsr.db"
    connection = sqlite3.connect(path)
    connection.executescript(GOLDEN.read_text())
    connection.close()
    with open_store(path, read_only=True) as store:
        (key, *_) = [row.key for row in store.trials()]
        data, ranks = store.data(SPLIT.fingerprint), store.ranks(key, "test")
        assert store.sample(key) is None and data.input_buckets is None and data.file == data.edition == ""
        found = measure((1,), (ranks,), data, "test", "novelty", 10)
        assert found is not None and found.by_seed[0] > 0, "old trials get new metrics from their lists"
        with pytest.raises(ConfigError, match="popcal@10 needs what users had in their test input"):
            measure((1,), (ranks,), data, "test", "popcal", 10)
    with open_store(path) as store, store.driver_lock():
        store.record_data(replace(SPLIT, file="a.zip", edition="2014"))
        assert store.sample(key) is None
        data = store.data(SPLIT.fingerprint)
        assert (data.file, data.edition) == ("a.zip", "2014")
        assert np.array_equal(data.input_buckets, input_buckets(SPLIT))
        assert measure((1,), (ranks,), data, "test", "popcal", 10) is not None
        store.record(replace(fake.result(fake.spec(alpha=0.45), SPLIT), sample=sample()))
    with open_store(path, read_only=True) as store:
        assert same(store.sample(fake.spec(alpha=0.45).key), sample())
    assert (tmp_path / "btsr.db.v1").exists()


def test_a_copy_that_is_not_whole_passes_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, copy = tmp_path / "btsr.db", tmp_path / "btsr.db.v1"
    connection = sqlite3.connect(path)
    connection.executescript(GOLDEN.read_text())
    connection.close()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with open_store(path) as store, pytest.raises(SchemaError, match="No space left"), store.driver_lock():
            pass
    assert not copy.exists()
    (tmp_path / "btsr.db.v1.partial").write_bytes(b"SQLite format 3")  # as a process leaves it that is killed
    with open_store(path) as store, store.driver_lock():
        assert store.sample(fake.spec().key) is None
    connection = sqlite3.connect(copy)
    assert connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchall() == [("1",)]
    connection.close()
    assert not (tmp_path / "btsr.db.v1.partial").exists()


def test_a_server_of_version_2_is_upgraded(tmp_path: Path) -> None:
    """The statements are those that PostgreSQL takes; SQLite takes them too."""
    engine = create_engine(f"sqlite:///{tmp_path / 'server.db'}")
    with engine.begin() as connection:
        schema.create_schema(connection)
        connection.exec_driver_sql("DROP TABLE sample")
        connection.exec_driver_sql("ALTER TABLE data DROP COLUMN input_buckets")
        connection.exec_driver_sql("UPDATE meta SET value = '2' WHERE name = 'schema_version'")
    with engine.begin() as connection:
        upgrade_server(connection, 2)
        known = inspect(connection)
        assert known.has_table("sample")
        assert {column["name"] for column in known.get_columns("data")} == {c.name for c in schema.data.columns}
        assert schema.schema_version(connection, "here") == 3
    engine.dispose()
