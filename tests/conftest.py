"""Fixtures that several test folders share."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")  # the same examples in every run, however busy the machine is


@pytest.fixture(scope="session")
def research_folder() -> Path:
    """Of the real data sets, which are not ours to ship: BTSR_TEST_DATA, else `shared/data` beside the checkout."""
    named = os.environ.get("BTSR_TEST_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def research_data(research_folder: Path) -> Path:
    """Folder of the real research data sets."""
    if not (research_folder / "ml-1m.parquet").is_file():
        pytest.skip(f"no research data in {research_folder}: set BTSR_TEST_DATA to a folder that has ml-1m.parquet")
    return research_folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two test processes share the files; what starts Ray or kills processes stays in one of them, one at a time."""
    for item in items:
        alone = item.path.parent.name in {"ray", "sweep"}
        item.add_marker(pytest.mark.xdist_group("processes" if alone else item.path.stem))
