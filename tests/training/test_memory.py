"""Memory that a step frees is there for the next one."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from models.losses import chunked_cross_entropy
{before}
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
table = torch.randn(12_101, 64, generator=generator, requires_grad=True)
for step in range(40):
    if step == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    rows = 300 + 37 * (7 * step % 11)
    hidden = torch.randn(rows, 64, generator=generator, requires_grad=True)
    targets = torch.randint(12_101, (rows,), generator=generator)
    chunked_cross_entropy(hidden, table, targets, 12_101, precision="bf16").backward()
    table.grad = None
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
KEEP = "from harness.memory import keep_freed_memory; keep_freed_memory()"


def faults(before: str, **variables: str) -> int:
    """Pages that the system hands to twenty steps of the cross-entropy, after twenty others."""
    script = FAULTS.format(before=before)
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    here = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", script], env=here | variables, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_a_step_frees_is_kept_unless_the_user_wants_it_otherwise() -> None:
    # glibc's own thresholds move with what was freed, so that what it gives back by itself differs from run to run.
    fixed = "import ctypes; ctypes.CDLL(None).mallopt(-1, 131072)  # M_TRIM_THRESHOLD"
    given_back = faults(fixed)
    assert faults(f"{fixed}\n{KEEP}") < given_back / 3
    assert faults(KEEP, MALLOC_TRIM_THRESHOLD_="131072") > given_back / 3
