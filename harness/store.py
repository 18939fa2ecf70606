"""The results database: what has ended, recorded once, and what is asked of it (whole databases: `harness.exchange`).

One driver writes (see `Store.driver_lock`), every trial in one transaction. Anyone may read meanwhile.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, Row, Select, select

from harness import database, recording, schema
from harness.config import Study, TrialSpec
from harness.database import shown
from harness.errors import ELSEWHERE, StoreError, nearest
from harness.options import options_of
from harness.rows import data_of, fields_of, sample_of, trial_of, trials_query, unpacked
from harness.stored import DataRow, Status, StudyRow, TrialRow
from harness.upgrade import upgrade, upgrade_server
from harness.validation import ValidationReader
from harness.values import (
    EpochLog,
    Estimate,
    Metric,
    Outcome,
    Part,
    Provenance,
    Sample,
    Split,
    UserRanks,
)


def open_store(where: str | Path, *, create: bool = False, read_only: bool = False) -> "Store":
    """Open the results database: a path of a SQLite file, or the URL of another database.

    `create` makes a new one where there is none, with its folder. Raises StoreError for a file that is missing,
    damaged, unwritable or another program's, for a server that cannot be reached, and SchemaError for a schema that
    cannot be read.
    """
    assert not (create and read_only)
    store = Store(database.engine_of(where, create=create, read_only=read_only), str(where))
    try:
        store._check(create=create)
    except BaseException:
        store.close()
        raise
    return store


def open_existing(where: str | Path) -> "Store | None":
    """The database for reading; None where there is no file, or nothing in it yet. Raises as `open_store` does."""
    if not database.is_url(where) and not database.file_of(where).exists():
        return None
    engine = database.engine_of(where, read_only=True)
    try:
        with database.plain_errors(where), engine.begin() as connection:
            empty = schema.is_empty(connection)
    finally:
        engine.dispose()
    return None if empty else open_store(where, read_only=True)


class Store:
    """An open results database; made by `open_store`, closed by `close` or the end of a ``with`` block."""

    def __init__(self, engine: Engine, where: str) -> None:
        self.where = where
        self._engine = engine
        self._version = schema.SCHEMA_VERSION
        self._identity: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def shown(self) -> str:
        """`where` without its password: what messages, reports and pages may say."""
        return shown(self.where)

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of its own: all of the ``with`` block or nothing. For this module and `harness.exchange`."""
        with database.plain_errors(self.where), self._engine.begin() as connection:
            yield connection

    def _one(self, query: Select[Any], what: str) -> Row[Any]:
        with self.transaction() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise StoreError(f"{shown(self.where)} has nothing of {what}")
        return row

    def _check(self, *, create: bool) -> None:
        with self.transaction() as connection:
            if not schema.is_empty(connection):
                self._version = schema.schema_version(connection, self.where)
            elif create:
                schema.create_schema(connection)
            else:
                raise StoreError(f"{shown(self.where)} holds no results: run btsr-sweep first, or {ELSEWHERE}")
        if create:
            database.use_wal(self._engine)
        self._identity = database.identity(self._engine, self.where)

    @contextmanager
    def driver_lock(self) -> Iterator[None]:
        """Hold the database for one driver while the ``with`` block runs; the system releases it at death.

        A file of an older schema is upgraded first. Raises SweepLocked with the holder's host and process id.
        """
        with database.driver_lock(self._engine, self.where):
            if self._version < schema.SCHEMA_VERSION:
                self._engine.dispose()
                if database.is_url(self.where):
                    with self.transaction() as connection:
                        upgrade_server(connection, self._version)
                else:
                    upgrade(database.file_of(self.where), self._version)
                self._version = schema.SCHEMA_VERSION
            with self.transaction() as connection:
                schema.refresh_view(connection)
            try:
                yield
            finally:
                database.fold_log(self._engine)

    def check_free(self) -> None:
        """Raise SweepLocked while another driver sweeps into this database."""
        database.check_free(self._engine, self.where)

    def holder(self) -> str | None:
        """Host and process of the driver that sweeps into this database now; None where nobody does."""
        return database.lock_holder(self._engine, self.where)

    # -- writing: the driver only ---------------------------------------------------------------------------------

    def register_study(self, study: Study, *, keep_wishes: bool = False) -> None:
        """Write down what a study asks for.

        For the data configurations and profiles that it lists now, former wishes that were never fulfilled are
        forgotten unless `keep_wishes`; finished trials and other data (another tie rule, too) stay listed.
        """
        with self.transaction() as connection:
            recording.register_study(connection, study, keep_wishes=keep_wishes)

    def record_data(self, split: Split) -> None:
        """Write down the data that trials are about to use; a second time does nothing.

        Raises StoreError where results of the same configuration exist that saw other data.
        """
        with self.transaction() as connection:
            recording.record_data(connection, split, shown(self.where))

    def record(self, outcome: Outcome) -> int:
        """Write everything about a trial that ended, or nothing; returns which attempt it was.

        A failure is replaced by what comes later. Raises StoreError for a trial that is already done, and where the
        database file is no longer the one that was opened.
        """
        if database.identity(self._engine, self.where) != self._identity:
            raise StoreError(
                f"{shown(self.where)} was deleted or replaced while the sweep was running: the trials under way go on "
                "from their checkpoints when the same command is given again"
            )
        with self.transaction() as connection:
            return recording.record(connection, outcome, shown(self.where))

    def record_estimates(self, study: str, estimates: Collection[Estimate]) -> None:
        """Write down what trials are expected to take; the first estimate of a study's row stays."""
        with self.transaction() as connection:
            recording.record_estimates(connection, study, [asdict(estimate) for estimate in estimates])

    # -- reading --------------------------------------------------------------------------------------------------

    def statuses(self) -> dict[str, Status]:
        """Key -> how it ended, of every trial that has."""
        with self.transaction() as connection:
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
        query = trials_query(study=study, dataset=dataset, method=method, profile=profile, status=status)
        with self.transaction() as connection:
            return tuple(map(trial_of, connection.execute(query)))

    def failures(self) -> dict[str, tuple[int, str]]:
        """Key -> how often it was tried and its last error, of every trial that failed."""
        trial = schema.trial
        query = select(trial.c.trial_key, trial.c.attempt, trial.c.error).where(trial.c.status == "failed")
        with self.transaction() as connection:
            return {key: (attempt, error) for key, attempt, error in connection.execute(query)}

    def costs(self) -> tuple[tuple[TrialSpec, float, float], ...]:
        """Specification, seconds and peak MiB of every finished trial."""
        trial, table = schema.trial, schema.provenance
        query = select(trial.c.spec, table.c.seconds, table.c.peak_mib)
        with self.transaction() as connection:
            rows = connection.execute(query.join(table, table.c.trial_key == trial.c.trial_key))
            return tuple(
                (TrialSpec.model_validate_json(spec), float(seconds["total"]), peak) for spec, seconds, peak in rows
            )

    def estimates(self, study: str) -> tuple[Estimate, ...]:
        """What the study's trials were expected to take before they ran."""
        if self._version < 2:
            return ()
        table = schema.estimate
        names = [table.c[field.name] for field in fields(Estimate)]
        with self.transaction() as connection:
            found = connection.execute(select(*names).where(table.c.study == study).order_by(*names[:3]))
            return tuple(Estimate(**row._mapping) for row in found)

    def studies(self) -> tuple[str, ...]:
        """Names of all studies that were ever started here."""
        with self.transaction() as connection:
            return tuple(connection.scalars(select(schema.study.c.name).order_by(schema.study.c.name)))

    def study(self, name: str) -> StudyRow:
        """What the study asks for. Raises StoreError where it was never started."""
        listed = schema.study_trial
        with self.transaction() as connection:
            found = connection.execute(select(schema.study).where(schema.study.c.name == name)).one_or_none()
            if found is None:
                there = sorted(connection.scalars(select(schema.study.c.name)))
                near = nearest(name, there)
                raise StoreError(
                    f"{shown(self.where)} has no study '{name}' (it has: {', '.join(there) or 'none'}): "
                    f"{near}{'else ' if near else ''}run btsr-sweep {options_of(name)} first"
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
        with self.transaction() as connection:
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
        return UserRanks(rank=unpacked(row.rank), top=unpacked(row.top).reshape(row.users, row.k))

    def sample(self, key: str) -> Sample | None:
        """States and scores of some test users; None for a trial of an earlier version, which kept none."""
        if self._version < 3:
            return None
        table = schema.sample
        with self.transaction() as connection:
            row = connection.execute(select(table).where(table.c.trial_key == key)).one_or_none()
        return None if row is None else sample_of(row)

    def epochs(self, key: str) -> tuple[EpochLog, ...]:
        """The log of a trial that is done, or was pruned; empty of any other."""
        table = schema.epoch
        with self.transaction() as connection:
            rows = connection.execute(select(table).where(table.c.trial_key == key).order_by(table.c.epoch))
            return tuple(EpochLog(**fields_of(row)) for row in rows)

    def provenance(self, key: str) -> Provenance:
        """Where the trial's numbers come from. Raises StoreError where it is not done."""
        table = schema.provenance
        there = [c for c in table.columns if self._version > 1 or c.name not in schema.ADDED_IN_2]
        return Provenance(**fields_of(self._one(select(*there).where(table.c.trial_key == key), f"trial {key}")))

    def data(self, fingerprint: str) -> DataRow:
        """The data of that fingerprint. Raises StoreError where it was never used here."""
        table = schema.data
        there = [c for c in table.columns if self._version > 2 or c.name not in schema.ADDED_IN_3]
        row = self._one(select(*there).where(table.c.fingerprint == fingerprint), f"data {fingerprint}")
        with database.plain_errors(self.where):
            return data_of(row)

    def validation(self) -> ValidationReader:
        """The view of this store that selection code is given."""
        return ValidationReader(self)
