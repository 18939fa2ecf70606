"""Going through finished trials again gives what the sweep itself does under a pruner."""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.config import SEEDS, StudyOptions, TrialSpec
from harness.errors import ConfigError
from harness.executors import RunContext
from harness.ledger_storage import pruner
from harness.options import Prune, SweepOptions
from harness.paths import RunPaths
from harness.prepare import prepare
from harness.store import open_store
from harness.sweep import run_study
from studies import STUDIES
from tests.bench.halving import compare, replay, runs_of
from tests.store import fake
from tests.sweep.inline import FakeExecutor
from tests.sweep.work import Steps

BOTH = STUDIES["smoke"](StudyOptions(datasets=("synthetic",), seeds=SEEDS[:1]))
SMOKE = BOTH.model_copy(
    update={
        "specs": tuple(spec for spec in BOTH.specs if spec.method == "bt_sr"),
        "search": tuple(space for space in BOTH.search if space.base.method == "bt_sr"),
    }
)
NAME, TRIALS, EPOCHS = "smoke_random", 14, 9


def trains(spec: TrialSpec, context: RunContext) -> Steps:
    """Better the closer alpha is to 0.3; learning curves that cross, since a small rate learns late."""
    logs = tuple(
        fake.epoch(e, e**0.5 / 10 - abs(spec.aux.alpha - 0.3) * spec.train.lr * e) for e in range(1, EPOCHS + 1)
    )
    yield from logs
    return replace(fake.result(spec, prepare(spec.data, context.paths), epochs=EPOCHS), epochs=logs)


def swept(folder: Path, prune: Prune | None) -> tuple[Path, list[str]]:
    """Where the results are, and the keys in the order of their start."""
    paths, order = RunPaths(work_dir=folder), []

    def work(spec: TrialSpec, context: RunContext) -> Steps:
        order.append(spec.key)
        return (yield from trains(spec, context))

    options = SweepOptions(search="random", trials=TRIALS, prune=prune)
    context = RunContext(paths=paths, ask_each_epoch=prune is not None)
    run_study(SMOKE, FakeExecutor(work), context, console=Console(file=io.StringIO()), quiet=True, options=options)
    return Path(str(paths.results)), order


@pytest.mark.parametrize("prune", ["halving", "median"])
def test_it_is_what_the_sweep_does(prune: Prune, tmp_path: Path) -> None:
    whole, order = swept(tmp_path / "whole", None)
    with open_store(whole, read_only=True) as store:
        ((which, runs),) = runs_of(store, NAME, "synthetic").items()
        with pytest.raises(ConfigError, match="fewer than four"):
            runs_of(store, NAME, "ml1m")
    assert which == ("bt_sr", SEEDS[0]) and len(runs) == TRIALS
    runs.sort(key=lambda run: order.index(run.key))
    found = replay(runs, pruner(prune), workers=1)
    some, again = swept(tmp_path / "pruned", prune)
    assert again == order, "what a random search tries does not depend on who is pruned"
    with open_store(some, read_only=True) as store:
        rows = store.trials(study=NAME, status=None)
        counts = Counter(row.status for row in rows)
        assert found.pruned == counts["pruned"] > 0 and counts["done"] > 1
        assert found.epochs == sum(len(store.epochs(row.key)) for row in rows) < TRIALS * EPOCHS
        assert found.winner.key in {row.key for row in rows if row.status == "done"}
    table = "\n".join(compare(runs, orders=2, workers=2))
    assert f"{TRIALS} trials, {TRIALS * EPOCHS} trial-epochs" in table and f"| --prune {prune} |" in table
