"""The Optuna studies beside the results: queue and display, made to agree at every start, never the truth."""

import sqlite3
from collections import Counter
from pathlib import Path

import optuna
import pytest

from harness import show
from harness.config import TrialSpec
from harness.errors import SchemaError
from harness.executors import RunContext
from harness.ledger import Ledger
from harness.ledger_storage import is_shown, running
from harness.paths import RunPaths
from harness.plan import current_plan
from harness.progress import describe
from harness.store import open_store
from tests.ledger.world import SMOKE, shown, states, storage, sweep, trains, valid
from tests.sweep.work import Steps


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

    assert sweep(paths, watched).complete and len(seen) == len(SMOKE.specs)
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
