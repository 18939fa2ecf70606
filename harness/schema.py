"""The SQL schema, a public surface that people query.

Names are singular; `lam` is the paper's lambda. A trial is done if and only if its row says so, and then all its
rows are there. Spec: the architecture's section on the SQL schema.
"""

import hashlib

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable

from harness.config import SEEDS
from harness.database import claim, is_claimed, shown
from harness.errors import ELSEWHERE, SchemaError, StoreError

APPLICATION_ID = 0x62747372
"""`btsr` in ASCII: SQLite's `PRAGMA application_id` of our files, and the `application_id` of table meta."""

SCHEMA_VERSION = 3
"""Raised with every change of the tables. 1: no pruned trials, no estimates, no energy in provenance; 2: no samples."""

READABLE = (1, 2, 3)
"""Versions that can be read as they are; a sweep into an older one upgrades it first, see `harness.upgrade`."""

metadata = MetaData()

meta = Table("meta", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))

study = Table(
    "study",
    metadata,
    Column("name", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("recorded_at", Text, nullable=False),
)

study_trial = Table(
    "study_trial",
    metadata,
    Column("study", ForeignKey("study.name"), primary_key=True),
    Column("trial_key", Text, primary_key=True),
    Column("dataset", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("spec", Text, nullable=False),
    comment="what a study asks for, run or not; the trial itself is in table trial once it has ended",
)

data = Table(
    "data",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("dataset", Text, nullable=False),
    Column("n_items", Integer, nullable=False),
    Column("n_train_users", Integer, nullable=False),
    Column("n_test_users", Integer, nullable=False),
    Column("boundary", Integer, nullable=False),
    Column("config", Text, nullable=False),
    Column("report", JSON, nullable=False, comment="counts by name; and what was read: file, edition"),
    Column("bucket", LargeBinary, nullable=False),
    Column("popularity", LargeBinary, nullable=False),
    Column("targets_valid", LargeBinary, nullable=False),
    Column("targets_test", LargeBinary, nullable=False),
    Column("input_buckets", LargeBinary, comment="zlib, int32 [users, 3]: items of each bucket in the test input"),
)

trial = Table(
    "trial",
    metadata,
    Column("trial_key", Text, primary_key=True),
    Column("group_key", Text, nullable=False, index=True),
    Column("dataset", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("alpha", Float, nullable=False),
    Column("lam", Float, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("status", Text, CheckConstraint("status IN ('done', 'failed', 'pruned')"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("spec", Text, nullable=False),
    Column("fingerprint", ForeignKey("data.fingerprint")),
    Column("best_epoch", Integer),
    Column("last_epoch", Integer, nullable=False),
    Column("error", Text),
    Column("traceback", Text),
    Column("recorded_at", Text, nullable=False),
    UniqueConstraint("dataset", "method", "group_key", "profile", "seed"),
)

metric = Table(
    "metric",
    metadata,
    Column("trial_key", ForeignKey("trial.trial_key"), primary_key=True),
    Column("part", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("k", Integer, primary_key=True),
    Column("bucket", Integer, primary_key=True),
    Column("value", Float),
)

epoch = Table(
    "epoch",
    metadata,
    Column("trial_key", ForeignKey("trial.trial_key"), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("loss", Float, nullable=False),
    Column("parts", JSON, nullable=False),
    Column("valid", JSON, nullable=False),
    Column("seconds_train", Float, nullable=False),
    Column("seconds_valid", Float, nullable=False),
)

ranks = Table(
    "ranks",
    metadata,
    Column("trial_key", ForeignKey("trial.trial_key"), primary_key=True),
    Column("part", Text, primary_key=True),
    Column("users", Integer, nullable=False),
    Column("k", Integer, nullable=False),
    Column("rank", LargeBinary, nullable=False, comment="zlib, int32 little-endian [users]"),
    Column("top", LargeBinary, nullable=False, comment="zlib, int32 little-endian [users, k]"),
)

sample = Table(
    "sample",
    metadata,
    Column("trial_key", ForeignKey("trial.trial_key"), primary_key=True),
    Column("users", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("negatives", Integer, nullable=False),
    Column("places", LargeBinary, nullable=False, comment="zlib, int32 [users]: places among the evaluated users"),
    Column("states", LargeBinary, nullable=False, comment="zlib, float16 [users, width]"),
    Column("positive", LargeBinary, nullable=False, comment="zlib, float32 [users]: score of the test target"),
    Column("negative", LargeBinary, nullable=False, comment="zlib, float16 [users, negatives]: of unseen items"),
    Column("spectrum", LargeBinary, nullable=False, comment="zlib, float32: singular values of all users' states"),
    Column("spectrum_centred", LargeBinary, nullable=False, comment="the same, mean subtracted"),
    comment="states and scores of some test users, the same users and items for every model on the same data",
)

provenance = Table(
    "provenance",
    metadata,
    Column("trial_key", ForeignKey("trial.trial_key"), primary_key=True),
    Column("git_revision", Text),
    Column("git_dirty", Boolean),
    Column("versions", JSON, nullable=False),
    Column("host", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("threads", Integer, nullable=False),
    Column("precision", Text, nullable=False),
    Column("kernels", Text, nullable=False),
    Column("command", Text, nullable=False),
    Column("started", Text, nullable=False),
    Column("seconds", JSON, nullable=False),
    Column("peak_mib", Float, nullable=False),
    Column("batch_size", Integer, nullable=False),
    Column("gpu_peak_mib", Float),
    Column("joules", Float),
)

estimate = Table(
    "estimate",
    metadata,
    Column("study", ForeignKey("study.name"), primary_key=True),
    Column("dataset", Text, primary_key=True),
    Column("method", Text, primary_key=True),
    Column("profile", Text, primary_key=True),
    Column("seconds", Float, nullable=False),
    Column("peak_mib", Float, nullable=False),
    Column("source", Text, nullable=False),
    Column("recorded_at", Text, nullable=False),
    comment="what one trial was expected to take before the sweep began",
)

ADDED_IN_2 = ("gpu_peak_mib", "joules")
"""Columns of table provenance that version 1 does not have."""

ADDED_IN_3 = ("input_buckets",)
"""Columns of table data that earlier versions do not have."""

RESULT_COLUMNS: tuple[tuple[str, int], ...] = (
    *(("hr", k) for k in (1, 5, 10)),
    *(("ndcg", k) for k in (5, 10, 50)),
    *(("cov", k) for k in (1, 5, 10)),
)
"""The test metrics of the view `results`: the nine of table 2 (spec 7.2)."""


def results_view() -> str:
    """One row per finished trial; test numbers only where its group was chosen.

    Chosen is the best mean validation NDCG@10 over the seeds that all compared groups have, among all studies in the
    file (a report looks at one); compared are those with the seed that most have (of equals, the first of
    `harness.config.SEEDS`). alpha = 0 takes part only where there is no other. `place_by_validation` is NULL for groups
    that took no part. `harness.rules.same_seeds` is the same rule.
    """
    tests = ",\n".join(
        f"MAX(CASE WHEN chosen.place = 1 AND metric.name = '{name}' AND metric.k = {k} THEN metric.value END)"
        f" AS test_{name}_{k}"
        for name, k in RESULT_COLUMNS
    )
    order = " ".join(f"WHEN {seed} THEN {place}" for place, seed in enumerate(SEEDS))
    seed_order = f"CASE seed {order} ELSE {len(SEEDS)} END"
    trial_columns = (
        "trial.dataset, trial.method, trial.profile, trial.alpha, trial.lam, trial.seed, trial.fingerprint, "
        "trial.trial_key, trial.group_key"
    )
    return f"""
CREATE VIEW results AS
WITH score AS (
  SELECT trial.dataset, trial.method, trial.profile, trial.fingerprint, trial.group_key, trial.trial_key, trial.seed,
    trial.alpha, metric.value,
    COUNT(*) OVER (PARTITION BY trial.group_key, trial.fingerprint) AS runs,
    MAX(CASE WHEN trial.alpha > 0 THEN 1 ELSE 0 END)
      OVER (PARTITION BY trial.dataset, trial.method, trial.profile, trial.fingerprint) AS has_alpha
  FROM trial JOIN metric ON metric.trial_key = trial.trial_key
  WHERE metric.part = 'valid' AND metric.name = 'ndcg' AND metric.k = 10 AND metric.bucket = 0
), able AS (
  SELECT * FROM score WHERE alpha > 0 OR has_alpha = 0
), frequent AS (
  SELECT dataset, method, profile, fingerprint, seed, ROW_NUMBER() OVER (
    PARTITION BY dataset, method, profile, fingerprint ORDER BY COUNT(*) DESC, {seed_order}, seed
  ) AS place
  FROM able GROUP BY dataset, method, profile, fingerprint, seed
), compared AS (
  SELECT able.*, COUNT(*) OVER (
    PARTITION BY able.dataset, able.method, able.profile, able.fingerprint, able.seed
  ) AS sharing
  FROM able
  JOIN able AS anchor ON anchor.group_key = able.group_key AND anchor.fingerprint = able.fingerprint
  JOIN frequent ON frequent.dataset = able.dataset AND frequent.method = able.method
    AND frequent.profile = able.profile AND frequent.fingerprint = able.fingerprint
    AND frequent.place = 1 AND frequent.seed = anchor.seed
), common AS (
  SELECT compared.*, MAX(sharing) OVER (PARTITION BY dataset, method, profile, fingerprint) AS taking_part
  FROM compared
), chosen AS (
  SELECT group_key, fingerprint, RANK() OVER (
    PARTITION BY dataset, method, profile, fingerprint ORDER BY AVG(value) DESC, MAX(runs) DESC, group_key
  ) AS place
  FROM common WHERE sharing = taking_part GROUP BY dataset, method, profile, fingerprint, group_key
)
SELECT {trial_columns}, chosen.place AS place_by_validation, score.value AS valid_ndcg_10,
{tests}
FROM trial
JOIN score ON score.trial_key = trial.trial_key
LEFT JOIN chosen ON chosen.group_key = trial.group_key AND chosen.fingerprint = trial.fingerprint
LEFT JOIN metric ON metric.trial_key = trial.trial_key AND metric.part = 'test' AND metric.bucket = 0
GROUP BY {trial_columns}, chosen.place, score.value
"""


def create_sql(table: Table) -> str:
    """The statement that makes a table in SQLite."""
    return str(CreateTable(table).compile(dialect=sqlite.dialect()))


def is_empty(connection: Connection) -> bool:
    """Whether the database holds nothing at all, ours or another's."""
    known = inspect(connection)
    return is_claimed(connection, 0) and not known.get_table_names() and not known.get_view_names()


def refresh_view(connection: Connection) -> None:
    """Define the view as this version does, where the database has none or another's."""
    definition = results_view()
    digest = hashlib.sha256(definition.encode()).hexdigest()[:16]
    mine = meta.c.name == "results_view"
    if connection.execute(meta.select().where(mine, meta.c.value == digest)).one_or_none() is None:
        connection.execute(text("DROP VIEW IF EXISTS results"))
        connection.execute(text(definition))
        connection.execute(meta.delete().where(mine))
        connection.execute(meta.insert().values(name="results_view", value=digest))


def create_schema(connection: Connection) -> None:
    """All tables and the view in an empty database, within the connection's transaction."""
    metadata.create_all(connection)
    refresh_view(connection)
    marks = {"application_id": str(APPLICATION_ID), "schema_version": str(SCHEMA_VERSION)}
    connection.execute(meta.insert(), [{"name": name, "value": value} for name, value in marks.items()])
    claim(connection, APPLICATION_ID)


def schema_version(connection: Connection, where: str) -> int:
    """The version of a database of ours.

    Raises StoreError for a database of another program, SchemaError for a version that cannot be read.
    """
    marks: dict[str, str] = {}
    if is_claimed(connection, APPLICATION_ID) and inspect(connection).has_table("meta"):
        try:
            marks = {name: value for name, value in connection.execute(meta.select())}
        except DBAPIError as error:
            if "permission denied" in str(error.orig):
                raise
            marks = {}
    if marks.get("application_id") != str(APPLICATION_ID):
        raise StoreError(f"{shown(where)} is a database of another program, not of btsr: {ELSEWHERE}")
    version = marks.get("schema_version", "")
    if not version.isdecimal() or int(version) not in READABLE:
        newer = version.isdecimal() and int(version) > SCHEMA_VERSION
        raise SchemaError(
            f"{shown(where)} has schema version {version or 'unknown'}, this btsr knows {SCHEMA_VERSION}: "
            + ("update btsr" if newer else "use the btsr that wrote it")
            + f", or {ELSEWHERE}"
        )
    return int(version)
