"""What `btsr-data describe` prints and saves: tables by rich, CSV by the standard library, pictures by `reports`."""

import csv
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich import box
from rich.table import Table

from harness.data.describe import LONG, Value, lines, names_of, shown
from harness.data.distributions import Distributions
from harness.data.kinds import DatasetSpec
from harness.errors import DataError
from harness.plain import plain
from harness.values import Split

Columns = Mapping[str, Mapping[str, Value]]
"""Data set -> statistic -> value."""

_WIDE = 4_000
_TITLE_CHARACTERS = 130


def steps(spec: DatasetSpec, split: Split) -> Table:
    """What happened to one data set, step by step."""
    table = Table(box=box.SIMPLE, show_header=False, title=spec.title, caption=spec.note)
    for label, value in lines(split):
        table.add_row(label, value)
    return table


def comparison(columns: Columns, style: box.Box = box.SIMPLE, *, whole: bool = False) -> Table:
    """The statistics, one line each, a column for every data set; the long ones only in a `whole` table."""
    table = Table(box=style)
    table.add_column("", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", overflow="fold", min_width=min(len(name), 12))
    for name in names_of(columns):
        if whole or name not in LONG:
            table.add_row(name, *(shown(values[name]) for values in columns.values()))
    return table


def save_statistics(columns: Columns, folder: Path) -> Iterator[Path]:
    """Write the statistics to statistics.csv (exact values) and statistics.md, and yield the two files.

    Raises DataError for a folder that cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        exact = folder / "statistics.csv"
        with exact.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["statistic", *columns])
            writer.writerows([name, *(values[name] for values in columns.values())] for name in names_of(columns))
        yield exact
        rounded = folder / "statistics.md"
        with rounded.open("w", encoding="utf-8") as file:
            plain(file=file, width=_WIDE, no_color=True).print(comparison(columns, box.MARKDOWN, whole=True))
        yield rounded
    except OSError as error:
        raise _unwritable(folder, error) from error


def draw_distributions(title: str, split: Split, found: Distributions, stem: Path) -> Iterator[Path]:
    """Draw popularity, lengths and times of one data set beside `stem`, and yield the files.

    Raises DataError for a folder that cannot be written.
    """
    from reports.data_figures import draw, save

    figure = draw(
        f"{title}\n{_wrapped(split.config.protocol(split.file, split.edition))}",
        user_rows=found.user_rows,
        item_rows=found.item_rows,
        time_edges=found.time_edges,
        time_rows=found.time_rows,
        boundary=split.boundary if split.config.split == "temporal" else None,
    )
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        yield from save(figure, stem)
    except OSError as error:
        raise _unwritable(stem.parent, error) from error


def _wrapped(protocol: str) -> str:
    """The protocol in lines that end where one of its parts ends."""
    parts = (part.replace(" ", "\xa0") for part in protocol.split("; "))
    return textwrap.fill("; ".join(parts), _TITLE_CHARACTERS).replace("\xa0", " ")


def _unwritable(folder: Path, error: OSError) -> DataError:
    return DataError(f"the report cannot be written to {folder} ({error}): choose another folder by --out")
