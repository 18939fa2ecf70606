"""Seconds and memory of preparing a SNAP file, in one thread: `python -m tests.data.scale FILE` prints one JSON object.

`python -m tests.data.checkins FILE` makes a file of the official size.
"""

import json
import re
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from harness.config import DataConfig
from harness.data.catalogue import DATASETS
from harness.paths import RunPaths
from harness.prepare import prepare


def peak_kib() -> int:
    """Peak resident memory of this program, from Linux' own note of it.

    `getrusage` would count the process that started this one as well.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])  # type: ignore[index]


def measure(path: Path) -> dict[str, float | str]:
    """Prepare the check-ins at `path` (named as SNAP names them) as Gowalla with the defaults, from nothing."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    assert path.name in {file.name for file in DATASETS["gowalla"].files}
    with tempfile.TemporaryDirectory() as folder:
        begun, cpu = time.perf_counter(), time.process_time()
        split = prepare(DataConfig(dataset="gowalla"), RunPaths(data_dir=path.parent, work_dir=Path(folder)))
        return {
            "rows": split.report["raw_rows"],
            "kept_rows": split.report["rows"],
            "kept_users": split.report["users"],
            "test_users": split.n_test_users,
            "seconds": round(time.perf_counter() - begun, 2),
            "cpu_seconds": round(time.process_time() - cpu, 2),
            "peak_mib": round(peak_kib() / 1024, 1),
            "fingerprint": split.fingerprint,
        }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]).absolute())))
