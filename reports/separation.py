"""What figure 2 shows (spec 7.4): how well positives stand apart from negatives, and how many directions states use."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import ConfigError
from harness.geometry import Densities, densities, effective_rank, overlap_hist, overlap_kde
from reports.findings import chosen_of
from reports.names import dataset_title
from reports.notes import column_words
from reports.plans import OURS, TABLE2, ColumnPlan
from reports.ran import odd_ones, ran
from reports.results import Evidence
from reports.stats import Summary, summarise

SCORED: tuple[str, ...] = (OURS, "sasrec_ce", "sasrec_sce")
"""Columns whose scores are shown."""
COLUMNS: tuple[ColumnPlan, ...] = tuple(TABLE2.column(key) for key in (*SCORED, "duorec"))
"""Columns whose singular values are shown."""
BEYOND = 3.0
"""Bandwidths beyond the extreme scores where a density has run out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Separated:
    """One configuration on one data set."""

    key: str
    title: str
    curves: Densities | None
    """Of the first seed, in standard deviations of the negatives from their mean, until both have run out; None where
    a score never varies."""
    overlap_kde: Summary | None
    """Over seeds."""
    overlap_hist: Summary | None
    spectrum: NDArray[np.float64]
    """[D] singular values over the largest, mean over seeds."""
    erank: Summary
    """Over seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """One data set."""

    dataset: str
    title: str
    models: tuple[Separated, ...]
    caption: str


def separation(evidence: Evidence, dataset: str) -> Separation:
    """What one data set has in these columns.

    Raises ConfigError (with the command to run) where it has no finished trial, or none that kept a sample.
    """
    chosen = chosen_of(evidence, dataset, COLUMNS)
    start = f"study {evidence.study}, profile {evidence.profile}, {dataset}: "
    if not chosen:
        names = ", ".join(column.title for column in COLUMNS)
        raise ConfigError(f"{start}no finished trial of {names}: {evidence.to_run((dataset,))}")
    found, without, sentences = [], [], []
    _, odd = odd_ones({key: ran(evidence.store, choice.group) for key, choice in chosen.items()})
    for column in COLUMNS:
        if column.key not in chosen:
            without.append(f"{column.title} not run")
            continue
        group = chosen[column.key].group
        model, n = _separated(evidence, column, group.keys)
        if model is None:
            without.append(f"{column.title} kept no states")
            continue
        sentences.append(column_words(column.title, n, group.spec, odd.get(column.key, "")))
        found.append(model)
    if not found:
        raise ConfigError(
            f"{start}the trials in {evidence.store.shown} kept no states and scores, an earlier version ran them: "
            "run the sweep again into another folder by --out"
        )
    title = dataset_title(dataset)
    caption = "; ".join([f"{title}: data {group.fingerprint[:8]}", *sentences, *without])
    return Separation(dataset=dataset, title=title, models=tuple(found), caption=caption)


def _separated(evidence: Evidence, column: ColumnPlan, keys: Sequence[str]) -> tuple[Separated | None, int]:
    """The column's model, None where no run kept a sample, and how many runs did."""
    samples = [sample for key in keys if (sample := evidence.store.sample(key)) is not None]
    if not samples:
        return None, 0
    kde = [value for s in samples if (value := overlap_kde(s.positive, s.negative)) is not None]
    hist = [value for s in samples if (value := overlap_hist(s.positive, s.negative)) is not None]
    negative = samples[0].negative.astype(np.float64)
    curves = None
    if negative.size and negative.std() > 0:
        centre, scale = negative.mean(), negative.std()
        curves = densities((samples[0].positive - centre) / scale, (negative - centre) / scale, beyond=BEYOND)
    model = Separated(
        key=column.key,
        title=column.title,
        curves=curves if column.key in SCORED else None,
        overlap_kde=summarise(np.array(kde)) if kde else None,
        overlap_hist=summarise(np.array(hist)) if hist else None,
        spectrum=np.mean([s.spectrum / max(s.spectrum[0], 1e-12) for s in samples], axis=0, dtype=np.float64),
        erank=summarise(np.array([effective_rank(s.spectrum) for s in samples])),
    )
    return model, len(samples)
