"""Pictures of a sweep for its dashboard."""

from dataclasses import replace

import pytest
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.ledger_page import Facts
from models.config import LossConfig
from reports import live
from reports.draw import colors_of
from tests.store import fake


def facts(alpha: float, lam: float, seed: int, ndcg: float, cov: float = 0.5) -> Facts:
    return Facts(
        spec=fake.spec(alpha=alpha, lam=lam, seed=seed),
        ndcg=ndcg,
        cov=cov,
        curve={1: ndcg / 2, 2: ndcg},
        attributes={},
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
    )


GRID = (
    facts(0.1, 0.05, 1, 0.2, 0.6),
    facts(0.1, 0.05, 2, 0.4, 0.4),
    facts(0.2, 0.5, 1, 0.7, 0.2),
    facts(0.2, 0.05, 1, 0.1, 0.1),
)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    kept: list[Figure] = []
    png = live._png

    def keep(figure: Figure) -> bytes:
        kept.append(figure)
        return png(figure)

    monkeypatch.setattr(live, "_png", keep)
    return kept


def panels(figure: Figure) -> list[Axes]:
    return list(figure.subfigs[0].axes)


def test_what_has_ended_is_drawn(drawn: list[Figure]) -> None:
    made = live.pictures("alpha_lambda/ml1m", GRID)
    assert list(made) == ["learning_curves.png", "ndcg_cov.png", "alpha_lambda.png"]
    assert all(content.startswith(b"\x89PNG") for content in made.values())
    curves, front, heat = drawn
    (axes,) = panels(curves)
    assert [line.get_ydata()[-1] for line in axes.lines] == [0.2, 0.4, 0.7, 0.1]  # type: ignore[index]
    (axes,) = panels(front)
    (line,) = axes.lines
    assert list(line.get_xdata()) == pytest.approx([0.3, 0.7]), "means over seeds; 0.1 is dominated"
    assert len(axes.collections[0].get_offsets()) == 3  # type: ignore[arg-type]
    values = panels(heat)[0].collections[0].get_array()
    assert values is not None
    flat = values.ravel().filled(-1.0).tolist()
    assert flat == pytest.approx([0.1, 0.7, 0.3, -1.0]), "largest alpha on top; none of alpha 0.1 and lambda 0.5"


def test_a_heat_map_is_of_one_family(drawn: list[Figure]) -> None:
    worse = facts(0.1, 0.05, 1, 0.01)
    worse = replace(worse, spec=worse.spec.model_copy(update={"loss": LossConfig(kind="bce", negatives=1)}))
    live.pictures("t", (worse, *GRID))
    values = panels(drawn[2])[0].collections[0].get_array()
    assert values is not None and values.ravel().filled(-1.0).tolist() == pytest.approx([0.1, 0.7, 0.3, -1.0])
    said = " ".join(text.get_text() for part in drawn[2].subfigs for text in part.texts)
    assert "the largest of 2 families of settings: bt_sr, CE, " in " ".join(said.split())


def test_without_a_grid_there_is_no_heat_map_and_of_nothing_no_picture() -> None:
    assert list(live.pictures("t", GRID[:2])) == ["learning_curves.png", "ndcg_cov.png"]
    assert live.pictures("t", ()) == {}


def test_a_method_has_the_colour_that_it_has_in_the_report(drawn: list[Figure]) -> None:
    colors = sns.color_palette("colorblind")
    assert colors_of(["bt_sr[alpha=0.1]", "mine", "sasrec_ce", "yours", "bt_sr"], colors) == {
        "bt_sr[alpha=0.1]": colors[9],
        "mine": colors[1],
        "sasrec_ce": colors[2],
        "yours": colors[3],
        "bt_sr": colors[0],
    }, "and another one that nobody has"
    assert len(colors_of(map(str, range(12)), colors)) == 12, "more methods than colours"
    base = replace(GRID[0], spec=GRID[0].spec.model_copy(update={"method": "sasrec_ce"}))
    live.pictures("table2/ml1m", (base, *GRID))
    curves, front, _ = drawn
    assert [line.get_color() for line in panels(curves)[0].lines] == [colors[2], *[colors[0]] * 4]
    assert [tuple(each.get_facecolor()[0][:3]) for each in panels(front)[0].collections] == [colors[2], colors[0]]  # type: ignore[index, call-overload]
