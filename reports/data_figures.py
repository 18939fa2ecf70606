"""Pictures of a data set: popularity of items, lengths of users, rows over time with the boundary of the split."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from harness.values import Int64

SUFFIXES = (".png", ".svg")
WIDTH_INCHES, HEIGHT_INCHES, DPI = 9.0, 2.8, 160
_LENGTH_BINS = 30
_FEW_DECADES = 100
"""Below this ratio of longest and shortest length a tick at every power of ten is not enough."""

_DAY = 86_400
_THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.10g}")
_SVG: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "btsr"}


def draw(
    title: str, *, user_rows: Int64, item_rows: Int64, time_edges: Int64, time_rows: Int64, boundary: int | None
) -> Figure:
    """Three panels: rows by rank of the item, users per length, rows per bin of time.

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
        figure.suptitle(title, fontsize=8, parse_math=False)
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


def users_per_length(user_rows: Int64) -> tuple[Int64, NDArray[np.float64]]:
    """[n + 1] edges of bins that widen with the length, and [n] users per length in each: a mean over its lengths.

    Counts of bins of one, two, three lengths would rise and fall with the widths.
    """
    edges = np.unique(np.geomspace(user_rows[-1], user_rows[0] + 1, _LENGTH_BINS + 1).round().astype(np.int64))
    counts = np.diff(np.searchsorted(user_rows[::-1], edges))
    return edges, counts / np.diff(edges)


def _popularity(axes: Axes, item_rows: Int64) -> None:
    rank = 1 + np.arange(len(item_rows))
    axes.plot(rank, item_rows, color=sns.color_palette("colorblind")[0], linewidth=1.2)
    axes.set(xscale="log", xlabel="rank of the item by its rows", ylabel="rows of the item")
    axes.xaxis.set_minor_formatter(NullFormatter())
    _scale(axes, float(item_rows[-1]), float(item_rows[0]))


def _lengths(axes: Axes, user_rows: Int64) -> None:
    edges, users = users_per_length(user_rows)
    axes.stairs(users, edges, fill=True, color=sns.color_palette("colorblind")[1])
    middle = float(np.median(user_rows))
    axes.axvline(middle, color="0.3", linewidth=0.8, linestyle=":")
    axes.set_title(f"median {middle:,.6g}", fontsize=7, color="0.3")
    axes.set(xscale="log", xlabel="length: rows of the user", ylabel="users per length")
    axes.xaxis.set_minor_formatter(NullFormatter())
    _scale(axes, float(users[users > 0].min()), float(users.max()))
    if edges[-1] < _FEW_DECADES * edges[0]:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(_THOUSANDS)


def _times(axes: Axes, edges: Int64, rows: Int64, boundary: int | None) -> None:
    moments: Any = edges.astype("datetime64[s]")
    axes.fill_between(
        np.repeat(moments, 2)[1:-1], np.repeat(rows, 2), color=sns.color_palette("colorblind")[2], linewidth=0
    )
    # Of all spans in time some have no interval that gives fewer than seven ticks.
    locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.yaxis.set_major_formatter(_THOUSANDS)
    axes.set(xlabel="time (UTC)", ylabel=f"rows in {_span(float(np.diff(edges).mean()))}", xlim=moments[[0, -1]])
    axes.set_ylim(bottom=0)
    if boundary is not None:
        at: Any = np.datetime64(boundary, "s")
        colour = sns.color_palette("colorblind")[3]
        axes.axvline(at, color=colour, linewidth=1)
        axes.set_title(f"boundary {str(at)[:10]}", fontsize=7, color=colour)


def _scale(axes: Axes, least: float, most: float) -> None:
    """A logarithmic axis over more than a power of ten, otherwise one from zero."""
    if most > 10 * least:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, 1.05 * most)


def _span(seconds: float) -> str:
    """A length of time in its largest whole unit."""
    for unit, size in (("days", _DAY), ("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"
