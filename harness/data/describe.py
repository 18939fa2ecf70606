"""The descriptive report of prepared data: what happened step by step, and the statistics of several data sets."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from harness.config import DataConfig
from harness.data.distributions import Distributions
from harness.values import N_BUCKETS, Split

Value = int | float | str

LONG = ("protocol", "fingerprint")
"""Statistics that do not fit into a column."""


def filter_of(config: DataConfig) -> str:
    """The filter in a few words."""
    if config.filter == "none":
        return "none"
    return f"{config.filter}, items {config.min_item}, users {config.min_user}, counting {config.counted}"


def dropped(split: Split) -> str:
    """The filter, and what it dropped of the raw data, in a line."""
    if split.config.filter == "none":
        return "no filter"
    users, items = (split.report[f"raw_{name}"] - split.report[name] for name in ("users", "items"))
    return f"filter {filter_of(split.config)}, dropped {users:,} users and {items:,} items"


def lines(split: Split) -> list[tuple[str, str]]:
    """The split's report as (label, value) lines for a reader, in the order of the steps of spec 6.1."""
    report, config = split.report, split.config

    def sizes(rows: str, users: str, items: str) -> str:
        return f"{report[rows]:,} rows, {report[users]:,} users, {report[items]:,} items"

    steps = [
        ("raw", sizes("raw_rows", "raw_users", "raw_items")),
        ("rows dropped by the reader (no user)", f"{report['rows_dropped_by_reader']:,}"),
        (f"rows dropped as repeats ({config.repeats})", f"{report['rows_dropped_as_repeats']:,}"),
        (f"after filter ({filter_of(config)})", sizes("rows", "users", "items")),
        ("of them repeats of a user and item", f"{report['repeated_rows']:,}"),
        ("time", f"{_moment(report['first_time'])} to {_moment(report['last_time'])} UTC"),
    ]
    if config.split == "temporal":
        steps += [
            (
                "boundary",
                f"{split.boundary} ({np.datetime64(split.boundary, 's')} UTC), quantile {config.quantile}, "
                f"ties {config.tie}",
            ),
            ("rows before the boundary", f"{report['rows_before_boundary']:,}"),
            ("training", sizes("train_rows", "train_users", "train_items")),
            ("training sequences (two rows or more)", f"{report['train_sequences']:,}"),
            ("rows from the boundary on", f"{report['test_rows']:,} of {report['test_users']:,} users"),
            ("of them with earlier rows (thrown away)", f"{report['test_users_with_earlier_rows']:,} users"),
            ("test rows lost to unseen items", f"{report['test_rows_of_unseen_items']:,}"),
            ("evaluated users (three rows or more)", f"{report['evaluated_users']:,}"),
        ]
    else:
        steps += [
            ("split", f"leave-one-out, ties {config.tie}: LEAKS THE FUTURE into training"),
            ("training rows later than the first test target", f"{report['future_rows']:,}"),
            ("training", sizes("train_rows", "train_users", "train_items")),
            ("training sequences (two rows or more)", f"{report['train_sequences']:,}"),
            ("users with three rows or more", f"{report['test_users']:,}"),
            ("evaluated users (both targets are training items)", f"{report['evaluated_users']:,}"),
        ]
    return [
        *steps,
        ("items per popularity bucket", _per_bucket(split.bucket)),
        ("test targets per popularity bucket", _per_bucket(split.bucket[split.targets("test")])),
        ("test targets already in the input", f"{report['repeat_share']:.1%}"),
        ("training users with a same-target partner", f"{report['partner_share']:.1%}"),
        ("protocol", config.protocol(split.file, split.edition)),
        ("fingerprint", split.fingerprint),
    ]


def statistics(split: Split, found: Distributions) -> dict[str, Value]:
    """The usual numbers of a data set by name, for a table over several; shares are between 0 and 1."""
    report = split.report
    n_users, n_items = int(report["users"]), int(report["items"])
    items, targets = (
        np.bincount(bucket, minlength=N_BUCKETS + 1)[1:]
        for bucket in (split.bucket, split.bucket[split.targets("test")])
    )
    return {
        "users": n_users,
        "items": n_items,
        "interactions": int(report["rows"]),
        "density": report["rows"] / (n_users * n_items),
        "raw users": int(report["raw_users"]),
        "raw items": int(report["raw_items"]),
        "raw interactions": int(report["raw_rows"]),
        "rows dropped by the reader": int(report["rows_dropped_by_reader"]),
        "rows dropped as repeats": int(report["rows_dropped_as_repeats"]),
        "first": _moment(report["first_time"]),
        "last": _moment(report["last_time"]),
        "boundary": _moment(split.boundary) if split.config.split == "temporal" else "none",
        "rows per user, mean": float(found.user_rows.mean()),
        "rows per user, median": float(np.median(found.user_rows)),
        "rows per user, least": int(found.user_rows[-1]),
        "rows per user, most": int(found.user_rows[0]),
        "rows per item, mean": float(found.item_rows.mean()),
        "rows per item, median": float(np.median(found.item_rows)),
        "rows per item, most": int(found.item_rows[0]),
        "share of repeats in rows": report["repeated_rows"] / report["rows"],
        "training users": int(report["train_users"]),
        "training items": int(report["train_items"]),
        "training rows": int(report["train_rows"]),
        "test users": int(report["evaluated_users"]),
        "test targets in the input, share": float(report["repeat_share"]),
        "training users with a partner, share": float(report["partner_share"]),
        **{f"items in bucket {bucket + 1}": int(items[bucket]) for bucket in range(N_BUCKETS)},
        **{f"test targets in bucket {bucket + 1}": int(targets[bucket]) for bucket in range(N_BUCKETS)},
        "protocol": split.config.protocol(split.file, split.edition),
        "fingerprint": split.fingerprint,
    }


def shown(value: Value) -> str:
    """A statistic as text: whole numbers in groups of three, others with four digits."""
    if isinstance(value, float):
        return f"{value:,.2f}" if value >= 1 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


def names_of(columns: Mapping[str, Mapping[str, Value]]) -> list[str]:
    """The names of the statistics, in their order."""
    return list(next(iter(columns.values()), {}))


def _moment(seconds: float) -> str:
    return str(np.datetime64(int(seconds), "s")).replace("T", " ")


def _per_bucket(bucket: NDArray[np.int8]) -> str:
    return " / ".join(f"{count:,}" for count in np.bincount(bucket, minlength=N_BUCKETS + 1)[1:])
