"""The paper's figures by number: what each shows of a study, drawn by `reports.draw`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from matplotlib.figure import Figure

from harness.errors import ConfigError
from harness.store import Store
from reports.bars import FIGURE1_COLUMNS, FIGURE5_COLUMNS, Bars, bars
from reports.draw import draw_bars, draw_line, draw_lines
from reports.draw_separation import draw_separation
from reports.lines import Axis, Line, line, lines
from reports.names import dataset_title
from reports.ran import mixed_words
from reports.results import SELECT_ON, Evidence, Request, gather, narrowed
from reports.separation import separation
from reports.width import TEXT, Width

Drawn = Iterator[tuple[str, Figure]]
"""Stem of the files, and the figure."""


class Draw(Protocol):
    """Draws the pictures of one figure of the paper."""

    def __call__(self, evidence: Evidence, datasets: Sequence[str], width: Width = TEXT) -> Drawn: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FigurePlan:
    """A figure of the paper."""

    number: int
    what: str
    study: str
    """Read by default."""
    datasets: tuple[str, ...]
    """Of the paper's figure; empty: all that have results."""
    draw: Draw


def _sensitivity(number: int) -> Draw:
    def draw(evidence: Evidence, datasets: Sequence[str], width: Width = TEXT) -> Drawn:
        for dataset in datasets:
            yield f"figure{number}_{dataset}", draw_line(line(evidence, dataset, "alpha"), width)

    return draw


def _overview(number: int, axis: Axis, *, buckets: bool) -> Draw:
    def draw(evidence: Evidence, datasets: Sequence[str], width: Width = TEXT) -> Drawn:
        found = lines(evidence, datasets, axis)
        title = f"Sensitivity to {axis}{' per popularity bucket' if buckets else ''}"
        caption = _common_caption(
            evidence, found, [name for name in datasets if name not in {f.dataset for f in found}]
        )
        yield f"figure{number}", draw_lines(found, title, caption, width, buckets=buckets)

    return draw


def _common_caption(evidence: Evidence, found: Sequence[Line], absent: Sequence[str]) -> list[str]:
    """What all data sets share, then what each has of its own."""
    hollow = any(len(group.runs) < max(len(g.runs) for g in one.groups) for one in found for group in one.groups)
    sentences = [
        f"study {evidence.study}, profile {evidence.profile}; band: one sample std over seeds; dashed: best mean "
        f"validation {SELECT_ON}{' of the filled points; hollow: fewer seeds' if hollow else ''}"
    ]
    for one in found:
        spec = one.groups[-1].spec
        most = max(len(group.runs) for group in one.groups)
        other = "lambda" if one.axis == "alpha" else "alpha"
        sentences.append(
            f"{one.title.split(':')[0]}: {other} {one.fixed:g}, {spec.loss.kind.upper()}, B {spec.train.batch_size}, "
            f"{spec.aux.bt_reduction}, n = {most}, data {one.groups[0].fingerprint[:8]}"
            + "".join(f", {words}" for words in mixed_words(evidence.store, one.groups))
        )
    if absent:
        sentences.append(f"not run: {', '.join(map(dataset_title, absent))}")
    return sentences


def _bar_caption(evidence: Evidence, found: Sequence[Bars]) -> list[str]:
    first = f"study {evidence.study}, profile {evidence.profile}; mean over seeds, whisker: one sample std (n > 1)"
    return [first, *(one.caption for one in found)]


def _figure1(evidence: Evidence, datasets: Sequence[str], width: Width = TEXT) -> Drawn:
    found = bars(evidence, datasets, FIGURE1_COLUMNS)
    yield (
        "figure1",
        draw_bars(found, "Hit rate per popularity bucket", _bar_caption(evidence, found), width),
    )


def _figure2(evidence: Evidence, datasets: Sequence[str], width: Width = TEXT) -> Drawn:
    found = separation(evidence, datasets)
    first = (
        f"study {evidence.study}, profile {evidence.profile}; at most 1,000 test users with 300 unseen items each, the "
        "same for all models; overlap: 0 where their scores are wholly apart, 1 where they are alike; densities: first "
        "seed; bars, spectra and effective ranks: mean over seeds, whisker: one sample std; singular values of the "
        "states, not centred"
    )
    caption = [first, *(one.caption for one in found)]
    yield "figure2", draw_separation(found, "Score separation and singular values", caption, width)


def _figure5(evidence: Evidence, datasets: Sequence[str], width: Width = TEXT) -> Drawn:
    for dataset in datasets:
        found = bars(evidence, (dataset,), FIGURE5_COLUMNS)
        name = "figure5" if dataset == "yelp" else f"figure5_{dataset}"
        title = f"{found[0].title}: hit rate per popularity bucket at two values of alpha"
        yield name, draw_bars(found, title, _bar_caption(evidence, found), width)


FIGURES: Mapping[int, FigurePlan] = {
    plan.number: plan
    for plan in (
        FigurePlan(
            number=1,
            what="hit rate per popularity bucket",
            study="table2",
            datasets=("ml1m", "yelp", "gowalla"),
            draw=_figure1,
        ),
        FigurePlan(
            number=2,
            what="score separation and singular values",
            study="table2",
            datasets=("ml1m", "yelp", "gowalla"),
            draw=_figure2,
        ),
        FigurePlan(number=3, what="sensitivity to alpha", study="alpha_lambda", datasets=(), draw=_sensitivity(3)),
        FigurePlan(
            number=4,
            what="sensitivity to alpha, MovieLens",
            study="alpha_lambda",
            datasets=("ml1m",),
            draw=_sensitivity(4),
        ),
        FigurePlan(
            number=5,
            what="buckets at two values of alpha",
            study="alpha_lambda",
            datasets=("yelp",),
            draw=_figure5,
        ),
        FigurePlan(
            number=6,
            what="sensitivity to alpha, all data sets",
            study="alpha_lambda",
            datasets=(),
            draw=_overview(6, "alpha", buckets=False),
        ),
        FigurePlan(
            number=7,
            what="sensitivity to lambda, all data sets",
            study="alpha_lambda",
            datasets=(),
            draw=_overview(7, "lambda", buckets=False),
        ),
        FigurePlan(
            number=8,
            what="sensitivity to alpha per bucket",
            study="alpha_lambda",
            datasets=(),
            draw=_overview(8, "alpha", buckets=True),
        ),
        FigurePlan(
            number=9,
            what="sensitivity to lambda per bucket",
            study="alpha_lambda",
            datasets=(),
            draw=_overview(9, "lambda", buckets=True),
        ),
    )
}


def plan_of(number: int) -> FigurePlan:
    """The plan of a figure. Raises ConfigError for a number that the paper does not have."""
    if number not in FIGURES:
        raise ConfigError(f"there is no figure {number}: use --figure {', '.join(map(str, FIGURES))}")
    return FIGURES[number]


def drawn(number: int, store: Store, request: Callable[[str], Request], width: Width = TEXT) -> Drawn:
    """The figure's pictures: of the data sets named; else the paper's if the study has any of them, else all that have
    results. `request` says what to gather of a study.

    Raises ConfigError and StoreError as `gather` does, and where the study has not what the figure shows.
    """
    plan = plan_of(number)
    asked = request(plan.study)
    if asked.study not in store.studies():
        asked = narrowed(asked, plan.datasets)  # the command that the error names
    evidence = gather(store, asked)
    shown = tuple(name for name in plan.datasets if name in evidence.finished) or evidence.finished
    yield from plan.draw(evidence, evidence.datasets if asked.datasets else shown, width)
