"""Executors: one end for every trial, whatever happens to a worker."""

import os
import time
from pathlib import Path

import pytest

from harness.config import RunPaths, TrialSpec
from harness.errors import ConfigError
from harness.executors import Event, Executor, FakeExecutor, LocalExecutor, RunContext, TrialStarted, Work
from harness.values import EpochEvent, TrialFailure, TrialResult
from tests.store import fake
from tests.sweep import work

SPECS = tuple(fake.spec(alpha=alpha) for alpha in (0.1, 0.2, 0.3, 0.4))


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return RunContext(paths=RunPaths(work_dir=tmp_path))


def outcomes(events: list[Event]) -> dict[float, TrialResult | TrialFailure]:
    ends = [event for event in events if isinstance(event, TrialResult | TrialFailure)]
    assert len({event.spec.key for event in ends}) == len(ends)
    return {event.spec.aux.alpha: event for event in ends}


def executor(kind: str, of: Work) -> Executor:
    return FakeExecutor(of) if kind == "fake" else LocalExecutor(2, of)


@pytest.mark.parametrize("kind", ["fake", "local"])
def test_every_trial_starts_tells_its_epochs_and_ends_once(kind: str, context: RunContext) -> None:
    events = list(executor(kind, work.deterministic).run(SPECS, context))
    assert len(outcomes(events)) == 4
    for spec in SPECS:
        mine = [event.spec.key if isinstance(event, TrialResult | TrialFailure) else event.key for event in events]
        order = [type(event) for event, key in zip(events, mine, strict=True) if key == spec.key]
        assert order == [TrialStarted, *[EpochEvent] * work.EPOCHS, TrialResult]
    assert [event.key for event in events if isinstance(event, TrialStarted)] == [spec.key for spec in SPECS]


@pytest.mark.parametrize("kind", ["fake", "local"])
def test_an_error_is_the_failure_of_its_trial_only(kind: str, context: RunContext) -> None:
    ends = outcomes(list(executor(kind, work.fails_at_alpha_02).run(SPECS, context)))
    failed = ends.pop(0.2)
    assert isinstance(failed, TrialFailure)
    assert (failed.error, failed.last_epoch) == ("ValueError: no luck", 1)
    assert "fails_at_alpha_02" in failed.traceback
    assert len(ends) == 3 and all(isinstance(end, TrialResult) for end in ends.values())


def test_a_killed_worker_costs_its_trial_only(context: RunContext) -> None:
    ends = outcomes(list(LocalExecutor(1, work.killed_at_alpha_02).run(SPECS, context)))
    failed = ends.pop(0.2)
    assert isinstance(failed, TrialFailure) and failed.last_epoch == 1
    assert failed.error == "WorkerDied: the worker process ended during the trial: killed by SIGKILL (out of memory?)"
    assert len(ends) == 3 and all(isinstance(end, TrialResult) for end in ends.values())


def test_workers_that_never_live_end_every_trial(context: RunContext) -> None:
    ends = outcomes(list(LocalExecutor(2, work.exits).run(SPECS, context)))
    assert {getattr(end, "error", "") for end in ends.values()} == {
        "WorkerDied: the worker process ended during the trial: exit code 7"
    }


@pytest.mark.parametrize("kind", ["fake", "local"])
def test_an_impossible_request_stops_everything(kind: str, context: RunContext) -> None:
    with pytest.raises(ConfigError, match="cuda"):
        list(executor(kind, work.refuses).run(SPECS, context))


def test_workers_have_one_thread_no_ctrl_c_and_are_few(context: RunContext) -> None:
    before = os.environ.get("OMP_NUM_THREADS")
    ends = outcomes(list(LocalExecutor(2, work.reports_its_process).run(SPECS, context)))
    seen = [getattr(end, "error", "").removeprefix("ValueError: ").split() for end in ends.values()]
    assert {(threads, deaf, torch) for _, threads, deaf, torch in seen} == {("1", "True", "False")}
    assert len({pid for pid, *_ in seen}) <= 2 and str(os.getpid()) not in {pid for pid, *_ in seen}
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_closing_stops_what_runs(context: RunContext) -> None:
    events = LocalExecutor(2, work.sleeps).run(SPECS, context)
    assert isinstance(next(events), TrialStarted) and isinstance(next(events), TrialStarted)
    deadline = time.monotonic() + 30
    while len(pids := [int(path.name[4:]) for path in context.paths.work_dir.glob("pid-*")]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    begun = time.monotonic()
    events.close()
    assert time.monotonic() - begun < 3
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_no_trial_starts_no_worker(context: RunContext) -> None:
    specs: tuple[TrialSpec, ...] = ()
    assert list(LocalExecutor(2, work.exits).run(specs, context)) == []
