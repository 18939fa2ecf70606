"""The folder of a sweep's own Ray, and those that dead drivers left."""

import os
import tempfile
from pathlib import Path

import pytest

from harness import ray_cluster

OLD = 1_600_000_000


def test_what_the_dead_left_is_removed_and_what_vanishes_meanwhile_is_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"dead": "btsr-999999991-a", "young": "btsr-999999992-b", "gone": "btsr-999999993-c"}
    places = {kind: tmp_path / name for kind, name in names.items()}
    living = tmp_path / f"btsr-{os.getpid()}-d"
    for place in (*places.values(), living):
        place.mkdir()
        (place / "log").touch()
        if place != places["young"]:
            os.utime(place, (OLD, OLD))
    lives = ray_cluster._lives

    def looked(process: str) -> bool:
        if process in names["gone"]:
            ray_cluster.shutil.rmtree(places["gone"])
        return lives(process)

    monkeypatch.setattr(ray_cluster, "_lives", looked)
    monkeypatch.setattr(ray_cluster, "LONGEST_ROOT", 1_000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with ray_cluster.short_folder() as folder:
        there = {place.name for place in tmp_path.iterdir()}
    assert there == {names["young"], living.name, folder.name}
    assert not folder.exists()
