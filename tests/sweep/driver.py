"""A sweep in a process of its own, to be killed: driver.py OUT inline|local|ray smoke|chaos|chaos50 [DATABASE]."""

import os
import sys
from pathlib import Path

from rich.console import Console

from harness.config import SEEDS, Study, StudyOptions
from harness.errors import SweepLocked
from harness.executors import Executor, RunContext, Work
from harness.local_executor import LocalExecutor
from harness.options import SweepOptions
from harness.paths import RunPaths
from harness.sweep import run_study
from studies import STUDIES
from studies.profiles import trial, varied
from tests.sweep import work
from tests.sweep.inline import FakeExecutor

LOCKED = 3
"""Exit code where another driver holds the database."""

UNFINISHED = 5
"""Exit code where trials are left."""

PATIENT = SweepOptions(max_failures=1000)
"""A worker that is killed costs an attempt; however many are killed, no trial is given up."""


def chaos(dataset: str, seeds: tuple[int, ...], alphas: tuple[float, ...]) -> Study:
    """Short real trials: SASRec, and BT-SR at some alphas, three epochs each."""
    options = StudyOptions(datasets=(dataset,), seeds=seeds, max_epochs=3)
    specs = []
    for seed in seeds:
        specs.append(trial("sasrec_ce", dataset, options, seed))
        specs += [trial("bt_sr", dataset, options, seed, alpha=alpha) for alpha in alphas]
    return Study(name="chaos", title="Chaos", specs=tuple(specs))


def study(name: str) -> tuple[Study, Work]:
    """The study of that name, and what is done for its trials."""
    if name == "chaos":
        small = {"encoder": {"dim": 8, "max_len": 8, "blocks": 1}}
        whole = chaos("synthetic", SEEDS[:2], (0.0, 0.1, 0.3))
        specs = tuple(varied(spec, **small) for spec in whole.specs)
        return whole.model_copy(update={"specs": specs}), work.trained_and_logged
    if name == "chaos50":
        return chaos("ml100k", SEEDS[:5], tuple(alpha / 10 for alpha in range(9))), work.trained_and_logged
    return STUDIES[name](StudyOptions(datasets=("synthetic",), seeds=SEEDS[:2])), work.slow_and_logged


def executor(name: str, of: Work) -> Executor:
    """Two workers, or none but this process."""
    if name == "ray":
        from harness.ray_cluster import Cluster
        from harness.ray_executor import RayExecutor

        return RayExecutor(Cluster(workers=2), of)
    return FakeExecutor(of) if name == "inline" else LocalExecutor(2, of)


if __name__ == "__main__":
    asked, doing = study(sys.argv[3])
    folder = os.environ.get("BTSR_TEST_DATA")
    paths = RunPaths(
        work_dir=Path(sys.argv[1]),
        data_dir=Path(folder) if folder else None,
        database=sys.argv[4] if len(sys.argv) > 4 else None,
        download=False,
    )
    try:
        after = run_study(
            asked,
            executor(sys.argv[2], doing),
            RunContext(paths=paths),
            console=Console(stderr=True),
            quiet=True,
            options=PATIENT,
        )
    except SweepLocked as error:
        print(error, file=sys.stderr)
        sys.exit(LOCKED)
    sys.exit(0 if after.complete else UNFINISHED)
