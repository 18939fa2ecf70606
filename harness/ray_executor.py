"""`RayExecutor`: Ray Tune as the place where trials run; with `ray_cluster` the only door to Ray.

Tune gets its trials from a searcher that asks our driver, and its news reach the driver by a stopper, which Tune calls
with every result, the last one included, and a scheduler, which it calls with every error. Nothing that Tune writes is
ever read again: a trial goes on from our own checkpoint, wherever it runs next.
"""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.config import TrialSpec
from harness.executors import (
    STOPPING,
    Driver,
    Event,
    RunContext,
    StopError,
    Task,
    TrialStarted,
    Work,
    attempt,
    train_trial,
    worker_died,
)
from harness.ray_cluster import Cluster, Watch, short_folder, silent_loggers
from harness.values import EpochEvent, EpochLog, TrialFailure, TrialPruned, TrialResult

STEP_SECONDS = 0.1
"""Shorter epochs than this are told together."""

CONTEXT_BYTES = 512 << 20
"""What CUDA itself takes of a GPU for each process, beside that process's tensors."""


@dataclass(kw_only=True)
class _Running:
    """A trial that Tune has."""

    spec: TrialSpec
    logs: list[EpochLog] = field(default_factory=list)
    heard_end: bool = False


class _Bridge:
    """What searcher, stopper and scheduler share: the driver, who runs, and the first error, which ends everything.

    Tune catches errors in some of its calls; here none gets lost.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.running: dict[str, _Running] = {}
        self.error: BaseException | None = None

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """Tune writes itself down for a restoration that we never ask for: there, we are nothing."""
        return object, ()

    def tell(self, event: Event) -> bool:
        """Pass on the news; False where the trial is not to go on."""
        if self.error is not None:
            return False
        try:
            return self.driver.heard(event)
        except BaseException as error:
            self.error = error
            return False

    def take(self) -> Task | None:
        """The driver's next trial."""
        if self.error is not None:
            return None
        try:
            return self.driver.take()
        except BaseException as error:
            self.error = error
            return None

    def results(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take what a step returned; whether Tune is to stop the trial."""
        running = self.running[trial_id]
        logs, outcome, stop = (result.pop(name, None) for name in ("logs", "outcome", "stop"))
        go_on = True
        for log in logs or ():
            running.logs.append(log)
            go_on = go_on and self.tell(EpochEvent(key=running.spec.key, log=log))
        if isinstance(stop, StopError):
            self.error = self.error or stop
        elif outcome is not None:
            running.heard_end = True
            self.tell(outcome)
        elif not go_on and self.error is None:
            running.heard_end = True
            self.tell(TrialPruned(spec=running.spec, epochs=tuple(running.logs)))
        return running.heard_end or self.error is not None

    def failed(self, trial_id: str, report: str) -> None:
        """The trial's worker is gone; `report` is what Ray wrote about it."""
        running = self.running[trial_id]
        if running.heard_end:
            return
        running.heard_end = True
        lines = [line.strip() for line in report.splitlines() if line.strip()] or ["no reason given"]
        detail = next((line for line in lines if "Worker exit detail:" in line), lines[-1])
        how = detail.rpartition("Worker exit detail:")[2].strip().partition(". ")[0]
        starved = "OutOfMemoryError" in report or "running low on memory" in report
        last = running.logs[-1].epoch if running.logs else 0
        self.tell(worker_died(running.spec, how, last_epoch=last, out_of_memory=starved, report=report))


class RayExecutor:
    """Trials as actors of Ray, one epoch a step; actors are reused, GPUs can be shared by fractions."""

    def __init__(self, cluster: Cluster | None = None, work: Work = train_trial) -> None:
        self._cluster, self._work = cluster or Cluster(), work

    def run(self, driver: Driver, context: RunContext) -> None:
        """See `Executor.run`. Raises ConfigError where the cluster cannot be reached or is too small for one trial."""
        first = driver.take()
        if first is None:
            return
        absolute = {name: path.absolute() for name, path in context.paths if isinstance(path, Path)}
        mine = replace(context, paths=context.paths.model_copy(update=absolute))
        mine.paths.work_dir.mkdir(parents=True, exist_ok=True)
        bridge = _Bridge(_Ahead(driver, first))
        with short_folder() as folder, _unprinted(folder), self._cluster.connected(folder):
            self._tune(bridge, mine, folder, self._cluster.room())
        if bridge.error is not None:
            raise bridge.error

    def _tune(self, bridge: _Bridge, context: RunContext, folder: Path, at_once: int) -> None:
        from ray import tune

        cpus, gpus = self._cluster.cpus, self._cluster.gpus

        def resources(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
            share = min(config["share"], at_once)
            wanted = {"CPU": float(cpus * share), "GPU": min(gpus * share, 1.0)}
            return tune.PlacementGroupFactory([{name: amount for name, amount in wanted.items() if amount}])

        tuner = tune.Tuner(
            tune.with_resources(_trainable(self._work, context, gpus), resources),
            tune_config=tune.TuneConfig(
                search_alg=_searcher(bridge),
                scheduler=_scheduler(bridge),
                num_samples=-1,
                max_concurrent_trials=at_once,
                reuse_actors=True,
                trial_name_creator=lambda trial: str(trial.config["key"])[:16],
                trial_dirname_creator=lambda trial: f"{trial.config['key'][:16]}-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                storage_path=str(folder / "tune"),
                name="sweep",
                verbose=0,
                stop=_stopper(bridge),
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        with silent_loggers():
            tuner.fit()


@contextmanager
def _unprinted(folder: Path) -> Iterator[None]:
    """What Ray prints until it has ended, such as the log of a raylet that died, goes to a file."""
    with (folder / "ray.log").open("w") as sink, redirect_stdout(sink):
        yield


class _Ahead:
    """A driver whose first trial was taken already."""

    def __init__(self, driver: Driver, first: Task) -> None:
        self._driver = driver
        self._first: Task | None = first

    def take(self) -> Task | None:
        """See `executors.Driver.take`."""
        first, self._first = self._first, None
        return first or self._driver.take()

    def heard(self, event: Event) -> bool:
        """See `executors.Driver.heard`."""
        return self._driver.heard(event)


def _searcher(bridge: _Bridge) -> Any:
    """Hands Tune the trials of our driver."""
    from ray.tune.search import Searcher

    class DriverSearcher(Searcher):
        def suggest(self, trial_id: str) -> Any:
            task = bridge.take()
            if task is None:
                unheard = any(not running.heard_end for running in bridge.running.values())
                return None if unheard and bridge.error is None else Searcher.FINISHED
            bridge.running[trial_id] = _Running(spec=task.spec)
            bridge.tell(TrialStarted(key=task.spec.key))
            return {"key": task.spec.key, "spec": task.spec.canonical_json(), "share": task.share}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            bridge.running.pop(trial_id, None)

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the results database has everything."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: never called."""

    return DriverSearcher()


def _stopper(bridge: _Bridge) -> Any:
    """Hears every result, and says which trials are to stop, or all of them, such as when Ray itself is gone."""
    from ray.tune import Stopper

    watch = Watch()

    class DriverStopper(Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return bridge.results(trial_id, result)

        def stop_all(self) -> bool:
            bridge.error = bridge.error or watch.lost()
            return bridge.error is not None

    return DriverStopper()


def _scheduler(bridge: _Bridge) -> Any:
    """First come, first served; hears of workers that died."""
    from ray.tune.schedulers import FIFOScheduler

    class DriverScheduler(FIFOScheduler):
        def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
            file = Path(trial.error_file or "")
            bridge.failed(trial.trial_id, file.read_text() if file.is_file() else "")

    made: Any = DriverScheduler
    return made()


def _trainable(work: Work, context: RunContext, gpus: float) -> Any:
    """The class that Tune makes actors of: a step is an epoch, the last one brings the outcome."""
    from ray import tune

    class TrialActor(tune.Trainable):
        _steps: Generator[EpochLog, None, TrialResult | TrialFailure] | None = None

        def setup(self, config: dict[str, Any]) -> None:
            if 0 < gpus < 1 and context.device.startswith("cuda"):
                import torch

                given = min(1.0, gpus * config["share"])
                context_share = CONTEXT_BYTES / torch.cuda.get_device_properties(context.device).total_memory
                torch.cuda.set_per_process_memory_fraction(max(given / 2, given - context_share))
            self._begin(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._begin(new_config)
            return True

        def _begin(self, config: dict[str, Any]) -> None:
            self.cleanup()
            self._steps = attempt(work, TrialSpec.model_validate_json(config["spec"]), context)

        def step(self) -> dict[str, Any]:
            assert self._steps is not None
            logs, until = [], time.monotonic() + STEP_SECONDS
            try:
                while True:
                    logs.append(next(self._steps))
                    if time.monotonic() > until:
                        return {"logs": logs}
            except StopIteration as end:
                return {"logs": logs, "outcome": end.value, "done": True}
            except STOPPING as error:
                return {"logs": logs, "stop": error, "done": True}

        def cleanup(self) -> None:
            if self._steps is not None:
                self._steps.close()

    return TrialActor
