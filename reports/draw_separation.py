"""Figure 2: mirrored score densities with overlap factors, and singular value spectra with effective ranks."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from reports.draw import METHOD_COLORS, Colors, framed, legend_below, name_row
from reports.separation import COLUMNS, SCORED, Separated, Separation
from reports.width import TEXT, Width

POSITIVE, NEGATIVE = 9, 5
"""In the palette: colours that no method of this figure has."""
HALF = 0.42
"""Width of the widest density, in places of the axis."""
OVERLAP_COLORS: tuple[str, ...] = ("0.35", "0.7")
STYLES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))


def draw_separation(found: Sequence[Separation], title: str, caption: Sequence[str], width: Width = TEXT) -> Figure:
    """A row for each data set: densities of positives and negatives, their overlap, singular values. In a narrow figure
    two rows: singular values and effective ranks below the others."""

    def fill(figure: SubFigure, colors: Colors) -> None:
        if width.narrow:
            grid = figure.subplots(2 * len(found), 2, width_ratios=(1.25, 1.0)).reshape(len(found), 4)
        else:
            grid = figure.subplots(len(found), 3, squeeze=False, width_ratios=(1.25, 1.0, 1.25))
        for row, one in enumerate(found):
            shown = [model for model in one.models if model.key in SCORED]
            if any(model.curves is not None for model in shown):
                _densities(grid[row, 0], shown, colors)
                _overlaps(grid[row, 1], shown, 7.0 if width.narrow else 6.0)
            else:
                for axes in grid[row, :2]:
                    axes.set(xticks=(), yticks=())
                    axes.text(0.5, 0.5, "not run", ha="center", va="center", transform=axes.transAxes)
            _spectra(grid[row, 2], one.models, colors, width)
            if width.narrow:
                grid[row, 3].set_axis_off()
                small = {"fontsize": 7.0, "handlelength": 1.7, "borderpad": 0.0, "borderaxespad": 0.0}
                _ranks(grid[row, 3], grid[row, 2], small, "center left")
            else:
                _ranks(grid[row, 2], grid[row, 2], {"fontsize": 6.5, "handlelength": 2.2}, "best")
            unit = "score / std\nof unseen" if width.narrow else "score / std of unseen"
            name_row(grid[row, 0], one.title, f"\n{unit}")
        for axes, words in zip(grid[0, :3], ("Scores", "Overlap", "Singular values / largest"), strict=True):
            axes.set_title(words, pad=4)
        grid[-1, 2].set_xlabel("index")
        patches = [
            Patch(color=colors[POSITIVE], label="test target"),
            Patch(color=colors[NEGATIVE], label="unseen items"),
            Patch(color=OVERLAP_COLORS[0], label="overlap, kernel density"),
            Patch(color=OVERLAP_COLORS[1], label="overlap, histogram"),
        ]
        legend_below(figure, patches, [str(patch.get_label()) for patch in patches], 2)

    height = 1.75
    if width.narrow:
        height = 2.3 if len(found) < 3 else 1.9  # three data sets, as the paper has, on one page
    return framed(1.15 + height * len(found), title, caption, fill, width)


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


def _overlaps(axes: Axes, models: Sequence[Separated], points: float) -> None:
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
            axes.text(x, top, f"{summary.mean:.2f}", ha="center", va="bottom", fontsize=points, rotation=90)
    axes.set_ylim(0, 1.12)
    axes.set_yticks((0, 0.5, 1))
    _names(axes, models)


def _names(axes: Axes, models: Sequence[Separated]) -> None:
    axes.set_xticks(range(len(models)), [_short(model) for model in models])
    axes.set_xlim(-0.6, max(len(models), 1) - 0.4)


def _short(model: Separated) -> str:
    return model.title.removeprefix("SASRec (").removesuffix(")")


def _spectra(axes: Axes, models: Sequence[Separated], colors: Colors, width: Width) -> None:
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
            label=f"{_short(model) if width.narrow else model.title}: {model.erank.mean:.1f}",
        )
    axes.set(xlabel="", ylabel="", ylim=(0, 1.03))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    legend = axes.get_legend()
    if legend is not None:
        legend.remove()


def _ranks(axes: Axes, spectra: Axes, style: Mapping[str, Any], loc: Literal["best", "center left"]) -> None:
    axes.legend(
        *spectra.get_legend_handles_labels(),
        title="effective rank",
        title_fontsize=style["fontsize"],
        frameon=False,
        loc=loc,
        **style,
    )
