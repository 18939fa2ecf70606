"""Figures: what is shown (a value, without matplotlib) and how it is drawn, apart from one another.

Drawing uses no pyplot state: every figure is its own object with the Agg canvas.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, MaxNLocator

from reports.lines import AlphaLine, Point, alpha_line
from reports.results import Evidence

SUFFIXES: tuple[str, ...] = (".png", ".svg", ".pdf")
WIDTH_INCHES, HEIGHT_INCHES, FONT_POINTS, DPI = 5.5, 4.9, 8.0, 220
COMMON: tuple[tuple[str, int], ...] = (("hr", 1), ("hr", 5), ("hr", 10), ("cov", 1), ("cov", 5), ("cov", 10))
BUCKETED: tuple[tuple[str, int], ...] = (("hr", 1), ("hr", 10), ("cov", 10))
BUCKET_TITLES: tuple[str, ...] = ("head", "mid", "tail")
BUCKET_MARKERS: tuple[str, ...] = ("o", "s", "^")

_STYLE: dict[Any, Any] = {
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


def _curve(axes: Axes, points: Sequence[Point], color: object, marker: str, label: str) -> None:
    """Mean and one standard deviation over seeds; points with fewer seeds are hollow and unconnected."""
    full = [point for point in points if point.complete]
    alphas, means = [p.alpha for p in full], [p.mean for p in full]
    sns.lineplot(
        x=alphas,
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
    axes.fill_between(alphas, low, high, color=color, alpha=0.18, linewidth=0)
    rest = [point for point in points if not point.complete]
    axes.plot(
        [p.alpha for p in rest],
        [p.mean for p in rest],
        linestyle="",
        marker=marker,
        markersize=3.5,
        markerfacecolor="none",
        markeredgecolor=color,
        markeredgewidth=0.7,
    )


def draw_alpha_line(line: AlphaLine) -> Figure:
    """Left: hr and cov at 1, 5, 10 over all users, an axis each; right: hr@1, hr@10, cov@10 per popularity bucket."""
    palette = sns.color_palette("colorblind")
    style: dict[Any, Any] = {**sns.axes_style("ticks"), **sns.plotting_context("paper"), **_STYLE}
    with mpl.rc_context(style):
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        shares = (1, 0.035 + 0.032 * len(line.caption))
        upper, lower = figure.subfigures(2, 1, height_ratios=shares, squeeze=False)[:, 0]
        grid = upper.subplots(3, 3, sharex=True)
        for index, (name, k) in enumerate(COMMON):
            axes = grid[index % 3, index // 3]
            _curve(axes, line.points(name, k, 0), palette[0 if name == "hr" else 2], "o", "")
            axes.set_title(f"{name.upper()}@{k}", pad=3)
        for row, (name, k) in enumerate(BUCKETED):
            axes = grid[row, 2]
            for bucket in (1, 2, 3):
                points = line.points(name, k, bucket)
                if points:
                    color = palette[(0, 1, 4)[bucket - 1]]
                    _curve(axes, points, color, BUCKET_MARKERS[bucket - 1], BUCKET_TITLES[bucket - 1])
            axes.set_title(f"{name.upper()}@{k} by bucket", pad=3)
        handles, labels = grid[0, 2].get_legend_handles_labels()
        for axes in grid.flat:
            if axes.get_legend():
                axes.get_legend().remove()
            axes.axvline(line.optimum, color="0.35", linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.set(xlabel="", ylabel="")
        for axes in grid[-1]:
            axes.set_xlabel(r"$\alpha$")
            axes.xaxis.set_major_locator(MaxNLocator(6))
            axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        sns.despine(fig=figure)
        upper.suptitle(line.title, fontsize=FONT_POINTS + 1)
        if handles:
            names = [f"target in {label} bucket" for label in labels]
            upper.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
        words = "\n".join(line.caption)
        lower.text(0.5, 0.5, words, ha="center", va="center", fontsize=FONT_POINTS - 1.5, color="0.25", linespacing=1.4)
        figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once: every file shows the same
    return figure


def save(figure: Figure, stem: Path) -> tuple[Path, ...]:
    """Write PNG, SVG and PDF beside each other; the same data gives the same bytes. Raises OSError."""
    out = []
    for suffix in SUFFIXES:
        path = stem.with_name(stem.name + suffix)
        dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}[suffix]
        with mpl.rc_context(_STYLE):
            figure.savefig(path, metadata=dates)
        out.append(path)
    return tuple(out)


def figure3(evidence: Evidence, dataset: str) -> Figure:
    """Alpha sensitivity of one data set (spec 7.4, rows 3, 4 and 6)."""
    return draw_alpha_line(alpha_line(evidence, dataset))


FIGURES: Mapping[int, Callable[[Evidence, str], Figure]] = {3: figure3}
"""Number in the paper: function of the evidence and a data set."""
