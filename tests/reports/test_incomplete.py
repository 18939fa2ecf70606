"""A data set that has too few runs takes nothing away from the others, and is named with what to run."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.store import open_store
from reports.draw import draw_lines
from reports.lines import line
from reports.page import page
from reports.results import Request, gather
from tests.reports.test_separation import sample
from tests.reports.test_sheet import parsed
from tests.reports.typed import typed
from tests.reports.world import data_config, result, spec, split_of, write


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """alpha_lambda: a line on ML-1M, one trial on Beauty; table2 on ML-1M alone; a search with one point on Beauty."""
    splits = {name: split_of(data_config(name), users) for users, name in enumerate(("ml1m", "beauty"), 40)}
    points = [("ml1m", alpha) for alpha in (0.1, 0.4)] + [("beauty", 0.2)]
    runs = [result(spec("bt_sr", dataset=name, alpha=a), splits[name], valid=1 + a, test=1) for name, a in points]
    base = replace(result(spec(), splits["ml1m"], valid=1, test=1), sample=sample(1.0, 1))
    asked = [*(run.spec for run in runs), spec("bt_sr", dataset="beauty", alpha=0.3)]
    file = tmp_path_factory.mktemp("incomplete") / "btsr.db"
    write(file, "alpha_lambda", asked, runs, list(splits.values()))
    write(file, "table2", [base.spec, spec(dataset="gowalla")], [base])
    write(file, "table2_nsga2", [run.spec for run in runs])
    return file


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (("--figure", 3), "figure3_ml1m.png"),
        (("--figure", 5), "figure5_ml1m.png"),
        (("--pareto",), "pareto_ml1m.png"),
        (("--pareto", "--study", "table2_nsga2"), "pareto_ml1m.png"),
        (("--pick", "balanced", "--format", "text"), "pick.txt"),
    ],
)
def test_the_others_are_shown(
    words: tuple[object, ...],
    made: str,
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = ("--db", database, "--out", tmp_path)
    assert typed(monkeypatch, *words, *here) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "beauty" in line]
    assert len(said) == 1 and "`btsr-sweep --study " in said[0]
    assert ("--study table2 --dataset beauty --profile released --search nsga2 --trials 20 " in said[0]) is (
        "table2_nsga2" in words
    ), "a search that is finished needs more points"
    assert (tmp_path / made).exists() and not list(tmp_path.glob("*beauty*"))
    names = {path.name for path in tmp_path.iterdir()}
    (tmp_path / made).unlink()
    assert typed(monkeypatch, *words, "--dataset", "ml1m,beauty", *here) == 2, "who names a data set gets it"
    assert "beauty" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == names - {made}, "and nothing half"


def test_all_shows_what_there_is_of_named_ones(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--all", "--dataset", "ml1m,beauty", "--format", "text", "--db", database, "--out", tmp_path)
    assert typed(monkeypatch, *words) == 0
    assert {"figure3_ml1m.png", "pareto_ml1m.png"} <= {path.name for path in tmp_path.iterdir()}
    assert capsys.readouterr().err.count("finished value of alpha on beauty") == 1, "of all figures that lack it"


@pytest.mark.parametrize("datasets", [(), ("ml1m", "beauty")])
def test_the_page_shows_the_others(datasets: tuple[str, ...], database: Path) -> None:
    with open_store(database, read_only=True) as store:
        made = page(store, lambda study: Request(study=study, datasets=datasets), "page")
    assert 'id="figure3_ml1m"' in made and 'id="figure5_ml1m"' in made
    found = re.search(r'(?s)<section id="skipped".*?</section>', made)
    assert found is not None
    words = " ".join(" ".join(parsed(found[0]).words).split())
    assert re.search("Figure 3, [^:]*Figure 8: study alpha_lambda has 1 finished value of alpha on beauty", words)


@pytest.mark.parametrize("number", [1, 2, 6])
def test_rows_of_a_figure_that_are_not_there_are_named(
    number: int, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--figure", number, "--dataset", "ml1m,gowalla", "--db", database, "--out", tmp_path)
    assert typed(monkeypatch, *words) == 0
    study = "alpha_lambda" if number == 6 else "table2"
    assert re.search(rf"gowalla.* run `btsr-sweep --study {study} --dataset gowalla ", capsys.readouterr().err)
    drawn = (tmp_path / f"figure{number}.svg").read_text(encoding="utf-8")
    assert "not run: Gowalla" in drawn


def test_a_line_with_one_point_wastyped(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed(monkeypatch, "--figure", 6, "--db", database, "--out", tmp_path) == 0
    drawn = (tmp_path / "figure6.svg").read_text(encoding="utf-8")
    assert "too little to show: Beauty" in drawn and "not run" not in drawn


def test_the_legend_has_every_bucket_of_every_row(database: Path) -> None:
    """The last data set has no target in the tail."""
    with open_store(database, read_only=True) as store:
        whole = line(gather(store, Request(study="alpha_lambda")), "ml1m", "alpha")
    assert whole.points("hr", 1, 3)
    some = replace(whole, metrics={place: points for place, points in whole.metrics.items() if place[2] != 3})
    for order in ((whole, some), (some, whole)):
        (legend,) = draw_lines(order, "title", (), buckets=True).subfigs[0].legends
        titles = [f"target in {name} bucket" for name in ("head", "mid", "tail")]
        assert [text.get_text() for text in legend.get_texts()] == titles
