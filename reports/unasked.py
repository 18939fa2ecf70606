"""Columns that a study was never asked for: the studies that have them, and the commands that run them there."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

from reports.commands import naming_command, planned
from reports.plans import TABLE2, ColumnPlan
from reports.results import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Unasked:
    """Columns that one command runs."""

    columns: tuple[ColumnPlan, ...]
    study: str
    """Whose command it is; empty where no study of ours has them."""
    command: str
    shown: bool
    """Beside the study's own columns once it has run; else the study has to be asked for."""

    @property
    def remedy(self) -> str:
        """What to do, in words."""
        return f"run `{self.command}`" if self.shown else f"ask with --study {self.study} after `{self.command}`"


def unasked(
    evidence: Evidence, study: str, datasets: Sequence[str], columns: Sequence[ColumnPlan]
) -> tuple[Unasked, ...]:
    """How to run these columns on data sets that the evidence has: in its own study, else in `study`, which is that of
    the table, else in that of table 2."""
    mine = [spec for spec in evidence.specs if spec.data.dataset in datasets]
    found: dict[tuple[str, bool], list[tuple[ColumnPlan, str]]] = {}
    for column in columns:
        place, method = "", ""
        for name, one in product(dict.fromkeys((evidence.study, study, TABLE2.study)), reversed(column.methods)):
            asked = [planned(name, evidence.profile, dataset, one) for dataset in datasets]
            if all(specs and all(map(column.fits, specs)) for specs in asked):
                place, method = name, one
                break
        found.setdefault((place, column.anywhere or place == evidence.study), []).append((column, method))
    like = partial(evidence.usual_options, tuple(datasets))
    return tuple(
        Unasked(
            columns=tuple(column for column, _ in named),
            study=place,
            command=naming_command(
                place,
                evidence.profile,
                datasets,
                mine,
                evidence.store.shown,
                ",".join(dict.fromkeys(method for _, method in named)),
                like,
            )
            if place
            else "",
            shown=shown,
        )
        for (place, shown), named in found.items()
    )
