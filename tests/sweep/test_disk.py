"""A database that cannot be written, is deleted or has no room: one line says so, and nothing recorded is lost."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.config import TrialSpec
from harness.errors import StoreError
from harness.executors import RunContext
from harness.paths import RunPaths
from harness.plan import current_plan
from harness.prepare import prepare
from tests.store import fake
from tests.sweep import work
from tests.sweep.test_sweep import SMOKE, Counting, sweep

MIB = 2**20


class Meddling(Counting):
    """Makes results; does something to the disk when the third trial is about to end."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        super().__init__()
        self.meddle = meddle

    def __call__(self, spec: TrialSpec, context: RunContext) -> work.Steps:
        self.runs.append(spec.key)
        yield fake.epoch(1, 0.25)
        if len(self.runs) == 3:
            self.meddle()
        return fake.result(spec, prepare(spec.data, context.paths))


def stopped(paths: RunPaths, of: Counting, *, extend: bool = False) -> str:
    """What the sweep says when it stops: one line."""
    with pytest.raises(StoreError) as caught:
        sweep(SMOKE, paths, of, extend=extend)
    says = str(caught.value)
    assert "\n" not in says and str(paths.database or paths.work_dir) in says
    return says


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[None]:
    """A file system of its own, so small; skips where mounting is not allowed."""
    folder.mkdir()
    try:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("there is no mount here: no small disk can be made")
    if made.returncode:
        pytest.skip(f"mounting is not allowed here: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody can write there: by its mode, and for root, whom no mode stops, by its mount."""
    if os.geteuid():
        files = [folder, *folder.iterdir()]
        modes = {path: path.stat().st_mode for path in files}
        for path in files:
            path.chmod(modes[path] & ~0o222)
        yield
        for path, mode in modes.items():
            path.chmod(mode)
        return
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


@contextmanager
def place(folder: Path) -> Iterator[None]:
    """A folder that can be made read-only."""
    if os.geteuid():
        folder.mkdir()
        yield
    else:
        with mounted(folder, 64 * MIB):
            yield


def test_a_read_only_database_is_one_line_and_stays_as_it_was(tmp_path: Path) -> None:
    paths = RunPaths(work_dir=tmp_path / "out", database=str(tmp_path / "place" / "btsr.db"))
    with place(tmp_path / "place"):
        part = SMOKE.model_copy(update={"specs": SMOKE.specs[:2]})
        sweep(part, paths, Counting())
        before = (tmp_path / "place" / "btsr.db").read_bytes()
        with read_only(tmp_path / "place"):
            asked = Counting()
            says = stopped(paths, asked, extend=True)
            assert asked.runs == [], "nothing is trained for a result that could not be kept"
            assert current_plan(SMOKE, paths).done == 2, "it can be read"
        assert "read" in says.lower() and "name another database" in says
        assert (tmp_path / "place" / "btsr.db").read_bytes() == before
        rest = Counting()
        sweep(SMOKE, paths, rest, extend=True)
        assert len(rest.runs) == len(SMOKE.specs) - 2 and current_plan(SMOKE, paths).complete


def test_a_database_that_is_deleted_meanwhile_stops_the_sweep(tmp_path: Path) -> None:
    paths = RunPaths(work_dir=tmp_path / "out")
    file = tmp_path / "out" / "btsr.db"

    def delete() -> None:
        for each in file.parent.glob("btsr.db*"):
            each.unlink()

    asked = Meddling(delete)
    says = stopped(paths, asked)
    assert len(asked.runs) == 3, "no trial is run whose result would go nowhere"
    assert "deleted" in says or "replaced" in says, says
    assert not file.exists(), "no file is made that lacks the former results"
    again = Counting()
    sweep(SMOKE, paths, again)
    assert len(again.runs) == len(SMOKE.specs) and current_plan(SMOKE, paths).complete


def test_a_full_disk_stops_the_sweep_and_it_goes_on_when_there_is_room(tmp_path: Path) -> None:
    paths = RunPaths(work_dir=tmp_path / "out", database=str(tmp_path / "small" / "btsr.db"))
    ballast = tmp_path / "small" / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            for size in (MIB, 4096, 1):
                try:
                    while True:
                        file.write(b"0" * size)
                except OSError:
                    continue

    with mounted(tmp_path / "small", 16 * MIB):
        asked = Meddling(fill)
        says = stopped(paths, asked)
        assert "full" in says and "free" in says, says
        assert len(asked.runs) == 3
        ballast.unlink()
        assert current_plan(SMOKE, paths).done == 2, "what was recorded before is there"
        again = Counting()
        sweep(SMOKE, paths, again)
        assert not set(again.runs) & set(asked.runs[:2])
        assert len(again.runs) == len(SMOKE.specs) - 2 and current_plan(SMOKE, paths).complete
