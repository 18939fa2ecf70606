"""The paper's figures by number: what each shows of a study, drawn by `reports.draw`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from matplotlib.figure import Figure

from harness.config import dataset_slug
from harness.errors import ConfigError
from harness.store import Store
from reports.bars import FIGURE1_COLUMNS, FIGURE5_COLUMNS, Bars, bars
from reports.draw import draw_bars, draw_line, draw_lines
from reports.draw_separation import draw_separation
from reports.groups import SELECT_ON
from reports.lines import Axis, Line, line
from reports.names import dataset_title
from reports.ran import mixed_words
from reports.results import Evidence, Made, Request, gather, narrowed, of_each
from reports.separation import Separation, separation
from reports.width import TEXT, Width


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One drawing."""

    stem: str
    """Of its files."""
    figure: Figure
    dataset: str = ""
    """Empty: of several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The pictures of a figure of the paper, and what they lack."""

    pictures: tuple[Picture, ...]
    refused: tuple[ConfigError, ...] = ()
    """Of data sets that would have a picture of their own: why there is none."""
    absent: tuple[ConfigError, ...] = ()
    """Of data sets that would have a row in the picture of all: the same; its caption names them."""


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
        return _one_each(
            datasets,
            lambda dataset: Picture(
                stem=f"figure{number}_{dataset_slug(dataset)}",
                figure=draw_line(line(evidence, dataset, "alpha"), width),
                dataset=dataset,
            ),
        )

    return draw


def _one_each(datasets: Sequence[str], draw: Callable[[str], Picture]) -> Drawn:
    """A picture of each data set that can be drawn. Raises the first's ConfigError where none can."""
    pictures, refused = _each(datasets, draw)
    return Drawn(pictures=tuple(pictures), refused=refused)


def _each(datasets: Sequence[str], make: Callable[[str], Made]) -> tuple[list[Made], tuple[ConfigError, ...]]:
    """What is shown of each data set, and why of others nothing. Raises the first's ConfigError where nothing is."""
    found, refused = of_each(datasets, make)
    if not found:
        raise refused[0]
    return found, tuple(refused)


def _overview(number: int, axis: Axis, *, buckets: bool) -> Draw:
    def draw(evidence: Evidence, datasets: Sequence[str], width: Width = TEXT) -> Drawn:
        found, refused = _each(datasets, lambda dataset: line(evidence, dataset, axis))
        title = f"Sensitivity to {axis}{' per popularity bucket' if buckets else ''}"
        caption = [*_common_caption(evidence, found), *_absent(evidence, datasets, found)]
        picture = Picture(stem=f"figure{number}", figure=draw_lines(found, title, caption, width, buckets=buckets))
        return Drawn(pictures=(picture,), absent=refused)

    return draw


def _common_caption(evidence: Evidence, found: Sequence[Line]) -> list[str]:
    """What all data sets share, then what each has of its own."""
    hollow = any(len(group.runs) < max(len(g.runs) for g in one.groups) for one in found for group in one.groups)
    band = "; band: one sample std over seeds" if any(len(g.runs) > 1 for one in found for g in one.groups) else ""
    sentences = [
        f"study {evidence.study}, profile {evidence.profile}{band}; dashed: best mean validation {SELECT_ON}"
        f"{' of the filled points; hollow: fewer seeds' if hollow else ''}"
    ]
    for one in found:
        spec = one.groups[-1].spec
        most = max(len(group.runs) for group in one.groups)
        other = "lambda" if one.axis == "alpha" else "alpha"
        sentences.append(
            f"{dataset_title(one.dataset)}: {other} {one.fixed:g}, {spec.loss.kind.upper()}, "
            f"B {spec.train.batch_size}, {spec.aux.bt_reduction}, n = {most}, data {one.groups[0].fingerprint[:8]}"
            + "".join(f", {words}" for words in (*mixed_words(evidence.store, one.groups), one.which) if words)
        )
    return sentences


def _absent(evidence: Evidence, datasets: Sequence[str], found: Sequence[Line | Bars | Separation]) -> list[str]:
    """The last line of a caption: data sets that are not shown."""
    shown, run = {one.dataset for one in found}, set(evidence.finished)
    absent = [name for name in datasets if name not in shown]
    groups = {
        "too little to show": [dataset_title(name) for name in absent if name in run],
        "not run": [dataset_title(name) for name in absent if name not in run],
    }
    words = "; ".join(f"{why}: {', '.join(titles)}" for why, titles in groups.items() if titles)
    return [words] if words else []


def _bar_caption(evidence: Evidence, found: Sequence[Bars]) -> list[str]:
    first = f"study {evidence.study}, profile {evidence.profile}; mean over seeds, whisker: one sample std (n > 1)"
    return [first, *(one.caption for one in found)]


def _figure1(evidence: Evidence, datasets: Sequence[str], width: Width = TEXT) -> Drawn:
    found, refused = _each(datasets, lambda dataset: bars(evidence, dataset, FIGURE1_COLUMNS))
    caption = [*_bar_caption(evidence, found), *_absent(evidence, datasets, found)]
    figure = draw_bars(found, "Hit rate per popularity bucket", caption, width)
    return Drawn(pictures=(Picture(stem="figure1", figure=figure),), absent=refused)


def _figure2(evidence: Evidence, datasets: Sequence[str], width: Width = TEXT) -> Drawn:
    found, refused = _each(datasets, partial(separation, evidence))
    first = (
        f"study {evidence.study}, profile {evidence.profile}; at most 1,000 test users with 300 unseen items each, the "
        "same for all models; overlap: 0 where their scores are wholly apart, 1 where they are alike; densities: first "
        "seed; bars, spectra and effective ranks: mean over seeds, whisker: one sample std; singular values of the "
        "states, not centred"
    )
    caption = [first, *(one.caption for one in found), *_absent(evidence, datasets, found)]
    figure = draw_separation(found, "Score separation and singular values", caption, width)
    return Drawn(pictures=(Picture(stem="figure2", figure=figure),), absent=refused)


def _figure5(evidence: Evidence, datasets: Sequence[str], width: Width = TEXT) -> Drawn:
    def picture(dataset: str) -> Picture:
        found = bars(evidence, dataset, FIGURE5_COLUMNS)
        title = f"{found.title}: hit rate per popularity bucket at two values of alpha"
        return Picture(
            stem="figure5" if dataset == "yelp" else f"figure5_{dataset_slug(dataset)}",
            figure=draw_bars((found,), title, _bar_caption(evidence, (found,)), width),
            dataset=dataset,
        )

    return _one_each(datasets, picture)


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
    return plan.draw(evidence, evidence.datasets if asked.datasets else shown, width)
