"""What the bar figures show (spec 7.4, rows 1 and 5): hr per popularity bucket for a few configurations."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import ConfigError
from harness.rules import Metric
from harness.values import N_BUCKETS
from reports.findings import chosen_of
from reports.measure import Measurer
from reports.names import dataset_title
from reports.notes import column_words
from reports.plans import OURS, TABLE2, TABLE3, ColumnPlan
from reports.ran import odd_ones, ran
from reports.results import Evidence
from reports.stats import Summary, standard_error, summarise

FIGURE1_COLUMNS: tuple[ColumnPlan, ...] = tuple(
    TABLE2.column(key) for key in (OURS, "sasrec_bce", "sasrec_ce", "sasrec_sce", "duorec")
)
FIGURE5_COLUMNS: tuple[ColumnPlan, ...] = TABLE3.columns
BAR_METRICS: tuple[Metric, ...] = (("hr", 1), ("hr", 10))


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One configuration's bars in one panel."""

    key: str
    title: str
    buckets: tuple[Summary | None, ...]
    """[3] head, mid, tail; None where the bucket has no target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A data set's panels."""

    dataset: str
    title: str
    panels: tuple[tuple[Series, ...], ...]
    """[metrics][series], in the order of BAR_METRICS."""
    caption: str


def bars(evidence: Evidence, dataset: str, columns: Sequence[ColumnPlan]) -> Bars:
    """One data set's bars. Raises ConfigError (with the command to run) where it has no result in these columns."""
    measurer = Measurer(evidence.store)
    chosen = chosen_of(evidence, dataset, columns)
    if not chosen:
        names = ", ".join(column.title for column in columns)
        raise ConfigError(
            f"study {evidence.study} has no finished trial of {names} on {dataset} with profile "
            f"{evidence.profile}: {evidence.to_run((dataset,))}"
        )
    panels, errors = [], []
    for name, k in BAR_METRICS:
        panel = []
        most = 0.0
        for column in columns:
            if column.key in chosen:
                group = chosen[column.key].group
                found = [measurer(group, name, k, bucket) for bucket in range(1, N_BUCKETS + 1)]
                buckets = tuple(None if m is None else summarise(m.by_seed) for m in found)
                panel.append(Series(key=column.key, title=column.title, buckets=buckets))
                most = max([most, *(standard_error(m.by_user) for m in found if m is not None)])
        panels.append(tuple(panel))
        errors.append(f"{most:.3f} ({name}@{k})")
    first = next(iter(chosen.values())).group
    data = evidence.data(first)
    sizes = [int((data.bucket[data.targets_test] == bucket).sum()) for bucket in range(1, N_BUCKETS + 1)]
    sentences = [
        f"{dataset_title(dataset)}: data {data.fingerprint[:8]}, test users per bucket {' / '.join(map(str, sizes))}, "
        f"standard error over them up to {', '.join(errors)}"
    ]
    _, odd = odd_ones({key: ran(evidence.store, choice.group) for key, choice in chosen.items()})
    for column in columns:
        if column.key in chosen:
            group = chosen[column.key].group
            sentences.append(column_words(column.title, len(group.runs), group.spec, odd.get(column.key, "")))
    absent = [column.title for column in columns if column.key not in chosen]
    if absent:
        sentences.append(f"not run: {', '.join(absent)}")
    return Bars(
        dataset=dataset,
        title=dataset_title(dataset),
        panels=tuple(panels),
        caption="; ".join(sentences),
    )
