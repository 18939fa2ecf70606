"""Executors: one end for every trial, whatever happens to a worker."""

import os
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import local_executor
from harness.config import TrialSpec
from harness.errors import ConfigError
from harness.executors import Event, Executor, RunContext, Task, TrialStarted, Work
from harness.local_executor import LocalExecutor
from harness.memory import give_back_gpu
from harness.paths import RunPaths
from harness.values import EpochEvent, Outcome, TrialFailure, TrialPruned, TrialResult
from tests.store import fake
from tests.sweep import work
from tests.sweep.inline import FakeExecutor

SPECS = tuple(fake.spec(alpha=alpha) for alpha in (0.1, 0.2, 0.3, 0.4))


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return RunContext(paths=RunPaths(work_dir=tmp_path))


class Listed:
    """A driver that hands out a list, keeps the news, and stops trials where told."""

    def __init__(self, specs: tuple[TrialSpec, ...], *, stop_at: float | None = None) -> None:
        self.tasks = [Task(spec=spec) for spec in specs]
        self.events: list[Event] = []
        self.stop = {spec.key for spec in specs if spec.aux.alpha == stop_at}

    def take(self) -> Task | None:
        return self.tasks.pop(0) if self.tasks else None

    def heard(self, event: Event) -> bool:
        self.events.append(event)
        return not (isinstance(event, EpochEvent) and event.key in self.stop)


def news(of: Executor, context: RunContext, *, stop_at: float | None = None) -> list[Event]:
    driver = Listed(SPECS, stop_at=stop_at)
    of.run(driver, context)
    return driver.events


def outcomes(events: list[Event]) -> dict[float, Outcome]:
    ends = [event for event in events if isinstance(event, Outcome)]
    assert len({event.spec.key for event in ends}) == len(ends)
    return {event.spec.aux.alpha: event for event in ends}


def executor(kind: str, of: Work) -> Executor:
    return FakeExecutor(of) if kind == "fake" else LocalExecutor(2, of)


@pytest.mark.parametrize("kind", ["fake", "local"])
def test_every_trial_starts_tells_its_epochs_and_ends_once(kind: str, context: RunContext) -> None:
    events = news(executor(kind, work.deterministic), context)
    assert len(outcomes(events)) == 4
    for spec in SPECS:
        mine = [event.spec.key if isinstance(event, Outcome) else event.key for event in events]
        order = [type(event) for event, key in zip(events, mine, strict=True) if key == spec.key]
        assert order == [TrialStarted, *[EpochEvent] * work.EPOCHS, TrialResult]
    assert [event.key for event in events if isinstance(event, TrialStarted)] == [spec.key for spec in SPECS]


@pytest.mark.parametrize("kind", ["fake", "local"])
def test_an_error_is_the_failure_of_its_trial_only(kind: str, context: RunContext) -> None:
    ends = outcomes(news(executor(kind, work.fails_at_alpha_02), context))
    failed = ends.pop(0.2)
    assert isinstance(failed, TrialFailure)
    assert (failed.error, failed.last_epoch) == ("ValueError: no luck", 1)
    assert "fails_at_alpha_02" in failed.traceback
    assert len(ends) == 3 and all(isinstance(end, TrialResult) for end in ends.values())


def test_a_killed_worker_costs_its_trial_only(context: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_executor, "_kills_for_memory", lambda: 0)  # of whatever else runs here
    ends = outcomes(news(LocalExecutor(1, work.killed_at_alpha_02), context))
    failed = ends.pop(0.2)
    assert isinstance(failed, TrialFailure) and failed.last_epoch == 1
    assert (failed.error, failed.kind) == (
        "WorkerDied: the worker process ended during the trial: killed by SIGKILL",
        "worker_died",
    )
    assert len(ends) == 3 and all(isinstance(end, TrialResult) for end in ends.values())


def test_workers_that_never_live_end_every_trial(context: RunContext) -> None:
    ends = outcomes(news(LocalExecutor(2, work.exits), context))
    assert {getattr(end, "error", "") for end in ends.values()} == {
        "WorkerDied: the worker process ended during the trial: exit code 7"
    }


def test_a_worker_that_has_hung_up_is_waited_for(context: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_executor, "STOP_SECONDS", 0.1)
    for spec, patience, how in ((SPECS[0], 60.0, "exit code 7"), (SPECS[1], 0.1, "it hung at its end")):
        monkeypatch.setattr(local_executor, "DEATH_SECONDS", patience)
        driver = Listed((spec,))
        LocalExecutor(1, work.hangs_up).run(driver, context)
        (end,) = outcomes(driver.events).values()
        assert isinstance(end, TrialFailure)
        assert end.error == f"WorkerDied: the worker process ended during the trial: {how}"


@pytest.mark.parametrize("kind", ["fake", "local"])
def test_an_impossible_request_stops_everything(kind: str, context: RunContext) -> None:
    with pytest.raises(ConfigError, match="cuda"):
        news(executor(kind, work.refuses), context)


def test_workers_have_one_thread_no_ctrl_c_and_are_few(context: RunContext) -> None:
    before = os.environ.get("OMP_NUM_THREADS")
    ends = outcomes(news(LocalExecutor(2, work.reports_its_process), context))
    seen = [getattr(end, "error", "").removeprefix("ValueError: ").split() for end in ends.values()]
    assert {(threads, deaf, torch) for _, threads, deaf, torch in seen} == {("1", "True", "False")}
    assert len({pid for pid, *_ in seen}) <= 2 and str(os.getpid()) not in {pid for pid, *_ in seen}
    assert os.environ.get("OMP_NUM_THREADS") == before


@pytest.mark.parametrize("kind", ["fake", "local"])
def test_a_trial_that_is_told_to_give_up_ends_as_pruned(kind: str, context: RunContext) -> None:
    asking = replace(context, ask_each_epoch=True)
    ends = outcomes(news(executor(kind, work.deterministic), asking, stop_at=0.2))
    pruned = ends.pop(0.2)
    assert isinstance(pruned, TrialPruned) and [log.epoch for log in pruned.epochs] == [1]
    assert len(ends) == 3 and all(isinstance(end, TrialResult) for end in ends.values())


@pytest.mark.parametrize("kind", ["fake", "local"])
def test_want_of_memory_is_told_from_other_errors(kind: str, context: RunContext) -> None:
    failed = outcomes(news(executor(kind, work.out_of_memory_once), context))[0.2]
    assert isinstance(failed, TrialFailure) and failed.kind == "out_of_memory"
    failed = outcomes(news(executor(kind, work.fails_at_alpha_02), context))[0.2]
    assert isinstance(failed, TrialFailure) and failed.kind == "error"


def test_a_large_share_runs_alone(context: RunContext) -> None:
    driver = Listed(SPECS)
    driver.tasks[1] = replace(driver.tasks[1], share=4)
    LocalExecutor(2, work.deterministic).run(driver, context)
    order = [event if isinstance(event, TrialStarted) else event.spec for event in driver.events
             if not isinstance(event, EpochEvent)]  # fmt: skip
    big = order.index(TrialStarted(key=SPECS[1].key))
    assert order[:3] == [TrialStarted(key=SPECS[0].key), SPECS[0], TrialStarted(key=SPECS[1].key)]
    assert order[big + 1] == SPECS[1], "nothing begins beside it"
    assert len(order) == 8


def test_no_idle_worker_keeps_memory_from_a_large_share(context: RunContext) -> None:
    driver = Listed(SPECS)
    driver.tasks[2] = replace(driver.tasks[2], share=4)
    LocalExecutor(1, work.reports_its_process).run(driver, context)
    words = [getattr(end, "error", "") for end in outcomes(driver.events).values()]
    first, second, large, last = (error.removeprefix("ValueError: ").split()[0] for error in words)
    assert first == second and large == last and first != large


class Tensors:
    """What a trial holds."""


@pytest.mark.parametrize("end", ["result", "error"])
def test_a_trials_gpu_memory_is_given_back_when_nothing_holds_it_any_more(
    end: str, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Tensors]] = []
    given_back: list[bool] = []

    def empty_cache() -> None:
        given_back.append(held[-1]() is None)

    card = SimpleNamespace(is_initialized=lambda: True, empty_cache=empty_cache)
    torch: Any = SimpleNamespace(cuda=card)
    monkeypatch.setitem(sys.modules, "torch", torch)

    def holds(spec: TrialSpec, context: RunContext) -> work.Steps:
        mine = Tensors()
        held.append(weakref.ref(mine))
        if end == "error":
            raise MemoryError("CUDA out of memory")
        return (yield from work.deterministic(spec, context))

    assert len(outcomes(news(FakeExecutor(holds), context))) == 4
    assert given_back == [True] * 4


def test_nothing_is_given_back_where_no_gpu_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def emptied() -> None:
        raise AssertionError("this would begin to use the GPU")

    card = SimpleNamespace(is_initialized=lambda: False, empty_cache=emptied)
    torch: Any = SimpleNamespace(cuda=card)
    monkeypatch.setitem(sys.modules, "torch", torch)
    give_back_gpu()
    monkeypatch.delitem(sys.modules, "torch")
    give_back_gpu()


class Broken(Listed):
    """A driver that breaks as soon as both workers work."""

    def __init__(self, folder: Path) -> None:
        super().__init__(SPECS)
        self.folder = folder

    def heard(self, event: Event) -> bool:
        super().heard(event)
        if len(self.events) == 2:
            deadline = time.monotonic() + 500
            while len(list(self.folder.glob("pid-*"))) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            raise KeyboardInterrupt
        return True


def test_an_interruption_stops_what_runs(context: RunContext) -> None:
    with pytest.raises(KeyboardInterrupt):
        LocalExecutor(2, work.sleeps).run(Broken(context.paths.work_dir), context)
    for path in context.paths.work_dir.glob("pid-*"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name[4:]), 0)


def test_no_trial_starts_no_worker(context: RunContext) -> None:
    LocalExecutor(2, work.exits).run(Listed(()), context)


BOUND = """
import os
mine = os.sched_getaffinity(0)
from harness.launch import at_once
from harness.ray_cluster import Cluster
at_once(Cluster(gpus=0.5))
import torch
assert os.sched_getaffinity(0) == mine, os.sched_getaffinity(0)
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no processes")
def test_counting_gpus_leaves_all_processors_to_the_workers() -> None:
    """OpenMP binds the process that imports torch, and with it what that starts."""
    subprocess.run([sys.executable, "-c", BOUND], env=os.environ | {"OMP_PROC_BIND": "true"}, check=True)
