"""Plans, and a sweep in this process: what is missing runs, is recorded at once, and is told."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.config import SEEDS, RunPaths, Study, StudyOptions, TrialSpec
from harness.errors import StoreError, SweepLocked
from harness.executors import FakeExecutor, RunContext
from harness.prepare import prepare
from harness.store import Store, open_store
from harness.sweep import PlanRow, current_plan, database, describe, plan, run_study
from harness.values import EpochLog, TrialResult
from studies import STUDIES
from tests.store import fake

OPTIONS = StudyOptions(datasets=("synthetic",), seeds=SEEDS[:2])
SMOKE = STUDIES["smoke"](OPTIONS)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    """A run folder with prepared data."""
    made = RunPaths(work_dir=tmp_path_factory.mktemp("run"))
    prepare(SMOKE.specs[0].data, made)
    return made


class Counting:
    """Makes results, counts how often each trial is run, and fails where told."""

    def __init__(self, failing: tuple[str, ...] = ()) -> None:
        self.runs: list[str] = []
        self.failing = failing

    def __call__(self, spec: TrialSpec, context: RunContext, on_epoch: object) -> TrialResult:
        self.runs.append(spec.key)
        assert callable(on_epoch)
        log: EpochLog = fake.epoch(1, 0.25)
        on_epoch(log)
        if spec.key in self.failing:
            raise ValueError("no luck")
        return fake.result(spec, prepare(spec.data, context.paths))


def sweep(study: Study, paths: RunPaths, work: Counting, *, quiet: bool = False, terminal: bool = False) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=120)
    run_study(study, FakeExecutor(work), RunContext(paths=paths), console=console, quiet=quiet)
    return text.getvalue()


@pytest.fixture
def fresh(paths: RunPaths) -> RunPaths:
    for file in paths.work_dir.glob("btsr.db*"):
        file.unlink()
    return paths


def test_without_a_database_everything_is_missing(tmp_path: Path) -> None:
    found = current_plan(SMOKE, RunPaths(work_dir=tmp_path / "nowhere"))
    assert found.rows == (
        PlanRow(dataset="synthetic", method="sasrec_ce", trials=2, done=0, failed=0),
        PlanRow(dataset="synthetic", method="bt_sr", trials=8, done=0, failed=0),
    )
    assert [row.missing for row in found.rows] == [2, 8]
    assert not list(tmp_path.iterdir())


def test_all_cells_get_their_first_seed_before_the_second() -> None:
    study = Study(
        name="mine", title="Mine", specs=tuple(fake.spec(alpha=a, seed=s) for a in (0.1, 0.2, 0.3) for s in SEEDS)
    )
    missing = plan(study, None).missing
    assert [spec.seed for spec in missing] == [seed for seed in SEEDS for _ in range(3)]
    assert [spec.aux.alpha for spec in missing[:3]] == [0.1, 0.2, 0.3]


def test_failed_trials_run_again_and_done_ones_never(fresh: RunPaths) -> None:
    bad = SMOKE.specs[3].key
    first = Counting(failing=(bad,))
    told = sweep(SMOKE, fresh, first)
    assert sorted(first.runs) == sorted(spec.key for spec in SMOKE.specs)
    assert f"{describe(SMOKE.specs[3])}: FAILED after epoch 1: ValueError: no luck" in told
    after = current_plan(SMOKE, fresh)
    assert (after.done, after.failed, [spec.key for spec in after.missing]) == (9, 1, [bad])
    assert after.rows[1] == PlanRow(dataset="synthetic", method="bt_sr", trials=8, done=7, failed=1)

    second = Counting()
    sweep(SMOKE, fresh, second)
    assert second.runs == [bad]
    third = Counting()
    sweep(SMOKE, fresh, third)
    assert third.runs == [] and current_plan(SMOKE, fresh).missing == ()
    with open_store(database(fresh), read_only=True) as store:
        assert {row.key: row.attempt for row in store.trials()} == {
            spec.key: 2 if spec.key == bad else 1 for spec in SMOKE.specs
        }
        assert [spec.key for spec in store.study("smoke").specs] == [spec.key for spec in SMOKE.specs]


def test_a_trial_of_two_studies_runs_once(fresh: RunPaths) -> None:
    sweep(SMOKE, fresh, Counting())
    other = Study(name="other", title="Other", specs=(*SMOKE.specs[:2], fake.spec(alpha=0.9)))
    other = other.model_copy(update={"specs": SMOKE.specs[:2]})
    again = Counting()
    sweep(other, fresh, again)
    assert again.runs == []
    with open_store(database(fresh), read_only=True) as store:
        assert len(store.trials(study="other")) == 2


def test_a_stop_in_the_middle_keeps_what_has_ended(fresh: RunPaths) -> None:
    work = Counting()

    def stopped(spec: TrialSpec, context: RunContext, on_epoch: object) -> TrialResult:
        if len(work.runs) == 4:
            raise KeyboardInterrupt
        return work(spec, context, on_epoch)

    with pytest.raises(KeyboardInterrupt):
        run_study(
            SMOKE, FakeExecutor(stopped), RunContext(paths=fresh), console=Console(file=io.StringIO()), quiet=True
        )
    assert current_plan(SMOKE, fresh).done == 4
    rest = Counting()
    sweep(SMOKE, fresh, rest)
    assert len(rest.runs) == 6 and not set(rest.runs) & set(work.runs)


def test_lines_for_a_log_bars_for_a_terminal_nothing_when_quiet(fresh: RunPaths) -> None:
    lines = sweep(SMOKE, fresh, Counting()).splitlines()
    assert len(lines) == 11 and lines[0].startswith("synthetic: ")
    assert lines[1].startswith(
        f"[1/10] {describe(SMOKE.specs[0])}: best epoch 3 of 3, validation ndcg@10 0.2500; about"
    )
    assert lines[-1].endswith("validation ndcg@10 0.2500")
    database(fresh).unlink()
    bars = sweep(SMOKE, fresh, Counting(), terminal=True)
    assert "trials" in bars and "10/10" in bars
    database(fresh).unlink()
    assert sweep(SMOKE, fresh, Counting(), quiet=True) == ""


def test_nothing_is_written_when_data_are_missing(tmp_path: Path) -> None:
    from harness.errors import DataError

    study = STUDIES["table2"](StudyOptions(datasets=("ml1m",), seeds=SEEDS[:1]))
    paths = RunPaths(work_dir=tmp_path / "run", data_dir=tmp_path / "none")
    with pytest.raises(DataError, match="ml1m"):
        sweep(study, paths, Counting())
    assert not (tmp_path / "run").exists()


def test_other_data_under_old_results_are_refused(fresh: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(SMOKE.model_copy(update={"specs": SMOKE.specs[:1]}), fresh, Counting())
    other = replace(prepare(SMOKE.specs[0].data, fresh), fingerprint="1" * 32)
    monkeypatch.setattr("harness.prepare.prepare", lambda config, paths: other)
    with pytest.raises(StoreError, match="results from other data"):
        sweep(SMOKE, fresh, Counting())
    assert current_plan(SMOKE, fresh).done == 1


def test_one_sweep_at_a_time(fresh: RunPaths) -> None:
    with open_store(database(fresh), create=True) as store, store.driver_lock():
        work = Counting()
        with pytest.raises(SweepLocked, match="process"):
            sweep(SMOKE, fresh, work)
        assert isinstance(store, Store) and work.runs == []


def test_a_store_that_breaks_stops_the_sweep(fresh: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Store, outcome: object) -> None:
        raise StoreError("database or disk is full")

    monkeypatch.setattr(Store, "record", full)
    work = Counting()
    with pytest.raises(StoreError, match="full"):
        sweep(SMOKE, fresh, work)
    assert len(work.runs) == 1
