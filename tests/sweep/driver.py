"""A sweep in a process of its own, to be killed: driver.py OUT inline|local STUDY."""

import sys
from pathlib import Path

from rich.console import Console

from harness.config import SEEDS, RunPaths, StudyOptions
from harness.executors import FakeExecutor, RunContext
from harness.local_executor import LocalExecutor
from harness.sweep import run_study
from studies import STUDIES
from tests.sweep import work

if __name__ == "__main__":
    options = StudyOptions(datasets=("synthetic",), seeds=SEEDS[:2])
    executor = FakeExecutor(work.slow_and_logged) if sys.argv[2] == "inline" else LocalExecutor(2, work.slow_and_logged)
    context = RunContext(paths=RunPaths(work_dir=Path(sys.argv[1])))
    run_study(STUDIES[sys.argv[3]](options), executor, context, console=Console(stderr=True), quiet=True)
