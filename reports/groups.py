"""Configurations: finished trials that differ in nothing but the seed, and the choice between several on validation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.config import TrialSpec
from harness.rules import PRECISION, best_setting, same_seeds, seed_order
from harness.stored import TrialRow
from harness.validation import ValidationReader

SELECT_NAME, SELECT_K = PRECISION
SELECT_ON = f"{SELECT_NAME}@{SELECT_K}"
"""The validation metric that decides between configurations; no test value takes part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Finished trials that differ in nothing but the seed, on one version of their data."""

    key: str
    fingerprint: str
    runs: tuple[TrialRow, ...]
    """In the order of `harness.config.SEEDS`."""

    @property
    def spec(self) -> TrialSpec:
        """The specification of the first run: all but its seed holds for every run."""
        return self.runs[0].spec

    @property
    def keys(self) -> tuple[str, ...]:
        """Trial keys."""
        return tuple(run.key for run in self.runs)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.spec.seed for run in self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The configuration that a column shows, and what it was chosen from."""

    group: Group
    score: float
    """Mean validation ndcg@10 over `compared`."""
    compared: tuple[int, ...]
    """The seeds on which the candidates were compared."""
    candidates: int
    """Configurations that were compared, this one included."""
    left_out: int
    """Configurations without the seed that most have, and hence without some of `compared`."""


def comparable(groups: Sequence[Group]) -> tuple[tuple[Group, ...], tuple[int, ...]]:
    """The groups that can be compared, and the seeds that all of them have: see `harness.rules.same_seeds`."""
    kept, common = same_seeds([group.seeds for group in groups])
    return tuple(groups[i] for i in kept), common


def replicated(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Those with most seeds."""
    most = max((len(group.runs) for group in groups), default=0)
    return tuple(group for group in groups if len(group.runs) == most)


def choose(groups: Sequence[Group], validation: ValidationReader) -> Choice:
    """The best mean validation ndcg@10 over the seeds that all `comparable` groups have.

    Of equals that with most runs, then of the smaller key.

    Test values cannot take part: a ValidationReader has none.
    """
    ordered = sorted(groups, key=lambda group: group.key)
    best = best_setting(
        [{run.spec.seed: run for run in group.runs} for group in ordered],
        lambda run: validation.value(run.key, SELECT_NAME, SELECT_K),
    )
    return Choice(
        group=ordered[best.place],
        score=best.score,
        compared=best.seeds,
        candidates=best.candidates,
        left_out=len(groups) - best.candidates,
    )


def grouped(rows: Iterable[TrialRow]) -> tuple[Group, ...]:
    """Finished trials by configuration, seeds in the order of `harness.config.SEEDS`."""
    found: dict[str, list[TrialRow]] = {}
    for row in rows:
        if row.status == "done":
            found.setdefault(row.group, []).append(row)
    out = []
    for key, mine in found.items():
        mine.sort(key=lambda row: (seed_order(row.spec.seed), row.key))
        fingerprint = mine[0].fingerprint
        assert fingerprint is not None and all(row.fingerprint == fingerprint for row in mine)
        out.append(Group(key=key, fingerprint=fingerprint, runs=tuple(mine)))
    return tuple(out)
