"""What a measurement depends on besides its job: sources that run, versions that are installed, the processor."""

import ast
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path

from tests.bench.cases import CASES, ENGINE, PROGRAMS
from tests.bench.datasets import ROOT
from tests.bench.job import OVERHEADS, Work

PREPARING = "tests.data.scale"
"""What our driver imports for a preparation, which has no other part in the engine; training has none in this."""
PROFILING = "tests.bench.profiled"
"""What our driver imports for a profile."""
EVALUATING = ("harness.evaluate", "harness.metrics")
"""What our driver imports for evaluations and sweeps; epochs and their profiles have none in them."""
COMMAND = "harness.cli"
"""What `tests.bench.drive_overhead` starts by name."""
ASK = """\
import json, platform, sys
from tests.bench.job import versions
print(json.dumps(versions(sys.argv[1:]) | {"python": platform.python_version()}))
"""


def machine() -> dict[str, str]:
    """Processor, cores, memory and system of this machine."""
    info = Path("/proc/cpuinfo").read_text()
    fields = dict(line.split(":", 1) for line in info.split("\n\n")[0].splitlines() if ":" in line)
    cpu = {name.strip(): value.strip() for name, value in fields.items()}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in cpu.get("flags", "").split()]
    return {
        "processor": cpu.get("model name", platform.machine()),
        "cores": str(os.cpu_count()),
        "instructions": ", ".join(flags),
        "memory": f"{memory:.0f} GiB",
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _file(module: str) -> Path | None:
    """The file of a module of this checkout; None for others."""
    base = ROOT.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@lru_cache
def _imported(path: Path) -> frozenset[str]:
    """Names that a file imports anywhere in it, modules and what is taken from them alike."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def imported_files(roots: Iterable[str], without: Iterable[str] = ()) -> set[Path]:
    """Files of this checkout that these modules are and import, in turn; the kernels' C++ with what builds it."""
    found: set[Path] = set()
    waiting = list(roots)
    gone_through = set(without)
    while waiting:
        name = waiting.pop()
        if name in gone_through:
            continue
        gone_through.add(name)
        if "." in name:
            waiting.append(name.rpartition(".")[0])
        if path := _file(name):
            found.add(path)
            waiting += _imported(path)
            if path == ROOT / "models" / "kernels" / "build.py":
                found |= {source for source in path.parent.iterdir() if source.suffix in {".cpp", ".h"}}
    return found


@lru_cache
def sources(module: str, work: Work) -> list[Path]:
    """Files of this checkout that decide what a driver does in some work, in order."""
    if module == ENGINE and work == "prepare":
        driver = _file(ENGINE)
        assert driver
        return sorted({driver} | imported_files([PREPARING, "tests.bench.job"]))
    roots = [module, *([COMMAND] if work in OVERHEADS else [])]
    without = [PREPARING]
    if work != "profile":
        without.append(PROFILING)
    if work in ("train", "profile"):
        without += EVALUATING
    return sorted(imported_files(roots, without))


class Digests:
    """Names by which a measurement is known to be of the present code, versions and processor."""

    def __init__(self, *, own: Path, peers: Path) -> None:
        """own, peers: the two interpreters; one that is not there has no versions."""
        self.pythons = {"own": own, "peers": peers}

    @cached_property
    def versions(self) -> dict[str, dict[str, str]]:
        """Of the distributions that programs name, by environment; asked of each interpreter once."""
        return {name: dict(self._ask(name)) for name in self.pythons}

    def _ask(self, environment: str) -> Iterator[tuple[str, str]]:
        python = self.pythons[environment]
        names = sorted({n for p in PROGRAMS.values() if p.environment == environment for n in p.distributions})
        if python.is_file():
            variables = os.environ | {"PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                [python, "-c", ASK, *names], env=variables, capture_output=True, text=True, check=True
            )
            yield from json.loads(done.stdout).items()

    def of(self, case: str) -> str:
        """One digest for all programs of a case, since ratios within a round are of measurements made together.

        Where one of them changes, every measurement of the case is out of date.
        """
        digest = hashlib.sha256()
        hardware = machine()
        digest.update(json.dumps([hardware["processor"], hardware["cores"]]).encode())
        for name in CASES[case].programs:
            program = PROGRAMS[name]
            found = self.versions[program.environment]
            installed = {n: found.get(n, "") for n in ("python", *program.distributions)}
            digest.update(json.dumps([name, program.variables, program.precision, installed], sort_keys=True).encode())
            for path in sources(program.module, CASES[case].work):
                digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:12]
