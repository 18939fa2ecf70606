"""Where a number comes from: code, versions, machine, memory."""

import platform
import resource
import subprocess
import sys
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("btsr", "torch", "numpy", "pandas", "sqlalchemy", "optuna", "ray", "liger-kernel", "triton")


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can move a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Revision of the checkout that this code runs from and whether it has changes; None outside a checkout."""
    home = Path(__file__).resolve().parent.parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=home, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    top = git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != home:
        return None, None
    status = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD"), None if status is None else bool(status)


def reset_peak_memory() -> None:
    """Start a new measurement of `peak_mib`, where the system allows it (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """Peak resident memory of this process since `reset_peak_memory` (elsewhere: since it began), MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


class EnergyMeter:
    """Joules since it was made: of the GPU by NVML, of the processor packages by RAPL, where they can be read.

    It is the energy of the whole device, whatever else ran on it meanwhile.
    """

    def __init__(self, gpu: str | None = None) -> None:
        """`gpu` is the UUID of a GPU, whose number another process may know it by; None: the processor."""
        self._read = _package_joules if gpu is None else partial(_gpu_joules, gpu)
        self._begin = self._read()

    def total(self, before: float | None) -> float | None:
        """What was used until now, plus `before`; None where it cannot be known."""
        now = self._read()
        if self._begin is None or now is None or before is None:
            return None
        return before + sum((b - a) % wrap for (a, wrap), (b, _) in zip(self._begin, now, strict=True))


Counter = tuple[float, float]
"""A reading in joules, and where it wraps around."""


POWERCAP = Path("/sys/class/powercap")


def _package_joules() -> list[Counter] | None:
    zones = sorted(POWERCAP.glob("intel-rapl:[0-9]*"))
    try:
        read = [
            tuple(int((zone / name).read_text()) / 1e6 for name in ("energy_uj", "max_energy_range_uj"))
            for zone in zones
            if zone.name.count(":") == 1
        ]
    except (OSError, ValueError):
        return None
    return [(now, wrap) for now, wrap in read] or None


def _gpu_joules(gpu: str) -> list[Counter] | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(gpu)
        return [(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, float("inf"))]
    except pynvml.NVMLError:
        return None
