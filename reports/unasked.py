"""Columns that a study was never asked for: the studies that have them, and the commands that run them there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

from harness.options import WINNERS, searched
from reports.commands import naming_command, naming_words, planned
from reports.plans import TABLE2, ColumnPlan
from reports.results import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Unasked:
    """Columns that one command runs."""

    datasets: tuple[str, ...]
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


def unasked(evidence: Evidence, study: str, lacking: Mapping[str, Sequence[ColumnPlan]]) -> tuple[Unasked, ...]:
    """How to run these columns of each data set: in the evidence's own study, else in `study`, which is that of the
    table, else in that of table 2. Data sets that are asked for alike have one command."""
    found: dict[tuple[str, bool, tuple[ColumnPlan, ...], tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for dataset, columns in lacking.items():
        mine = [spec for spec in evidence.specs if spec.data.dataset == dataset]
        places: dict[tuple[str, bool], list[tuple[ColumnPlan, str]]] = {}
        for column in columns:
            place, method = _place(evidence, study, dataset, column)
            shown = column.anywhere or place == evidence.study
            places.setdefault((place, shown), []).append((column, method))
        for (place, shown), named in places.items():
            like = partial(evidence.usual_options, (dataset,))
            words = naming_words(place, evidence.profile, dataset, mine, like) if place else ()
            methods = tuple(dict.fromkeys(method for _, method in named))
            found.setdefault((place, shown, tuple(column for column, _ in named), methods, words), []).append(dataset)
    return tuple(
        Unasked(
            datasets=tuple(datasets),
            columns=columns,
            study=place,
            command=naming_command(place, evidence.profile, datasets, words, methods, evidence.store.shown)
            if place
            else "",
            shown=shown,
        )
        for (place, shown, columns, methods, words), datasets in found.items()
    )


def _place(evidence: Evidence, study: str, dataset: str, column: ColumnPlan) -> tuple[str, str]:
    """The study that has the column, and the method that stands there; both empty where none has. A search's points
    come from its spaces, which no other study's trials join."""
    own = evidence.study
    if searched(own)[1] or own.endswith(WINNERS):
        return "", ""
    for name, method in product(dict.fromkeys((own, study, TABLE2.study)), reversed(column.methods)):
        asked = planned(name, evidence.profile, dataset, method)
        if asked and all(map(column.fits, asked)):
            return name, method
    return "", ""
