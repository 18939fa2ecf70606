"""One Ray for all tests of a session: four processors and one GPU that is only pretended."""

import os
import tempfile
from collections.abc import Iterator

import pytest

from harness.ray_cluster import QUIET, STORE_BYTES


@pytest.fixture(scope="session")
def one_ray() -> Iterator[None]:
    os.environ.update(QUIET)
    import ray

    with tempfile.TemporaryDirectory(prefix="btsr-ray-", ignore_cleanup_errors=True) as folder:
        ray.init(
            num_cpus=4,
            num_gpus=1,
            include_dashboard=False,
            logging_level="ERROR",
            log_to_driver=False,
            object_store_memory=STORE_BYTES,
            _temp_dir=folder,
        )
        yield
        ray.shutdown()
