"""`btsr-sweep` with its usual executor: a Ray of its own, started and stopped by the command."""

import os
import signal
import socket
import sqlite3
import time
from functools import partial
from pathlib import Path

import pytest

from tests.sweep.test_cli import MAIN, TINY, begun, numbers, typed

pytestmark = [pytest.mark.ray, pytest.mark.slow]
PATIENCE = 600
"""Seconds: Ray starts in three to twenty on two busy cores."""


sweep = partial(typed, patience=PATIENCE)


def ranks(out: Path) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(out / "btsr.db")
    try:
        return connection.execute("SELECT trial_key, part, rank, top FROM ranks ORDER BY 1, 2").fetchall()
    finally:
        connection.close()


def children(process: int) -> set[int]:
    """Processes in the session that this one began."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == process and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found


def test_the_same_numbers_as_plain_processes_and_then_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(TINY)
    job = {"RAY_ADDRESS": "127.0.0.1:1", "TMPDIR": str(tmp_path)}  # as inside of a batch job
    job["BTSR_KERNELS"] = "off"  # without a compiler there would be a line on them
    for words in (("--out", "ray"), ("--out", "local", "--executor", "local", "--workers", "1")):
        ended = sweep(tmp_path, "--study", "tiny.py", "--device", "cpu", *words, environment=job)
        assert ended.returncode == 0 and "2 of 2 trials are done (2 now, 0 before)" in ended.stdout, ended.stderr
        assert ended.stderr.count("\n") == 3, f"nothing of Ray's own is printed: {ended.stderr}"
    assert numbers(tmp_path / "ray") == numbers(tmp_path / "local")
    assert ranks(tmp_path / "ray") == ranks(tmp_path / "local")
    watched = (
        "import sys\ntry:\n    "
        + MAIN.replace("; ", "\n    ")
        + "\nfinally:\n    assert not {'ray', 'torch', 'optuna', 'pandas'} & set(sys.modules)"
    )
    again = sweep(tmp_path, "--study", "tiny.py", "--out", "ray", code=watched)
    assert again.returncode == 0 and "2 of 2 trials are done (0 now, 2 before)" in again.stdout, again.stderr


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes below /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_ends_ray_too_and_keeps_what_is_done(number: signal.Signals, code: int, tmp_path: Path) -> None:
    words = ["--study", "smoke", "--max-epochs", "2", "--workers", "1", "--out", "here"]
    process = begun(tmp_path, *words)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: what Ray has started gets it, too
    else:
        process.send_signal(number)
    _, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, rest
    assert "trials are done and kept in here/btsr.db; give the same command again to go on" in rest
    assert "Traceback" not in rest
    deadline = time.monotonic() + PATIENCE
    while left := children(process.pid):
        assert time.monotonic() < deadline, f"outlive the command: {left}"
        time.sleep(0.2)
    connection = sqlite3.connect(tmp_path / "here" / "btsr.db")
    done = connection.execute("SELECT COUNT(*) FROM trial WHERE status = 'done'").fetchone()[0]
    connection.close()
    assert 1 <= done < 10


def test_a_port_of_another_program_is_no_cluster(tmp_path: Path) -> None:
    """It takes the connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = sweep(tmp_path, "--study", "smoke", "--ray-address", f"127.0.0.1:{server.getsockname()[1]}")
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1, ended.stderr
    assert "no Ray cluster answers there (no answer in" in ended.stderr
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--gpus-per-trial", "0.25", "--executor", "local"), "--gpus-per-trial is for --executor ray"),
        (("--ray-address", "127.0.0.1:6379", "--executor", "local"), "--ray-address is for --executor ray"),
        (("--gpus-per-trial", "0.5", "--device", "cpu"), "--gpus-per-trial 0.5 needs --device cuda, not cpu"),
        (("--gpus-per-trial", "1.5"), "--gpus-per-trial 1.5: a trial trains on one GPU"),
        (("--device", "cuda"), "--device cuda: add --gpus-per-trial 0.25 (or 1), or --workers N"),
        (("--ray-address", "127.0.0.1:1"), "--ray-address 127.0.0.1:1: nothing answers there"),
        (("--ray-address", "127.0.0.1:99999"), "--ray-address 127.0.0.1:99999: nothing answers there"),
        (("--ray-address", "no..host:6379"), "--ray-address no..host:6379: nothing answers there"),
        (("--ray-address", "head-node"), "--ray-address head-node is not HOST:PORT"),
        (("--cpus-per-trial", "9999"), "--cpus-per-trial 9999 is more than the"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_made(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    ended = sweep(tmp_path, "--study", "smoke", *words)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1 and says in ended.stderr, ended.stderr
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes below /proc")
def test_a_raylet_that_dies_is_one_line_and_nothing_of_rays_own(tmp_path: Path) -> None:
    words = ["--study", "smoke", "--max-epochs", "2", "--workers", "1", "--out", "here"]
    process = begun(tmp_path, *words)
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in children(process.pid)}
    assert not [words for words in commands.values() if any(word.endswith(b"monitor.py") for word in words)]
    (raylet,) = [pid for pid, words in commands.items() if words[0].endswith(b"raylet/raylet")]
    os.kill(raylet, signal.SIGKILL)
    printed, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and printed == "", printed
    lines = rest.splitlines()
    assert lines[-1].startswith("btsr-sweep: Ray has ended on the driver's node"), rest
    assert all(line.startswith("[") and "/10] " in line for line in lines[:-1]), f"nothing of Ray's own: {rest}"
