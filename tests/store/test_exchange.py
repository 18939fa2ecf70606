"""Merging databases, queries of a user's own, whole tables."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config import SEEDS, TrialSpec
from harness.errors import ConfigError, SchemaError, StoreError
from harness.exchange import TABLES, Merged, merge, query, rows
from harness.store import Store, open_store
from tests.reports.world import data_config, failure, result, spec, split_of, write


def _specs(n: int) -> list[TrialSpec]:
    return [spec(seed=seed) for seed in SEEDS[:n]]


def _merged(ours: Path, theirs: Path) -> Merged:
    with open_store(ours) as into, open_store(theirs, read_only=True) as other:
        return merge(into, other)


def _everything(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with open_store(path, read_only=True) as store:
        return {name: sorted(rows(store, name)[1], key=repr) for name in TABLES if name != "study"}


def test_two_halves_make_the_whole(tmp_path: Path) -> None:
    split, specs = split_of(data_config(), 40), _specs(4)
    runs = [result(s, split, valid=1, test=1) for s in specs]
    one = write(tmp_path / "one.db", "table2", specs, runs[:3], [split])
    two = write(tmp_path / "two.db", "table2", specs, runs[2:], [split])
    whole = write(tmp_path / "whole.db", "table2", specs, runs, [split])
    assert _merged(one, two) == Merged(added=1, known=1, differing=(), unfinished=0)
    ours, expected = _everything(one), _everything(whole)
    for name in ("metric", "epoch", "ranks", "provenance", "data", "study_trial", "results"):
        assert ours[name] == expected[name], name
    assert _merged(one, two) == Merged(added=0, known=2, differing=(), unfinished=0)


def test_other_studies_and_data_sets_come_along(tmp_path: Path) -> None:
    ml, yelp = split_of(data_config(), 40), split_of(data_config("yelp"), 30)
    one = write(tmp_path / "one.db", "table2", [spec()], [result(spec(), ml, valid=1, test=1)], [ml])
    there = spec(dataset="yelp")
    two = write(tmp_path / "two.db", "smoke", [there], [result(there, yelp, valid=1, test=1)], [yelp])
    assert _merged(one, two).added == 1
    with open_store(one, read_only=True) as store:
        assert store.studies() == ("smoke", "table2")
        assert store.study("smoke").specs == (there,)
        assert store.ranks(there.key, "test").top.shape == (30, 50)


def test_a_result_replaces_a_failure_and_never_the_other_way(tmp_path: Path) -> None:
    split, specs = split_of(data_config(), 20), _specs(3)
    done = [result(s, split, valid=1, test=1) for s in specs]
    one = write(tmp_path / "one.db", "table2", specs, [failure(specs[0]), done[1]], [split])
    two = write(tmp_path / "two.db", "table2", specs, [done[0], failure(specs[1]), failure(specs[2])], [split])
    assert _merged(one, two) == Merged(added=1, known=0, differing=(), unfinished=1)
    with open_store(one, read_only=True) as store:
        assert [store.statuses()[s.key] for s in specs] == ["done", "done", "failed"]


def test_one_specification_with_two_results_is_told(tmp_path: Path) -> None:
    split = split_of(data_config(), 30)
    one = write(tmp_path / "one.db", "table2", [spec()], [result(spec(), split, valid=1, test=1)], [split])
    two = write(tmp_path / "two.db", "table2", [spec()], [result(spec(), split, valid=1, test=2)], [split])
    before = _everything(one)
    assert _merged(one, two).differing == (spec().key,)
    assert _everything(one) == before


@pytest.mark.parametrize("fewer", [0, 1])
def test_a_trial_with_fewer_metrics_has_no_other_numbers(fewer: int, tmp_path: Path) -> None:
    """Recorded by a version that computed fewer; those that both have are compared, ours stay."""
    split = split_of(data_config(), 30)
    files = []
    for i in range(2):
        run = result(spec(), split, valid=1, test=1)
        if i == fewer:
            run = replace(run, metrics=tuple(metric for metric in run.metrics if metric.name != "cov"))
        files.append(write(tmp_path / f"{i}.db", "table2", [spec()], [run], [split]))
    before = _everything(files[0])
    assert _merged(*files) == Merged(added=0, known=1, differing=(), unfinished=0)
    assert _everything(files[0]) == before
    other = result(spec(), split, valid=1, test=2)
    other = replace(other, metrics=tuple(metric for metric in other.metrics if metric.name != "cov"))
    third = write(tmp_path / "third.db", "table2", [spec()], [other], [split])
    assert _merged(files[0], third).differing == (spec().key,)


def test_other_data_of_the_same_configuration_is_refused(tmp_path: Path) -> None:
    config = data_config()
    both = [split_of(config, 30), split_of(config, 30, fingerprint="f" * 32)]
    files = [
        write(tmp_path / f"{i}.db", "table2", [spec(seed=i)], [result(spec(seed=i), split, valid=1, test=1)], [split])
        for i, split in enumerate(both)
    ]
    before = _everything(files[0])
    with pytest.raises(StoreError, match="ml1m: .*0.db has data a000001e and .*1.db has data ffffffff"):
        _merged(*files)
    assert _everything(files[0]) == before


@pytest.mark.parametrize("idle", [0, 1])
def test_other_data_without_results_stand_in_nobodys_way(idle: int, tmp_path: Path) -> None:
    """Prepared, then the file changed before anything ran: whichever side it is, the results decide."""
    splits = [split_of(data_config(), 30, fingerprint=letter * 32) for letter in "ef"]
    files = [
        write(
            tmp_path / f"{i}.db",
            "table2",
            [spec(seed=i)],
            [] if i == idle else [result(spec(seed=i), split, valid=1, test=1)],
            [split],
        )
        for i, split in enumerate(splits)
    ]
    assert _merged(*files).added == idle ^ 1
    with open_store(files[0], read_only=True) as store:
        assert {row.fingerprint for row in store.trials()} == {splits[1 - idle].fingerprint}
        with pytest.raises(StoreError, match="nothing of data"):
            store.data(splits[idle].fingerprint)
    assert _merged(*files).added == 0


def test_a_merge_that_breaks_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, specs = split_of(data_config(), 20), _specs(3)
    runs = [result(s, split, valid=1, test=1) for s in specs]
    one = write(tmp_path / "one.db", "table2", specs, runs[:1], [split])
    two = write(tmp_path / "two.db", "smoke", specs, runs[1:], [split])
    before = _everything(one)

    def broken(*_: object) -> None:
        raise StoreError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("harness.exchange._numbers", broken)  # the last step, when all rows are copied
        extra = write(tmp_path / "three.db", "smoke", specs, runs, [split])
        with pytest.raises(StoreError, match="no room"):
            _merged(one, extra)
    assert _everything(one) == before
    assert _merged(one, two).added == 2


def test_a_newer_or_foreign_database_is_not_merged(tmp_path: Path) -> None:
    one = write(tmp_path / "one.db", "table2", [spec()])
    newer, foreign = write(tmp_path / "newer.db", "table2", [spec()]), tmp_path / "foreign.db"
    for path, statement in (
        (newer, "UPDATE meta SET value = '99' WHERE name = 'schema_version'"),
        (foreign, "CREATE TABLE other (x)"),
    ):
        connection = sqlite3.connect(path)
        with connection:
            connection.execute(statement)
        connection.close()
    before = _everything(one)
    with pytest.raises(SchemaError, match=r"newer.db has schema version 99, .*update btsr"):
        _merged(one, newer)
    with pytest.raises(StoreError, match=r"foreign.db is a database of another program"):
        _merged(one, foreign)
    assert _everything(one) == before


@pytest.fixture
def store(tmp_path: Path) -> Store:
    split = split_of(data_config(), 30)
    runs = [result(s, split, valid=1, test=1) for s in _specs(2)]
    return open_store(write(tmp_path / "btsr.db", "table2", _specs(2), runs, [split]), read_only=True)


def test_a_query(store: Store) -> None:
    columns, found = query(store, "select dataset, seed, test_ndcg_10 from results order by seed")
    assert columns == ("dataset", "seed", "test_ndcg_10")
    assert [row[:2] for row in found] == [("ml1m", 37), ("ml1m", 1235)] and all(0 < row[2] < 1 for row in found)
    assert query(store, "select count(*) as n from metric where name like '%cov'")[1][0][0] > 0
    store.close()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select unknown_thing from results", "no such column: unknown_thing; reading only, from results, "),
        ("selekt 1", "syntax error"),
        ("delete from trial", "readonly"),
        ("select 1; select 2", "one statement at a time"),
        ("", "returned no rows|not executed"),
    ],
)
def test_bad_queries(store: Store, sql: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as raised:
        query(store, sql)
    assert "\n" not in str(raised.value)
    assert len(store.trials()) == 2
    store.close()
