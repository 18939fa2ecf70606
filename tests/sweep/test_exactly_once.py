"""SIGKILL of the driver at random points: the rerun ends in the table of an undisturbed run, nothing recorded twice."""

import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.paths import RunPaths
from tests.sweep import driver, work

KILLS = 4


def start(out: Path, executor: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen([sys.executable, driver.__file__, str(out), executor, "smoke"], env=environment)


def rows(out: Path, query: str) -> list[tuple[object, ...]]:
    path = RunPaths(work_dir=out).results
    if not path.exists():
        return []
    connection = sqlite3.connect(path)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'trial'").fetchall():
            return []
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def done(out: Path) -> set[str]:
    return {str(key) for (key,) in rows(out, "SELECT trial_key FROM trial WHERE status = 'done'")}


def content(out: Path) -> dict[str, list[tuple[object, ...]]]:
    """Everything but times of day."""
    trial = "trial_key, group_key, dataset, method, alpha, lam, seed, status, spec, fingerprint, best_epoch, last_epoch"
    return {
        "trial": rows(out, f"SELECT {trial} FROM trial ORDER BY 1"),
        "study_trial": rows(out, "SELECT * FROM study_trial ORDER BY 1, 2"),
        **{
            table: rows(out, f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4, 5")
            for table in ("metric", "epoch", "ranks", "data", "results")
        },
    }


def gone(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[object, ...]]]:
    out = tmp_path_factory.mktemp("undisturbed")
    assert start(out, "inline").wait(300) == 0
    found = content(out)
    assert len(found["trial"]) == 10 and len(found["metric"]) == 10 * 200
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes below /proc")
@pytest.mark.parametrize("executor", ["inline", "local"])
def test_killed_at_random_points_ends_like_an_undisturbed_run(
    executor: str, tmp_path: Path, undisturbed: dict[str, list[tuple[object, ...]]]
) -> None:
    rng = random.Random(executor)
    kills = 0
    recorded: set[str] = set()
    for _ in range(6 * KILLS):
        if kills >= KILLS and recorded:
            break
        seen = len(work.log_lines(tmp_path))
        process = start(tmp_path, executor)
        wanted = seen + rng.randint(2, 8)
        deadline = time.monotonic() + 300
        while len(work.log_lines(tmp_path)) < wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        kills += process.wait() == -9
        news = work.log_lines(tmp_path)[seen:]
        assert not {key for word, key, _ in news if word == "begin"} & recorded, "what is recorded never runs again"
        workers = {pid for _, _, pid in news}
        deadline = time.monotonic() + 60
        while not all(map(gone, workers)):
            assert time.monotonic() < deadline, "a worker outlives its driver"
            time.sleep(0.02)
        now = done(tmp_path)
        assert recorded <= now
        recorded = now
    assert kills >= KILLS // 2 and recorded
    seen = len(work.log_lines(tmp_path))
    assert start(tmp_path, executor).wait(300) == 0
    last = [key for word, key, _ in work.log_lines(tmp_path)[seen:] if word == "end"]
    assert sorted(last) == sorted({str(row[0]) for row in undisturbed["trial"]} - recorded)
    assert content(tmp_path) == undisturbed
    assert rows(tmp_path, "SELECT DISTINCT attempt FROM trial") == [(1,)]
    seen = len(work.log_lines(tmp_path))
    assert start(tmp_path, executor).wait(300) == 0
    assert len(work.log_lines(tmp_path)) == seen, "nothing is left to do"
