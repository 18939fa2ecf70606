"""A plain table of words (audit, claims, verdicts, provenance) and its five formats."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from math import ceil

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from reports.words import latex_fitted, latex_notes, latex_style, latex_words, markdown_escape

SHEET_WIDTH = 150
LEAST = 16
"""Characters that a column keeps whose words wrap."""
GAP, EDGE = 3, -1
"""Characters that rich adds to a column, and to them all: one at each side, but no gap behind the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Rows of words under a header."""

    name: str
    """Stem of its files."""
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    footnotes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    """What to type."""
    commands_title: str = "To run what is missing:"
    records: tuple[Mapping[str, object], ...] = ()
    """The rows as numbers at full precision, for CSV, under names of their own, also several of one row; empty:
    `exact`."""
    exact: tuple[tuple[object, ...], ...] = ()
    """The rows at full precision, for CSV, under the same header; empty: CSV has the words."""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.header) for row in self.rows)


def templates() -> Environment:
    """The HTML templates; every word is escaped."""
    return Environment(
        loader=PackageLoader("reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def blocks(widths: Sequence[int], room: int) -> Iterator[tuple[int, ...]]:
    """Places of columns that stand beside each other: as many as there is room for, at least one."""
    block: tuple[int, ...] = ()
    for place, width in enumerate(widths):
        if block and sum(widths[i] for i in block) + width > room:
            yield block
            block = ()
        block += (place,)
    if block:
        yield block


def show_sheet(sheet: Sheet, console: Console) -> None:
    """Print the sheet; long words wrap inside their column, commands are never cut.

    Columns beyond the console's width go into further blocks below, behind those that tell the rows apart.
    """
    columns = list(zip(sheet.header, *sheet.rows, strict=True))
    longest = [max(map(cell_len, column)) for column in columns]
    whole = [all(cell_len(word) <= (40 if " " not in word else 20) for word in column[1:]) for column in columns]
    widths = [GAP + (most if kept else min(most, LEAST)) for most, kept in zip(longest, whole, strict=True)]
    room = console.width - EDGE
    first = next(blocks(widths, room), ())
    names = _names(columns, widths, first, room // 2)
    rest = range(len(first), len(columns))
    further = blocks(widths[len(first) :], room - sum(widths[place] for place in names))
    console.print(Text(sheet.title, style="bold"))
    for shown in (first, *((*names, *(rest[i] for i in block)) for block in further)):
        fits = sum(widths[place] for place in shown) <= room
        out = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for place in shown:
            out.add_column(Text(sheet.header[place]), no_wrap=whole[place] and fits, overflow="fold")
        for row in sheet.rows:
            out.add_row(*(Text(row[place]) for place in shown))
        console.print(out)
    for i, note in enumerate(sheet.footnotes, 1):
        console.print(Text(f"[{i}] {note}"))
    if sheet.commands:
        console.print(Text(f"\n{sheet.commands_title}"))
    for command in sheet.commands:
        console.print(Text(f"  {command}"), soft_wrap=True)


def _names(
    columns: Sequence[Sequence[str]], widths: Sequence[int], places: Sequence[int], room: int
) -> tuple[int, ...]:
    """Which of these columns tell the rows apart, as far as there is room for them; the first where none does."""
    names: tuple[int, ...] = ()
    apart = 1
    for place in places:
        told = len(set(zip(*(columns[i][1:] for i in (*names, place)), strict=True)))
        if told > apart and sum(widths[i] for i in (*names, place)) <= room:
            names, apart = (*names, place), told
    return names or tuple(place for place in places[:1] if widths[place] <= room)


def sheet_text(sheet: Sheet) -> str:
    """Plain text without control sequences."""
    out = StringIO()
    show_sheet(sheet, Console(file=out, width=SHEET_WIDTH, color_system=None, force_terminal=False, highlight=False))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n") + "\n"


def sheet_markdown(sheet: Sheet) -> str:
    """A pipe table and a list of footnotes."""
    lines = [f"### {markdown_escape(sheet.title)}", ""]
    lines.append(f"| {' | '.join(map(markdown_escape, sheet.header))} |")
    lines.append(f"|{'---|' * len(sheet.header)}")
    lines += [f"| {' | '.join(map(markdown_escape, row))} |" for row in sheet.rows]
    lines += ["", *(f"- {markdown_escape(note)}" for note in sheet.footnotes)]
    if sheet.commands:
        lines += ["", sheet.commands_title, "", "```", *sheet.commands, "```"]
    return "\n".join(lines).rstrip("\n") + "\n"


LATEX_CHARACTERS, LATEX_LINES = 80, 55
"""What a column of article's text takes in scriptsize, and a page below the caption."""
LATEX_GAP = 2
"""Characters between columns."""


def latex_widths(cells: Sequence[Sequence[str]]) -> list[int | None]:
    """Characters of each column that has to wrap, None for those that stay as they are, so that all fit the text.

    Narrow columns keep their width first; the others share what is left, none below its longest word: where the words
    alone are too long, they are too wide together.
    """
    longest = [max(map(len, column)) for column in zip(*cells, strict=True)]
    widths: list[int | None] = [None] * len(longest)
    room = LATEX_CHARACTERS - LATEX_GAP * len(longest)
    wide = sorted(range(len(longest)), key=lambda i: longest[i])
    while wide and longest[wide[0]] <= room / len(wide):
        room -= longest[wide.pop(0)]
    words = {i: 1 + max(len(word) for row in cells for word in (row[i].split() or [""])) for i in wide}
    while wide:
        share = room / sum(longest[i] for i in wide)
        tight = next((i for i in wide if longest[i] * share < words[i]), None)
        if tight is None:
            return [int(longest[i] * share) if i in wide else width for i, width in enumerate(widths)]
        wide.remove(tight)
        widths[tight] = words[tight]
        room -= words[tight]
    return widths


def sheet_latex(sheet: Sheet) -> str:
    """A floating table (booktabs), or where it would be longer than a page one that breaks (longtable); long columns
    wrap; pandas escapes all words."""
    header: list[Hashable] = list(sheet.header)
    frame = pd.DataFrame(list(sheet.rows), columns=header)
    style = latex_style(frame)
    cells = [sheet.header, *sheet.rows]
    widths = latex_widths(cells)
    wrapped = r">{{\raggedright\arraybackslash}}p{{{:.3f}\linewidth}}"
    columns = "".join("l" if width is None else wrapped.format(width / LATEX_CHARACTERS) for width in widths)
    lines = sum(max(ceil(len(c) / w) if w else 1 for c, w in zip(row, widths, strict=True)) for row in cells)
    (caption,) = latex_words([sheet.title])
    commands = "".join(f"% {sheet.commands_title} {command}\n" for command in sheet.commands)
    small = "\\scriptsize\\setlength{\\tabcolsep}{3pt}\\renewcommand{\\arraystretch}{1.1}\n"
    notes = latex_notes(sheet.footnotes)
    if lines > LATEX_LINES:
        grid = style.to_latex(
            hrules=True, column_format=columns, environment="longtable", caption=caption, label=f"tab:{sheet.name}"
        )
        packages = "% needs \\usepackage{array,booktabs,longtable}, and text in one column (\\onecolumn)\n"
        return f"{packages}{commands}{{{small}{grid}}}\n{notes}"
    grid = style.to_latex(hrules=True, column_format=columns)
    return (
        f"% needs \\usepackage{{array,booktabs,graphicx}}\n{commands}\\begin{{table*}}\n\\centering{small}"
        f"\\caption{{{caption}}}\n\\label{{tab:{sheet.name}}}\n{latex_fitted(grid)}\\end{{table*}}\n{notes}"
    )


def sheet_csv(sheet: Sheet) -> str:
    """The records, or the exact rows, absent values empty; where there are none, header and rows."""
    header: list[Hashable] = list(sheet.header)
    rows: Sequence[Sequence[object]] = sheet.exact or sheet.rows
    frame = (
        pd.DataFrame(list(sheet.records)) if sheet.records else pd.DataFrame(list(rows), columns=header, dtype=object)
    )
    return frame.to_csv(index=False, lineterminator="\n")


def sheet_html(sheet: Sheet) -> str:
    """A fragment: one table with its caption, footnotes and commands."""
    return templates().get_template("sheet.html").render(sheet=sheet)


def document(title: str, body: str) -> str:
    """A fragment as a whole HTML file that opens from disk, in the style of the page."""
    environment = templates()
    assert environment.loader is not None
    style, _, _ = environment.loader.get_source(environment, "page.css")
    return environment.get_template("document.html").render(title=title, style=style, body=body)


def sheet_document(sheet: Sheet) -> str:
    """`sheet_html` as a file of its own."""
    return document(sheet.title, sheet_html(sheet))


SHEET_RENDERERS: Mapping[str, tuple[str, Callable[[Sheet], str]]] = {
    "text": (".txt", sheet_text),
    "markdown": (".md", sheet_markdown),
    "latex": (".tex", sheet_latex),
    "csv": (".csv", sheet_csv),
    "html": (".html", sheet_document),
}
"""Format: suffix of its file, function."""
