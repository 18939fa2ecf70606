"""A Table as text, Markdown, LaTeX, CSV or HTML: formats only, nothing is computed here."""

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from io import StringIO
from itertools import groupby

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from reports.sheet import LEAST, blocks, document, templates
from reports.table import Cell, Row, Table, number
from reports.words import latex_fitted, latex_notes, latex_style, latex_words, markdown_escape

MISSING = "—"
OTHER_DATA = "†"
DOUBTFUL = "?"
ODD = "‡"
TEXT_WIDTH = 150
"""Columns of text that is not written to a terminal."""

_TEXT_MARKS = {"best": "¹", "second": "²", "": ""}
_TEXT_STYLES = {"best": "bold", "second": "underline", "": ""}


def _published(cell: Cell) -> str:
    """(0.0494*): the paper's asterisk, a question mark if doubtful, a dagger if it was measured on other data."""
    if cell.published is None:
        return ""
    signs = ("*" if cell.published_star else "") + (DOUBTFUL if cell.doubtful else "")
    return f"({number(cell.published, cell.percent)}{signs}{'' if cell.applies else OTHER_DATA})"


def _signs(cell: Cell) -> str:
    """What stands behind our value: its star, and the double dagger of runs on another device or in other precision."""
    return cell.star + (ODD if cell.odd else "")


def _groups(table: Table) -> Iterator[tuple[str, str, list[tuple[Row, tuple[Cell, ...]]]]]:
    """Data set, its title, its rows."""
    pairs = zip(table.rows, table.cells, strict=True)
    for dataset, group in groupby(pairs, key=lambda pair: pair[0].dataset):
        rows = list(group)
        yield dataset, rows[0][0].title, rows


def _seeds(table: Table, dataset: str) -> list[str]:
    heads = zip(table.columns, table.heads(dataset), strict=True)
    return ["%" if column.derived else head or MISSING for column, head in heads]


def _text_cell(cell: Cell) -> Text:
    """Two lines: ours with its mark, the published one below; one line where there is no value of ours."""
    if cell.value is None:
        return Text.assemble(MISSING, " ", (_published(cell), "dim"))
    spread = f" ±{number(cell.std)}" if cell.std is not None else ""
    value = number(cell.value, cell.percent)
    out = Text.assemble((value, _TEXT_STYLES[cell.mark]), _TEXT_MARKS[cell.mark], _signs(cell), spread)
    return Text.assemble(out, "\n", (_published(cell), "dim")) if cell.published is not None else out


def _text_block(table: Table, columns: Sequence[int], room: int, *, whole: bool = True) -> RichTable:
    """The table with only these columns; long names of data sets are folded into `room`, values where not `whole`."""
    out = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    out.add_column("data set", max_width=room, overflow="fold")
    out.add_column("metric", no_wrap=whole, overflow="fold")
    for index in columns:
        out.add_column(Text(table.columns[index].title), no_wrap=whole, overflow="fold")
    for dataset, title, rows in _groups(table):
        seeds = _seeds(table, dataset)
        out.add_row(Text(title, style="bold"), "seeds", *(Text(seeds[index]) for index in columns))
        for row, cells in rows:
            out.add_row("", Text(row.metric), *(_text_cell(cells[index]) for index in columns))
        out.add_section()
    return out


def show(table: Table, console: Console) -> None:
    """Print the table; columns beyond the console's width go into further blocks below, commands are never cut."""
    measure = Console(file=StringIO(), width=10_000)
    console.print(Text(table.title, style="bold"))
    room = max(LEAST, console.width // 4)
    names, *columns = (
        measure.measure(_text_block(table, shown, room)).maximum
        for shown in ((), *((i,) for i in range(len(table.columns))))
    )
    widths = [width - names for width in columns]
    for block in blocks(widths, console.width - names):
        whole = names + sum(widths[place] for place in block) <= console.width
        console.print(_text_block(table, block, room, whole=whole))
    legend = f"¹ bold: best, ² underlined: second best of our values in a row; {_legend(table)}"
    for i, note in enumerate((legend, *table.footnotes), 1):
        console.print(Text(f"[{i}] {note}"))
    if table.commands:
        console.print("\nTo run what is missing:")
    for command in table.commands:
        console.print(Text(f"  {command}"), soft_wrap=True)


def _legend(table: Table) -> str:
    """What the signs mean."""
    undefined = any(cell.undefined for cells in table.cells for cell in cells)
    return (
        f"(published value, * as printed); {MISSING} not run{', or not defined' if undefined else ''}; {OTHER_DATA} "
        f"published on other data, does not compare; {DOUBTFUL} doubtful."
    )


def text(table: Table, width: int = TEXT_WIDTH) -> str:
    """Plain text without control sequences, ends with a line break."""
    out = StringIO()
    show(table, Console(file=out, width=width, color_system=None, force_terminal=False, highlight=False))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n") + "\n"


def _markdown_cell(cell: Cell) -> str:
    if cell.value is None:
        ours = MISSING
    else:
        value = number(cell.value, cell.percent)
        ours = {"best": f"**{value}**", "second": f"<u>{value}</u>", "": value}[cell.mark]
        ours += markdown_escape(_signs(cell))
        ours += f" ±{number(cell.std)}" if cell.std is not None else ""
    return f"{ours} {markdown_escape(_published(cell))}".strip()


def markdown(table: Table) -> str:
    """A pipe table and a list of footnotes."""
    titles = [markdown_escape(column.title) for column in table.columns]
    lines = [f"### {markdown_escape(table.title)}", ""]
    lines.append(f"| data set | metric | {' | '.join(titles)} |")
    lines.append(f"|---|---|{'---|' * len(titles)}")
    for dataset, title, rows in _groups(table):
        lines.append(f"| **{markdown_escape(title)}** | seeds | {' | '.join(_seeds(table, dataset))} |")
        for row, cells in rows:
            lines.append(f"|  | {markdown_escape(row.metric)} | {' | '.join(map(_markdown_cell, cells))} |")
    lines += ["", f"**bold**: best, <u>underlined</u>: second best of our values in a row; {_legend(table)}", ""]
    lines += [f"- {markdown_escape(note)}" for note in table.footnotes]
    if table.commands:
        lines += ["", "To run what is missing:", "", "```", *table.commands, "```"]
    return "\n".join(lines) + "\n"


def _latex_published(cell: Cell) -> str:
    """LaTeX source of the published number."""
    return _published(cell).replace("*", "$^{*}$").replace("-", "$-$").replace(OTHER_DATA, r"$^{\dagger}$")


def _latex_cell(cell: Cell) -> str:
    """LaTeX source of our value; numbers and commands only, nothing that needs an escape."""
    if cell.value is None:
        ours = "---"
    else:
        value = number(cell.value, cell.percent).replace("-", "$-$")
        ours = {"best": rf"\textbf{{{value}}}", "second": rf"\underline{{{value}}}", "": value}[cell.mark]
        signs = _signs(cell).replace(ODD, r"\ddagger")
        ours += f"$^{{{signs}}}$" if signs else ""
        ours += rf" {{\scriptsize $\pm$ {number(cell.std)}}}" if cell.std is not None else ""
    return ours


def latex(table: Table) -> str:
    """A floating table (booktabs, no multirow), published numbers below ours, shrunk where it is wider than the text;
    its footnotes behind it. pandas escapes all words."""
    heads: list[Hashable] = ["data set", "metric"]
    body: list[list[str]] = []
    for dataset, title, rows in _groups(table):
        seeds = latex_words(_seeds(table, dataset))
        body.append([title, "seeds", *(head.replace("n = ", "$n$ = ").replace(MISSING, "---") for head in seeds)])
        for row, cells in rows:
            body.append(["", row.metric, *map(_latex_cell, cells)])
            if any(cell.published is not None for cell in cells):
                body.append(["", "", *map(_latex_published, cells)])
    frame = pd.DataFrame(body, columns=[*heads, *(column.title for column in table.columns)])
    grid = latex_style(frame, heads).to_latex(hrules=True, column_format="l" * frame.shape[1])
    first, *others = re.split(r"\n(?=.* & seeds & )", grid)
    grid = "\n\\midrule\n".join(["\n".join([first, *others[:1]]), *others[1:]])  # between data sets
    legend = "Bold: best, underlined: second best of our values in a row; " + _legend(table).replace(MISSING, "---")
    title = re.sub(r"^Table \d+: ", "", table.title)  # LaTeX counts by itself
    (caption,) = latex_words([f"{title[0].upper()}{title[1:]}"])
    commands = "".join(f"% to run what is missing: {command}\n" for command in table.commands)
    return (
        f"% needs \\usepackage{{booktabs,graphicx}}\n{commands}"
        "\\begin{table*}\n\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}\\renewcommand{\\arraystretch}{0.92}\n"
        f"\\caption{{{caption}}}\n\\label{{tab:{table.name}}}\n"
        f"{latex_fitted(grid)}\\end{{table*}}\n"
        f"{{\\scriptsize\\noindent Notes to table \\ref{{tab:{table.name}}}:\\par}}\n"
        + latex_notes([legend, *table.footnotes])
    )


def tidy(table: Table) -> pd.DataFrame:
    """One line per cell, numbers at full precision."""
    return pd.DataFrame([
        {
            "dataset": row.dataset,
            "metric": row.metric,
            "method": column.key,
            "mean": cell.value,
            "std": cell.std,
            "n": cell.n,
            "published": cell.published,
            "published_std": cell.published_std,
            "published_star": cell.published_star,
            "published_applies": cell.applies,
            "published_doubtful": cell.doubtful,
            "mark": cell.mark,
            "profile": table.profile,
            "fingerprint": cell.fingerprint,
            "base_loss": cell.base,
            "device": cell.device,
            "precision": cell.precision,
            "odd": cell.odd,
            "star": cell.star,
            "against": cell.test.against if cell.test else None,
            "difference": cell.test.comparison.difference if cell.test else None,
            "p_seeds": cell.test.comparison.p_seeds if cell.test else None,
            "p_users": cell.test.comparison.p_users if cell.test else None,
            "p_holm": cell.test.p_holm if cell.test else None,
            "p_exact": cell.test.comparison.p_exact if cell.test else None,
            "n_common": cell.test.comparison.n if cell.test else None,
            "detectable": cell.test.comparison.detectable if cell.test else None,
        }
        for row, cells in zip(table.rows, table.cells, strict=True)
        for column, cell in zip(table.columns, cells, strict=True)
    ]).astype({"n_common": "Int64"})


def csv(table: Table) -> str:
    """`tidy` as CSV; absent values are empty."""
    return tidy(table).to_csv(index=False, lineterminator="\n")


def html(table: Table) -> str:
    """A fragment: one table with headers for rows and columns, footnotes and commands below."""
    groups = [
        {
            "title": title,
            "heads": _seeds(table, dataset),
            "rows": [{"metric": row.metric, "cells": [_html_cell(cell) for cell in cells]} for row, cells in rows],
        }
        for dataset, title, rows in _groups(table)
    ]
    notes = (f"bold: best, underlined: second best of our values in a row; {_legend(table)}", *table.footnotes)
    return templates().get_template("table.html").render(table=table, groups=groups, notes=notes)


def _html_cell(cell: Cell) -> dict[str, object]:
    return {
        "run": cell.value is not None,
        "value": MISSING if cell.value is None else number(cell.value, cell.percent),
        "mark": cell.mark,
        "star": _signs(cell),
        "std": "" if cell.std is None else number(cell.std),
        "published": _published(cell),
    }


def html_document(table: Table) -> str:
    """`html` as a file of its own."""
    return document(table.title, html(table))


RENDERERS: Mapping[str, tuple[str, Callable[[Table], str]]] = {
    "text": (".txt", text),
    "markdown": (".md", markdown),
    "latex": (".tex", latex),
    "csv": (".csv", csv),
    "html": (".html", html_document),
}
"""Format: suffix of its file, function."""
