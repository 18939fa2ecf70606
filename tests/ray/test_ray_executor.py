"""The Ray executor keeps the contract of every executor; in one Ray that all these tests share."""

import io
import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from harness import ray_cluster
from harness.config import Study, StudyOptions
from harness.errors import ConfigError
from harness.executors import Event, Executor, RunContext, Task, TrialStarted, Work
from harness.launch import at_once
from harness.local_executor import LocalExecutor
from harness.options import SweepOptions
from harness.paths import RunPaths
from harness.prepare import prepare
from harness.ray_cluster import Cluster
from harness.ray_executor import RayExecutor, _trainable
from harness.sweep import run_study
from harness.values import EpochEvent, Outcome, TrialFailure, TrialPruned, TrialResult
from studies.profiles import trial
from tests.sweep import work
from tests.sweep.test_executors import SPECS, Listed, outcomes

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("one_ray")]


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return RunContext(paths=RunPaths(work_dir=tmp_path))


def news(of: Work, context: RunContext, *, stop_at: float | None = None, cluster: Cluster | None = None) -> list[Event]:
    driver = Listed(SPECS, stop_at=stop_at)
    RayExecutor(cluster or Cluster(workers=2), of).run(driver, context)
    return driver.events


def test_every_trial_ends_once_whatever_happens_to_its_worker(context: RunContext) -> None:
    events = news(work.mixed, context)
    ends = outcomes(events)
    for spec in SPECS:
        mine = [event.spec.key if isinstance(event, Outcome) else event.key for event in events]
        order = [type(event) for event, key in zip(events, mine, strict=True) if key == spec.key]
        assert order[0] is TrialStarted and len(order) >= 2 and set(order[1:-1]) <= {EpochEvent}
    whole = ends[0.1]
    assert isinstance(whole, TrialResult) and whole.spec == SPECS[0]
    assert sum(isinstance(event, EpochEvent) and event.key == SPECS[0].key for event in events) == work.EPOCHS
    found = {alpha: (end.kind, end.error) for alpha, end in ends.items() if isinstance(end, TrialFailure)}
    assert found[0.2][0] == "worker_died" and found[0.2][1].startswith("WorkerDied: the worker process ended")
    assert found[0.3] == ("error", "ValueError: no luck")
    assert found[0.4][0] == "out_of_memory"


def test_a_trial_can_be_given_up_and_its_actor_goes_on_with_another(context: RunContext) -> None:
    ends = outcomes(news(work.unhurried, replace(context, ask_each_epoch=True), stop_at=0.2))
    pruned = ends.pop(0.2)
    assert isinstance(pruned, TrialPruned) and [log.epoch for log in pruned.epochs] == [1]
    assert len(ends) == 3 and all(isinstance(end, TrialResult) for end in ends.values())


def test_an_impossible_request_stops_everything(context: RunContext) -> None:
    with pytest.raises(ConfigError, match="cuda"):
        news(work.refuses, context)


class Broken(Listed):
    def heard(self, event: Event) -> bool:
        raise KeyError("a bug in the driver")


def test_an_error_of_the_driver_is_not_swallowed(context: RunContext) -> None:
    with pytest.raises(KeyError, match="a bug in the driver"):
        RayExecutor(Cluster(workers=2), work.deterministic).run(Broken(SPECS), context)


def test_four_trials_share_a_gpu_at_once(context: RunContext) -> None:
    ends = outcomes(news(work.four_at_once, context, cluster=Cluster(gpus=0.25)))
    assert all(isinstance(end, TrialResult) for end in ends.values()), ends
    assert {path.read_text() for path in context.paths.work_dir.glob("here-*")} == {"0"}


def test_a_larger_share_takes_more_of_both(context: RunContext) -> None:
    """After a trial ran out of memory; a share of one GPU never grows beyond it."""
    driver = Listed(SPECS)
    shares = (1, 2, 4, 8)
    driver.tasks = [Task(spec=spec, share=share) for spec, share in zip(SPECS, shares, strict=True)]
    RayExecutor(Cluster(gpus=0.25), work.says_its_resources).run(driver, context)
    assert all(isinstance(end, TrialResult) for end in outcomes(driver.events).values())
    found = {path.name: json.loads(path.read_text()) for path in context.paths.work_dir.glob("resources-*")}
    assert [found[f"resources-{spec.aux.alpha}"] for spec in SPECS] == [
        {"CPU": 1.0, "GPU": 0.25},
        {"CPU": 2.0, "GPU": 0.5},
        {"CPU": 4.0, "GPU": 1.0},
        {"CPU": 4.0, "GPU": 1.0},
    ]


@pytest.mark.parametrize(
    ("device", "share", "gib", "wanted"),
    [("cuda", 1, 16, 0.25 - 1 / 32), ("cuda", 8, 16, 1 - 1 / 32), ("cuda", 1, 1, 0.125), ("cpu", 1, 16, None)],
)
def test_a_trial_may_use_its_share_of_a_gpus_memory(
    device: str, share: int, gib: int, wanted: float | None, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the half GiB that CUDA itself takes, unless that were most of it."""
    set_to: list[float] = []
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", set_to.append)
    card = SimpleNamespace(total_memory=gib << 30)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: card)
    actor = _trainable(work.deterministic, replace(context, device=device), 0.25)
    spec = SPECS[0].canonical_json()
    made = actor({"key": SPECS[0].key, "spec": spec, "share": share})
    assert set_to == [wanted] * (wanted is not None)
    made.cleanup()


@pytest.mark.parametrize(
    ("cluster", "says"),
    [
        (Cluster(gpus=2), "--gpus-per-trial 2 is more than the 1 GPUs that Ray finds"),
        (Cluster(cpus=9), "--cpus-per-trial 9 is more than the 4 that Ray finds"),
    ],
)
def test_more_than_there_is_cannot_be_asked_for(cluster: Cluster, says: str, context: RunContext) -> None:
    with pytest.raises(ConfigError, match=says):
        news(work.deterministic, context, cluster=cluster)


def test_a_cluster_is_asked_for_its_room_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setenv("RAY_AUTH_MODE", "")
    monkeypatch.delenv("RAY_AUTH_MODE")
    address = ray.get_runtime_context().gcs_address
    monkeypatch.setattr(ray_cluster, "ANSWER_SECONDS", 300)
    assert Cluster(address=address, gpus=0.5, cpus=4).check() == 1
    assert at_once(Cluster(gpus=0.25, address=address)) == 4
    for asked, says in (({"gpus": 2.0}, "2 is more than the 1 GPUs"), ({"cpus": 5}, "5 is more than the 4")):
        with pytest.raises(ConfigError, match=says):
            Cluster(address=address, **asked).check()  # type: ignore[arg-type]


def numbers(paths: RunPaths) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(paths.results)
    try:
        rows = connection.execute("SELECT * FROM metric ORDER BY 1, 2, 3, 4, 5").fetchall()
        epochs = connection.execute("SELECT trial_key, epoch, loss, parts, valid FROM epoch ORDER BY 1, 2").fetchall()
        return [*rows, *epochs, *connection.execute("SELECT trial_key, part, rank, top FROM ranks ORDER BY 1, 2")]
    finally:
        connection.close()


@pytest.mark.slow
def test_the_numbers_do_not_depend_on_executor_or_number_of_workers(tmp_path: Path) -> None:
    options = StudyOptions(datasets=("synthetic",), max_epochs=2)
    specs = tuple(
        trial(method, "synthetic", options, seed) for seed in options.seeds[:2] for method in ("sasrec_ce", "bt_sr")
    )
    study = Study(name="tiny", title="Tiny", specs=specs)
    prepare(specs[0].data, RunPaths(work_dir=tmp_path))
    found = []
    runners: dict[str, Executor] = {
        "local1": LocalExecutor(1),
        "local2": LocalExecutor(2),
        "ray2": RayExecutor(Cluster(workers=2)),
    }
    for name, executor in runners.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "prepared").symlink_to(tmp_path / "prepared")
        paths = RunPaths(work_dir=tmp_path / name)
        turned = study.model_copy(update={"specs": specs[::-1]}) if name == "local2" else study
        context = RunContext(paths=paths)
        after = run_study(turned, executor, context, console=Console(file=io.StringIO()), options=SweepOptions())
        assert after.complete, name
        assert not list(paths.checkpoints.glob("*")), "what is recorded leaves no checkpoint"
        found.append(numbers(paths))
    assert len(found[0]) > 800 and found[0] == found[1] == found[2]
