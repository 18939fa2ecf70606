"""What `btsr-sweep` adds to the bare `run_trial`: run by `tests.bench.runner` in this project's environment.

A study of tiny trials is swept by the command itself, as a user types it, one trial at a time. All numbers are of whole
commands, with the bare trials taken off: of each trial beyond the first ("each"), of a sweep of one trial ("whole"),
and of a command that finds all trials done ("idle"). "start" is that of a sweep of one trial until the trial is
recorded; its processor seconds are of the whole command.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.config import SEEDS, Study, StudyOptions
from harness.paths import RunPaths
from studies.profiles import trial, varied
from tests.bench.job import Answer, CannotMeasure, Job, peak_mib, serve, versions

EXECUTOR = "BENCH_EXECUTOR"
"""Environment variable: which executor is measured."""
COMMAND = "import sys; sys.argv[0] = 'btsr-sweep'; from harness.cli import main; sys.exit(main())"
STUDY = "from tests.bench.drive_overhead import tiny\n\n\ndef study(options):\n    return tiny(options, {trials})\n"


def tiny(options: StudyOptions, trials: int) -> Study:
    """So many trials of a few milliseconds' training each, on the data set that is made and not fetched."""
    small = {"encoder": {"dim": 8, "max_len": 8, "blocks": 1}, "train": {"max_epochs": 1}}
    specs = tuple(
        varied(trial("bt_sr", "synthetic", options, SEEDS[0], alpha=(1 + number) / 100), **small)
        for number in range(trials)
    )
    return Study(name=f"tiny{trials}", title="Tiny", specs=specs)


def bare(folder: Path, trials: int) -> NDArray[np.float64]:
    """[trials, 2] seconds and processor seconds of `run_trial` alone, here; prepares the data for the sweeps too."""
    from harness.prepare import prepare  # not above: the study file of the sweeps imports this module
    from harness.trial import run_trial

    specs = tiny(StudyOptions(datasets=("synthetic",)), trials).specs
    split = prepare(specs[0].data, RunPaths(work_dir=folder))
    clocks = np.empty((trials + 1, 2))
    for number, spec in enumerate(specs):
        clocks[number] = time.perf_counter(), time.process_time()
        run_trial(spec, split)
    clocks[trials] = time.perf_counter(), time.process_time()
    return np.diff(clocks, axis=0)


def sweep(folder: Path, trials: int, executor: str, *, until: str = "") -> NDArray[np.float64]:
    """[2] seconds and processor seconds of the whole command; seconds `until` it says a line that begins so."""
    (folder / "study.py").write_text(STUDY.format(trials=trials))
    words = ["--study", "study.py", "--dataset", "synthetic", "--out", ".", "--workers", "1"]

    def clocks() -> NDArray[np.float64]:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return np.array([time.perf_counter(), used.ru_utime + used.ru_stime])

    started = clocks()
    said = None
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words, "--executor", executor, *([] if until else ["--quiet"])],
        cwd=folder,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        line = ""
        for line in process.stderr:
            if until and line.startswith(until):
                said = said or time.perf_counter()
    taken = clocks() - started
    if process.returncode or (until and said is None):
        raise CannotMeasure(f"the sweep of {trials} trials ended with exit code {process.returncode}: {line.strip()}")
    return np.array([said - started[0], taken[1]]) if said else taken


def measure(job: Job) -> Answer:
    """The job's seconds; its data are made here."""
    executor = os.environ[EXECUTOR]
    start_mib = peak_mib()
    with tempfile.TemporaryDirectory() as name:
        one, all_ = Path(name) / "one", Path(name) / "all"
        alone = bare(one if job.trials == 1 else all_, job.trials if job.work == "each" else 1)
        if job.work in {"start", "whole"}:
            cost = sweep(one, 1, executor, until="[1/1]" if job.work == "start" else "") - alone[0]
        elif job.work == "each":
            bare(one, 1)
            beyond = sweep(all_, job.trials, executor) - sweep(one, 1, executor)
            cost = (beyond - alone[1:].sum(0)) / (job.trials - 1)
        else:
            sweep(all_, job.trials, executor)
            cost = np.median([sweep(all_, job.trials, executor) for _ in range(3)], axis=0)
    return Answer(
        seconds=[float(cost[0])],
        cpu_seconds=float(cost[1]),
        ran=job.trials,
        full=job.trials,
        targets=job.trials,
        start_mib=start_mib,
        peak_mib=peak_mib(),
        detail=versions(["torch", "ray", "optuna", "sqlalchemy"])
        | {"bare trial": "{:.0f} ms, of processor time {:.0f} ms".format(*np.median(alone, axis=0) * 1000)},
    )


if __name__ == "__main__":
    serve(measure, bounded=False)  # Ray reserves far more addresses than it takes memory
