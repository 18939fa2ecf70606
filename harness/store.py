"""The results database: what has ended, recorded once; the only module that asks it anything.

One driver writes (see `Store.driver_lock`), every trial in one transaction. Anyone may read meanwhile.
"""

import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, delete, func, select

from harness import database, schema
from harness.config import DataConfig, Study, TrialSpec
from harness.errors import StoreError
from harness.values import EpochLog, Int32, Metric, Provenance, Split, TrialFailure, TrialResult, UserRanks

Part = Literal["valid", "test"]
Status = Literal["done", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """A trial that has ended, one way or the other."""

    key: str
    group: str
    spec: TrialSpec
    status: Status
    attempt: int
    """1 for the first; counts failures too."""
    fingerprint: str | None
    """Of its data; None for a failure."""
    best_epoch: int | None
    last_epoch: int
    error: str | None
    traceback: str | None
    recorded_at: str
    """ISO 8601, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """What a study asks for, run or not."""

    name: str
    title: str
    specs: tuple[TrialSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRow:
    """What metrics need to know of a data set: with it and the ranks they can be computed anew."""

    fingerprint: str
    config: DataConfig
    n_items: int
    n_train_users: int
    n_test_users: int
    boundary: int
    """Unix seconds."""
    report: Mapping[str, float]
    bucket: NDArray[np.int8]
    """[N] popularity bucket of each item."""
    popularity: Int32
    """[N] distinct training users of each item."""
    targets_valid: Int32
    """[V] validation targets."""
    targets_test: Int32
    """[V] test targets."""

    def targets(self, part: Part) -> Int32:
        """[V] the target of each evaluated user."""
        return self.targets_test if part == "test" else self.targets_valid


def _unpacked(blob: bytes) -> Int32:
    return np.frombuffer(zlib.decompress(blob), "<i4").astype(np.int32, copy=False)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def open_store(where: str | Path, *, create: bool = False, read_only: bool = False) -> "Store":
    """Open the results database: a path of a SQLite file, or the URL of another database.

    `create` makes a new one where there is none, with its folder. Raises StoreError for a file that is missing,
    damaged, unwritable or another program's, and SchemaError for one that another version of btsr wrote.
    """
    assert not (create and read_only)
    store = Store(database.engine_of(where, create=create, read_only=read_only), str(where))
    try:
        store._check(create=create)
    except BaseException:
        store.close()
        raise
    return store


class Store:
    """An open results database; made by `open_store`, closed by `close` or the end of a ``with`` block."""

    def __init__(self, engine: Engine, where: str) -> None:
        self.where = where
        self._engine = engine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with database.plain_errors(self.where), self._engine.begin() as connection:
            yield connection

    def _one(self, query: Select[Any], what: str) -> Row[Any]:
        with self._transaction() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise StoreError(f"{self.where} has nothing of {what}")
        return row

    def _check(self, *, create: bool) -> None:
        with self._transaction() as connection:
            if not schema.is_empty(connection):
                schema.check_schema(connection, self.where)
            elif create:
                schema.create_schema(connection)
            else:
                raise StoreError(f"{self.where} holds no results: run btsr-sweep first, or name another database")
        if create:
            database.use_wal(self._engine)

    def driver_lock(self) -> AbstractContextManager[None]:
        """Hold the database for one driver while the ``with`` block runs; the system releases it at death.

        Raises SweepLocked with the holder's host and process id.
        """
        return database.driver_lock(self._engine, self.where)

    # -- writing: the driver only ---------------------------------------------------------------------------------

    def register_study(self, study: Study) -> None:
        """Write down what a study asks for.

        For the data sets and profiles that it lists now, former wishes that were never fulfilled are forgotten;
        finished trials and other data sets stay listed.
        """
        listed, trial = schema.study_trial, schema.trial
        rows = [
            {
                "study": study.name,
                "trial_key": spec.key,
                "dataset": spec.data.dataset,
                "method": spec.method,
                "profile": spec.profile,
                "position": position,
                "spec": spec.canonical_json(),
            }
            for position, spec in enumerate(study.specs)
        ]
        with self._transaction() as connection:
            known = connection.execute(select(schema.study.c.name).where(schema.study.c.name == study.name)).first()
            if known is None:
                row = {"name": study.name, "title": study.title, "recorded_at": _now()}
                connection.execute(schema.study.insert(), row)
            done = select(trial.c.trial_key).where(trial.c.status == "done")
            for dataset, profile in {(spec.data.dataset, spec.profile) for spec in study.specs}:
                here = (listed.c.study == study.name) & (listed.c.dataset == dataset) & (listed.c.profile == profile)
                connection.execute(delete(listed).where(here, listed.c.trial_key.not_in(done)))
            there = set(connection.scalars(select(listed.c.trial_key).where(listed.c.study == study.name)))
            new = [row for row in rows if row["trial_key"] not in there]
            if new:
                connection.execute(listed.insert(), new)

    def record_data(self, split: Split) -> None:
        """Write down the data that trials are about to use; a second time does nothing.

        Raises StoreError where results of the same configuration exist that saw other data.
        """
        table, row = schema.data, schema.data_row(split)
        with self._transaction() as connection:
            for old in connection.execute(select(table).where(table.c.config == row["config"])):
                if old.fingerprint == split.fingerprint:
                    return
                mine = schema.trial.c.fingerprint == old.fingerprint
                results = connection.execute(select(func.count()).select_from(schema.trial).where(mine)).scalar_one()
                if results:
                    names = sorted(set(old.report) | set(split.report))
                    changed = [
                        f"{name} {split.report.get(name)} instead of {old.report.get(name)}"
                        for name in names
                        if split.report.get(name) != old.report.get(name)
                    ]
                    raise StoreError(
                        f"{split.config.dataset}: {self.where} has {results} results from other data "
                        f"({'; '.join(changed[:3]) or 'same counts, other content'}): "
                        "restore the former file, or choose another --out"
                    )
                connection.execute(delete(table).where(table.c.fingerprint == old.fingerprint))
            connection.execute(table.insert(), row)

    def record(self, outcome: TrialResult | TrialFailure) -> None:
        """Write everything about a trial that ended, or nothing.

        A failure is replaced by what comes later. Raises StoreError for a trial that is already done.
        """
        spec, trial = outcome.spec, schema.trial
        with self._transaction() as connection:
            mine = trial.c.trial_key == spec.key
            old = connection.execute(select(trial.c.status, trial.c.attempt).where(mine)).one_or_none()
            if old is not None and old.status == "done":
                raise StoreError(f"trial {spec.key} is already done in {self.where}: it is never recorded twice")
            connection.execute(delete(trial).where(mine))
            attempt = 1 if old is None else old.attempt + 1
            connection.execute(trial.insert(), schema.trial_row(outcome, attempt=attempt, recorded_at=_now()))
            if isinstance(outcome, TrialResult):
                for table, rows in schema.result_rows(outcome).items():
                    connection.execute(table.insert(), rows)

    # -- reading --------------------------------------------------------------------------------------------------

    def statuses(self) -> dict[str, Status]:
        """Key -> how it ended, of every trial that has."""
        with self._transaction() as connection:
            rows = connection.execute(select(schema.trial.c.trial_key, schema.trial.c.status))
            return {key: status for key, status in rows}

    def trials(
        self,
        *,
        study: str | None = None,
        dataset: str | None = None,
        method: str | None = None,
        profile: str | None = None,
        status: Status | None = "done",
    ) -> tuple[TrialRow, ...]:
        """Trials that have ended, by data set, method, alpha, lambda and seed; `status=None` for failures too."""
        trial, listed = schema.trial, schema.study_trial
        wanted: list[ColumnElement[bool]] = [
            column == value
            for column, value in (
                (trial.c.dataset, dataset),
                (trial.c.method, method),
                (trial.c.profile, profile),
                (trial.c.status, status),
            )
            if value is not None
        ]
        if study is not None:
            wanted.append(trial.c.trial_key.in_(select(listed.c.trial_key).where(listed.c.study == study)))
        order = (trial.c.dataset, trial.c.method, trial.c.alpha, trial.c.lam, trial.c.seed, trial.c.trial_key)
        with self._transaction() as connection:
            return tuple(
                TrialRow(
                    key=row.trial_key,
                    group=row.group_key,
                    spec=TrialSpec.model_validate_json(row.spec),
                    status=row.status,
                    attempt=row.attempt,
                    fingerprint=row.fingerprint,
                    best_epoch=row.best_epoch,
                    last_epoch=row.last_epoch,
                    error=row.error,
                    traceback=row.traceback,
                    recorded_at=row.recorded_at,
                )
                for row in connection.execute(select(trial).where(*wanted).order_by(*order))
            )

    def studies(self) -> tuple[str, ...]:
        """Names of all studies that were ever started here."""
        with self._transaction() as connection:
            return tuple(connection.scalars(select(schema.study.c.name).order_by(schema.study.c.name)))

    def study(self, name: str) -> StudyRow:
        """What the study asks for. Raises StoreError where it was never started."""
        listed = schema.study_trial
        with self._transaction() as connection:
            found = connection.execute(select(schema.study).where(schema.study.c.name == name)).one_or_none()
            if found is None:
                there = ", ".join(connection.scalars(select(schema.study.c.name))) or "none"
                raise StoreError(
                    f"{self.where} has no study '{name}' (it has: {there}): run btsr-sweep --study {name} first"
                )
            specs = connection.scalars(
                select(listed.c.spec).where(listed.c.study == name).order_by(listed.c.position, listed.c.trial_key)
            )
            return StudyRow(
                name=name, title=found.title, specs=tuple(TrialSpec.model_validate_json(text) for text in specs)
            )

    def metrics(
        self, keys: Collection[str], *, part: Part, names: Sequence[str] | None = None
    ) -> dict[str, tuple[Metric, ...]]:
        """The numbers of one part of these trials, all of them or those with these names; unknown keys are left out."""
        table = schema.metric
        wanted = [table.c.trial_key.in_(keys), table.c.part == part]
        if names is not None:
            wanted.append(table.c.name.in_(names))
        found: dict[str, list[Metric]] = defaultdict(list)
        with self._transaction() as connection:
            order = (table.c.trial_key, table.c.name, table.c.k, table.c.bucket)
            for row in connection.execute(select(table).where(*wanted).order_by(*order)):
                found[row.trial_key].append(
                    Metric(part=part, name=row.name, k=row.k, bucket=row.bucket, value=row.value)
                )
        return {key: tuple(metrics) for key, metrics in found.items()}

    def ranks(self, key: str, part: Part) -> UserRanks:
        """Every evaluated user's target rank and best items. Raises StoreError where the trial is not done."""
        table = schema.ranks
        row = self._one(select(table).where(table.c.trial_key == key, table.c.part == part), f"trial {key}")
        return UserRanks(rank=_unpacked(row.rank), top=_unpacked(row.top).reshape(row.users, row.k))

    def epochs(self, key: str) -> tuple[EpochLog, ...]:
        """The trial's training log; empty where it is not done."""
        table = schema.epoch
        with self._transaction() as connection:
            rows = connection.execute(select(table).where(table.c.trial_key == key).order_by(table.c.epoch))
            return tuple(EpochLog(**_fields(row)) for row in rows)

    def provenance(self, key: str) -> Provenance:
        """Where the trial's numbers come from. Raises StoreError where it is not done."""
        table = schema.provenance
        return Provenance(**_fields(self._one(select(table).where(table.c.trial_key == key), f"trial {key}")))

    def data(self, fingerprint: str) -> DataRow:
        """The data of that fingerprint. Raises StoreError where it was never used here."""
        table = schema.data
        row = self._one(select(table).where(table.c.fingerprint == fingerprint), f"data {fingerprint}")
        return DataRow(
            fingerprint=row.fingerprint,
            config=DataConfig.model_validate_json(row.config),
            n_items=row.n_items,
            n_train_users=row.n_train_users,
            n_test_users=row.n_test_users,
            boundary=row.boundary,
            report=row.report,
            bucket=_unpacked(row.bucket).astype(np.int8),
            popularity=_unpacked(row.popularity),
            targets_valid=_unpacked(row.targets_valid),
            targets_test=_unpacked(row.targets_test),
        )

    def validation(self) -> "ValidationReader":
        """The view of this store that selection code is given."""
        return ValidationReader(self)


def _fields(row: Row[Any]) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if name != "trial_key"}


class ValidationReader:
    """What selection may see of a store: validation numbers. It has no way to a test value."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def value(self, key: str, name: str, k: int, bucket: int = 0) -> float:
        """One validation number of a finished trial. Raises StoreError where there is none."""
        for found in self._store.metrics((key,), part="valid", names=(name,)).get(key, ()):
            if (found.k, found.bucket) == (k, bucket) and found.value is not None:
                return found.value
        raise StoreError(f"{self._store.where} has no validation {name}@{k} (bucket {bucket}) of trial {key}")

    def metrics(self, keys: Collection[str], names: Sequence[str] | None = None) -> dict[str, tuple[Metric, ...]]:
        """The validation numbers of these trials."""
        return self._store.metrics(keys, part="valid", names=names)

    def epochs(self, key: str) -> tuple[EpochLog, ...]:
        """The trial's training log: losses and validation metrics."""
        return self._store.epochs(key)
