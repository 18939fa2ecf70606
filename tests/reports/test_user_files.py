"""Data sets that are a user's files: their key is a path, which no file name, id or label may hold."""

import re
from pathlib import Path

import numpy as np
import pytest

from harness.config import dataset_slug
from harness.store import open_store
from reports.data_figures import draw
from reports.draw import framed, svg
from reports.draw_search import draw_search
from reports.figures import FIGURES
from reports.page import page
from reports.results import Request, gather
from reports.width import width_of
from tests.reports.browser import CHROMIUM, visit
from tests.reports.legible import assert_legible
from tests.reports.test_sheet import parsed
from tests.reports.typed import typed
from tests.reports.world import data_config, result, spec, split_of, write

NAME = "my $x$ & y.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of one name with a line and a grid over alpha and lambda, and ML-1M, in one study; `table2` of one."""
    home = tmp_path_factory.mktemp("a home")
    splits, runs = [], []
    for users, dataset in enumerate((str(home / "one" / NAME), "ml1m", str(home / "two" / NAME)), 40):
        split = split_of(data_config(dataset), users)
        splits.append(split)
        runs += [
            result(spec("bt_sr", dataset=dataset, alpha=alpha, lam=lam), split, valid=1 + alpha, test=1 + lam)
            for alpha in (0.1, 0.4)
            for lam in (0.05, 0.2)
        ]
    file = write(home / "btsr.db", "alpha_lambda", [run.spec for run in runs], runs, splits)
    base = result(spec(dataset=str(home / "one" / NAME)), splits[0], valid=1, test=1)
    write(file, "table2", [base.spec], [base])
    return home


def test_slugs() -> None:
    assert dataset_slug("kindle_store") == "kindle_store"
    one, two = dataset_slug("/a/b c.csv"), dataset_slug("/a/d/b c.csv")
    assert one != two and re.fullmatch(r"b_c-[0-9a-f]{8}", one)
    assert re.fullmatch(r"[0-9a-f]{8}", dataset_slug("/a/数据.csv.gz"))
    assert one == dataset_slug("/a/b c.csv"), "the same in every call"


def test_each_file_has_pictures_of_its_own(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = ("--db", folder / "btsr.db", "--out", tmp_path)
    assert typed(monkeypatch, "--figure", 3, "--figure", 5, "--study", "alpha_lambda", "--pareto", *here) == 0
    assert all(path.is_file() for path in tmp_path.iterdir())
    made = sorted(path.name for path in tmp_path.glob("*.png"))
    slugs = [dataset_slug(str(folder / name / NAME)) for name in ("one", "two")]
    stems = ("figure3", "figure5", "pareto", "interaction")
    assert made == sorted(f"{stem}_{name}.png" for stem in stems for name in (*slugs, "ml1m"))


def test_the_sheet_of_one_is_a_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path as it was typed, from the folder it lies in."""
    monkeypatch.chdir(folder)
    words = ("--why", f"table 2, one/../one/{NAME}, hr@1", "--db", folder / "btsr.db", "--out", tmp_path)
    assert typed(monkeypatch, *words) == 0
    stem = f"why_table2_{dataset_slug(str(folder / 'one' / NAME))}_hr1"
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{stem}.{end}" for end in ("txt", "md", "tex", "csv", "html")
    }
    assert rf"\label{{tab:{stem}}}" in (tmp_path / f"{stem}.tex").read_text(encoding="utf-8")


def test_a_path_with_a_comma_is_one_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "plays, mine.csv"
    file.touch()
    split, one = split_of(data_config(str(file)), 40), spec(dataset=str(file))
    database = write(tmp_path / "btsr.db", "table2", [one], [result(one, split, valid=1, test=1)], [split])
    for words in (("--table", 2, "--dataset", file), ("--why", f"table 2, {file}, hr@1")):
        assert typed(monkeypatch, *words, "--db", database) == 0


def test_data_sets_of_the_user_stand_behind_those_of_the_paper(folder: Path) -> None:
    with open_store(folder / "btsr.db", read_only=True) as store:
        found = gather(store, Request(study="alpha_lambda"))
    paper = ("ml1m", "yelp", "gowalla", "beauty", "kindle_store")
    assert found.datasets == (*paper, *(str(folder / name / NAME) for name in ("one", "two")))
    assert found.finished == ("ml1m", *found.datasets[5:])


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    with open_store(folder / "btsr.db", read_only=True) as store:
        words = page(store, lambda study: Request(study=study), "page")
    out = folder / "page.html"
    out.write_text(words, encoding="utf-8")
    return out


def test_ids_on_the_page_are_single_words(folder: Path, made: Path) -> None:
    source = made.read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]*)"', source)
    assert len(ids) == len(set(ids)) and all(re.fullmatch(r"[A-Za-z][\w.-]*", name) for name in ids), ids
    named = re.findall(r'aria-labelledby="([^"]*)"', source)
    assert named and set(named) <= set(ids)
    titles = [words for words in parsed(re.sub(r"(?s)<script>.*?</script>", "", source)).words if "Figure 3" in words]
    for dataset in ("ML 1M", *(str(folder / name / NAME) for name in ("one", "two"))):
        assert f"Figure 3: sensitivity to alpha, {dataset}" in titles


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_page_of_files_opens(made: Path, tmp_path: Path) -> None:
    _, console = visit(made.as_uri(), tmp_path)
    assert not console, console


def test_dollars_of_the_user_are_no_mathematics(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (3, 5, 6):
        study = ("--study", "alpha_lambda", "--dataset", folder / "one" / NAME)
        assert typed(monkeypatch, "--figure", number, *study, "--db", folder / "btsr.db", "--out", tmp_path) == 0
    assert typed(monkeypatch, "--pareto", "--db", folder / "btsr.db", "--out", tmp_path) == 0
    drawn = list(tmp_path.glob("*.svg"))
    assert len(drawn) == 3 + 2 * 3
    for path in drawn:
        if "ml1m" not in path.name:
            assert "$x$" in path.read_text(encoding="utf-8"), path.name
    bare = framed(1.0, "a $x$ title", ("a $x$ note",), lambda figure, colors: None)
    assert svg(bare).count("$x$") == 2


@pytest.mark.parametrize("width", ["text", "column"])
def test_rows_of_long_paths_are_legible(folder: Path, width: str) -> None:
    with open_store(folder / "btsr.db", read_only=True) as store:
        evidence = gather(store, Request(study="alpha_lambda"))
        (picture,) = FIGURES[6].draw(evidence, evidence.finished, width_of(width, bare=False)).pictures
    assert_legible(picture.figure, 20)
    labels = [axes.get_ylabel() for axes in picture.figure.subfigs[0].axes if axes.get_ylabel()]
    assert labels == ["ML 1M", f"…/{NAME}", f"…/{NAME}"]


def test_dollars_in_the_picture_of_a_data_set() -> None:
    rows, edges = np.array([9, 5, 2]), np.array([0, 86_400, 172_800])
    figure = draw("a $x$ b", user_rows=rows, item_rows=rows, time_edges=edges, time_rows=rows[:2], boundary=None)
    assert "a $x$ b" in svg(figure)


def test_dollars_in_the_name_of_a_method(tmp_path: Path) -> None:
    split = split_of(data_config(), 40)
    runs = [result(spec(name), split, valid=1, test=1) for name in ("mine $x$", "bt_sr")]
    file = write(tmp_path / "btsr.db", "mine_nsga2", [run.spec for run in runs], runs, [split])
    with open_store(file, read_only=True) as store:
        assert "mine $x$" in svg(draw_search(gather(store, Request(study="mine_nsga2")), "ml1m"))
