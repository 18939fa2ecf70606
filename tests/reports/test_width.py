"""Every figure at the width of a column and of a text, of all data sets of the paper: legible, and so wide."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from PIL import Image

from harness.config import PAPER_DATASETS, SEEDS
from harness.errors import ConfigError
from harness.store import Store, open_store
from harness.values import TrialResult
from reports.dial import dial
from reports.draw_dial import draw_front, draw_interaction
from reports.draw_search import draw_search
from reports.figures import FIGURES
from reports.results import Request, gather
from reports.width import COLUMN, NARROWEST, TEXT, WIDEST, Width, width_of
from studies.alpha_lambda import GRID
from tests.reports.legible import assert_legible
from tests.reports.test_separation import sample
from tests.reports.typed import typed
from tests.reports.world import data_config, result, spec, split_of, write

LONGEST = "kindle_store"
ACM_PAGE_INCHES = 9.2
TABLE2 = (("sasrec_bce", "bce"), ("sasrec_ce", "ce"), ("sasrec_sce", "sce"), ("cl4srec", "ce"), ("duorec", "ce"))


def _users(name: str) -> int:
    """Test users: other ones for each data set, so that each has a fingerprint of its own."""
    return 70 + PAPER_DATASETS.index(name)


def _lines(name: str) -> list[TrialResult]:
    """Lines over alpha and lambda with two seeds; of one data set the grid, too."""
    split = split_of(data_config(name), _users(name))
    points = {(a, 0.05, seed) for a in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5) for seed in SEEDS[:2]}
    points |= {(0.2, lam, seed) for lam in (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5) for seed in SEEDS[:2]}
    if name == LONGEST:
        points |= {(alpha, lam, SEEDS[0]) for alpha in GRID for lam in GRID}
    return [
        result(spec("bt_sr", dataset=name, alpha=a, lam=lam, seed=s), split, valid=1 + a - lam, test=1.2 - a + lam)
        for a, lam, s in sorted(points)
    ]


def _methods(name: str) -> list[TrialResult]:
    split = split_of(data_config(name), _users(name))
    specs = [spec(method, dataset=name, loss=loss, seed=s) for method, loss in TABLE2 for s in SEEDS[:2]]
    specs += [spec("bt_sr", dataset=name, alpha=0.2, lam=0.12, seed=s) for s in SEEDS[:2]]
    return [
        replace(result(one, split, valid=1 + i / 10, test=1 + i / 10), sample=sample(1.5, one.seed))
        for i, one in enumerate(specs)
    ]


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper's data sets with lines, one with a grid; the methods of table2, also as points of a search."""
    file = tmp_path_factory.mktemp("five") / "btsr.db"
    lines = {name: _lines(name) for name in PAPER_DATASETS}
    methods = {name: _methods(name) for name in PAPER_DATASETS}
    splits = [split_of(data_config(name), _users(name)) for name in PAPER_DATASETS]
    write(file, "alpha_lambda", [run.spec for name in lines for run in lines[name]], sum(lines.values(), []), splits)
    specs = [run.spec for name in methods for run in methods[name]]
    write(file, "table2", specs, sum(methods.values(), []))
    write(file, "tune_nsga2", specs)
    return file


def _of_paper(number: int, store: Store, width: Width) -> list[Figure]:
    """The data sets that the paper's figure has; of those with a picture each the one with the longest name."""
    plan = FIGURES[number]
    datasets = plan.datasets or (PAPER_DATASETS if number >= 6 else (LONGEST,))
    evidence = gather(store, Request(study=plan.study))
    return [picture.figure for picture in plan.draw(evidence, datasets, width).pictures]


def _bars(store: Store, width: Width) -> list[Figure]:
    """Figures 1 and 5 beyond the paper: five data sets, and the longest title."""
    found = [FIGURES[1].draw(gather(store, Request(study="table2")), PAPER_DATASETS, width)]
    found.append(FIGURES[5].draw(gather(store, Request(study="alpha_lambda")), (LONGEST,), width))
    return [picture.figure for drawn in found for picture in drawn.pictures]


def _front(store: Store, width: Width) -> list[Figure]:
    evidence = gather(store, Request(study="alpha_lambda"))
    return [draw_front(evidence, dial(evidence, LONGEST), width)]


def _interaction(store: Store, width: Width) -> list[Figure]:
    evidence = gather(store, Request(study="alpha_lambda"))
    figure = draw_interaction(evidence, dial(evidence, LONGEST), width)
    assert figure is not None
    return [figure]


def _search(store: Store, width: Width) -> list[Figure]:
    return [draw_search(gather(store, Request(study="tune_nsga2")), LONGEST, width)]


ALL: dict[str, Callable[[Store, Width], list[Figure]]] = {
    **{f"figure{number}": partial(_of_paper, number) for number in FIGURES},
    "bars": _bars,
    "front": _front,
    "interaction": _interaction,
    "search": _search,
}


def _cases() -> Iterator[tuple[str, Width]]:
    """All at the widths with a name; at the narrowest, and where most panels stand closest, one of each drawing."""
    for width in (COLUMN, TEXT, Width(NARROWEST), Width(5.0)):
        for name in ALL:
            if width in (COLUMN, TEXT) or name not in ("figure4", "figure7", "figure9"):
                yield name, width
    for width in (COLUMN, TEXT):
        for name in ("figure1", "figure2", "figure3", "figure6", "front", "interaction"):
            yield name, replace(width, bare=True)


def _named(value: str | Width) -> str:
    return value if isinstance(value, str) else f"{value.inches}{'bare' * value.bare}"


@pytest.mark.parametrize(("name", "width"), list(_cases()), ids=_named)
def test_every_figure_is_legible(name: str, width: Width, five: Path) -> None:
    with open_store(five, read_only=True) as store:
        figures = ALL[name](store, width)
    assert figures
    for figure in figures:
        assert figure.get_figwidth() == width.inches
        assert_legible(figure, 10, picture_points=7.0 if width.narrow else 6.0)
        assert not width.narrow or figure.get_figheight() <= ACM_PAGE_INCHES, "no column is longer"


@pytest.mark.parametrize("width", [COLUMN, TEXT], ids=["column", "text"])
def test_a_fine_grid_names_every_second_value(width: Width, tmp_path: Path) -> None:
    split = split_of(data_config(), 30)
    points = [(round(0.02 * i, 2), lam) for i in range(1, 22) for lam in (0.05, 0.1)]
    runs = [result(spec("bt_sr", alpha=a, lam=lam), split, valid=1 + a, test=1) for a, lam in points]
    file = write(tmp_path / "btsr.db", "alpha_lambda", [run.spec for run in runs], runs, [split])
    with open_store(file, read_only=True) as store:
        evidence = gather(store, Request(study="alpha_lambda"))
        figure = draw_interaction(evidence, dial(evidence, "ml1m"), width)
    assert figure is not None
    assert_legible(figure, 10, picture_points=7.0)
    names = [label.get_text() for label in figure.subfigs[0].axes[0].get_yticklabels()]
    assert names[-3:] == ["0.06", "", "0.02"] and len(names) == 21


@pytest.mark.parametrize(("asked", "inches"), [("column", 3.33), ("4.25", 4.25), ("text", 5.5), (None, 5.5)])
def test_files_are_so_wide(
    asked: str | None, inches: float, five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = () if asked is None else ("--width", asked)
    assert typed(monkeypatch, "--figure", 7, "--dataset", "ml1m", *wide, "--db", five, "--out", tmp_path) == 0
    with Image.open(tmp_path / "figure7.png") as image:
        assert image.width / image.info["dpi"][0] == pytest.approx(inches, abs=0.01)
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", (tmp_path / "figure7.pdf").read_bytes())
    assert box is not None and float(box[1]) / 72 == pytest.approx(inches, abs=0.001)
    drawn = ElementTree.parse(tmp_path / "figure7.svg").getroot()
    assert float(drawn.attrib["width"].removesuffix("pt")) / 72 == pytest.approx(inches, abs=0.001)
    sizes = {
        float(size)
        for size in re.findall(r"font(?:-size)?: ?(?:[a-z]+ )*([\d.]+)px", ElementTree.tostring(drawn).decode())
    }
    assert sizes and min(sizes) >= 6.0


def test_a_bare_figure_has_its_words_in_latex(five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("--figure", 1, "--figure", 7, "--dataset", "ml1m", "--width", "column", "--db", five, "--out")
    assert typed(monkeypatch, *asked, tmp_path / "worded") == 0
    assert typed(monkeypatch, *asked, tmp_path, "--bare") == 0
    assert not list((tmp_path / "worded").glob("*.tex"))
    with Image.open(tmp_path / "figure1.png") as bare, Image.open(tmp_path / "worded" / "figure1.png") as worded:
        assert bare.height < 0.9 * worded.height, "title and notes leave no room behind"
    words, drawn = (tmp_path / "figure1.tex").read_text(), (tmp_path / "figure1.svg").read_text()
    title = "Hit rate per popularity bucket."
    assert f"\\caption[{{{title}}}]{{{title} Study table2, profile released; mean" in words and words.count(title) == 2
    assert "\\includegraphics{figure1.pdf}" in words and "(n $>$ 1)" in words and "\\label{fig:figure1}" in words
    assert "popularity" not in drawn and "SASRec (CE)" in drawn
    if shutil.which("pdflatex"):
        (tmp_path / "x.tex").write_text(
            "\\documentclass{article}\n\\usepackage{graphicx}\n\\begin{document}\n\\listoffigures\n"
            "\\input{figure1}\n\\input{figure7}\n\\end{document}\n"
        )
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "x.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 and "Overfull" not in done.stdout, done.stdout[-2000:]


def test_words_for_a_width() -> None:
    assert (width_of("column"), width_of("text"), width_of(" 4 ")) == (COLUMN, TEXT, Width(4.0))
    assert (width_of("3"), width_of("8.0")) == (Width(NARROWEST), Width(WIDEST))
    for words in ("2.99", "8.01", "wide", "", "nan", "inf", "-4"):
        with pytest.raises(ConfigError, match=r"is no width of a figure: use column \(3.33 inches\), .* from 3 to 8$"):
            width_of(words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--figure", 7, "--width", "9"), "--width '9' is no width of a figure: use column"),
        (("--table", 2, "--width", "column"), "--width is of figures that are files"),
        (("--table", 2, "--bare"), "--bare is of figures that are files"),
        (("--page", "x.html", "--width", "column"), "the page keeps its own"),
        (("--width", "column"), "nothing asked for"),
    ],
)
def test_mistakes(
    words: tuple[object, ...],
    expected: str,
    five: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed(monkeypatch, *words, "--db", five) == 2
    said = capsys.readouterr()
    assert expected in said.err and said.err.count("\n") == 1 and not said.out
    assert not list(tmp_path.iterdir()) and not (five.parent / "report").exists(), "nothing is written"
