"""The Optuna studies beside the results: queue and display, made to agree at every start, never the truth."""

import io
import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from rich.console import Console

from harness import ledger_page, show
from harness.config import SEEDS, Range, SearchSpace, Study, StudyOptions, TrialSpec
from harness.errors import SchemaError, StoreError
from harness.executors import FakeExecutor, RunContext, Work
from harness.ledger import Ledger
from harness.ledger_page import Draw, Facts
from harness.ledger_storage import is_shown, is_there, params_of, running
from harness.options import SweepOptions
from harness.paths import RunPaths
from harness.plan import Plan, current_plan
from harness.prepare import prepare
from harness.progress import describe
from harness.store import open_store
from harness.sweep import run_study
from models.config import AuxConfig
from studies import STUDIES
from tests.store import fake
from tests.sweep.work import Steps

SMOKE = STUDIES["smoke"](StudyOptions(datasets=("synthetic",), seeds=SEEDS[:2]))
EPOCHS = 3


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare(SMOKE.specs[0].data, RunPaths(work_dir=folder))
    return folder / "prepared"


@pytest.fixture
def paths(tmp_path: Path, prepared: Path) -> RunPaths:
    (tmp_path / "prepared").symlink_to(prepared)
    return RunPaths(work_dir=tmp_path)


def trains(spec: TrialSpec, context: RunContext) -> Steps:
    """Scores by alpha: the closer to 0.3 the better."""
    split = prepare(spec.data, context.paths)
    logs = tuple(fake.epoch(e, e / 10 - abs(spec.aux.alpha - 0.3) / 10) for e in range(1, EPOCHS + 1))
    yield from logs
    return replace(fake.result(spec, split, epochs=EPOCHS), epochs=logs)


def sweep(paths: RunPaths, work: Work = trains, study: Study = SMOKE, draw: Draw | None = None, **options: Any) -> Plan:
    context = RunContext(paths=paths, command="btsr-sweep --study smoke", ask_each_epoch="prune" in options)
    console = Console(file=io.StringIO())
    return run_study(study, FakeExecutor(work), context, console=console, options=SweepOptions(**options), draw=draw)


def storage(paths: RunPaths) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(f"sqlite:///{paths.results}")


def shown(paths: RunPaths, name: str = "smoke/synthetic") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=storage(paths))


def states(study: optuna.Study) -> Counter[str]:
    return Counter(trial.state.name for trial in study.get_trials(deepcopy=False))


def valid(spec: TrialSpec, paths: RunPaths, name: str = "ndcg", bucket: int = 0) -> float | None:
    with open_store(paths.results, read_only=True) as store:
        found = store.metrics([spec.key], part="valid", names=[name])[spec.key]
    return next(metric.value for metric in found if (metric.k, metric.bucket) == (10, bucket))


def test_a_finished_sweep_is_shown_whole(paths: RunPaths) -> None:
    sweep(paths)
    study = shown(paths)
    assert states(study) == {"COMPLETE": 10} and study.metric_names == ["valid NDCG@10"]
    by_key = {trial.user_attrs["key"]: trial for trial in study.trials}
    for spec in SMOKE.specs:
        trial = by_key[spec.key]
        assert trial.value == valid(spec, paths)
        wanted = {} if spec.method == "sasrec_ce" else {"alpha": spec.aux.alpha, "lambda": 0.05}
        assert trial.params == wanted
        assert trial.intermediate_values == pytest.approx({
            e: e / 10 - abs(spec.aux.alpha - 0.3) / 10 for e in range(1, 4)
        })
        assert trial.user_attrs["seed"] == spec.seed and trial.user_attrs["method"] == spec.method
        for bucket in range(4):
            told = trial.user_attrs["valid hr@10" + ("", " head", " mid", " tail")[bucket]]
            assert told == valid(spec, paths, "hr", bucket)
        assert {"seconds", "peak MiB", "git", "host", "device", "best epoch"} <= trial.user_attrs.keys()
    assert not any("test" in name for trial in study.trials for name in trial.user_attrs), "no test number is shown"
    attributes = storage(paths).get_study_system_attrs(study._study_id)
    (note,) = [str(v) for k, v in attributes.items() if k.startswith("dashboard:note_str")]
    assert "10 of 10 trials are done" in note and "btsr-sweep --study smoke" in note


def test_what_waits_runs_and_ends_is_seen_while_it_happens(paths: RunPaths) -> None:
    seen: list[tuple[Counter[str], int]] = []

    def watched(spec: TrialSpec, context: RunContext) -> Steps:
        steps = trains(spec, context)
        yield next(steps)
        ((key, epoch, value),) = running(context.paths.results)
        assert (key, epoch) == (spec.key, 1) and value is not None
        seen.append((states(shown(paths)), len(seen)))
        return (yield from steps)

    sweep(paths, watched)
    for now, finished in seen:
        assert now == Counter({"COMPLETE": finished, "RUNNING": 1, "WAITING": 9 - finished})


def test_a_study_deleted_between_two_sweeps_comes_back(paths: RunPaths) -> None:
    sweep(paths)
    before = {t.user_attrs["key"]: (t.value, t.params, t.intermediate_values) for t in shown(paths).trials}
    optuna.delete_study(study_name="smoke/synthetic", storage=storage(paths))

    def never(spec: TrialSpec, context: RunContext) -> Steps:
        raise AssertionError("nothing is to run")
        yield

    assert sweep(paths, never).complete
    after = {t.user_attrs["key"]: (t.value, t.params, t.intermediate_values) for t in shown(paths).trials}
    assert after == before


def test_a_study_deleted_in_the_middle_loses_nothing(paths: RunPaths) -> None:
    runs: list[str] = []

    def deleting(spec: TrialSpec, context: RunContext) -> Steps:
        runs.append(spec.key)
        steps = trains(spec, context)
        yield next(steps)
        if len(runs) in {3, 6}:
            optuna.delete_study(study_name="smoke/synthetic", storage=storage(paths))
        return (yield from steps)

    assert sweep(paths, deleting).complete
    assert Counter(runs) == {spec.key: 1 for spec in SMOKE.specs}
    assert states(shown(paths)) == {"COMPLETE": 10}


def test_a_trial_told_in_the_dashboard_does_not_stop_the_sweep(paths: RunPaths) -> None:
    def meddled(spec: TrialSpec, context: RunContext) -> Steps:
        if spec == SMOKE.specs[1]:
            study = shown(paths)
            mine = next(t.number for t in study.trials if t.state.name == "RUNNING")
            study.tell(mine, 0.99)
        return (yield from trains(spec, context))

    assert sweep(paths, meddled).complete
    with open_store(paths.results, read_only=True) as store:
        assert len(store.trials()) == 10


class Killed(BaseException):
    """As sudden an end as a process can come to without taking the test with it."""


def test_after_an_interruption_nothing_is_shown_as_running(paths: RunPaths) -> None:
    def stops(spec: TrialSpec, context: RunContext) -> Steps:
        yield next(trains(spec, context))
        if spec == SMOKE.specs[2]:
            raise KeyboardInterrupt
        return (yield from trains(spec, context))

    with pytest.raises(KeyboardInterrupt):
        sweep(paths, stops)
    study = shown(paths)
    finished = states(study)["COMPLETE"]
    assert states(study) == {"COMPLETE": finished, "WAITING": 10 - finished} and finished < 10
    attributes = storage(paths).get_study_system_attrs(study._study_id)
    (note,) = [str(v) for k, v in attributes.items() if k.startswith("dashboard:note_str")]
    assert f"{finished} of 10 trials are done" in note and "running" not in note
    assert sweep(paths).complete and states(shown(paths)) == {"COMPLETE": 10}, "it goes on in its own place"


def test_stale_and_double_and_unwanted_entries_are_put_right(paths: RunPaths) -> None:
    def dies(spec: TrialSpec, context: RunContext) -> Steps:
        yield next(trains(spec, context))
        raise Killed

    with pytest.raises(Killed):
        sweep(paths, dies)
    study = shown(paths)
    assert states(study) == {"RUNNING": 1, "WAITING": 9}
    study.enqueue_trial({}, user_attrs={"key": SMOKE.specs[4].key})
    study.enqueue_trial({}, user_attrs={"key": "of nobody"})
    study.enqueue_trial({"x": 1})
    runs: list[str] = []

    def counted(spec: TrialSpec, context: RunContext) -> Steps:
        runs.append(spec.key)
        return (yield from trains(spec, context))

    sweep(paths, counted)
    assert Counter(runs) == {spec.key: 1 for spec in SMOKE.specs}
    found = states(shown(paths))
    assert found == {"COMPLETE": 10, "FAIL": 4}, "nothing waits for ever"
    errors = Counter(t.user_attrs["error"].partition(":")[0] for t in shown(paths).trials if t.state.name == "FAIL")
    assert errors == {"its driver ended": 1, "not to be run": 3}


def test_what_a_killed_sweep_of_another_study_left_is_not_shown_as_running(
    paths: RunPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    def dies(spec: TrialSpec, context: RunContext) -> Steps:
        yield next(trains(spec, context))
        raise Killed

    with pytest.raises(Killed):
        sweep(paths, dies)
    optuna.create_study(study_name="somebody's", storage=storage(paths)).ask()
    other = SMOKE.model_copy(update={"name": "other", "specs": SMOKE.specs[5:7]})

    def looks(spec: TrialSpec, context: RunContext) -> Steps:
        capsys.readouterr()
        show.status_of_all(paths)
        running = [line.partition(":")[0].strip() for line in capsys.readouterr().out.splitlines() if ": epoch" in line]
        assert running == [describe(spec)]
        return (yield from trains(spec, context))

    assert sweep(paths, looks, study=other).complete
    assert states(shown(paths)) == {"WAITING": 10} and states(shown(paths, "somebody's")) == {"RUNNING": 1}
    assert sweep(paths).complete and states(shown(paths)) == {"COMPLETE": 10, "FAIL": 2}


def test_a_crash_between_recording_and_telling_is_repaired(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: Ledger, outcome: object, *, again: bool = False) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Ledger, "ended", crash)
        sweep(paths)
    runs: list[str] = []

    def counted(spec: TrialSpec, context: RunContext) -> Steps:
        runs.append(spec.key)
        return (yield from trains(spec, context))

    sweep(paths, counted)
    assert len(runs) == 9, "what is recorded is not run again"
    found = [t for t in shown(paths).trials if t.state.name == "COMPLETE"]
    assert {t.user_attrs["key"] for t in found} == {spec.key for spec in SMOKE.specs} and len(found) == 10


@pytest.mark.parametrize(
    ("revision", "made_by", "says"),
    [
        ("v3.0.0.a", "3.0.0", "run `optuna storage upgrade --storage sqlite:////"),
        ("v9.0.0.a", "9.0.0", "made by optuna 9.0.0, this is Optuna 5"),
    ],
)
def test_a_queue_of_another_optuna_is_one_line_and_nothing_is_lost(
    revision: str, made_by: str, says: str, paths: RunPaths
) -> None:
    sweep(paths, study=SMOKE.model_copy(update={"specs": SMOKE.specs[:2]}))
    connection = sqlite3.connect(paths.results)
    (usual,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()

    def made(revision: str, by: str) -> None:
        with connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
            connection.execute("UPDATE version_info SET library_version = ?", (by,))

    made(revision, made_by)
    with pytest.raises(SchemaError) as error:
        sweep(paths, extend=True)
    assert says in str(error.value) and "\n" not in str(error.value)
    made(usual, optuna.__version__)
    connection.close()
    assert sweep(paths, extend=True).complete and states(shown(paths)) == {"COMPLETE": 10}


def test_failures_are_shown_with_their_reason(paths: RunPaths) -> None:
    def fails(spec: TrialSpec, context: RunContext) -> Steps:
        yield next(trains(spec, context))
        if spec == SMOKE.specs[0]:
            raise ValueError("no luck")
        return (yield from trains(spec, context))

    sweep(paths, fails, max_failures=1)
    failed = [t for t in shown(paths).trials if t.state.name == "FAIL"]
    assert [t.user_attrs["error"] for t in failed] == ["ValueError: no luck"] * 2
    sweep(paths, max_failures=1)
    assert states(shown(paths)) == {"COMPLETE": 9, "FAIL": 2}, "what failed for good does not wait"


@pytest.mark.parametrize("name", ["run #3", "what?", "50%20off", "größer 日本"])
def test_a_folder_may_have_any_name(name: str, tmp_path: Path, prepared: Path) -> None:
    paths = RunPaths(work_dir=tmp_path / name)
    paths.work_dir.mkdir()
    paths.prepared.symlink_to(prepared)
    two = SMOKE.model_copy(update={"specs": SMOKE.specs[:2]})
    assert sweep(paths, study=two).complete and sweep(paths, study=two).complete
    assert is_shown(paths.results, {"smoke/synthetic": [spec.key for spec in two.specs]})
    assert running(paths.results) == []
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing is written beside it"


def test_the_status_while_there_is_no_queue_yet(paths: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    """A driver has just begun, or merges."""
    with open_store(paths.results, create=True) as store, store.driver_lock():
        store.register_study(SMOKE)
        show.status(current_plan(SMOKE, paths), paths)
        show.status_of_all(paths)
        alone, first, second = capsys.readouterr().out.splitlines()
    assert alone.startswith("smoke: 0 of 10 done, 0 failed, 10 missing; running on host")
    assert first == "smoke: 0 of 10 done, 0 failed, 10 missing" and second.startswith("running on host")


# -- searches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("search", ["random", "tpe", "nsga2"])
def test_a_search_tries_as_many_points_as_were_asked_for_and_goes_on(search: str, paths: RunPaths) -> None:
    runs: list[TrialSpec] = []

    def counted(spec: TrialSpec, context: RunContext) -> Steps:
        runs.append(spec)
        if len(runs) == 7:
            raise KeyboardInterrupt
        return (yield from trains(spec, context))

    with pytest.raises(KeyboardInterrupt):
        sweep(paths, counted, search=search, trials=8)
    after = sweep(paths, counted, search=search, trials=8)
    assert after.complete and len(after.study.specs) == 16 and after.study.name == f"smoke_{search}"
    assert len(runs) == 17 and runs[6] == runs[7], "the one that was stopped goes first"
    once = {spec.key: spec for spec in runs}
    assert Counter(spec.method for spec in once.values()) == {"sasrec_ce": 8, "bt_sr": 8}
    assert {spec.seed for spec in runs} == {SMOKE.search[0].base.seed}, "seeds are not searched"
    assert set(runs[:2]) == {space.base for space in SMOKE.search}, "what is not tuned is the first point"
    for space in SMOKE.search:
        mine = {spec.key: spec for spec in runs if spec.method == space.base.method}
        assert not any(space.strays(spec) for spec in mine.values())
        name = f"smoke_{search}/synthetic/{space.base.method}"
        finished = [trial for trial in shown(paths, name).trials if trial.state.name == "COMPLETE"]
        assert {trial.user_attrs["key"] for trial in finished} == set(mine) and len(finished) == 8
        for trial in finished:
            spec = mine[trial.user_attrs["key"]]
            assert trial.params == space.point(spec) and trial.params.keys() == space.ranges.keys()
            scores = [valid(spec, paths), valid(spec, paths, "cov")]
            assert trial.values == scores[: 2 if search == "nsga2" else 1]
    optuna.delete_study(study_name=f"smoke_{search}/synthetic/bt_sr", storage=storage(paths))
    assert len(sweep(paths, counted, search=search, trials=9).study.specs) == 18
    assert len(runs) == 19
    assert states(shown(paths, f"smoke_{search}/synthetic/bt_sr"))["COMPLETE"] == 9


def test_trials_that_fall_behind_are_given_up_and_stay_so(paths: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    after = sweep(paths, search="random", trials=14, prune="median")
    counts = Counter(after.statuses.values())
    assert after.complete and counts["pruned"] >= 1 and counts["done"] >= 5
    capsys.readouterr()
    show.status_of_all(paths)
    told = f"smoke_random: {counts['done']} of 28 done, 0 failed, 0 missing, {counts['pruned']} pruned by a search\n"
    assert capsys.readouterr().out == told + "nothing runs now\n"
    pages = [states(shown(paths, f"smoke_random/synthetic/{method}")) for method in ("sasrec_ce", "bt_sr")]
    assert pages[0] == {"COMPLETE": 14}, "its trials are equals, and are compared with each other alone"
    assert pages[0] + pages[1] == {"COMPLETE": counts["done"], "PRUNED": counts["pruned"]}
    with open_store(paths.results, read_only=True) as store:
        pruned = store.trials(status="pruned")
        assert len(pruned) == counts["pruned"]
        assert all(len(store.epochs(row.key)) == row.last_epoch <= EPOCHS for row in pruned)

    def never(spec: TrialSpec, context: RunContext) -> Steps:
        raise AssertionError("nothing is to run")
        yield

    assert sweep(paths, never, search="random", trials=14, prune="median").complete


def test_a_space_refuses_what_cannot_be() -> None:
    base = SMOKE.search[0].base
    for ranges in (
        {"seed": Range(low=1, high=5)},
        {"aux.alhpa": Range(low=0, high=1)},
        {"train.lr.x": Range(low=1, high=2)},
    ):
        with pytest.raises(ValueError, match="a search cannot vary"):
            SearchSpace(base=base, ranges=ranges)
    with pytest.raises(ValueError, match="greater than 0"):
        SearchSpace(base=base, ranges={"train.lr": Range(low=-1, high=1)})
    with pytest.raises(ValueError, match="low must be below high"):
        Range(low=2, high=1)
    space = SearchSpace(base=base, ranges={"train.batch_size": Range(low=16, high=64, integer=True)})
    spec = space.at({"train.batch_size": 32})
    assert (
        spec.train.batch_size == 32 and spec.train.lr == base.train.lr and space.point(spec) == {"train.batch_size": 32}
    )


# -- the page ---------------------------------------------------------------------------------------------------------


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
    assert ledger_page.heat_map(done[:2]) is None


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
