"""How figures are drawn: one style for all, no pyplot state, every figure its own object with the Agg canvas."""

import re
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
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
from reports.output import whole

SUFFIXES: tuple[str, ...] = (".png", ".svg", ".pdf")
WIDTH_INCHES, FONT_POINTS, DPI = 5.5, 8.0, 220
COMMON: tuple[tuple[str, int], ...] = (("hr", 1), ("hr", 5), ("hr", 10), ("cov", 1), ("cov", 5), ("cov", 10))
BUCKETED: tuple[tuple[str, int], ...] = (("hr", 1), ("hr", 10), ("cov", 10))
BUCKET_TITLES: tuple[str, ...] = ("head", "mid", "tail")
MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v")
METHOD_COLORS: Mapping[str, int] = {
    "bt_sr": 0,
    "sasrec_bce": 1,
    "sasrec_ce": 2,
    "sasrec_sce": 3,
    "duorec": 4,
    "bt_sr[alpha=0.1]": 9,
    "bt_sr[alpha=0.4]": 0,
}
"""In seaborn's colour-blind palette: a method has one colour in all figures."""
BUCKET_COLORS: tuple[int, ...] = (0, 1, 4)
"""In seaborn's colour-blind palette."""

STYLE: dict[Any, Any] = {
    "font.size": FONT_POINTS,
    "axes.titlesize": FONT_POINTS,
    "axes.labelsize": FONT_POINTS,
    "xtick.labelsize": FONT_POINTS - 1,
    "ytick.labelsize": FONT_POINTS - 1,
    "legend.fontsize": FONT_POINTS,
    "legend.title_fontsize": FONT_POINTS,
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
"""Height of a caption's line."""


def framed(
    height_inches: float, title: str, caption: Sequence[str], fill: Callable[[SubFigure, Colors], None]
) -> Figure:
    """A figure with its title, what `fill` draws in `height_inches`, and the caption below in small print."""
    style: dict[Any, Any] = {**sns.axes_style("ticks"), **sns.plotting_context("paper"), **STYLE}
    with mpl.rc_context(style):
        below = CAPTION_INCHES * (len(caption) + 0.6)
        figure = Figure(figsize=(WIDTH_INCHES, height_inches + below), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        parts = figure.subfigures(2, 1, height_ratios=(height_inches, below), squeeze=False)[:, 0]
        fill(parts[0], sns.color_palette("colorblind"))
        sns.despine(fig=figure)
        parts[0].suptitle(title, fontsize=FONT_POINTS + 1)
        words = "\n".join(caption)
        parts[1].text(
            0.5, 0.5, words, ha="center", va="center", fontsize=FONT_POINTS - 1.5, color="0.25", linespacing=1.4
        )
        figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once: every file shows the same
    return figure


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


def _finish(axes: Axes, optimum: float) -> None:
    """Mark the optimum; few ticks; no words but those that are set afterwards."""
    legend = axes.get_legend()
    if legend is not None:
        legend.remove()
    axes.axvline(optimum, color="0.35", linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.set(xlabel="", ylabel="")


def draw_line(line: Line) -> Figure:
    """Left: hr and cov at 1, 5, 10 over all users, an axis each; right: hr@1, hr@10, cov@10 per popularity bucket."""

    def fill(figure: SubFigure, colors: Colors) -> None:
        grid = figure.subplots(3, 3, sharex=True)
        for index, (name, k) in enumerate(COMMON):
            axes = grid[index % 3, index // 3]
            _curve(axes, line.points(name, k, 0), colors[0 if name == "hr" else 2], "o", "")
            axes.set_title(f"{name.upper()}@{k}", pad=3)
        for row, (name, k) in enumerate(BUCKETED):
            _bucket_curves(grid[row, 2], line, name, k, colors)
            grid[row, 2].set_title(f"{name.upper()}@{k} by bucket", pad=3)
        handles, labels = grid[0, 2].get_legend_handles_labels()
        for axes in grid.flat:
            _finish(axes, line.optimum)
        for axes in grid[-1]:
            axes.set_xlabel(rf"$\{line.axis}$")
        _bucket_legend(figure, handles, labels)

    return framed(4.2, line.title, line.caption, fill)


def _bucket_legend(figure: SubFigure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    if handles:
        names = [f"target in {label} bucket" for label in labels]
        figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)


def draw_lines(lines: Sequence[Line], title: str, caption: Sequence[str], *, buckets: bool) -> Figure:
    """A row for each data set. Over all users: hr and cov, a curve for each of K = 1, 5, 10; per popularity bucket:
    hr@1, hr@10 and cov@10, a curve for each bucket."""

    def fill(figure: SubFigure, colors: Colors) -> None:
        columns = BUCKETED if buckets else (("hr", 0), ("cov", 0))
        grid = figure.subplots(len(lines), len(columns), squeeze=False)
        for row, line in enumerate(lines):
            for axes, (name, k) in zip(grid[row], columns, strict=True):
                if buckets:
                    _bucket_curves(axes, line, name, k, colors)
                else:
                    for i, cutoff in enumerate((1, 5, 10)):
                        _curve(axes, line.points(name, cutoff, 0), colors[(0, 2, 3)[i]], MARKERS[i], f"K = {cutoff}")
                handles, labels = axes.get_legend_handles_labels()
                _finish(axes, line.optimum)
                axes.set_ylim(0, 1.04 * axes.get_ylim()[1])
                if row == 0:
                    axes.set_title(f"{name.upper()}@{k if buckets else 'K'}{' by bucket' if buckets else ''}", pad=3)
            grid[row, 0].set_ylabel(line.title.split(":")[0])
        for axes in grid[-1]:
            axes.set_xlabel(rf"$\{lines[0].axis}$")
        if buckets:
            _bucket_legend(figure, handles, labels)
        else:
            figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)

    return framed(0.9 + 1.25 * len(lines), title, caption, fill)


def draw_bars(found: Sequence[Bars], title: str, caption: Sequence[str]) -> Figure:
    """A row for each data set, hr@1 left and hr@10 right; groups of bars by bucket, std over seeds as whiskers."""

    def fill(figure: SubFigure, colors: Colors) -> None:
        names = list(dict.fromkeys(series.title for bars in found for panel in bars.panels for series in panel))
        grid = figure.subplots(len(found), len(BAR_METRICS), squeeze=False)
        handles: dict[str, Any] = {}
        for row, bars in enumerate(found):
            for axes, panel, (name, k) in zip(grid[row], bars.panels, BAR_METRICS, strict=True):
                width = 0.8 / len(panel)
                for i, series in enumerate(panel):
                    there = [(b, spread) for b, spread in enumerate(series.buckets) if spread is not None]
                    places = np.array([b for b, _ in there]) + (i - (len(panel) - 1) / 2) * width
                    handles[series.title] = axes.bar(
                        places,
                        [spread.mean for _, spread in there],
                        width * 0.92,
                        yerr=[np.nan if spread.std is None else spread.std for _, spread in there],
                        color=colors[METHOD_COLORS[series.key]],
                        error_kw={"elinewidth": 0.7, "capsize": 1.5, "capthick": 0.7, "ecolor": "0.25"},
                    )
                axes.set_xticks(range(3), BUCKET_TITLES)
                axes.yaxis.set_major_locator(MaxNLocator(4))
                if row == 0:
                    axes.set_title(f"{name.upper()}@{k}", pad=3)
            grid[row, 0].set_ylabel(bars.title)
        for axes in grid[-1]:
            axes.set_xlabel("popularity bucket of the target")
        figure.legend(
            [handles[name] for name in names],
            names,
            loc="outside lower center",
            ncols=min(3, len(names)),
            frameon=False,
        )

    return framed(1.1 + 1.35 * len(found), title, caption, fill)
