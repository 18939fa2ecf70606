"""The dashboard is open before there is a database, and asked all the time while a sweep makes and fills it."""

import time
from pathlib import Path

from harness.ledger_storage import is_there
from harness.paths import RunPaths
from tests.ledger.world import SMOKE, sweep
from tests.sweep import work
from tests.sweep.watcher import watched


def test_it_neither_makes_nor_disturbs_a_database_that_is_not_there_yet(tmp_path: Path) -> None:
    paths = RunPaths(work_dir=tmp_path / "out")
    where = paths.results
    assert isinstance(where, Path)
    with watched(where, paths.artifacts) as watcher:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            assert not is_there(where) and not paths.work_dir.exists(), "only the driver makes anything"
            time.sleep(0.1)
        assert sweep(paths, work.slow_and_logged).complete
        assert watcher.shows(len(SMOKE.specs)) == {"Complete": len(SMOKE.specs)}
    assert not watcher.trouble
