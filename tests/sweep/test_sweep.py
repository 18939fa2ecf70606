"""Plans, and a sweep in this process: what is missing runs, is recorded at once, and is told."""

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from harness.config import SEEDS, DataConfig, Study, StudyOptions, TrialSpec
from harness.data.synthetic import generate
from harness.errors import ConfigError, StoreError, SweepLocked, TrialError
from harness.executors import Driver, RunContext, Task, TrialStarted, Work
from harness.options import SweepOptions
from harness.paths import RunPaths
from harness.plan import PlanRow, current_plan, plan
from harness.prepare import for_trial, prepare
from harness.progress import Display, describe
from harness.store import Store, open_store
from harness.sweep import run_study
from harness.values import TrialPruned
from studies import STUDIES
from tests.store import fake
from tests.sweep import work
from tests.sweep.inline import FakeExecutor

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

    def __init__(self, failing: Mapping[str, Exception] | None = None) -> None:
        self.runs: list[str] = []
        self.failing = failing or {}

    def __call__(self, spec: TrialSpec, context: RunContext) -> work.Steps:
        self.runs.append(spec.key)
        yield fake.epoch(1, 0.25)
        if spec.key in self.failing:
            raise self.failing[spec.key]
        return fake.result(spec, prepare(spec.data, context.paths))


def sweep(
    study: Study, paths: RunPaths, of: Work, *, quiet: bool = False, terminal: bool = False, **options: Any
) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=400)
    context = RunContext(paths=paths, ask_each_epoch="prune" in options)
    run_study(study, FakeExecutor(of), context, console=console, quiet=quiet, options=SweepOptions(**options))
    return text.getvalue()


def test_the_raw_file_may_go_once_the_data_are_prepared(tmp_path: Path) -> None:
    """Also a worker that starts later, in another folder, needs none."""
    raw = tmp_path / "own.csv"
    generate(users=400, items=60).to_csv(raw, index=False)
    data = {"dataset": str(raw), "filter": "none", "min_item": 1, "min_user": 1}
    specs = tuple(TrialSpec.model_validate({"method": "m", "data": data, "seed": seed}) for seed in (1, 2))
    made = RunPaths(work_dir=tmp_path / "run")

    def without_raw(spec: TrialSpec, context: RunContext) -> work.Steps:
        raw.unlink(missing_ok=True)
        yield fake.epoch(1, 0.25)
        assert context.prepared[spec.data].is_absolute()
        return fake.result(spec, for_trial(spec.data, context.paths, context.prepared[spec.data]))

    study = Study(name="own", title="Own", specs=specs)
    sweep(study, made, without_raw)
    assert current_plan(study, made).complete


@pytest.fixture
def fresh(paths: RunPaths) -> RunPaths:
    for file in paths.work_dir.glob("btsr.db*"):
        file.unlink()
    return paths


def test_without_a_database_everything_is_missing(tmp_path: Path) -> None:
    found = current_plan(SMOKE, RunPaths(work_dir=tmp_path / "nowhere"))
    assert found.rows == (
        PlanRow(dataset="synthetic", method="sasrec_ce", profile="released", trials=2, done=0, failed=0, missing=2),
        PlanRow(dataset="synthetic", method="bt_sr", profile="released", trials=8, done=0, failed=0, missing=8),
    )
    assert not list(tmp_path.iterdir())


def test_all_cells_get_their_first_seed_before_the_second() -> None:
    study = Study(
        name="mine", title="Mine", specs=tuple(fake.spec(alpha=a, seed=s) for a in (0.1, 0.2, 0.3) for s in SEEDS)
    )
    missing = plan(study, None).missing
    assert [spec.seed for spec in missing] == [seed for seed in SEEDS for _ in range(3)]
    assert [spec.aux.alpha for spec in missing[:3]] == [0.1, 0.2, 0.3]


def test_failures_are_tried_again_a_few_times_and_done_trials_never(fresh: RunPaths) -> None:
    bad = SMOKE.specs[3].key
    first = Counting({bad: ValueError("no luck")})
    told = sweep(SMOKE, fresh, first)
    assert Counter(first.runs) == {spec.key: 3 if spec.key == bad else 1 for spec in SMOKE.specs}
    words = f"{describe(SMOKE.specs[3])}: FAILED after epoch 1"
    assert told.count(f"{words}, will be tried again: ValueError: no luck") == 2
    assert told.count(f"{words}: ValueError: no luck") == 1
    after = current_plan(SMOKE, fresh)
    assert (after.done, after.failed, after.missing, after.complete) == (9, 1, (), False)
    assert after.rows[1] == PlanRow(
        dataset="synthetic", method="bt_sr", profile="released", trials=8, done=7, failed=1, missing=0
    )

    second = Counting()
    sweep(SMOKE, fresh, second)
    assert second.runs == [], "what failed for good stays"
    still = Counting({bad: ValueError("no luck")})
    sweep(SMOKE, fresh, still, max_failures=3)
    assert still.runs == [bad], "one attempt is left of four"
    third = Counting()
    sweep(SMOKE, fresh, third, retry_failed=True)
    assert third.runs == [bad] and current_plan(SMOKE, fresh).complete
    with open_store(fresh.results, read_only=True) as store:
        assert {row.key: row.attempt for row in store.trials()} == {
            spec.key: 5 if spec.key == bad else 1 for spec in SMOKE.specs
        }
        assert [spec.key for spec in store.study("smoke").specs] == [spec.key for spec in SMOKE.specs]


def test_what_diverges_is_not_tried_again_and_want_of_memory_doubles_the_share(fresh: RunPaths) -> None:
    diverged, starved = SMOKE.specs[0].key, SMOKE.specs[1].key
    shares: list[tuple[str, int]] = []

    class Shares(FakeExecutor):
        def run(self, driver: Driver, context: RunContext) -> None:
            taking = driver.take

            def take() -> Task | None:
                task = taking()
                shares.extend([(task.spec.key, task.share)] if task else [])
                return task

            driver.take = take  # type: ignore[method-assign]
            super().run(driver, context)

    of = Counting({diverged: TrialError("loss became nan in epoch 1, step 3 of 9"), starved: MemoryError()})
    context = RunContext(paths=fresh)
    after = run_study(SMOKE, Shares(of), context, console=Console(file=io.StringIO()), options=SweepOptions())
    assert [share for key, share in shares if key == starved] == [1, 2, 4]
    assert [share for key, share in shares if key == diverged] == [1]
    assert after.failed == 2
    with open_store(fresh.results, read_only=True) as store:
        errors = {row.key: row.error for row in store.trials(status="failed")}
    assert errors == {
        diverged: "TrialError: loss became nan in epoch 1, step 3 of 9", starved: "MemoryError: no message",
    }  # fmt: skip


def test_a_changed_definition_is_shown_and_needs_extend(fresh: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    small = SMOKE.model_copy(update={"specs": SMOKE.specs[:5]})
    sweep(small, fresh, Counting())
    of = Counting()
    with pytest.raises(ConfigError, match=r"5 of its 10 trials are new.* \(seed 37 beside 1235\): add --extend"):
        sweep(SMOKE, fresh, of)
    longer = small.model_copy(
        update={
            "specs": tuple(
                spec.model_copy(update={"train": spec.train.model_copy(update={"max_epochs": 9})})
                for spec in small.specs
            )
        }
    )
    with monkeypatch.context() as patch, pytest.raises(ConfigError, match="train.max_epochs 9 beside 8"):
        patch.setattr("harness.prepare.prepare", None)  # data, which can take minutes, are not asked for
        sweep(longer, fresh, of)
    assert of.runs == []
    sweep(SMOKE, fresh, of, extend=True)
    assert len(of.runs) == 5
    sweep(small, fresh, of)
    assert len(of.runs) == 5, "asking for less needs nothing"
    with open_store(fresh.results, read_only=True) as store:
        assert len(store.study("smoke").specs) == 10, "and forgets nothing"


def test_replace_forgets_what_is_not_finished_and_not_asked_for_now(fresh: RunPaths) -> None:
    """Finished trials stay; failed ones are among those that are forgotten."""
    done, former, now = SMOKE.specs[:3], SMOKE.specs[3:5], SMOKE.specs[5:]
    sweep(SMOKE.model_copy(update={"specs": done}), fresh, Counting())
    failing = Counting({spec.key: MemoryError() for spec in former})
    sweep(SMOKE.model_copy(update={"specs": (*done, *former)}), fresh, failing, extend=True, max_failures=0)
    of = Counting()
    assert current_plan(SMOKE.model_copy(update={"specs": now}), fresh, SweepOptions(replace=True)).forgets == 2
    said = sweep(SMOKE.model_copy(update={"specs": now}), fresh, of, replace=True)
    assert sorted(of.runs) == sorted(spec.key for spec in now)
    assert "forgotten: 2 unfinished trials that smoke no longer asks for" in said
    with open_store(fresh.results, read_only=True) as store:
        assert {spec.key for spec in store.study("smoke").specs} == {spec.key for spec in (*done, *now)}
    again = sweep(SMOKE.model_copy(update={"specs": now}), fresh, of, replace=True)
    assert len(of.runs) == len(now) and "forgotten" not in again


def test_only_runs_one_trial(fresh: RunPaths) -> None:
    wanted = SMOKE.specs[7].key
    of = Counting()
    sweep(SMOKE, fresh, of, only=wanted[:10])
    assert of.runs == [wanted]
    with pytest.raises(ConfigError, match="--only ffffffff: no trial of study smoke"):
        sweep(SMOKE, fresh, of, only="ffffffff")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"trials": 3}, "--trials needs a search"),
        ({"prune": "median"}, "--prune needs a search"),
        ({"search": "tpe"}, "needs --trials N"),
        ({"search": "nsga2", "trials": 3, "prune": "median"}, "nsga2 has two"),
        ({"search": "tpe", "trials": 3, "only": "abcdef"}, "--only is for a grid"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        SweepOptions(**options)


def test_a_trial_of_two_studies_runs_once(fresh: RunPaths) -> None:
    sweep(SMOKE, fresh, Counting())
    other = Study(name="other", title="Other", specs=(*SMOKE.specs[:2], fake.spec(alpha=0.9)))
    other = other.model_copy(update={"specs": SMOKE.specs[:2]})
    again = Counting()
    sweep(other, fresh, again)
    assert again.runs == []
    with open_store(fresh.results, read_only=True) as store:
        assert len(store.trials(study="other")) == 2


def test_a_grid_runs_whole_what_a_search_gave_up(fresh: RunPaths) -> None:
    """Pruned numbers end early: they stand for a finished trial in the search alone."""
    sweep(SMOKE.model_copy(update={"specs": SMOKE.specs[:1]}), fresh, Counting())
    censored = TrialPruned(spec=SMOKE.search[1].base, epochs=(fake.epoch(1, 0.1),))
    with open_store(fresh.results) as store:
        store.record(censored)
    for options, missing in ((SweepOptions(), 9), (SweepOptions(search="random", trials=10), 18)):
        found = current_plan(SMOKE, fresh, options)
        assert (found.done, found.pruned, found.waiting, found.complete) == (1, 1, missing, False)
    of = Counting()
    sweep(SMOKE, fresh, of, extend=True)
    assert censored.spec.key in of.runs and len(of.runs) == 9
    after = current_plan(SMOKE, fresh)
    assert after.complete and (after.done, after.pruned) == (10, 0)


def test_a_stop_in_the_middle_keeps_what_has_ended(fresh: RunPaths) -> None:
    of = Counting()

    def stopped(spec: TrialSpec, context: RunContext) -> work.Steps:
        if len(of.runs) == 4:
            raise KeyboardInterrupt
        return (yield from of(spec, context))

    with pytest.raises(KeyboardInterrupt):
        run_study(
            SMOKE, FakeExecutor(stopped), RunContext(paths=fresh), console=Console(file=io.StringIO()), quiet=True
        )
    assert current_plan(SMOKE, fresh).done == 4
    rest = Counting()
    sweep(SMOKE, fresh, rest)
    assert len(rest.runs) == 6 and not set(rest.runs) & set(of.runs)


def test_the_next_start_deletes_the_checkpoint_of_a_recorded_trial(fresh: RunPaths) -> None:
    """Its driver was killed between the two."""
    sweep(SMOKE, fresh, Counting())
    left = fresh.checkpoints / SMOKE.specs[0].key
    left.mkdir(parents=True)
    (left / "last.pt").touch()
    sweep(SMOKE, fresh, Counting())
    assert not left.exists()


def test_lines_for_a_log_bars_for_a_terminal_nothing_when_quiet(fresh: RunPaths) -> None:
    lines = sweep(SMOKE, fresh, Counting()).splitlines()
    assert len(lines) == 11 and lines[0].startswith("synthetic: ")
    assert lines[1].startswith(
        f"[1/10] {describe(SMOKE.specs[0])}: best epoch 3 of 3, validation ndcg@10 0.2500; about"
    )
    assert lines[-1].endswith("validation ndcg@10 0.2500")
    fresh.results.unlink()
    bars = sweep(SMOKE, fresh, Counting(), terminal=True)
    assert "trials" in bars and "10/10" in bars
    fresh.results.unlink()
    assert sweep(SMOKE, fresh, Counting(), quiet=True) == ""


@pytest.mark.parametrize(
    ("kernels", "reason"),
    [
        ("torch (no C++ compiler: c++ is not on the path)", "no C++ compiler: c++ is not on the path"),
        (
            "torch_ce (no bf16 kernel for avx2: an old compiler (9)), fused_attention_avx2, torch_linear (rounded)",
            "no bf16 kernel for avx2: an old compiler (9)",
        ),
        ("torch (switched off by BTSR_KERNELS=off)", None),
        ("torch", None),
        ("fused_ce_avx2, fused_attention_avx2", None),
    ],
)
def test_a_sweep_says_once_why_it_is_slow(fresh: RunPaths, kernels: str, reason: str | None) -> None:
    def slow(spec: TrialSpec, context: RunContext) -> work.Steps:
        result = yield from Counting()(spec, context)
        return replace(result, provenance=replace(result.provenance, kernels=kernels))

    said = sweep(SMOKE, fresh, slow).splitlines()
    told = [line for line in said if line.startswith("trials run without")]
    lacking = "a native cross-entropy" if "torch_ce" in kernels else "native kernels"
    assert told == ([f"trials run without {lacking}, which makes them slower: {reason}"] if reason else [])


def test_brackets_in_names_are_no_markup(fresh: RunPaths) -> None:
    """Neither in lines nor in bars, whatever the console makes of them elsewhere."""
    spec = SMOKE.specs[0].model_copy(update={"method": "ce[/a][bold]"})
    assert describe(spec) in sweep(SMOKE.model_copy(update={"specs": (spec,)}), fresh, Counting())
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=200)
    with Display((spec,), total=1, console=console, quiet=False) as display:
        display.show(TrialStarted(key=spec.key))
        console.print("which draws the bars anew")
    assert describe(spec) in text.getvalue()


def test_brackets_in_the_path_of_a_data_set_are_no_markup(tmp_path: Path) -> None:
    file = tmp_path / "plays[" / "a][bold].csv"
    file.parent.mkdir()
    generate(users=400, items=60).to_csv(file, index=False)
    data = DataConfig(dataset=str(file), filter="none", min_item=1, min_user=1)
    study = SMOKE.model_copy(update={"specs": (SMOKE.specs[0].model_copy(update={"data": data}),)})
    said = sweep(study, RunPaths(work_dir=tmp_path), Counting(), terminal=True)
    assert f"preparing {file}" in said and f"{file}: " in said


def test_nothing_is_written_when_data_are_missing(tmp_path: Path) -> None:
    from harness.errors import DataError

    study = STUDIES["table2"](StudyOptions(datasets=("ml1m",), seeds=SEEDS[:1]))
    paths = RunPaths(work_dir=tmp_path / "run", data_dir=tmp_path / "none")
    with pytest.raises(DataError, match="ml1m"):
        sweep(study, paths, Counting())
    assert not (tmp_path / "run").exists()


def test_a_trial_that_the_data_are_too_few_for_stops_the_sweep_before_any_runs(fresh: RunPaths) -> None:
    greedy = TrialSpec.model_validate(
        SMOKE.specs[0].model_dump() | {"method": "sasrec_bce", "loss": {"kind": "bce", "negatives": 10**6}}
    )
    counting = Counting()
    with pytest.raises(ConfigError, match="negatives=1000000, but synthetic has .* leave sasrec_bce out by --methods"):
        sweep(SMOKE.model_copy(update={"specs": (SMOKE.specs[0], greedy)}), fresh, counting)
    assert not counting.runs and not fresh.results.exists()


def test_other_data_under_old_results_are_refused(fresh: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(SMOKE.model_copy(update={"specs": SMOKE.specs[:1]}), fresh, Counting())
    other = replace(prepare(SMOKE.specs[0].data, fresh), fingerprint="1" * 32)
    monkeypatch.setattr("harness.prepare.prepare", lambda config, paths: other)
    with pytest.raises(StoreError, match="results from other data"):
        sweep(SMOKE, fresh, Counting(), extend=True)
    assert current_plan(SMOKE, fresh).done == 1


def test_one_sweep_at_a_time(fresh: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[object] = []
    monkeypatch.setattr("harness.prepare.prepare", lambda config, paths: prepared.append(config))
    with open_store(fresh.results, create=True) as store, store.driver_lock():
        of = Counting()
        with pytest.raises(SweepLocked, match="process"):
            sweep(SMOKE, fresh, of)
        assert isinstance(store, Store) and of.runs == [] and prepared == [], "it is told before data are prepared"


def test_a_store_that_breaks_stops_the_sweep(fresh: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Store, outcome: object) -> None:
        raise StoreError("database or disk is full")

    monkeypatch.setattr(Store, "record", full)
    of = Counting()
    with pytest.raises(StoreError, match="full"):
        sweep(SMOKE, fresh, of)
    assert len(of.runs) == 1


def test_a_database_that_vanishes_stops_the_sweep_and_the_next_start_makes_a_new_one(fresh: RunPaths) -> None:
    of = Counting()

    def vanishing(spec: TrialSpec, context: RunContext) -> work.Steps:
        if len(of.runs) == 3:
            for file in fresh.work_dir.glob("btsr.db*"):
                file.unlink()
        return (yield from of(spec, context))

    with pytest.raises(StoreError, match="deleted or replaced while the sweep was running"):
        sweep(SMOKE, fresh, vanishing)
    assert len(of.runs) == 4
    sweep(SMOKE, fresh, of)
    assert current_plan(SMOKE, fresh).complete
