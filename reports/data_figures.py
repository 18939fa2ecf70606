"""Pictures of a data set: popularity of items, rows of users, rows over time with the boundary of the split."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.values import Int64

SUFFIXES = (".png", ".svg")
WIDTH_INCHES, HEIGHT_INCHES, DPI = 9.0, 2.8, 160
_LENGTH_BINS = 40
_SVG: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "btsr"}


def draw(
    title: str, *, user_rows: Int64, item_rows: Int64, time_edges: Int64, time_rows: Int64, boundary: int | None
) -> Figure:
    """Three panels: rows by rank of the item, users by their number of rows, rows per bin of time.

    `user_rows` [U] and `item_rows` [I] fall; `time_rows` [n] are counts between `time_edges` [n + 1] in Unix seconds;
    `boundary` in Unix seconds is marked unless None.
    """
    style: dict[Any, Any] = {**sns.axes_style("ticks"), "font.size": 8, **_SVG}
    with mpl.rc_context(style):
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        popularity, lengths, times = figure.subplots(1, 3)
        _popularity(popularity, item_rows)
        _lengths(lengths, user_rows)
        _times(times, time_edges, time_rows, boundary)
        figure.suptitle(title, fontsize=8)
        sns.despine(fig=figure)
    return figure


def save(figure: Figure, stem: Path) -> Iterator[Path]:
    """Write the figure beside `stem` in each format and yield the files; the same figure gives the same bytes."""
    for suffix in SUFFIXES:
        path = stem.with_name(f"{stem.name}{suffix}")
        metadata = {"Software": None} if suffix == ".png" else {"Date": None}
        with mpl.rc_context(_SVG):
            figure.savefig(path, metadata=metadata)
        yield path


def _popularity(axes: Axes, item_rows: Int64) -> None:
    axes.plot(1 + np.arange(len(item_rows)), item_rows, color=sns.color_palette("colorblind")[0], linewidth=1.2)
    axes.set(xscale="log", yscale="log", xlabel="item, by falling popularity", ylabel="rows of the item")


def _lengths(axes: Axes, user_rows: Int64) -> None:
    edges = np.unique(np.geomspace(1, user_rows[0] + 1, _LENGTH_BINS).astype(np.int64))
    if len(edges) < 2:
        edges = np.array([1, 2])
    axes.hist(user_rows, bins=edges.tolist(), color=sns.color_palette("colorblind")[1], linewidth=0)
    axes.axvline(float(np.median(user_rows)), color="0.3", linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlabel="rows of the user (dotted: median)", ylabel="users")


def _times(axes: Axes, edges: Int64, rows: Int64, boundary: int | None) -> None:
    moments = edges.astype("datetime64[s]")
    axes.fill_between(
        np.repeat(moments, 2)[1:-1], np.repeat(rows, 2), color=sns.color_palette("colorblind")[2], linewidth=0
    )
    axes.tick_params(axis="x", rotation=30)
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("right")
    axes.set(xlabel="time (UTC)", ylabel="rows")
    if boundary is not None:
        at: Any = np.datetime64(boundary, "s")
        axes.axvline(at, color=sns.color_palette("colorblind")[3], linewidth=1)
        axes.annotate(
            "boundary", (at, 1), xycoords=("data", "axes fraction"), ha="right", va="top", rotation=90, fontsize=7
        )
