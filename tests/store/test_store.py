"""The results database: what goes in comes out, once, whole or not at all; and what it refuses."""

import errno
import fcntl
import os
import platform
import sqlite3
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from harness import rows, schema
from harness.config import SEEDS, DataConfig, Study, TrialSpec
from harness.errors import SchemaError, StoreError, SweepLocked
from harness.rows import result_rows
from harness.store import Store, open_store
from harness.validation import ValidationReader
from harness.values import UserRanks
from tests.store import fake

SPLIT = fake.split()


@pytest.fixture
def store(tmp_path: Path):
    with open_store(tmp_path / "btsr.db", create=True) as opened:
        opened.record_data(SPLIT)
        yield opened


def counts(path: Path) -> dict[str, int]:
    with sqlite3.connect(path) as connection:
        return {
            table: connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
            for table in ("trial", "metric", "epoch", "ranks", "provenance")
        }


def test_a_finished_trial_comes_back_as_it_was(store: Store, tmp_path: Path) -> None:
    result = fake.result(fake.spec(), SPLIT)
    key = result.spec.key
    store.record(result)
    with open_store(tmp_path / "btsr.db", read_only=True) as reader:
        (row,) = reader.trials()
        assert (row.spec, row.key, row.group) == (result.spec, key, result.spec.group)
        assert (row.status, row.attempt, row.best_epoch, row.last_epoch) == ("done", 1, 3, 3)
        assert row.fingerprint == SPLIT.fingerprint and row.error is None
        for part in ("valid", "test"):
            stored = {(m.name, m.k, m.bucket): m.value for m in reader.metrics([key], part=part)[key]}
            assert stored == {(m.name, m.k, m.bucket): m.value for m in result.metrics if m.part == part}
            ranks, there = reader.ranks(key, part), getattr(result, part)
            assert isinstance(ranks, UserRanks) and ranks.rank.dtype == ranks.top.dtype == np.int32
            np.testing.assert_array_equal(ranks.rank, there.rank)
            np.testing.assert_array_equal(ranks.top, there.top)
        assert reader.epochs(key) == result.epochs
        assert reader.provenance(key) == result.provenance


def test_data_come_back_so_that_metrics_need_no_data_files(store: Store) -> None:
    row = store.data(SPLIT.fingerprint)
    assert row.config == SPLIT.config
    assert (row.n_items, row.n_train_users, row.n_test_users) == (40, 200, 30)
    np.testing.assert_array_equal(row.bucket, SPLIT.bucket)
    np.testing.assert_array_equal(row.popularity, SPLIT.popularity)
    for part in ("valid", "test"):
        np.testing.assert_array_equal(row.targets(part), SPLIT.targets(part))


def test_a_done_trial_is_never_recorded_again(store: Store, tmp_path: Path) -> None:
    result = fake.result(fake.spec(), SPLIT)
    store.record(result)
    before = counts(tmp_path / "btsr.db")
    for again in (result, fake.failure(result.spec)):
        with pytest.raises(StoreError, match="already done"):
            store.record(again)
    assert counts(tmp_path / "btsr.db") == before


def test_a_failure_is_replaced_and_attempts_are_counted(store: Store) -> None:
    spec = fake.spec()
    store.record(fake.failure(spec))
    store.record(fake.failure(spec))
    assert store.trials() == ()
    (row,) = store.trials(status=None)
    assert (row.status, row.attempt, row.last_epoch, row.error) == ("failed", 2, 2, "ValueError: no luck")
    assert store.statuses() == {spec.key: "failed"}
    store.record(fake.result(spec, SPLIT))
    (row,) = store.trials()
    assert (row.status, row.attempt, row.error, row.traceback) == ("done", 3, None, None)


def test_a_crash_in_the_middle_leaves_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = fake.result(fake.spec(), SPLIT)
    store.record(fake.failure(result.spec))
    whole = result_rows(result)
    monkeypatch.setattr(
        rows, "result_rows", lambda _: whole | {schema.epoch: [{"trial_key": result.spec.key, "epoch": 1}]}
    )
    with pytest.raises(StoreError):
        store.record(result)
    assert counts(tmp_path / "btsr.db") == {"trial": 1, "metric": 0, "epoch": 0, "ranks": 0, "provenance": 0}
    assert store.statuses() == {result.spec.key: "failed"}


def test_a_result_without_its_data_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        store.record(replace(fake.result(fake.spec(), SPLIT), fingerprint="f" * 32))
    assert counts(tmp_path / "btsr.db")["trial"] == 0


def test_one_row_per_data_set_method_group_profile_and_seed(store: Store, tmp_path: Path) -> None:
    store.record(fake.result(fake.spec(), SPLIT))
    names = [column.name for column in schema.trial.columns]
    selected = ", ".join("'other'" if name == "trial_key" else name for name in names)
    with sqlite3.connect(tmp_path / "btsr.db") as connection, pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        connection.execute(f"INSERT INTO trial ({', '.join(names)}) SELECT {selected} FROM trial")


def test_trials_are_filtered_and_ordered(store: Store) -> None:
    specs = [fake.spec(alpha=alpha, seed=seed) for seed in SEEDS[:2] for alpha in (0.3, 0.1)]
    for spec in specs:
        store.record(fake.result(spec, SPLIT))
    store.register_study(Study(name="one", title="One", specs=(specs[0],)))
    assert [(row.spec.aux.alpha, row.spec.seed) for row in store.trials()] == [
        (0.1, 37), (0.1, 1235), (0.3, 37), (0.3, 1235),
    ]  # fmt: skip
    assert [row.key for row in store.trials(study="one")] == [specs[0].key]
    assert store.trials(method="sasrec_ce") == store.trials(dataset="ml1m") == store.trials(profile="paper") == ()
    assert len(store.trials(method="bt_sr", dataset="synthetic", profile="released")) == 4


def test_a_study_remembers_what_it_asks_for(store: Store) -> None:
    first, second, third = (fake.spec(alpha=alpha) for alpha in (0.1, 0.2, 0.3))
    elsewhere = fake.spec(dataset="ml1m")
    store.register_study(Study(name="mine", title="Mine", specs=(first, second, elsewhere)))
    store.record(fake.result(first, SPLIT))
    store.register_study(Study(name="mine", title="Mine", specs=(third,)))
    found = store.study("mine")
    assert found.title == "Mine"
    assert {spec.key for spec in found.specs} == {first.key, third.key, elsewhere.key}, "done and other data stay"
    assert store.studies() == ("mine",)
    with pytest.raises(StoreError, match="no study 'yours' .*it has: mine.*--study yours"):
        store.study("yours")
    for name, says in (
        ("mien", r"\(it has: mine\): did you mean 'mine'\? else run btsr-sweep --study mien first"),
        ("yours_tpe", "run btsr-sweep --study yours --search tpe --trials N first"),
        ("yours_tpe_winners", "run btsr-sweep --winners-of yours_tpe first"),
        ("tpe", "run btsr-sweep --study tpe first"),
    ):
        with pytest.raises(StoreError, match=says):
            store.study(name)


def test_selection_sees_validation_numbers_only(store: Store) -> None:
    result = fake.result(fake.spec(), SPLIT)
    store.record(result)
    reader = store.validation()
    wanted = next(m.value for m in result.metrics if (m.part, m.name, m.k, m.bucket) == ("valid", "ndcg", 10, 0))
    assert reader.value(result.spec.key, "ndcg", 10) == wanted
    public = {name for name in dir(ValidationReader) if not name.startswith("_")}
    assert public == {"value"}
    with pytest.raises(StoreError, match="no validation ndcg@7"):
        reader.value(result.spec.key, "ndcg", 7)


def test_the_view_shows_test_numbers_of_the_chosen_group_only(store: Store, tmp_path: Path) -> None:
    results = [fake.result(fake.spec(alpha=alpha, seed=seed), SPLIT) for alpha in (0.1, 0.2) for seed in SEEDS[:2]]
    results.append(fake.result(fake.spec(alpha=0.3), SPLIT))
    results += [fake.result(fake.spec(alpha=0.0, seed=seed), SPLIT) for seed in SEEDS[:3]]
    for result in results:
        store.record(result)

    def number(index: int, part: str, name: str, k: int) -> float:
        found = [m.value for m in results[index].metrics if (m.part, m.name, m.k, m.bucket) == (part, name, k, 0)]
        return found[0]

    shared = {
        0.1: number(0, "valid", "ndcg", 10),
        0.2: number(2, "valid", "ndcg", 10),
        0.3: number(4, "valid", "ndcg", 10),
    }
    best = max(shared, key=lambda alpha: shared[alpha])  # on the one seed that all three have
    with sqlite3.connect(tmp_path / "btsr.db") as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM results").fetchall()
    assert len(rows) == 8
    by_key = {result.spec.key: index for index, result in enumerate(results)}
    for row in rows:
        index = by_key[row["trial_key"]]
        assert row["valid_ndcg_10"] == number(index, "valid", "ndcg", 10)
        for name, k in schema.RESULT_COLUMNS:
            expected = number(index, "test", name, k) if row["alpha"] == best else None
            assert row[f"test_{name}_{k}"] == expected
    assert {row["place_by_validation"] for row in rows if row["alpha"] > 0} == {1, 2, 3}
    assert {row["place_by_validation"] for row in rows if row["alpha"] == 0} == {None}, "alpha = 0 is not the method"


def test_other_data_under_the_same_configuration_are_refused(store: Store) -> None:
    other = replace(SPLIT, fingerprint="1" * 32, report={**SPLIT.report, "rows": 7}, file="b.zip")
    store.record_data(other)
    with pytest.raises(StoreError, match="nothing of data 0000"):
        store.data(SPLIT.fingerprint)
    split = replace(SPLIT, report={**SPLIT.report, "rows": 6}, file="a.zip")
    store.record_data(split)
    store.record(fake.result(fake.spec(), split))
    store.record_data(split)
    says = "1 results from other data .file b.zip instead of a.zip; rows 7 instead of 6.: .*name another database"
    with pytest.raises(StoreError, match=says):
        store.record_data(other)
    assert store.data(SPLIT.fingerprint).n_items == 40


def test_what_was_read_is_kept_beside_the_counts(store: Store) -> None:
    told = replace(SPLIT, config=fake.DATA.model_copy(update={"tie": "random"}), fingerprint="2" * 32, file="a.zip")
    told = replace(told, edition="2014", report={"rows": 7})
    store.record_data(told)
    row = store.data(told.fingerprint)
    assert (row.file, row.edition, row.report) == ("a.zip", "2014", {"rows": 7})
    store.record_data(replace(told, file="a.csv", edition="2018"))
    assert store.data(told.fingerprint).file == "a.zip", "what the results so far were made from"


def test_reading_leaves_nothing_behind(store: Store, tmp_path: Path) -> None:
    store.record(fake.result(fake.spec(), SPLIT))
    store.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"btsr.db"}
    with open_store(tmp_path / "btsr.db", read_only=True) as reader:
        assert len(reader.trials()) == 1
        with pytest.raises(StoreError, match="readonly"):
            reader.record(fake.failure(fake.spec(alpha=0.2)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_reader_sees_what_a_running_sweep_has_recorded(store: Store, tmp_path: Path) -> None:
    with open_store(tmp_path / "btsr.db", read_only=True) as reader:
        assert reader.statuses() == {}
        store.record(fake.result(fake.spec(), SPLIT))
        assert len(reader.statuses()) == 1


def test_a_copy_of_the_file_alone_is_whole_after_a_sweep(tmp_path: Path) -> None:
    """Also where something else, such as a dashboard, has it open, so that its log stays."""
    path = tmp_path / "btsr.db"
    with open_store(path, create=True) as store, store.driver_lock():
        other = sqlite3.connect(path)
        assert other.execute("SELECT COUNT(*) FROM trial").fetchone() == (0,)
        store.record_data(SPLIT)
        store.record(fake.result(fake.spec(), SPLIT))
    assert path.with_name("btsr.db-wal").exists()
    alone = tmp_path / "alone" / "btsr.db"
    alone.parent.mkdir()
    alone.write_bytes(path.read_bytes())
    other.close()
    assert counts(alone)["trial"] == 1 and counts(alone)["metric"] > 0


def test_a_read_only_folder_can_be_read(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.close()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with open_store(tmp_path / "btsr.db", read_only=True) as reader:
        assert reader.statuses() == {}


def test_a_second_driver_is_told_who_holds_the_database(store: Store, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom harness.store import open_store\n"
        "with open_store(sys.argv[1]) as store, store.driver_lock():\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "btsr.db")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(SweepLocked, match=f"host .*, process {holder.pid}"), store.driver_lock():
            pass
        holder.kill()
        holder.wait()
        with store.driver_lock():
            pass


def test_who_looks_at_the_lock_does_not_keep_a_driver_out(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "btsr.db.lock").open("w") as looked:
        fcntl.flock(looked, fcntl.LOCK_SH)
        monkeypatch.setattr("time.sleep", lambda seconds: fcntl.flock(looked, fcntl.LOCK_UN))
        with store.driver_lock():
            assert (tmp_path / "btsr.db.lock").read_text() == f"host {platform.node()}, process {os.getpid()}\n"


def test_without_locks_on_the_file_system_nobody_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with store.driver_lock():
        monkeypatch.setattr(fcntl, "flock", none)
        assert store.holder() is None
    with pytest.raises(StoreError, match=r"btsr.db.lock cannot be locked \(No locks available\)"), store.driver_lock():
        pass


def message(caught: pytest.ExceptionInfo[StoreError]) -> str:
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_files_that_are_not_ours_are_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "btsr.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE meta (something INTEGER)")
    connection.close()
    before = path.read_bytes()
    for mode in ({"create": True}, {"read_only": True}, {}):
        with pytest.raises(StoreError, match="another program") as caught:
            open_store(path, **mode)
        assert str(path) in message(caught)
    assert path.read_bytes() == before
    path.write_text("user,item\n" * 500)
    with pytest.raises(StoreError, match="not a database"):
        open_store(path, create=True)
    assert path.read_text() == "user,item\n" * 500


def test_a_truncated_file_is_refused(store: Store, tmp_path: Path) -> None:
    store.record(fake.result(fake.spec(), SPLIT))
    store.close()
    path = tmp_path / "btsr.db"
    path.write_bytes(path.read_bytes()[:9000])
    for mode in ({"create": True}, {"read_only": True}):
        with pytest.raises(StoreError, match="malformed|not a database") as caught:
            open_store(path, **mode)
        assert "name another database" in message(caught)


@pytest.mark.parametrize(("version", "advice"), [("99", "update btsr"), ("0", "the btsr that wrote it")])
def test_another_schema_version_is_refused(store: Store, tmp_path: Path, version: str, advice: str) -> None:
    store.close()
    connection = sqlite3.connect(tmp_path / "btsr.db")
    with connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (version,))
    connection.close()
    with pytest.raises(SchemaError, match=f"schema version {version}.*{advice}"):
        open_store(tmp_path / "btsr.db", create=True)


def test_a_stored_configuration_that_is_none_is_named(store: Store, tmp_path: Path) -> None:
    store.register_study(Study(name="later", title="", specs=(fake.spec(),)))
    store.close()
    connection = sqlite3.connect(tmp_path / "btsr.db")
    with connection:
        connection.execute("UPDATE study_trial SET spec = json_set(spec, '$.train.rounds', 3)")
    connection.close()
    with (
        open_store(tmp_path / "btsr.db", read_only=True) as reader,
        pytest.raises(StoreError, match="does not know .TrialSpec.train.rounds=3: Extra inputs.*: use the btsr that"),
    ):
        reader.study("later")


def test_missing_and_unusable_places(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no results database .*btsr-sweep first"):
        open_store(tmp_path / "btsr.db", read_only=True)
    assert not list(tmp_path.iterdir())
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match="holds no results"):
        open_store(tmp_path / "empty.db", read_only=True)
    with pytest.raises(StoreError, match="is a folder"):
        open_store(tmp_path, create=True)
    with pytest.raises(StoreError, match="(File exists|Not a directory).*name another database"):
        open_store(tmp_path / "empty.db" / "btsr.db", create=True)
    with pytest.raises(StoreError, match="of a kind that is not supported: .*postgresql://user@host/name"):
        open_store("nosuch://somewhere/db")
    with pytest.raises(StoreError, match="database URL .* cannot be used"):
        open_store("postgresql+nosuch://somewhere/db")


def test_unwritable_folder_and_file(store: Store, tmp_path: Path) -> None:
    store.close()
    (tmp_path / "btsr.db").chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("the superuser may write anywhere")
        with pytest.raises(StoreError, match="readonly|unable to open"):
            open_store(tmp_path / "btsr.db", create=True)
        with pytest.raises(StoreError, match="unable to open"):
            open_store(tmp_path / "new.db", create=True)
        with open_store(tmp_path / "btsr.db", read_only=True) as reader:
            assert reader.statuses() == {}
    finally:
        tmp_path.chmod(0o700)


def test_every_field_of_a_trial_row_has_a_meaning_for_a_failure(store: Store) -> None:
    store.record(fake.failure(fake.spec()))
    (row,) = store.trials(status="failed")
    assert {f.name for f in fields(row) if getattr(row, f.name) is None} == {"fingerprint", "best_epoch"}


def test_stored_specifications_keep_their_key(store: Store) -> None:
    spec = TrialSpec(method="sasrec_ce", data=DataConfig(dataset="ml1m"), seed=12)
    store.register_study(Study(name="mine", title="Mine", specs=(spec,)))
    assert store.study("mine").specs[0].key == spec.key


def test_what_is_shown_of_a_url_has_no_password(store: Store) -> None:
    assert Store(store._engine, "postgresql://me:secret@host/db").shown == "postgresql://me:***@host/db"
    assert Store(store._engine, "runs/btsr.db").shown == "runs/btsr.db"
