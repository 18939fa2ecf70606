"""A plain table of words (audit, claims, verdicts, provenance) and its five formats."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from io import StringIO

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from reports.words import latex_notes, latex_words, markdown_escape

SHEET_WIDTH = 150


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
    """The rows as numbers at full precision, for CSV; empty: CSV has the words."""

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


def show_sheet(sheet: Sheet, console: Console) -> None:
    """Print the sheet; long words wrap inside their column, commands are never cut."""
    out = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(sheet.header):
        words = [row[index] for row in sheet.rows]
        whole = all(len(word) <= (40 if " " not in word else 20) for word in words)
        out.add_column(title, no_wrap=whole, overflow="fold")
    for row in sheet.rows:
        out.add_row(*(Text(word) for word in row))
    console.print(Text(sheet.title, style="bold"))
    console.print(out)
    for i, note in enumerate(sheet.footnotes, 1):
        console.print(Text(f"[{i}] {note}"))
    if sheet.commands:
        console.print(f"\n{sheet.commands_title}")
    for command in sheet.commands:
        console.print(Text(f"  {command}"), soft_wrap=True)


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


def sheet_latex(sheet: Sheet) -> str:
    """A floating table (booktabs); long columns wrap; pandas escapes all words."""
    header: list[Hashable] = list(sheet.header)
    frame = pd.DataFrame(list(sheet.rows), columns=header)
    style = frame.style.hide(axis=0).format(escape="latex").format_index(escape="latex", axis=1)
    widths = [max([len(row[i]) for row in sheet.rows], default=0) for i in range(len(header))]
    wide = [width for width in widths if width > 24]
    columns = "".join(rf"p{{{0.7 * width / sum(wide):.3f}\linewidth}}" if width > 24 else "l" for width in widths)
    grid = style.to_latex(hrules=True, column_format=columns)
    (caption,) = latex_words([sheet.title])
    commands = "".join(f"% {sheet.commands_title} {command}\n" for command in sheet.commands)
    return (
        f"% needs \\usepackage{{booktabs}}\n{commands}\\begin{{table*}}\n\\centering\\scriptsize\n"
        f"\\caption{{{caption}}}\n\\label{{tab:{sheet.name}}}\n{grid}\\end{{table*}}\n" + latex_notes(sheet.footnotes)
    )


def sheet_csv(sheet: Sheet) -> str:
    """The records, absent values empty; where there are none, header and rows."""
    header: list[Hashable] = list(sheet.header)
    frame = pd.DataFrame(list(sheet.records)) if sheet.records else pd.DataFrame(list(sheet.rows), columns=header)
    return frame.to_csv(index=False, lineterminator="\n")


def sheet_html(sheet: Sheet) -> str:
    """A fragment: one table with its caption, footnotes and commands."""
    return templates().get_template("sheet.html").render(sheet=sheet)


SHEET_RENDERERS: Mapping[str, tuple[str, Callable[[Sheet], str]]] = {
    "text": (".txt", sheet_text),
    "markdown": (".md", sheet_markdown),
    "latex": (".tex", sheet_latex),
    "csv": (".csv", sheet_csv),
    "html": (".html", sheet_html),
}
"""Format: suffix of its file, function."""
