"""The value that every table is: rows of data set and metric, columns of methods, cells of ours and theirs."""

from dataclasses import dataclass, replace
from typing import Literal

from reports.stats import LEVEL, Comparison, Interval

DECIMALS = 4

SHARES: frozenset[str] = frozenset({"hr", "ndcg", "mrr", "cov", "itemcov", "gini", "popcal"})
"""Metrics between 0 and 1."""

Mark = Literal["", "best", "second"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A method, or what follows from the methods."""

    key: str
    title: str
    derived: bool = False
    """Percent computed from the other columns (Improve): no seeds, no mark, not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A metric of a data set; rows of one data set stand together."""

    dataset: str
    title: str
    """Of the data set."""
    metric: str
    """Such as ndcg@10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Our value against another column's."""

    against: str
    """Key of that column."""
    comparison: Comparison
    p_holm: float | None = None
    """`comparison.p` after Holm over all tests of the table."""
    lower: bool = False
    """A lower value is better."""

    @property
    def star(self) -> Literal["", "(*)", "*"]:
        """* better, and significant over seeds and over users after Holm; (*) by the paper's rule alone: better, and
        p < 0.05 in the paired t test over seeds, uncorrected."""
        found = self.comparison
        if (found.difference >= 0 if self.lower else found.difference <= 0) or found.p_seeds is None:
            return ""
        if self.p_holm is not None and self.p_holm < LEVEL:
            return "*"
        return "(*)" if found.p_seeds < LEVEL else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Our number over seeds, and the published one beside it."""

    value: float | None = None
    """Mean over seeds; None: not run, or `undefined`."""
    std: float | None = None
    """Sample standard deviation over seeds; None for fewer than two."""
    n: int = 0
    """Seeds behind `value`."""
    published: float | None = None
    published_std: float | None = None
    published_star: bool = False
    """The paper prints an asterisk."""
    doubtful: bool = False
    """The published number contradicts itself or its table (spec 8); a footnote says how."""
    applies: bool = True
    """False: ours was measured on other data than the published number, the two do not compare."""
    mark: Mark = ""
    """Among our own values of the row."""
    fingerprint: str | None = None
    """Of the data behind `value`."""
    base: str = ""
    """Base loss behind `value`, such as CE."""
    device: str = ""
    """Of its runs, such as cpu; several are joined by +."""
    precision: str = ""
    """Of its runs, such as fp32."""
    odd: bool = False
    """Its runs differ in device, precision or kernels, among themselves or from most of the data set."""
    test: Contest | None = None
    """Against the column that it has to beat."""
    percent: bool = False
    """A relative change in percent, not a metric."""
    undefined: bool = False
    """It was run and has no value, as Improve where the best other has 0."""

    @property
    def star(self) -> str:
        """See `Contest.star`."""
        return self.test.star if self.test else ""

    def with_mark(self, mark: Mark) -> "Cell":
        """The same with another mark."""
        return replace(self, mark=mark)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What the renderers of `reports.render` turn into text, Markdown, LaTeX, CSV or HTML."""

    name: str
    """Stem of its files, such as table2."""
    title: str
    profile: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    cells: tuple[tuple[Cell, ...], ...]
    """[rows][columns]"""
    footnotes: tuple[str, ...]
    commands: tuple[str, ...] = ()
    """What to type to run what is missing."""

    def __post_init__(self) -> None:
        assert len(self.cells) == len(self.rows)
        assert all(len(row) == len(self.columns) for row in self.cells)

    def heads(self, dataset: str) -> tuple[str, ...]:
        """[columns] number of seeds and base loss behind the data set's cells; empty where nothing was run."""
        mine = [cells for row, cells in zip(self.rows, self.cells, strict=True) if row.dataset == dataset]
        best = [max(column, key=lambda cell: cell.n) for column in zip(*mine, strict=True)]
        return tuple(f"n = {cell.n}{f', {cell.base}' if cell.base else ''}" if cell.n else "" for cell in best)


def number(value: float, percent: bool = False) -> str:
    """A value as it is printed: four decimals, or percent with its sign and one decimal."""
    return f"{value:+z.1f}" if percent else f"{value:z.{DECIMALS}f}"


def within(span: Interval | None, metric: str) -> Interval | None:
    """The interval of a metric's value (never of a difference) as it is shown: a share does not leave 0 to 1."""
    if span is None or metric not in SHARES:
        return span
    return replace(span, low=max(span.low, 0.0), high=min(span.high, 1.0))


def marked(values: list[float | None], *, lower: bool = False) -> list[Mark]:
    """Best and second best (higher is better, unless `lower` is) of a row, compared as printed; ties share a mark.

    With fewer than two values there is nothing to compare and nothing is marked; where all tie, all are best.
    """
    shown = [None if value is None else round(value, DECIMALS) for value in values]
    distinct = sorted({value for value in shown if value is not None}, reverse=not lower)
    if sum(value is not None for value in shown) < 2:
        return [""] * len(values)
    names: dict[float, Mark] = {distinct[0]: "best"}
    if len(distinct) > 1:
        names[distinct[1]] = "second"
    return ["" if value is None else names.get(value, "") for value in shown]
