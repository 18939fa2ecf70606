"""A sheet in every format, and the HTML of a table: valid, escaped, complete."""

from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO

import pandas as pd
import pytest
from rich.console import Console

from reports.render import RENDERERS, html
from reports.sheet import SHEET_RENDERERS, Sheet, latex_widths, show_sheet
from reports.table import Column
from reports.words import markdown_escape
from tests.reports.latex import check
from tests.reports.test_render import awkward_table

VOID = {"meta", "link", "br", "hr", "img", "input", "path", "line", "polyline", "circle"}


class Checked(HTMLParser):
    """Collects words and asserts that every element is closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def parsed(source: str) -> Checked:
    parser = Checked()
    parser.feed(source)
    parser.close()
    assert not parser.open, f"{parser.open} left open"
    return parser


def _sheet() -> Sheet:
    return Sheet(
        name="x",
        title="50% of a_b & <c>",
        header=("what", "words"),
        rows=(("a|b", "long words that say a lot about tau ~ 95 %, p^2 and {n} of $5"), ("<i>", "")),
        footnotes=("one *star* & more",),
        commands=("btsr-sweep --study x",),
    )


def test_sheet_formats() -> None:
    made = {name: render(_sheet()) for name, (_, render) in SHEET_RENDERERS.items()}
    assert "btsr-sweep --study x" in made["text"] and "[1] one *star*" in made["text"]
    rows = [line for line in made["markdown"].splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {3} and r"\*star\*" in made["markdown"]
    check(made["latex"])
    frame = pd.read_csv(StringIO(made["csv"]), keep_default_na=False)
    assert list(frame.columns) == ["what", "words"] and list(frame["what"]) == ["a|b", "<i>"]
    page = parsed(made["html"])
    assert page.tags.count("tr") == 3 and "i" not in page.tags and "<i>" in page.words
    assert page.tags.count("th") == 2 + 2 and page.tags.count("td") == 2, "the first cell of a row is its head"
    assert made["html"].count('<th scope="row">') == 2


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ((10, 20, 30), [None, None, None]),
        ((10, 20, 200), [None, None, 80 - 3 * 2 - 30]),
        ((10, 200, 400), [None, 21, 42]),
    ],
)
def test_columns_fit_the_text(lengths: tuple[int, ...], expected: list[int | None]) -> None:
    row = tuple(("word " * length)[:length] for length in lengths)
    assert latex_widths([("a",) * len(lengths), row]) == expected


def test_no_column_is_narrower_than_its_longest_word() -> None:
    """The others shrink for it."""
    found = latex_widths([("a" * 29 + " b" * 30, "c " * 200, "d")])
    assert found == [30, 80 - 3 * 2 - 1 - 30, None]


def test_a_sheet_that_is_longer_than_a_page_breaks() -> None:
    short = _sheet()
    long = replace(short, rows=short.rows * 40)
    found = {kind: SHEET_RENDERERS["latex"][1](sheet) for kind, sheet in (("table*", short), ("longtable", long))}
    for kind, source in found.items():
        ((_, rows),) = check(source).items()
        assert len(rows) == 1 + 2 * (40 if kind == "longtable" else 1)
        assert f"\\begin{{{kind}}}" in source and "$<$i$>$" in source
    assert "longtable" not in found["table*"] and "\\usepackage{array,booktabs,longtable}" in found["longtable"]


def test_a_ragged_sheet_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        Sheet(name="x", title="x", header=("a", "b"), rows=(("1",),))


def test_html_files_open_from_disk() -> None:
    """Whole documents that name their encoding: without it a browser may show the signs of two bytes as two.

    Each has one heading, to be read aloud.
    """
    for source in (RENDERERS["html"][1](awkward_table()), SHEET_RENDERERS["html"][1](_sheet())):
        assert source.startswith("<!doctype html>") and '<meta charset="utf-8">' in source
        found = parsed(source)
        assert [found.tags.count(tag) for tag in ("html", "title", "h1", "table")] == [1, 1, 1, 1]


def test_table_as_html() -> None:
    page = parsed(html(awkward_table()))
    words = " ".join(" ".join(page.words).split())
    assert "0.0612 ±0.0046 (0.0494)" in words and "(0.0534†)" in words
    assert page.tags.count("tbody") == 2 and page.tags.count("tr") == 1 + 3 + 2
    assert "strong" in page.tags and "u" in page.tags and "b" not in page.tags
    assert "tau ~ 95 % of my_data, p^2 {n} $5 \\ and <b> `code` [x]" in words


def shown(sheet: Sheet, width: int) -> str:
    out = StringIO()
    show_sheet(sheet, Console(file=out, width=width, color_system=None, force_terminal=False, highlight=False))
    return out.getvalue()


def _wide(n_columns: int, n_rows: int = 3) -> Sheet:
    cells = tuple(tuple(f"value{row}x{column}" for column in range(1, n_columns)) for row in range(n_rows))
    return Sheet(
        name="wide",
        title="wide",
        header=("key", *(f"column{column}" for column in range(1, n_columns))),
        rows=tuple((f"row{place}", *words) for place, words in enumerate(cells)),
    )


@pytest.mark.parametrize("width", [80, 150, 20])
def test_a_sheet_wider_than_the_console_goes_on_below(width: int) -> None:
    sheet = _wide(30)
    lines = shown(sheet, width).splitlines()
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for word in (*sheet.header[1:], *(word for row in sheet.rows for word in row[1:])):
        assert words.count(word) == 1, word
    assert words.count("key") == words.count("row0") == words.count("row2") > 1, "every block names its rows"


def test_blocks_repeat_the_columns_that_tell_rows_apart() -> None:
    wide = _wide(12, 4)
    rows = tuple(
        (method, seed, *row[1:]) for (method, seed), row in zip(("a1", "a2", "b1", "b2"), wide.rows, strict=True)
    )
    sheet = replace(wide, header=("method", "seed", *wide.header[1:]), rows=rows)
    found = shown(sheet, 80).splitlines()
    heads = [line for line in found if "seed" in line]
    assert len(heads) > 1 and all(line.split()[:2] == ["method", "seed"] for line in heads)
    assert sum(line.split()[:2] == ["a", "2"] for line in found) == len(heads)


def test_a_word_wider_than_the_console_is_folded() -> None:
    long = "0123456789abcdef" * 2
    sheet = Sheet(name="x", title="x", header=("trial", "other"), rows=((long, "b" * 45),))
    for width in (20, 40, 80):
        lines = shown(sheet, width).splitlines()
        assert max(map(len, lines)) <= width
        found = "".join(lines)
        assert found.count("b") == 45 + 2 and all(found.count(sign) == 2 for sign in "0123456789"), width


def test_blocks_of_a_narrow_console_do_not_repeat_a_wide_column() -> None:
    sheet = Sheet(name="x", title="x", header=("a", "b"), rows=(("0" * 18, "1" * 18), ("2" * 18, "3" * 18)))
    assert [line.strip() for line in shown(sheet, 25).splitlines() if "1" in line] == ["1" * 18]


def test_nothing_of_a_sheet_or_table_is_markup() -> None:
    for words in ("[/b]", "x[a]", "[bold]y"):
        sheet = Sheet(
            name="x", title=words, header=(words, "b"), rows=((words, words),), footnotes=(words,), commands=(words,)
        )
        assert shown(sheet, 80).count(words) == 6
        table = awkward_table()
        titled = replace(
            table,
            columns=(Column(key="a", title=words), *table.columns[1:]),
            rows=(replace(table.rows[0], metric=words, title=words), *table.rows[1:]),
        )
        assert RENDERERS["text"][1](titled).count(words) == 3


def test_two_columns_of_one_name() -> None:
    sheet = Sheet(name="x", title="x", header=("a", "a"), rows=(("1", "2"),))
    for _, render in SHEET_RENDERERS.values():
        assert render(sheet)
    assert SHEET_RENDERERS["csv"][1](sheet) == "a,a\n1,2\n"


def test_what_a_row_begins_with_is_no_option_in_latex() -> None:
    r"""\\ and \midrule take [1pt] and * for themselves."""
    signs = ("[1pt]", "*", "a [b] *")
    source = SHEET_RENDERERS["latex"][1](
        Sheet(name="x", title="x", header=("*what", "b"), rows=tuple((sign, sign) for sign in signs), footnotes=signs)
    )
    check(source)
    rows = [line for line in source.splitlines() if " & " in line]
    assert [row.split(" & ")[0] for row in rows] == ["{}*what", "{}[1pt]", "{}*", "a [b] *"]


def test_nothing_is_an_entity_or_struck_out_in_markdown() -> None:
    assert markdown_escape("a &amp; ~~b~~") == r"a \&amp; \~\~b\~\~"
