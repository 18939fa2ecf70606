"""The rows that our values become in the database, the values again, and how arrays are packed in them."""

import json
import zlib
from dataclasses import asdict, fields
from operator import attrgetter
from typing import Any, Literal

import numpy as np
from sqlalchemy import ColumnElement, Row, Select, Table, select

from harness import schema
from harness.config import DataConfig, TrialSpec
from harness.exposure import input_buckets
from harness.stored import DataRow, TrialRow
from harness.values import N_BUCKETS, Int32, Metric, Outcome, Sample, Split, TrialPruned, TrialResult


def packed(array: Any) -> bytes:
    """An integer array as zlib-compressed little-endian int32."""
    return zlib.compress(array.astype("<i4").tobytes(), 6)


def packed_floats(array: Any, kind: Literal["<f2", "<f4"]) -> bytes:
    """Floats as zlib-compressed little-endian numbers of 2 or 4 bytes."""
    return zlib.compress(array.astype(kind).tobytes(), 6)


def unpacked(blob: bytes) -> Int32:
    """What `packed` was given."""
    return np.frombuffer(zlib.decompress(blob), "<i4").astype(np.int32, copy=False)


def data_row(split: Split) -> dict[str, Any]:
    """The row of table data."""
    return {
        "fingerprint": split.fingerprint,
        "dataset": split.config.dataset,
        "n_items": split.n_items,
        "n_train_users": split.n_train_users,
        "n_test_users": split.n_test_users,
        "boundary": split.boundary,
        "config": json.dumps(split.config.canonical(), sort_keys=True, separators=(",", ":")),
        "report": {**split.report, "file": split.file, "edition": split.edition},
        "bucket": packed(split.bucket),
        "popularity": packed(split.popularity),
        "targets_valid": packed(split.targets("valid")),
        "targets_test": packed(split.targets("test")),
        "input_buckets": packed(input_buckets(split)),
    }


def trial_row(outcome: Outcome, *, attempt: int, recorded_at: str) -> dict[str, Any]:
    """The row of table trial."""
    spec = outcome.spec
    row: dict[str, Any] = {
        "trial_key": spec.key,
        "group_key": spec.group,
        "dataset": spec.data.dataset,
        "method": spec.method,
        "profile": spec.profile,
        "alpha": spec.aux.alpha,
        "lam": spec.aux.lam,
        "seed": spec.seed,
        "attempt": attempt,
        "spec": spec.canonical_json(),
        "recorded_at": recorded_at,
    }
    if isinstance(outcome, TrialResult):
        return row | {
            "status": "done",
            "fingerprint": outcome.fingerprint,
            "best_epoch": outcome.best_epoch,
            "last_epoch": len(outcome.epochs),
        }
    if isinstance(outcome, TrialPruned):
        return row | {"status": "pruned", "last_epoch": len(outcome.epochs)}
    return row | {
        "status": "failed",
        "last_epoch": outcome.last_epoch,
        "error": outcome.error,
        "traceback": outcome.traceback,
    }


_NAMES = tuple(field.name for field in fields(Metric))
_values = attrgetter(*_NAMES)
"""Of a metric; `asdict` would copy two hundred of them for every trial."""


def epoch_rows(outcome: TrialResult | TrialPruned) -> list[dict[str, Any]]:
    """The rows of a trial in table epoch."""
    return [{"trial_key": outcome.spec.key} | asdict(log) for log in outcome.epochs]


def result_rows(result: TrialResult) -> dict[Table, list[dict[str, Any]]]:
    """The rows of a finished trial in all other tables."""
    key = {"trial_key": result.spec.key}
    return {
        schema.metric: [key | dict(zip(_NAMES, _values(number), strict=True)) for number in result.metrics],
        schema.epoch: epoch_rows(result),
        schema.ranks: [
            key
            | {
                "part": part,
                "users": users.top.shape[0],
                "k": users.top.shape[1],
                "rank": packed(users.rank),
                "top": packed(users.top),
            }
            for part, users in (("valid", result.valid), ("test", result.test))
        ],
        schema.sample: [] if result.sample is None else [key | _sample_row(result.sample)],
        schema.provenance: [key | asdict(result.provenance)],
    }


def _sample_row(taken: Sample) -> dict[str, Any]:
    return {
        "users": taken.states.shape[0],
        "width": taken.states.shape[1],
        "negatives": taken.negative.shape[1],
        "places": packed(taken.users),
        "states": packed_floats(taken.states, "<f2"),
        "positive": packed_floats(taken.positive, "<f4"),
        "negative": packed_floats(taken.negative, "<f2"),
        "spectrum": packed_floats(taken.spectrum, "<f4"),
        "spectrum_centred": packed_floats(taken.spectrum_centred, "<f4"),
    }


def sample_of(row: Row[Any]) -> Sample:
    """The sample that a row of table sample keeps."""
    half, single = np.dtype("<f2"), np.dtype("<f4")
    return Sample(
        users=unpacked(row.places),
        states=np.frombuffer(zlib.decompress(row.states), half).reshape(row.users, row.width),
        positive=np.frombuffer(zlib.decompress(row.positive), single),
        negative=np.frombuffer(zlib.decompress(row.negative), half).reshape(row.users, row.negatives),
        spectrum=np.frombuffer(zlib.decompress(row.spectrum), single),
        spectrum_centred=np.frombuffer(zlib.decompress(row.spectrum_centred), single),
    )


def trial_of(row: Row[Any]) -> TrialRow:
    """The trial that a row of table trial is about."""
    same = {f.name: row._mapping[f.name] for f in fields(TrialRow) if f.name in row._mapping and f.name != "spec"}
    spec = TrialSpec.model_validate_json(row.spec)
    return TrialRow(key=row.trial_key, group=row.group_key, spec=spec, **same)


def data_of(row: Row[Any]) -> DataRow:
    """The data that a row of table data is about."""
    inputs = row._mapping.get("input_buckets")  # no column of an older schema
    return DataRow(
        fingerprint=row.fingerprint,
        config=DataConfig.model_validate_json(row.config),
        n_items=row.n_items,
        n_train_users=row.n_train_users,
        n_test_users=row.n_test_users,
        boundary=row.boundary,
        report={name: value for name, value in row.report.items() if name not in {"file", "edition"}},
        file=row.report.get("file", ""),
        edition=row.report.get("edition", ""),
        bucket=unpacked(row.bucket).astype(np.int8),
        popularity=unpacked(row.popularity),
        targets_valid=unpacked(row.targets_valid),
        targets_test=unpacked(row.targets_test),
        input_buckets=None if inputs is None else unpacked(inputs).reshape(-1, N_BUCKETS),
    )


def fields_of(row: Row[Any]) -> dict[str, Any]:
    """A row of a trial's without the trial's key: the fields of the value that it keeps."""
    return {name: value for name, value in row._mapping.items() if name != "trial_key"}


def trials_query(
    *, study: str | None, dataset: str | None, method: str | None, profile: str | None, status: str | None
) -> Select[Any]:
    """Trials that have ended, by data set, method, alpha, lambda and seed; None: any."""
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
    return select(trial).where(*wanted).order_by(*order)
