"""A small study on synthetic data, its sweep without training, and what the dashboard shows of it."""

import io
from collections import Counter
from dataclasses import replace
from typing import Any

import optuna
from rich.console import Console

from harness.config import SEEDS, Study, StudyOptions, TrialSpec
from harness.executors import RunContext, Work
from harness.ledger_page import Draw
from harness.options import SweepOptions
from harness.paths import RunPaths
from harness.plan import Plan
from harness.prepare import prepare
from harness.store import open_store
from harness.sweep import run_study
from studies import STUDIES
from tests.store import fake
from tests.sweep.inline import FakeExecutor
from tests.sweep.work import Steps

SMOKE = STUDIES["smoke"](StudyOptions(datasets=("synthetic",), seeds=SEEDS[:2]))
EPOCHS = 3


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
