"""Drivers, workers and Ray itself are killed at random, rivals try to get in: the tables are those of a quiet run.

Meanwhile the dashboard is open on the database, and asked all the time.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from harness.data.catalogue import dataset, find
from harness.database import lock_holder
from harness.paths import RunPaths
from tests.sweep import driver, work
from tests.sweep.test_exactly_once import done, rows
from tests.sweep.watcher import watched

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes below /proc")

PATIENCE = 600.0
"""Seconds without any news after which a sweep is taken to hang: Ray starts in three to twenty on two busy cores."""

DRIVER, WORKER, RAYLET, RIVAL = "driver", "worker", "raylet", "rival"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A living process of a sweep."""

    pid: int
    command: str


def session(leader: int) -> list[Process]:
    """What lives in the session that this process began."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(Process(pid=int(folder.name), command=command))
    return found


def kill(pid: int) -> bool:
    """SIGKILL; False where it was gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@dataclass(kw_only=True)
class Sweep:
    """A sweep that is started as often as it is killed."""

    out: Path
    executor: str
    study: str
    environment: dict[str, str] = field(default_factory=dict)
    """Of its processes, beside the usual."""
    leaders: list[int] = field(default_factory=list)

    def start(self) -> subprocess.Popen[bytes]:
        """A driver in a session of its own, with all it starts."""
        with (self.out / "driver.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, driver.__file__, str(self.out), self.executor, self.study],
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"} | self.environment,
                stderr=log,
                stdout=log,
                start_new_session=True,
            )
        self.leaders.append(process.pid)
        return process

    def said(self) -> str:
        """What all drivers wrote."""
        return (self.out / "driver.log").read_text(errors="replace")

    def end(self) -> None:
        """Nothing of it outlives the test."""
        for leader in self.leaders:
            for process in session(leader):
                kill(process.pid)


def news(sweep: Sweep, process: subprocess.Popen[bytes], lines: int) -> bool:
    """Wait for so many further lines in the log; False where the driver ended before."""
    wanted = len(work.log_lines(sweep.out)) + lines
    deadline = time.monotonic() + PATIENCE
    while len(work.log_lines(sweep.out)) < wanted:
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, f"the sweep hangs: {sweep.said()[-2000:]}"
        time.sleep(0.005)
    return True


def ended(sweep: Sweep, process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of the driver."""
    while news(sweep, process, 1):
        pass
    return process.wait()


def victims(sweep: Sweep, process: subprocess.Popen[bytes], kind: str) -> list[int]:
    """Whom to kill."""
    if kind == DRIVER:
        return [process.pid]
    mine = session(process.pid)
    if kind == RAYLET:
        return [each.pid for each in mine if each.command.partition(" ")[0].endswith("raylet/raylet")]
    latest = [pid for _, _, pid in work.log_lines(sweep.out)[-6:]]
    return [each.pid for each in mine if each.pid in latest and each.pid != process.pid]


def rival(sweep: Sweep, process: subprocess.Popen[bytes]) -> bool:
    """Another driver is refused by the lock of this one, which stands still meanwhile; False where it has none.

    A child that nobody has waited for keeps its process id, dead or alive.
    """
    if process.poll() is not None:
        return False
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    try:
        holder = lock_holder(create_engine("sqlite://"), str(RunPaths(work_dir=sweep.out).results)) or ""
        if not holder.endswith(f"process {process.pid}"):
            return False
        assert ended(sweep, sweep.start()) == driver.LOCKED, f"a rival got in: {sweep.said()[-2000:]}"
        return True
    finally:
        os.kill(process.pid, signal.SIGCONT)


def disturb(sweep: Sweep, schedule: list[str], rng: random.Random) -> list[str]:
    """Run the sweep under the schedule; returns what was done of it, in order."""
    happened: list[str] = []
    total = 5 * len(driver.study(sweep.study)[0].specs)
    process, before = sweep.start(), done(sweep.out)
    seen = len(work.log_lines(sweep.out))
    for place, kind in enumerate(schedule):
        left = total - len(work.log_lines(sweep.out))
        share = left // (len(schedule) - place + 1)
        alive = news(sweep, process, rng.randint(1, max(1, share * 2 // 3)))  # workers go on while a rival starts
        time.sleep(rng.uniform(0, 0.5))
        if alive and kind == RIVAL:
            happened += [kind] * rival(sweep, process)
        elif alive:
            chosen = victims(sweep, process, kind)
            if chosen and kill(rng.choice(chosen)):
                happened.append(kind)
        if kind == RAYLET or process.poll() is not None or not alive:
            ended(sweep, process)
        if kind == DRIVER:
            process.wait()
        if process.poll() is not None:
            begun = {key for _, key, _ in work.log_lines(sweep.out)[seen:]}
            assert not begun & before, "what is recorded never runs again"
            assert before <= done(sweep.out), "what was recorded is lost"
            seen = len(work.log_lines(sweep.out))
            before, process = done(sweep.out), sweep.start()
    ended(sweep, process)
    last = sweep.start()
    assert ended(sweep, last) == 0, sweep.said()[-2000:]
    return happened


def content(out: Path) -> dict[str, list[tuple[object, ...]]]:
    """What was computed: everything but attempts and times."""
    trial = "trial_key, group_key, dataset, method, alpha, lam, seed, status, spec, fingerprint, best_epoch, last_epoch"
    columns = {
        "trial": trial,
        "study_trial": "*",
        "metric": "*",
        "epoch": "trial_key, epoch, loss, parts, valid",
        "ranks": "*",
        "sample": "*",
        "data": "*",
    }
    return {name: sorted(rows(out, f"SELECT {some} FROM {name}"), key=repr) for name, some in columns.items()}


def check_epochs(out: Path) -> int:
    """No epoch was trained again but the one that was in flight when its process died; returns how many were."""
    trained: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for word, key, pid in work.log_lines(out):
        if word.startswith("epoch-"):
            trained[key].append((int(word.removeprefix("epoch-")), pid))
    repeated = 0
    for key, epochs in trained.items():
        for (last, by), (now, then_by) in zip([(0, 0), *epochs], epochs, strict=False):
            assert now in {last, last + 1}, f"{key}: epoch {now} after {last}"
            assert now != last or by != then_by, f"{key}: one process trained epoch {now} twice"
            repeated += now == last
    return repeated


def check_ledger(out: Path, keys: set[str]) -> None:
    """Every trial is shown as complete once; nothing is left running or waiting."""
    connection = sqlite3.connect(RunPaths(work_dir=out).results)
    query = (
        "SELECT trials.state, value_json FROM trials JOIN trial_user_attributes USING (trial_id) "
        "WHERE trial_user_attributes.key = 'key'"
    )
    try:
        found = connection.execute(query).fetchall()
        states = {state for (state,) in connection.execute("SELECT state FROM trials")}
    finally:
        connection.close()
    complete = sorted(str(key).strip('"') for state, key in found if state == "COMPLETE")
    assert complete == sorted(keys)
    assert states <= {"COMPLETE", "FAIL"}


def undisturbed(out: Path, study: str) -> dict[str, list[tuple[object, ...]]]:
    """The tables of a sweep that nobody disturbs, in one process."""
    sweep = Sweep(out=out, executor="inline", study=study)
    assert ended(sweep, sweep.start()) == 0, sweep.said()[-2000:]
    return content(out)


def chaos(
    sweep: Sweep,
    quiet: dict[str, list[tuple[object, ...]]],
    schedule: list[str],
    rng: random.Random,
    *,
    least: tuple[int, int],
) -> None:
    """The whole test: disturb, by at least so many kills and rivals, then compare."""
    paths = RunPaths(work_dir=sweep.out)
    where = paths.results
    assert isinstance(where, Path)
    try:
        with watched(where, paths.artifacts) as watcher:
            happened = disturb(sweep, schedule, rng)
            assert watcher.shows(len(quiet["trial"]))["Complete"] == len(quiet["trial"])
        assert not watcher.trouble and watcher.answers, watcher.trouble[:3]
        assert watcher.most_trials >= len(quiet["trial"]), "it saw the sweep"
        assert content(sweep.out) == quiet
        keys = {str(row[0]) for row in quiet["trial"]}
        check_ledger(sweep.out, keys)
        repeated = check_epochs(sweep.out)
        kills = [kind for kind in happened if kind != RIVAL]
        assert repeated <= 2 * len(kills)
        rivals = len(happened) - len(kills)
        assert len(kills) >= least[0] and rivals >= least[1], f"too little of {schedule} came to pass: {happened}"
        for word in ("already done", "Fatal Python error"):
            assert word not in sweep.said()
        seen = len(work.log_lines(sweep.out))
        assert ended(sweep, sweep.start()) == 0
        assert len(work.log_lines(sweep.out)) == seen, "nothing is left to do"
        assert not list(paths.checkpoints.glob("*")), "what is recorded leaves no checkpoint"
    finally:
        sweep.end()
    counts = ", ".join(f"{happened.count(kind)} {kind}" for kind in (DRIVER, WORKER, RAYLET, RIVAL))
    print(
        f"{sweep.executor}: {counts}; {repeated} epochs in flight were trained again; "
        f"the dashboard answered {watcher.answers} times"
    )


RARELY = pytest.mark.skipif("BTSR_CHAOS" not in os.environ, reason="minutes to an hour: run make chaos")

SHORT = {
    "local": [WORKER, RIVAL, DRIVER],
    "ray": [WORKER, DRIVER, RAYLET],
}


@pytest.fixture(scope="module")
def short_tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[object, ...]]]:
    found = undisturbed(tmp_path_factory.mktemp("quiet"), "chaos")
    assert len(found["trial"]) == 8 and len(found["epoch"]) == 24
    return found


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.chaos])])
def test_a_few_kills_change_no_number(
    executor: str, tmp_path: Path, short_tables: dict[str, list[tuple[object, ...]]]
) -> None:
    sweep = Sweep(out=tmp_path, executor=executor, study="chaos")
    chaos(sweep, short_tables, SHORT[executor], random.Random(executor), least=(2, 0))


@pytest.fixture(scope="module")
def ml100k(research_folder: Path) -> Iterator[None]:
    """MovieLens 100K, where the drivers look for it. Only `make chaos` asks for it, which is nothing without."""
    if find(dataset("ml100k"), research_folder) is None:
        pytest.fail(
            f"no MovieLens 100K in {research_folder}: set BTSR_TEST_DATA to a folder that has it, or fetch it by "
            f"btsr-data download ml100k --data-dir {research_folder}"
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BTSR_TEST_DATA", str(research_folder))
        yield


@pytest.fixture(scope="module")
def long_tables(tmp_path_factory: pytest.TempPathFactory, ml100k: None) -> dict[str, list[tuple[object, ...]]]:
    found = undisturbed(tmp_path_factory.mktemp("quiet"), "chaos50")
    assert len(found["trial"]) == 50 and len(found["epoch"]) == 150
    return found


@pytest.mark.chaos
@RARELY
@pytest.mark.ray
@pytest.mark.realdata
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_twenty_five_kills_and_five_rivals_change_no_number(
    seed: int, tmp_path: Path, long_tables: dict[str, list[tuple[object, ...]]]
) -> None:
    rng = random.Random(seed)
    schedule = [*[DRIVER] * 10, *[WORKER] * 15, *[RAYLET] * 5, *[RIVAL] * 6]
    rng.shuffle(schedule)
    chaos(Sweep(out=tmp_path, executor="ray", study="chaos50"), long_tables, schedule, rng, least=(25, 5))
