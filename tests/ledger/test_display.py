"""What the dashboard has of a study beside its trials: heat map, note and pictures."""

import json
from collections.abc import Sequence
from dataclasses import replace

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

from harness import ledger_page
from harness.errors import StoreError
from harness.ledger_page import Facts
from harness.ledger_storage import is_shown, is_there, params_of
from harness.paths import RunPaths
from models.config import AuxConfig, LossConfig
from tests.ledger.world import SMOKE, shown, states, storage, sweep, valid
from tests.store import fake


def facts(alpha: float, lam: float, seed: int, score: float) -> ledger_page.Facts:
    return ledger_page.Facts(
        spec=fake.spec(alpha=alpha, lam=lam, seed=seed),
        ndcg=score,
        cov=0.5,
        curve={},
        attributes={},
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
    )


def test_the_heat_map_shows_means_over_seeds_and_gaps_where_nothing_was_run() -> None:
    done = [facts(0.1, 0.05, 1, 0.2), facts(0.1, 0.05, 2, 0.4), facts(0.2, 0.5, 1, 0.7)]
    drawn = ledger_page.heat_map(done)
    assert drawn is not None
    (data,) = json.loads(drawn)["data"]
    assert (data["x"], data["y"]) == (["0.1", "0.2"], ["0.05", "0.5"])
    assert data["z"] == [[pytest.approx(0.3), None], [None, 0.7]]
    assert data["text"][0] == ["0.3000<br>2 seeds", ""]
    assert "families" not in drawn and ledger_page.heat_map(done[:2]) is None


def test_the_heat_map_is_of_one_family() -> None:
    """A setting with another loss has the same alpha and lambda, and would stand in its place."""
    done = [facts(0.1, 0.05, 1, 0.3), facts(0.2, 0.5, 1, 0.7)]
    worse = facts(0.1, 0.05, 1, 0.01)
    worse = replace(worse, spec=worse.spec.model_copy(update={"loss": LossConfig(kind="bce", negatives=1)}))
    drawn = ledger_page.heat_map([worse, *done])
    assert drawn is not None and json.loads(drawn)["data"][0]["z"] == [[0.3, None], [None, 0.7]]
    assert "the largest of 2 families of settings: bt_sr, CE, " in json.loads(drawn)["layout"]["title"]["text"]


def test_the_heat_map_is_kept_with_the_study(paths: RunPaths) -> None:
    base = SMOKE.specs[1]
    cells = [(alpha, lam) for alpha in (0.1, 0.3) for lam in (0.05, 0.5)]
    specs = tuple(
        base.model_copy(update={"aux": base.aux.model_copy(update={"alpha": alpha, "lam": lam})})
        for alpha, lam in cells
    )
    sweep(paths, study=SMOKE.model_copy(update={"specs": specs}))
    (kept,) = get_plotly_graph_objects(storage(paths).get_study_system_attrs(shown(paths)._study_id)).values()
    (data,) = json.loads(kept)["data"]
    by_cell = {(float(x), float(y)): data["z"][j][i] for i, x in enumerate(data["x"]) for j, y in enumerate(data["y"])}
    assert by_cell == {cell: pytest.approx(valid(spec, paths)) for cell, spec in zip(cells, specs, strict=True)}


def test_the_note_names_the_best_first() -> None:
    text = ledger_page.note(
        "Title", "s/d", [facts(0.1, 0.05, 1, 0.2), facts(0.2, 0.5, 1, 0.7)], {"done": 2, "waiting": 3}, "cmd"
    )
    lines = text.splitlines()
    assert "**2 of 5 trials are done**, 3 waiting" in lines
    rows = [line for line in lines if line.startswith("| bt_sr")]
    assert rows[0] == "| bt_sr | 0.2 | 0.5 | 1 | 0.7000 | 0.5000 |" and len(rows) == 2


def test_pictures_are_artifacts_that_are_replaced_and_come_back(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn of what is done, at the end and now and then before it."""
    seen: list[int] = []

    def draw(title: str, done: Sequence[Facts]) -> dict[str, bytes]:
        assert title == "smoke/synthetic"
        seen.append(len(done))
        return {"one.png": b"%d" % len(done), "two.png": b"2"}

    def shows() -> dict[str, bytes]:
        found = get_all_artifact_meta(shown(paths))
        return {meta.filename: (paths.artifacts / meta.artifact_id).read_bytes() for meta in found}

    part = SMOKE.model_copy(update={"specs": SMOKE.specs[:2]})
    sweep(paths, study=part, draw=draw)
    assert (seen, shows()) == ([2], {"one.png": b"2", "two.png": b"2"})
    monkeypatch.setattr("harness.ledger.DRESS_SECONDS", 0.0)
    monkeypatch.setattr("harness.ledger.PICTURE_SECONDS", 0.0)
    sweep(paths, draw=draw, extend=True)
    assert seen[1:] == [2, *range(3, 11), 10]
    assert shows() == {"one.png": b"10", "two.png": b"2"} and len(list(paths.artifacts.iterdir())) == 2
    optuna.delete_study(study_name="smoke/synthetic", storage=storage(paths))
    sweep(paths, draw=draw)
    assert shows()["one.png"] == b"10"


def test_pictures_that_cannot_be_written_are_one_line(paths: RunPaths) -> None:
    paths.artifacts.write_text("no folder")
    with pytest.raises(StoreError, match="pictures for the dashboard cannot be written to .*artifacts"):
        sweep(paths, draw=lambda title, done: {"one.png": b"1"})
    paths.artifacts.unlink()
    assert sweep(paths, draw=lambda title, done: {"one.png": b"1"}).complete


def test_a_term_without_lambda_shows_none() -> None:
    aux = AuxConfig(kind="cl4srec", alpha=0.1)
    contrastive = fake.spec().model_copy(update={"method": "cl4srec", "aux": aux})
    text = ledger_page.note("Title", "s/d", [replace(facts(0.1, 0.0, 1, 0.2), spec=contrastive)], {"done": 1}, "cmd")
    assert "| cl4srec | 0.1 |  | 1 | 0.2000 | 0.5000 |" in text.splitlines()
    assert params_of(contrastive, None)[0] == {"alpha": 0.1}


def test_whether_all_is_shown_is_known_without_optuna(paths: RunPaths) -> None:
    where, keys = paths.results, [spec.key for spec in SMOKE.specs]
    assert not is_there(where)
    sweep(paths)
    assert is_there(where) and is_shown(where, {"smoke/synthetic": keys})
    assert not is_shown(where, {"smoke/synthetic": [*keys, "another"]})
    assert not is_shown(where, {"smoke/synthetic": keys, "smoke/other": keys})
    shown(paths).enqueue_trial({"x": 1})
    assert not is_shown(where, {"smoke/synthetic": keys}), "something waits"
    sweep(paths)
    assert states(shown(paths)) == {"COMPLETE": 10, "FAIL": 1}, "what waited in vain is put right"
    assert is_shown(where, {"smoke/synthetic": keys})
