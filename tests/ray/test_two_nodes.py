"""A cluster of two nodes on this machine, one of which is removed in the middle of a sweep."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.sweep import work

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NODES = """
import sys, time
from pathlib import Path

from rich.console import Console

from harness.config import SEEDS, StudyOptions
from harness.paths import RunPaths
from harness.executors import RunContext
from harness.options import SweepOptions
from harness.ray_cluster import QUIET, STORE_BYTES
from harness.ray_executor import RayExecutor
from harness.ray_cluster import Cluster as Ours
from harness.sweep import run_study
from studies import STUDIES
from tests.sweep import work
import os, threading

os.environ.update(QUIET)
import ray
from ray.cluster_utils import Cluster

out = Path(sys.argv[1])
size = {"object_store_memory": STORE_BYTES}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1} | size)
second = cluster.add_node(num_cpus=1, **size)
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
assert len([node for node in ray.nodes() if node["Alive"]]) == 2
removed = threading.Event()

def remove_later():
    while len({pid for _, _, pid in work.log_lines(out)}) < 2 or len(work.log_lines(out)) < 5:
        time.sleep(0.05)
    cluster.remove_node(second, allow_graceful=False)
    removed.set()

threading.Thread(target=remove_later, daemon=True).start()
study = STUDIES["smoke"](StudyOptions(datasets=("synthetic",), seeds=SEEDS[:2]))
after = run_study(
    study, RayExecutor(Ours(), work.lasting_and_logged), RunContext(paths=RunPaths(work_dir=out)),
    console=Console(stderr=True), quiet=True, options=SweepOptions(max_failures=5),
)
assert removed.is_set(), "the node was still there at the end"
assert len([node for node in ray.nodes() if node["Alive"]]) == 1
assert after.complete
print("complete", after.done)
ray.shutdown()
cluster.shutdown()
"""


def test_a_node_that_goes_costs_its_trials_an_attempt_only(tmp_path: Path) -> None:
    from tests.sweep.test_exactly_once import rows

    with tempfile.TemporaryDirectory(prefix="btsr-two-", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "ray").mkdir()
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", NODES, str(tmp_path)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "RAY_TMPDIR": folder},
            capture_output=True,
            text=True,
            timeout=900,
        )
    assert ended.returncode == 0 and "complete 10" in ended.stdout, ended.stderr[-3000:]
    assert rows(tmp_path, "SELECT status, COUNT(*) FROM trial GROUP BY 1") == [("done", 10)]
    ends = [key for word, key, _ in work.log_lines(tmp_path) if word == "end"]
    assert len(set(ends)) == 10 and len(ends) <= 11, "a trial ran to its end again, beyond the one in flight"
    attempts = [attempt for (attempt,) in rows(tmp_path, "SELECT attempt FROM trial WHERE attempt > 1")]
    assert attempts == [2], "the node had one trial, which was tried once more"
    assert rows(tmp_path, "SELECT COUNT(*) FROM trials WHERE state IN ('RUNNING', 'WAITING')") == [(0,)]
    assert rows(tmp_path, "SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'") == [(10,)]
