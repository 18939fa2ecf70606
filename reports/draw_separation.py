"""Figure 2: mirrored score densities with overlap factors, and singular value spectra with effective ranks."""

from collections.abc import Sequence
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from reports.draw import METHOD_COLORS, Colors, framed
from reports.separation import COLUMNS, SCORED, Separated, Separation

POSITIVE, NEGATIVE = 9, 5
"""In the palette: colours that no method has."""
HALF = 0.42
"""Width of the widest density, in places of the axis."""
OVERLAP_COLORS: tuple[str, ...] = ("0.35", "0.7")
STYLES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))


def draw_separation(found: Sequence[Separation], title: str, caption: Sequence[str]) -> Figure:
    """A row for each data set: densities of positives and negatives, their overlap, singular values."""

    def fill(figure: SubFigure, colors: Colors) -> None:
        grid = figure.subplots(len(found), 3, squeeze=False, width_ratios=(1.25, 1.0, 1.25))
        for row, one in enumerate(found):
            shown = [model for model in one.models if model.key in SCORED]
            _densities(grid[row, 0], shown, colors)
            _overlaps(grid[row, 1], shown)
            _spectra(grid[row, 2], one.models, colors)
            grid[row, 0].set_ylabel(f"{one.title}\nscore / std of unseen")
        for axes, words in zip(grid[0], ("Scores", "Overlap", "Singular values / largest"), strict=True):
            axes.set_title(words, pad=4)
        grid[-1, 2].set_xlabel("index")
        patches = [
            Patch(color=colors[POSITIVE], label="test target"),
            Patch(color=colors[NEGATIVE], label="unseen items"),
            Patch(color=OVERLAP_COLORS[0], label="overlap, kernel density"),
            Patch(color=OVERLAP_COLORS[1], label="overlap, histogram"),
        ]
        figure.legend(handles=patches, loc="outside lower center", ncols=2, frameon=False)

    return framed(1.15 + 1.75 * len(found), title, caption, fill)


def _densities(axes: Axes, models: Sequence[Separated], colors: Colors) -> None:
    low, high = 0.0, 0.0
    for place, model in enumerate(models):
        if model.curves is None:
            continue
        curves = model.curves
        most = max(curves.positive.max(), curves.negative.max())
        for density, side, color in ((curves.negative, -1, NEGATIVE), (curves.positive, 1, POSITIVE)):
            edge = place + side * HALF * density / most
            axes.fill_betweenx(curves.grid, place, edge, color=colors[color], alpha=0.75, linewidth=0)
            there = curves.grid[density > 0.002 * density.max()]
            low, high = min(low, float(there.min())), max(high, float(there.max()))
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    _names(axes, models)


def _overlaps(axes: Axes, models: Sequence[Separated]) -> None:
    for place, model in enumerate(models):
        for side, summary, color in zip((-1, 1), (model.overlap_kde, model.overlap_hist), OVERLAP_COLORS, strict=True):
            if summary is None:
                continue
            x = place + side * 0.2
            axes.bar(
                x,
                summary.mean,
                0.38,
                yerr=summary.std or 0.0,
                color=color,
                error_kw={"elinewidth": 0.7, "ecolor": "0.25"},
            )
            top = summary.mean + (summary.std or 0.0) + 0.03
            axes.text(x, top, f"{summary.mean:.2f}", ha="center", va="bottom", fontsize=6, rotation=90)
    axes.set_ylim(0, 1.12)
    axes.set_yticks((0, 0.5, 1))
    _names(axes, models)


def _names(axes: Axes, models: Sequence[Separated]) -> None:
    short = [model.title.removeprefix("SASRec (").removesuffix(")") for model in models]
    axes.set_xticks(range(len(models)), short)
    axes.set_xlim(-0.6, max(len(models), 1) - 0.4)


def _spectra(axes: Axes, models: Sequence[Separated], colors: Colors) -> None:
    keys = [column.key for column in COLUMNS]
    for model in models:
        i = keys.index(model.key)
        sns.lineplot(
            x=range(1, len(model.spectrum) + 1),
            y=model.spectrum,
            ax=axes,
            color=colors[METHOD_COLORS[model.key]],
            linestyle=STYLES[i],
            linewidth=1.2,
            label=f"{model.title}: {model.erank.mean:.1f}",
        )
    axes.set(xlabel="", ylabel="", ylim=(0, 1.03))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.legend(title="effective rank", frameon=False, fontsize=6.5, title_fontsize=6.5, handlelength=2.2)
