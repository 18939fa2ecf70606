"""The numbers printed in the paper (spec 7.0), as typed values: shown beside ours, never merged with them."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

AUTHORS_TEST_USERS: Mapping[str, int] = {"ml1m": 750, "beauty": 1116}
"""Evaluated test users of the authors' runs where they are known (spec 6.1, check values)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One printed number."""

    table: int
    dataset: str
    metric: str
    method: str
    """A method key; in table 2 also `improve`, whose value is in percent."""
    value: float
    std: float | None
    rank: int | None
    """1 or 2 where it is best or second best of its row (computed; ties share a rank)."""
    starred: bool
    """The paper prints an asterisk (claimed significant)."""
    note: str
    """What is odd about it; empty if nothing."""

    @property
    def doubtful(self) -> bool:
        """It cannot be what it says (spec 8, I4 to I6)."""
        return self.note.startswith("suspect") or "NOT check" in self.note


@cache
def published() -> Mapping[tuple[int, str, str, str], Published]:
    """All printed numbers by (table, dataset, metric, method)."""
    lines = (files("reports") / "published.csv").read_text(encoding="utf-8").splitlines()
    rows = [
        Published(
            table=int(row["table"]),
            dataset=row["dataset"],
            metric=row["metric"],
            method=row["method"],
            value=float(row["value"]),
            std=float(row["std"]) if row["std"] else None,
            rank=int(row["rank"]) if row["rank"] else None,
            starred=row["starred"] == "1",
            note=row["note"],
        )
        for row in csv.DictReader(lines)
    ]
    by_place = {(row.table, row.dataset, row.metric, row.method): row for row in rows}
    assert len(by_place) == len(rows), "published.csv names one place twice"
    return by_place


def same_population(dataset: str, n_test_users: int) -> bool:
    """Whether our test users can be the authors': only then do the published numbers apply to our data."""
    return AUTHORS_TEST_USERS.get(dataset) == n_test_users
