"""The clock of the machine goes forward and back by years while a sweep runs: nothing depends on it.

Driver and workers read a clock that is off (see `clock.c`), and so do SQLite and Optuna below them.
"""

import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.sweep.test_chaos import Sweep, check_epochs, check_ledger, content, ended, kill, news, rival, undisturbed
from tests.sweep.test_cli import typed
from tests.sweep.test_exactly_once import rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="loads a library in front of Linux's"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler"),
]

YEAR = 365 * 86_400
OFFSETS = (10 * YEAR, -3 * YEAR, 5 * YEAR + 3600, 5 * YEAR - 3600, -20 * YEAR, 4 * YEAR, 4 * YEAR + 5)
"""Seconds by which the clock is off, one after the other; never in this year."""


class Clock:
    """The clock that processes with this environment read."""

    def __init__(self, folder: Path) -> None:
        self._file, self._library = folder / "offset", folder / "clock.so"
        self.set(0)
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(self._library), str(source)], check=True)
        self.environment = {"LD_PRELOAD": str(self._library), "BTSR_CLOCK": str(self._file)}

    def set(self, seconds: int) -> None:
        """From now on it is off by so much, in processes that run already, too."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))

    @contextmanager
    def jumping(self) -> Iterator[None]:
        """It jumps four times a second, the first time before anything else."""
        stop = threading.Event()
        self.set(OFFSETS[0])

        def jump() -> None:
            turn = 1
            while not stop.wait(0.25):
                self.set(OFFSETS[turn % len(OFFSETS)])
                turn += 1

        thread = threading.Thread(target=jump, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def test_the_clock_jumps_in_processes_that_run(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    code = (
        "import datetime, sqlite3, sys, time\n"
        "for _ in sys.stdin:\n"
        '    query = \'SELECT strftime("%Y", "now")\'\n'
        "    year = sqlite3.connect(':memory:').execute(query).fetchone()[0]\n"
        "    print(time.time(), datetime.datetime.now().year, year, time.monotonic(), flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | clock.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin and process.stdout
        seen = []
        for offset in (0, 10 * YEAR, -3 * YEAR):
            clock.set(offset)
            process.stdin.write("\n")
            seen.append(process.stdout.readline().split())
    (then, year, _, begun), (future, in_future, of_sqlite, later), (past, *_, last) = seen
    assert abs(float(future) - float(then) - 10 * YEAR) < 3600 and abs(float(past) - float(then) + 3 * YEAR) < 3600
    assert int(in_future) - int(year) in {9, 10} and of_sqlite == in_future
    assert float(begun) < float(later) < float(last) < float(begun) + 3600


def test_a_sweep_under_a_jumping_clock_ends_in_the_same_tables(tmp_path: Path) -> None:
    (tmp_path / "quiet").mkdir()
    (tmp_path / "out").mkdir()
    quiet = undisturbed(tmp_path / "quiet", "chaos")
    clock = Clock(tmp_path)
    sweep = Sweep(out=tmp_path / "out", executor="local", study="chaos", environment=clock.environment)
    rng = random.Random(1)
    kills = rivals = 0
    try:
        with clock.jumping():
            for _ in range(2):
                process = sweep.start()
                if news(sweep, process, rng.randint(4, 8)):
                    rivals += rival(sweep, process)
                    kills += kill(process.pid)
                process.wait()
            assert ended(sweep, sweep.start()) == 0, sweep.said()[-2000:]
    finally:
        sweep.end()
    assert rivals and kills and content(sweep.out) == quiet
    check_ledger(sweep.out, {str(row[0]) for row in quiet["trial"]})
    assert check_epochs(sweep.out) <= 2 * kills, "checkpoints are taken up whatever their date"
    years = {int(str(at)[:4]) for (at,) in rows(sweep.out, "SELECT recorded_at FROM trial")}
    assert datetime.now(UTC).year not in years, "every trial is recorded under the clock that is off"
    for (text,) in rows(sweep.out, "SELECT seconds FROM provenance"):
        assert all(0 <= seconds < 3600 for seconds in json.loads(str(text)).values()), text


def test_the_time_that_is_left_does_not_follow_the_clock(tmp_path: Path) -> None:
    """`btsr-sweep` under the jumping clock says a time left that is one of seconds, not of years."""
    clock = Clock(tmp_path)
    begun = time.monotonic()
    words = ["--executor", "local", "--study", "smoke", "--seeds", "1", "--max-epochs", "1"]
    with clock.jumping():
        said = typed(tmp_path, *words, environment=clock.environment, patience=600)
    took = time.monotonic() - begun
    assert said.returncode == 0, said.stderr
    left = re.findall(r"about (.*) left", said.stderr)
    assert left and (took > 3600 or all(re.fullmatch(r"(\d+ min )?\d+ s", each) for each in left)), left
