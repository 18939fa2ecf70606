"""How figures are drawn: one style for all, no pyplot state, every figure its own object with the Agg canvas."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import StringIO
from itertools import cycle
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FormatStrFormatter, MaxNLocator

from reports.bars import BAR_METRICS, Bars
from reports.lines import Line, Point
from reports.names import dataset_title
from reports.output import whole
from reports.width import TEXT, Width

SUFFIXES: tuple[str, ...] = (".png", ".svg", ".pdf")
DPI = 220
COMMON: tuple[tuple[str, int], ...] = (("hr", 1), ("hr", 5), ("hr", 10), ("cov", 1), ("cov", 5), ("cov", 10))
BUCKETED: tuple[tuple[str, int], ...] = (("hr", 1), ("hr", 10), ("cov", 10))
BUCKET, BUCKET_TITLES = "bucket of the target", ("head", "mid", "tail")
MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v")
METHOD_COLORS: Mapping[str, int] = {
    "bt_sr": 0,
    "sasrec_bce": 1,
    "sasrec_ce": 2,
    "sasrec_sce": 3,
    "duorec": 4,
    "cl4srec": 5,
    "ec4srec": 6,
    "bt_sr[alpha=0.1]": 9,
    "bt_sr[alpha=0.4]": 0,
}
"""In seaborn's colour-blind palette: a method has one colour in all figures."""
BUCKET_COLORS: tuple[int, ...] = (0, 1, 4)
"""In seaborn's colour-blind palette."""

STYLE: dict[Any, Any] = {
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "btsr",
    "pdf.fonttype": 42,
}
Colors = Sequence[Any]
CAPTION_INCHES = 0.135
"""Height of a caption's line in a figure of the default width."""
ROW_CHARACTERS = 16
"""As many as a row is high for."""
HEADING_INCHES = 0.15
"""Height of each further line of the title."""


def colors_of(methods: Iterable[str], colors: Colors) -> dict[str, Any]:
    """A colour for each method: its own where it has one, else the next that none of the others has."""
    names = list(dict.fromkeys(methods))
    taken = {METHOD_COLORS[name] for name in names if name in METHOD_COLORS}
    free = cycle([place for place in range(len(colors)) if place not in taken] or range(len(colors)))
    return {name: colors[METHOD_COLORS[name] if name in METHOD_COLORS else next(free)] for name in names}


def framed(
    height_inches: float,
    title: str,
    caption: Sequence[str],
    fill: Callable[[SubFigure, Colors], None],
    width: Width = TEXT,
) -> Figure:
    """A figure with its title, what `fill` draws in `height_inches`, and the caption's paragraphs in small print.

    A bare one has its title and the paragraphs as its label, a line each, in place of the drawn words.
    """
    style: dict[Any, Any] = {**sns.axes_style("ticks"), **sns.plotting_context("paper"), **STYLE, **_type(width)}
    with mpl.rc_context(style):
        figure = Figure(figsize=(width.inches, height_inches), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        palette = sns.color_palette("colorblind")
        if width.bare:
            figure.set_label("\n".join([title, *caption]))
            fill(figure.subfigures(1, 1, squeeze=False)[0, 0], palette)
        else:
            heading = _broken(figure, title, width.type + 1)
            height_inches += HEADING_INCHES * heading.count("\n")
            rows = width.wrapped(caption)
            below = CAPTION_INCHES * (width.caption / TEXT.caption) * (len(rows) + 0.6)
            figure.set_size_inches(width.inches, height_inches + below)
            parts = figure.subfigures(2, 1, height_ratios=(height_inches, below), squeeze=False)[:, 0]
            fill(parts[0], palette)
            parts[0].suptitle(heading, fontsize=width.type + 1, parse_math=False)
            look: dict[str, Any] = {"fontsize": width.caption, "color": "0.25", "linespacing": 1.4, "parse_math": False}
            parts[1].text(0.5, 0.5, "\n".join(rows), ha="center", va="center", **look)
        sns.despine(fig=figure)
        figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once: every file shows the same
    return figure


def _type(width: Width) -> dict[str, float]:
    names = ("font.size", "axes.titlesize", "axes.labelsize", "legend.fontsize", "legend.title_fontsize")
    return dict.fromkeys(names, width.type)


def _broken(figure: Figure, words: str, points: float) -> str:
    """The words in as few lines as the figure is wide for, none much shorter than the others."""
    fitting: list[str] = []
    for characters in range(len(words), 0, -1):
        rows = wrap(words, characters)
        if fitting and len(rows) > len(fitting):
            break
        probe = figure.text(0, 0, "\n".join(rows), fontsize=points, parse_math=False)
        if probe.get_window_extent().width <= figure.bbox.width:
            fitting = rows
        probe.remove()
    return "\n".join(fitting)


def panels(figure: SubFigure, width: Width) -> list[Axes]:
    """Two panels beside each other, in a narrow figure one below the other."""
    return list(figure.subplots(2, 1) if width.narrow else figure.subplots(1, 2))


def name_row(axes: Axes, title: str, below: str = "") -> None:
    """A data set's title beside its row, and more words; of the long path of a file its end, the caption has it all."""
    short = title if len(title) <= ROW_CHARACTERS else f"…{title[1 - ROW_CHARACTERS :]}"
    axes.set_ylabel(f"{short}{below}", parse_math=False)


def legend_below(
    figure: SubFigure,
    handles: Sequence[Any],
    labels: Sequence[str],
    columns: int,
    title: str | None = None,
    *,
    math: bool = False,
) -> None:
    """A legend below all panels, in as many columns as the figure is wide for; `math`: what is between $ is that."""
    for count in range(columns, 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=count, frameon=False, title=title)
        for words in legend.get_texts():
            words.set_parse_math(math)
        if count == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def svg(figure: Figure) -> str:
    """The figure as SVG. matplotlib names clip paths after memory addresses: here they are numbered."""
    out = StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(out, format="svg", metadata={"Date": None})
    words = out.getvalue()
    names = dict.fromkeys(re.findall(r'<clipPath id="(\w+)"', words))
    numbers = {name: f"clip{i}" for i, name in enumerate(names)}
    return re.sub(r'(<clipPath id="|url\(#)(\w+)', lambda m: m[1] + numbers.get(m[2], m[2]), words)


def save(figure: Figure, stem: Path) -> tuple[Path, ...]:
    """Write PNG, SVG and PDF beside each other; the same data gives the same bytes. Raises OSError."""
    png, vector, pdf = (stem.with_name(stem.name + suffix) for suffix in SUFFIXES)
    with whole(png) as raster, whole(vector) as lines, whole(pdf) as document:
        with mpl.rc_context(STYLE):
            figure.savefig(raster, metadata={})
            figure.savefig(document, metadata={"CreationDate": None})
        lines.write_text(svg(figure), encoding="utf-8")
    return png, vector, pdf


def _curve(axes: Axes, points: Sequence[Point], color: object, marker: str, label: str) -> None:
    """Mean and one standard deviation over seeds; points with fewer seeds are hollow and unconnected."""
    full = [point for point in points if point.complete]
    places, means = [p.x for p in full], [p.mean for p in full]
    sns.lineplot(
        x=places,
        y=means,
        ax=axes,
        color=color,
        marker=marker,
        markersize=4,
        linewidth=1.2,
        markeredgewidth=0,
        label=label,
    )
    low = [p.mean - (p.std or 0.0) for p in full]
    high = [p.mean + (p.std or 0.0) for p in full]
    axes.fill_between(places, low, high, color=color, alpha=0.18, linewidth=0)
    rest = [point for point in points if not point.complete]
    axes.plot(
        [p.x for p in rest],
        [p.mean for p in rest],
        linestyle="",
        marker=marker,
        markersize=3.5,
        markerfacecolor="none",
        markeredgecolor=color,
        markeredgewidth=0.7,
    )


def _bucket_curves(axes: Axes, line: Line, name: str, k: int, colors: Colors) -> None:
    for bucket in (1, 2, 3):
        points = line.points(name, k, bucket)
        if points:
            color = colors[BUCKET_COLORS[bucket - 1]]
            _curve(axes, points, color, MARKERS[bucket - 1], BUCKET_TITLES[bucket - 1])


SHORT = 0.05
"""Where a line ends beyond it, its ticks have numbers of few digits; alphas beside BCE (`studies.points`) have more."""


def _finish(axes: Axes, optimum: float, most_ticks: int = 6) -> None:
    """Mark the optimum; few ticks; no words but those that are set afterwards."""
    legend = axes.get_legend()
    if legend is not None:
        legend.remove()
    axes.axvline(optimum, color="0.35", linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    short = axes.get_xlim()[1] > SHORT
    axes.xaxis.set_major_locator(MaxNLocator(most_ticks if short else 3))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.set(xlabel="", ylabel="")


def draw_line(line: Line, width: Width = TEXT) -> Figure:
    """hr and cov at 1, 5, 10 over all users, an axis each; hr@1, hr@10, cov@10 per popularity bucket right of them, in
    a narrow figure below."""

    def fill(figure: SubFigure, colors: Colors) -> None:
        grid = figure.subplots(*((5, 2) if width.narrow else (3, 3)), sharex=True)
        cells = [*grid[:3].T.flat, *grid[3:].flat]
        shown, rest = cells[:9], cells[9:]
        for axes, (name, k) in zip(shown[:6], COMMON, strict=True):
            _curve(axes, line.points(name, k, 0), colors[0 if name == "hr" else 2], "o", "")
            axes.set_title(f"{name.upper()}@{k}", pad=3)
        for axes, (name, k) in zip(shown[6:], BUCKETED, strict=True):
            _bucket_curves(axes, line, name, k, colors)
            axes.set_title(f"{name.upper()}@{k} by bucket", pad=3)
        handles, labels = shown[6].get_legend_handles_labels()
        for axes in shown:
            _finish(axes, line.optimum)
        for column in grid.T:
            lowest = [axes for axes in column if axes in shown][-1]
            lowest.tick_params(labelbottom=True)
            lowest.set_xlabel(rf"$\{line.axis}$", visible=True)
        for axes in rest:
            axes.set_axis_off()
            if handles:
                axes.legend(handles, labels, loc="center", title=BUCKET, frameon=False)
        if not rest:
            _bucket_legend(figure, handles, labels, width)

    return framed(5.2 if width.narrow else 4.2, line.title, (line.caption,), fill, width)


def _bucket_legend(figure: SubFigure, handles: Sequence[Any], labels: Sequence[str], width: Width) -> None:
    if handles and width.narrow:
        legend_below(figure, handles, labels, 3, BUCKET)
    elif handles:
        legend_below(figure, handles, [f"target in {label} bucket" for label in labels], 3)


def draw_lines(
    lines: Sequence[Line], title: str, caption: Sequence[str], width: Width = TEXT, *, buckets: bool
) -> Figure:
    """A row for each data set. Over all users: hr and cov, a curve for each of K = 1, 5, 10; per popularity bucket:
    hr@1, hr@10 and cov@10, a curve for each bucket."""

    def fill(figure: SubFigure, colors: Colors) -> None:
        columns = BUCKETED if buckets else (("hr", 0), ("cov", 0))
        grid = figure.subplots(len(lines), len(columns), squeeze=False)
        curves: dict[str, Any] = {}
        for row, line in enumerate(lines):
            for axes, (name, k) in zip(grid[row], columns, strict=True):
                if buckets:
                    _bucket_curves(axes, line, name, k, colors)
                else:
                    for i, cutoff in enumerate((1, 5, 10)):
                        _curve(axes, line.points(name, cutoff, 0), colors[(0, 2, 3)[i]], MARKERS[i], f"K = {cutoff}")
                curves |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
                _finish(axes, line.optimum, 3 if width.narrow and buckets else 6)
                axes.set_ylim(0, 1.04 * axes.get_ylim()[1])
                if row == 0:
                    words = " by bucket" if buckets and not width.narrow else ""
                    axes.set_title(f"{name.upper()}@{k if buckets else 'K'}{words}", pad=3)
            name_row(grid[row, 0], dataset_title(line.dataset))
        for axes in grid[-1]:
            axes.set_xlabel(rf"$\{lines[0].axis}$")
        labels = [label for label in (BUCKET_TITLES if buckets else list(curves)) if label in curves]
        if buckets:
            _bucket_legend(figure, [curves[label] for label in labels], labels, width)
        else:
            legend_below(figure, [curves[label] for label in labels], labels, 3)

    height = 0.9 + (1.0 if width.narrow else 1.25) * len(lines)
    return framed(height, title, caption, fill, width)


def draw_bars(found: Sequence[Bars], title: str, caption: Sequence[str], width: Width = TEXT) -> Figure:
    """A row for each data set, hr@1 left and hr@10 right; groups of bars by bucket, std over seeds as whiskers."""

    def fill(figure: SubFigure, colors: Colors) -> None:
        names = list(dict.fromkeys(series.title for bars in found for panel in bars.panels for series in panel))
        grid = figure.subplots(len(found), len(BAR_METRICS), squeeze=False)
        handles: dict[str, Any] = {}
        for row, bars in enumerate(found):
            for axes, panel, (name, k) in zip(grid[row], bars.panels, BAR_METRICS, strict=True):
                wide = 0.8 / len(panel)
                for i, series in enumerate(panel):
                    there = [(b, spread) for b, spread in enumerate(series.buckets) if spread is not None]
                    places = np.array([b for b, _ in there]) + (i - (len(panel) - 1) / 2) * wide
                    handles[series.title] = axes.bar(
                        places,
                        [spread.mean for _, spread in there],
                        wide * 0.92,
                        yerr=[np.nan if spread.std is None else spread.std for _, spread in there],
                        color=colors[METHOD_COLORS[series.key]],
                        error_kw={"elinewidth": 0.7, "capsize": 1.5, "capthick": 0.7, "ecolor": "0.25"},
                    )
                axes.set_xticks(range(3), BUCKET_TITLES)
                axes.yaxis.set_major_locator(MaxNLocator(4))
                if row == 0:
                    axes.set_title(f"{name.upper()}@{k}", pad=3)
            name_row(grid[row, 0], bars.title)
        for axes in grid[-1]:
            axes.set_xlabel(BUCKET if width.narrow else "popularity bucket of the target")
        legend_below(figure, [handles[name] for name in names], names, min(3, len(names)))

    height = (1.15 if len(found) <= 3 else 0.9) if width.narrow else 1.35  # five data sets on one page
    return framed(1.1 + height * len(found), title, caption, fill, width)
