"""Memory of preparing many rows: a tenth of Gowalla always, the whole with BTSR_SCALE=full."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data import checkins

ROOT = Path(__file__).resolve().parents[2]


def measured(tmp_path: Path, rows: int) -> dict[str, float]:
    """What a process of its own says of a synthetic file of that many rows."""
    path = tmp_path / "loc-gowalla_totalCheckins.txt.gz"
    checkins.write(path, rows)
    command = [sys.executable, "-m", "tests.data.scale", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=550)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_a_tenth_of_gowalla(tmp_path: Path) -> None:
    found = measured(tmp_path, checkins.ROWS // 10)
    assert found["rows"] == checkins.ROWS // 10 and found["test_users"] > 100
    assert found["peak_mib"] < 600


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("BTSR_SCALE") != "full", reason="a minute: set BTSR_SCALE=full")
def test_all_of_gowalla(tmp_path: Path) -> None:
    found = measured(tmp_path, checkins.ROWS)
    assert found["rows"] == 6_442_892 and found["kept_rows"] > 4_000_000
    assert found["peak_mib"] < 3 * 1024
    assert found["cpu_seconds"] < 120


READ = """
import sys
from pathlib import Path
from harness.data.readers import read_yelp
from tests.data.scale import peak_kib
print(len(read_yelp(Path(sys.argv[1])).frame), peak_kib() // 1024)
"""


def test_reviews_are_streamed(tmp_path: Path) -> None:
    """A quarter of a gigabyte of review text, in a gzip of a megabyte, is never held."""
    path = tmp_path / "yelp_academic_dataset_review.json.gz"
    text = "x" * 12_500
    with gzip.open(path, "wt", compresslevel=1) as file:
        for i in range(20_000):
            file.write(f'{{"user_id": "u{i}", "text": "{text}", "business_id": "b", "date": "2018-07-07 22:09:11"}}\n')
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    rows, peak_mib = map(int, done.stdout.split())
    assert rows == 20_000 and peak_mib < 420
