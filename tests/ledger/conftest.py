"""Fixtures of the ledger's tests."""

from pathlib import Path

import pytest

from harness.paths import RunPaths
from harness.prepare import prepare
from tests.ledger.world import SMOKE


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare(SMOKE.specs[0].data, RunPaths(work_dir=folder))
    return folder / "prepared"


@pytest.fixture
def paths(tmp_path: Path, prepared: Path) -> RunPaths:
    (tmp_path / "prepared").symlink_to(prepared)
    return RunPaths(work_dir=tmp_path)
