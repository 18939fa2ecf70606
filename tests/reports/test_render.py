"""One small table in every format, with awkward names."""

import re
import shutil
import subprocess
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from reports import render
from reports.audit import audit
from reports.sheet import Sheet, sheet_latex
from reports.stats import Comparison, Interval
from reports.table import Cell, Column, Contest, Row, Table, marked, number, within
from tests.reports.latex import check


def awkward_table() -> Table:
    ours = Cell(value=0.06123, std=0.00456, n=2, published=0.0494, mark="best", fingerprint="ab" * 16)
    other = Cell(value=0.0512, n=1, published=0.0534, published_std=0.0037, applies=False, mark="second")
    return Table(
        name="table9",
        title="50% of a_b & c",
        profile="released",
        columns=(Column(key="ce", title="SASRec (CE)"), Column(key="bt", title="BT_SR #1"), Column(key="x", title="X")),
        rows=(
            Row(dataset="ml1m", title="ML 1M", metric="hr@1"),
            Row(dataset="ml1m", title="ML 1M", metric="ndcg@10"),
            Row(dataset="my_set", title="my_set|{x}", metric="hr@1"),
        ),
        cells=(
            (ours, other, Cell(published=0.02, doubtful=True)),
            (ours, other, Cell()),
            (Cell(), Cell(value=0.5, n=1), Cell()),
        ),
        commands=("btsr-sweep --study x --out 'a folder with a name that is much longer than any line may be'",),
        footnotes=("tau ~ 95 % of my_data, p^2 {n} $5 \\ and <b> `code` [x]", "second"),
    )


def test_marks_compare_what_is_printed() -> None:
    assert marked([0.1, 0.3, 0.2]) == ["", "best", "second"]
    assert marked([0.20001, 0.20004, 0.1]) == ["best", "best", "second"]
    assert marked([0.3, 0.1, 0.1, None]) == ["best", "second", "second", ""]
    assert marked([None, 0.1]) == ["", ""]
    assert marked([0.1, 0.1]) == ["best", "best"]
    assert marked([]) == []


def test_a_ragged_table_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        replace(awkward_table(), cells=((Cell(),),) * 3)


def test_text() -> None:
    out = render.text(awkward_table())
    assert "\x1b" not in out and out.endswith("\n")
    assert "0.0612¹ ±0.0046" in out
    assert "0.0512²" in out and "(0.0534†)" in out
    assert "(0.0494)" in out and "0.0494†" not in out
    assert "n = 2" in out and "—" in out
    assert "[2] tau ~ 95 % of my_data" in out


def test_narrow_text_is_cut_into_blocks_and_loses_nothing() -> None:
    wide, narrow = render.text(awkward_table(), 200), render.text(awkward_table(), 40)
    assert max(len(line) for line in narrow.splitlines() if "btsr-sweep" not in line) <= 40
    assert "  btsr-sweep --study x --out 'a folder with a name that is much longer than any line may be'\n" in narrow
    assert narrow.count("hr@1") > wide.count("hr@1")
    for words in ("SASRec (CE)", "BT_SR #1", "0.0612¹", "0.0512²", "(0.0200?)"):
        assert words in narrow
    assert "…" not in narrow


def test_a_long_path_cuts_no_number() -> None:
    """Folded, in blocks of as many columns as there is room for; where there is none, values wrap."""
    table, path = awkward_table(), "/home/someone/data/" + "a_long_name_of_a_file" * 2
    assert len(path) > 60
    long = replace(table, rows=tuple(replace(row, dataset=path, title=path) for row in table.rows))
    for width, readable in ((80, True), (40, True), (24, False)):
        found = render.text(long, width).splitlines()
        assert max(len(line) for line in found if "btsr-sweep" not in line) <= width
        assert "…" not in "\n".join(found)
        words = " ".join(found).split()
        for word in ("0.0612¹", "±0.0046", "0.0512²", "(0.0534†)", "(0.0200?)", "ndcg@10"):
            assert word in words or not readable, (word, width)
    assert path in "".join(line[1:21].strip() for line in render.text(long, 80).splitlines())


def test_zero_has_no_sign() -> None:
    assert (number(-0.00001), number(-0.04, percent=True), number(0.04, percent=True)) == ("0.0000", "+0.0", "+0.0")
    assert (number(-0.0001), number(-0.06, percent=True)) == ("-0.0001", "-0.1")


def test_an_interval_of_a_share_is_shown_within_its_bounds() -> None:
    span = Interval(low=-0.1, high=1.2, over="seeds")
    for name in ("hr", "ndcg", "mrr", "cov", "itemcov", "gini"):
        assert within(span, name) == replace(span, low=0.0, high=1.0)
    assert within(span, "novelty") == span and within(None, "hr") is None
    inside = Interval(low=0.1, high=0.2, over="users")
    assert within(inside, "hr") == inside


def test_what_is_not_defined_is_told_where_it_occurs() -> None:
    table = awkward_table()
    odd = replace(table, cells=((*table.cells[0][:2], Cell(percent=True, undefined=True)), *table.cells[1:]))
    for made in (render.text, render.markdown, render.latex, render.html):
        assert "not run;" in " ".join(made(table).split()) and "not defined" not in made(table)
        assert "not run, or not defined;" in " ".join(made(odd).split())


def test_csv_counts_common_seeds_in_whole_numbers() -> None:
    found = Comparison(n=5, difference=0.01, interval=None, p_seeds=0.03, p_users=0.2, p_exact=0.0625, detectable=None)
    table = awkward_table()
    tested = replace(table.cells[0][0], test=Contest(against="bt", comparison=found))
    for cells in (table.cells, ((tested, *table.cells[0][1:]), *table.cells[1:])):
        lines = render.csv(replace(table, cells=cells)).splitlines()
        at = lines[0].split(",").index("n_common")
        assert {line.split(",")[at] for line in lines[1:]} == ({""} if cells is table.cells else {"", "5"})


def test_terminal_has_bold_and_underline() -> None:
    out = StringIO()
    render.show(awkward_table(), Console(file=out, force_terminal=True, width=120, color_system="standard"))
    assert "\x1b[1m0.0612" in out.getvalue() and "\x1b[4m0.0512" in out.getvalue()


def test_markdown_keeps_its_columns() -> None:
    lines = render.markdown(awkward_table()).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 2 + 3
    assert {line.replace("\\|", "").count("|") for line in rows} == {6}
    assert "**0.0612** ±0.0046 (0.0494)" in rows[3] and "<u>0.0512</u> (0.0534†)" in rows[3]
    assert any(line.startswith("- tau \\~ 95 % of my\\_data") and "\\<b\\>" in line for line in lines)


def test_latex_is_well_formed() -> None:
    source = render.latex(awkward_table())
    tables = check(source)
    grid = tables["lllll"]
    assert grid[0] == ["data set", "metric", "SASRec (CE)", "BTxSR x1", "X"]
    body = [row for row in grid if row[1] in {"seeds", "hr@1", "ndcg@10"}]
    assert len(body) == 5
    assert body[1][2:4] == [r"\textbf{0.0612} {\scriptsize $\pm$ 0.0046}", r"\underline{0.0512}"]
    below = grid[grid.index(body[1]) + 1]
    assert below[:4] == ["", "", "(0.0494)", r"(0.0534$^{\dagger}$)"]
    assert source.index(r"\end{table*}") < source.index(r"my\_data"), "notes may be longer than a page, a float may not"
    assert all(rule in source for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert source.count(r"\midrule") == 2, "below the header and between the two data sets"
    assert r"50\% of a\_b \& c" in source and r"BT\_SR \#1" in source and r"my\_set|\{x\}" in source


def test_latex_escapes_the_base_loss() -> None:
    table = awkward_table()
    sampled = Cell(value=0.5, n=2, base="CE_SAMPLED")
    source = render.latex(replace(table, cells=((sampled, *table.cells[0][1:]), *table.cells[1:])))
    check(source)
    assert r"$n$ = 2, CE\_SAMPLED" in source


def test_latex_has_minus_signs() -> None:
    fall = Cell(value=-15.42, published=-20.7, doubtful=True, percent=True)
    table = awkward_table()
    source = render.latex(replace(table, cells=((*table.cells[0][:2], fall), *table.cells[1:])))
    assert "$-$15.4" in source and "($-$20.7?)" in source


def test_csv_is_tidy_and_exact() -> None:
    frame = pd.read_csv(StringIO(render.csv(awkward_table())))
    assert len(frame) == 9
    assert list(frame.columns[:8]) == ["dataset", "metric", "method", "mean", "std", "n", "published", "published_std"]
    first = frame.iloc[0]
    assert (first["mean"], first["std"], first["n"], first["published"]) == (0.06123, 0.00456, 2, 0.0494)
    assert frame.iloc[1]["published_std"] == 0.0037 and not frame.iloc[1]["published_applies"]
    assert frame.iloc[6].isna()[["mean", "std", "published"]].all()
    assert set(frame["profile"]) == {"released"}
    assert frame["mark"].tolist()[:2] == ["best", "second"] and frame["published_doubtful"].sum() == 1
    assert {"p_exact", "n_common", "detectable"} < set(frame.columns)


def test_every_format_has_a_suffix_of_its_own() -> None:
    assert len({suffix for suffix, _ in render.RENDERERS.values()}) == 5


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX on this machine")
def test_latex_compiles(tmp_path: Path) -> None:
    """A table, a sheet that is longer than a page, and its beginning, which floats, in a document that loads what they
    name and nothing else; nothing leaves the page."""
    short = replace(audit(), name="short", rows=audit().rows[:12])
    signs = ("[x]", "*", "[1pt] y", "a")
    options = Sheet(name="options", title="[x]", header=signs, rows=(signs, signs[1:] + signs[:1]), footnotes=signs)
    table = awkward_table()
    starred = replace(table, rows=tuple(replace(row, title=f"[{row.title}]") for row in table.rows))
    bodies = render.latex(table) + render.latex(starred)
    bodies += sheet_latex(audit()) + sheet_latex(short) + sheet_latex(options)
    packages = "".join(
        f"{named}\n" for named in re.findall(r"^% needs (\\usepackage\{[a-z,]+\})", bodies, re.MULTILINE)
    )
    document = f"\\documentclass{{article}}\n{packages}\\begin{{document}}\n{bodies}\\end{{document}}\n"
    (tmp_path / "x.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "x.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    assert "too large" not in done.stdout and "in alignment" not in done.stdout, done.stdout
