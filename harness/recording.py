"""What a driver writes, each within one transaction; called by `Store` alone."""

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from harness import rows as rows_of
from harness import schema
from harness.config import Study
from harness.errors import ELSEWHERE, StoreError
from harness.values import Outcome, Split, TrialFailure, TrialPruned, TrialResult


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _data_of(spec: dict[str, Any]) -> str:
    """The data configuration of a canonical specification, as text that can be compared."""
    return json.dumps(spec["data"], sort_keys=True)


def _is_asked(profile: str, spec: str, asked: Collection[tuple[str, str]]) -> bool:
    """Whether a listed trial has a profile and data configuration of the study as it is asked for now."""
    return (profile, _data_of(json.loads(spec))) in asked


def register_study(connection: Connection, study: Study, *, keep_wishes: bool) -> None:
    """See `Store.register_study`."""
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
    known = connection.execute(select(schema.study.c.name).where(schema.study.c.name == study.name)).first()
    if known is None:
        row = {"name": study.name, "title": study.title, "recorded_at": _now()}
        connection.execute(schema.study.insert(), row)
    if not keep_wishes:
        asked = {(spec.profile, _data_of(spec.canonical())) for spec in study.specs}
        done = select(trial.c.trial_key).where(trial.c.status == "done")
        open_wishes = select(listed.c.trial_key, listed.c.profile, listed.c.spec).where(
            listed.c.study == study.name, listed.c.trial_key.not_in(done)
        )
        gone = [row.trial_key for row in connection.execute(open_wishes) if _is_asked(row.profile, row.spec, asked)]
        connection.execute(delete(listed).where(listed.c.study == study.name, listed.c.trial_key.in_(gone)))
    there = set(connection.scalars(select(listed.c.trial_key).where(listed.c.study == study.name)))
    new = [row for row in rows if row["trial_key"] not in there]
    if new:
        connection.execute(listed.insert(), new)


def record_data(connection: Connection, split: Split, where: str) -> None:
    """See `Store.record_data`; `where` is for messages."""
    table, row = schema.data, rows_of.data_row(split)
    for old in connection.execute(select(table).where(table.c.config == row["config"])):
        if old.fingerprint == split.fingerprint:
            if old.input_buckets is None or "file" not in old.report:  # recorded by an earlier version
                new = {name: row[name] for name in ("input_buckets", "report")}
                connection.execute(update(table).where(table.c.fingerprint == old.fingerprint), new)
            return
        mine = schema.trial.c.fingerprint == old.fingerprint
        results = connection.execute(select(func.count()).select_from(schema.trial).where(mine)).scalar_one()
        if results:
            new = row["report"]
            changed = [
                f"{name} {new[name]} instead of {old.report[name]}"
                for name in sorted(new.keys() & old.report.keys(), key=lambda name: (name != "file", name))
                if new[name] != old.report[name]
            ]
            raise StoreError(
                f"{split.config.dataset}: {where} has {results} results from other data "
                f"({'; '.join(changed[:3]) or 'same counts, other content'}): "
                f"restore the former file, or {ELSEWHERE}"
            )
        connection.execute(delete(table).where(table.c.fingerprint == old.fingerprint))
    connection.execute(table.insert(), row)


def record(connection: Connection, outcome: Outcome, where: str) -> int:
    """See `Store.record`; `where` is for messages."""
    spec, trial, epoch = outcome.spec, schema.trial, schema.epoch
    mine = trial.c.trial_key == spec.key
    old = connection.execute(select(trial.c.status, trial.c.attempt).where(mine)).one_or_none()
    if old is not None and old.status == "done":
        raise StoreError(f"trial {spec.key} is already done in {where}: it is never recorded twice")
    connection.execute(delete(epoch).where(epoch.c.trial_key == spec.key))
    connection.execute(delete(trial).where(mine))
    attempt = 1 if old is None else int(old.attempt) + 1
    connection.execute(trial.insert(), rows_of.trial_row(outcome, attempt=attempt, recorded_at=_now()))
    if isinstance(outcome, TrialResult):
        for table, rows in rows_of.result_rows(outcome).items():
            if rows:
                connection.execute(table.insert(), rows)
    elif isinstance(outcome, TrialPruned):
        connection.execute(epoch.insert(), rows_of.epoch_rows(outcome))
    else:
        assert isinstance(outcome, TrialFailure)
    return attempt


def record_estimates(connection: Connection, study: str, estimates: Sequence[dict[str, Any]]) -> None:
    """See `Store.record_estimates`."""
    table = schema.estimate
    known = select(table.c.dataset, table.c.method, table.c.profile).where(table.c.study == study)
    there = {tuple(row) for row in connection.execute(known)}
    new = [
        row | {"study": study, "recorded_at": _now()}
        for row in estimates
        if (row["dataset"], row["method"], row["profile"]) not in there
    ]
    if new:
        connection.execute(table.insert(), new)
