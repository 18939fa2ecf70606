"""Compiles the kernels for this processor once per machine and loads them.

The library is kept in the user's cache (``BTSR_CACHE``, else ``$XDG_CACHE_HOME/btsr``, else ``~/.cache/btsr``) under a
name made of the sources, the flags, the versions of torch, the C library and the compiler, and the instruction set.
Beside it stands a record of its hash, without which it is built anew: loading a short file would end the process.
Processes that want it at the same time wait for one of them to build it; where there is no compiler, a build of the
same by any other compiler will do. Where it cannot be had, `load` says why and nothing else changes.
"""

import ctypes
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from models.config import Precision
from models.kernels.switch import switched_off

HOME = Path(__file__).resolve().parent
NAME = "btsr_kernels"
SOURCES = (
    *("attention.cpp", "binary_cross_entropy.cpp", "buckets.cpp", "cross_entropy.cpp"),
    *("feed_forward.cpp", "norm_linear.cpp", "ready.cpp"),
    *("amx.h", "rows.h", "shares.h", "softmax.h", "tile.h"),
)
FLAGS = ("-O3", "-fopenmp")
ANSWER_SECONDS = 60.0
"""How long a compiler may take to tell its version."""
WAIT_SECONDS = 300.0
"""How long to wait for another process that builds."""
RETRY_SECONDS = 600.0
"""How long what did not compile in one process is not tried again in another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One instruction set to compile for."""

    name: str
    needs: tuple[str, ...]
    """What `torch.cpu.get_capabilities` must report."""
    flags: tuple[str, ...]
    width: int
    """Float32 numbers in a vector."""
    bf16: bool
    """Whether the build has products of bfloat16 numbers."""
    vectors: str | None = None
    """Which variant's code multiplies float32 numbers, where it is another's."""

    def instructions(self, precision: Precision) -> str:
        """What names the code that computes in this precision, for provenance."""
        return self.name if precision == "bf16" else self.vectors or self.name


_AVX512 = ("avx512_f", "avx512_bw", "avx512_dq", "avx512_vl", "fma3")
_AVX512_FLAGS = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma")
_BF16 = (*_AVX512, "avx512_bf16")
_BF16_FLAGS = (*_AVX512_FLAGS, "-mavx512bf16")
AMX = "amxbf16"
VARIANTS = (
    Variant(
        name=AMX,
        needs=(*_BF16, "amx_tile", "amx_bf16"),
        flags=(*_BF16_FLAGS, "-mamx-tile", "-mamx-bf16"),
        width=16,
        bf16=True,
        vectors="avx512bf16",
    ),
    Variant(name="avx512bf16", needs=_BF16, flags=_BF16_FLAGS, width=16, bf16=True),
    Variant(name="avx512", needs=_AVX512, flags=_AVX512_FLAGS, width=16, bf16=False),
    Variant(name="avx2", needs=("avx2", "fma3"), flags=("-mavx2", "-mfma"), width=8, bf16=False),
)
"""Best first."""


class KernelUnavailable(Exception):
    """The kernels cannot be used here; the message says why."""


class VariantUnavailable(KernelUnavailable):
    """One variant cannot be had from this compiler, assembler or system; a lesser one may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """The loaded kernels."""

    variant: Variant
    handle: ctypes.CDLL
    missed: str | None = None
    """Why it is not the processor's best variant."""


def cache_folder() -> Path:
    """Where built kernels are kept. Raises KernelUnavailable where the user has no home folder."""
    if named := os.environ.get("BTSR_CACHE"):
        return Path(named) / "kernels"
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "btsr" / "kernels"
    except RuntimeError as error:
        raise KernelUnavailable("no home folder to keep built kernels in: set BTSR_CACHE") from error


def fitting() -> tuple[Variant, ...]:
    """The variants that this processor can run, best first. Raises KernelUnavailable where there is none."""
    has = torch.cpu.get_capabilities()
    fit = tuple(variant for variant in VARIANTS if all(has.get(name) for name in variant.needs))
    if not fit:
        raise KernelUnavailable(f"no kernel for this processor ({platform.machine()} without AVX2 and FMA)")
    return fit


def _compiler() -> str:
    """What identifies the C++ compiler. Raises KernelUnavailable where there is none that answers."""
    named = os.environ.get("CXX", "c++")
    try:
        words = shlex.split(named)
        path = shutil.which(words[0]) if words else None
        if path is None:
            raise KernelUnavailable(f"no C++ compiler: {named or 'the empty CXX'} is not on the path")
        asked = [path, *words[1:], "--version"]
        done = subprocess.run(asked, capture_output=True, text=True, errors="replace", timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise KernelUnavailable(f"the C++ compiler {named} does not tell its version") from error
    except (OSError, ValueError) as error:  # such as no program, or an open quotation
        raise KernelUnavailable(f"the C++ compiler {named} cannot be run: {error}") from error
    if done.returncode:  # such as of a wrapper without its compiler
        cause = done.stderr.strip().partition("\n")[0] or f"exit code {done.returncode}"
        raise KernelUnavailable(f"the C++ compiler {named} does not tell its version: {cause}")
    return f"{shlex.join(asked[:-1])} {done.stdout.partition(chr(10))[0]}"


def _stem(variant: Variant) -> str:
    """The name of all builds of the same code for the same libraries, whatever the compiler."""
    state = hashlib.sha256()
    for part in (torch.__version__, *platform.libc_ver(), variant.name, *FLAGS, *variant.flags):
        state.update(part.encode() + b"\0")
    for name in SOURCES:
        state.update((HOME / name).read_bytes() + b"\0")
    return f"{variant.name}-{state.hexdigest()[:16]}"


def key_of(variant: Variant, compiler: str) -> str:
    """The name of a build: it changes with everything that can change its code."""
    return f"{_stem(variant)}-{hashlib.sha256(compiler.encode()).hexdigest()[:8]}"


def _sha256(library: Path) -> str:
    with library.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_record(library: Path, record: dict[str, str]) -> None:
    path = library.with_suffix(".json")
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record))
    os.replace(part, path)


def _whole(library: Path) -> bool:
    """Whether a library is there as it was built."""
    return library.is_file() and _record(library).get("sha256") == _sha256(library)


def _record(library: Path) -> dict[str, str]:
    """What stands beside a library, or beside the place of one that was not built; empty where nothing does."""
    try:
        record = json.loads(library.with_suffix(".json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _to_build(library: Path) -> bool:
    """Whether a library is wanting. Raises VariantUnavailable where a process has just failed to build it."""
    if _whole(library):
        return False
    if failed := _record(library).get("failed"):
        path = library.with_suffix(".json")
        if abs(time.time() - path.stat().st_mtime) < RETRY_SECONDS:
            again = f"not tried again for {RETRY_SECONDS / 60:.0f} minutes, unless you delete {path}"
            raise VariantUnavailable(f"{failed} ({again})")
    return True


def _compile(variant: Variant, target: Path) -> None:
    """Build into `target` and write its record, or only the record of why not. Raises VariantUnavailable.

    A process of its own runs torch's extension loader, so that neither its imports nor its settings stay behind.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": path}
    with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as folder:
        if len(words := shlex.split(os.environ.get("CXX", "c++"))) > 1:  # torch takes them for the name of one program
            compiler = Path(folder) / "c++"
            compiler.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
            compiler.chmod(0o755)
            environment |= {"CXX": str(compiler), "TORCH_NO_COMPILER_WRAPPER": "1"}
        task = {
            "name": NAME,
            "sources": [str(HOME / name) for name in SOURCES if name.endswith(".cpp")],
            "extra_cflags": [*FLAGS, *variant.flags],
            "extra_ldflags": ["-fopenmp"],
            "build_directory": folder,
            "is_python_module": False,
            "with_cuda": False,
        }
        code = "import json, sys; from torch.utils.cpp_extension import load; load(**json.load(sys.stdin))"
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(task),
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=WAIT_SECONDS,
        )
        built = Path(folder) / f"{NAME}.so"
        if done.returncode or not built.is_file():
            lines = (done.stderr + done.stdout).strip().splitlines() or ["no message"]
            cause = next((line for line in lines if re.search(r"\b[Ee]rror:", line)), lines[-1])
            failed = f"the kernels do not build here: {cause.strip()}"
            _write_record(target, {"failed": failed})
            raise VariantUnavailable(failed)
        os.replace(built, target)
        _write_record(target, {"sha256": _sha256(target)})


def _knows(variant: Variant) -> bool:
    """Whether the compiler knows the flags of a variant: a look at them, so that no process builds in vain."""
    words = [*shlex.split(os.environ.get("CXX", "c++")), *variant.flags, "-E", "-x", "c++", os.devnull]
    try:
        done = subprocess.run(words, capture_output=True, timeout=ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _built(variant: Variant, compiler: str | KernelUnavailable, folder: Path) -> Path:
    """The library in the cache, built if need be. Raises KernelUnavailable, OSError, or what takes too long."""
    if isinstance(compiler, KernelUnavailable):
        for kept in sorted(folder.glob(f"{_stem(variant)}-*.so")):
            if _whole(kept):
                return kept
        raise VariantUnavailable(str(compiler)) from compiler
    target = folder / f"{key_of(variant, compiler)}.so"
    if _to_build(target):
        if not _knows(variant):
            raise VariantUnavailable(f"the C++ compiler does not know the flags of {variant.name}")
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock"), timeout=WAIT_SECONDS):
            if _to_build(target):
                _compile(variant, target)
    return target


def _load(variant: Variant, compiler: str | KernelUnavailable, folder: Path) -> ctypes.CDLL:
    """Raises KernelUnavailable."""
    try:
        handle = ctypes.CDLL(str(_built(variant, compiler, folder)))
    except (Timeout, subprocess.TimeoutExpired) as error:
        raise KernelUnavailable(f"building the kernels takes more than {WAIT_SECONDS:.0f} s") from error
    except (OSError, NotImplementedError) as error:  # the latter where a file system has no locks
        raise VariantUnavailable(f"cannot keep or load built kernels in {folder}: {error}") from error
    if not handle.ready():
        raise VariantUnavailable(f"the system does not let this process run the {variant.name} kernels")
    return handle


def _obtain(folder: Path) -> Library:
    """The best variant that processor, compiler and system have. Raises KernelUnavailable."""
    variants = fitting()
    compiler: str | KernelUnavailable
    try:
        compiler = _compiler()
    except KernelUnavailable as none:
        compiler = none
    missed: VariantUnavailable | None = None
    for variant in variants:
        try:
            handle = _load(variant, compiler, folder)
        except VariantUnavailable as unavailable:
            missed = missed or unavailable
        else:
            return Library(variant=variant, handle=handle, missed=None if missed is None else str(missed))
    assert missed is not None
    raise missed


@cache
def _outcome(folder: Path) -> Library | KernelUnavailable:
    """The library or why there is none: a process tries once."""
    try:
        return _obtain(folder)
    except KernelUnavailable as missing:
        return missing


def check_wanted() -> None:
    """Raises KernelUnavailable where they are `switched_off`, ValueError as it does."""
    if switched_off():
        raise KernelUnavailable("switched off by BTSR_KERNELS=off")


def load() -> Library:
    """The kernels for this processor, built if they are not in the cache. Raises KernelUnavailable.

    ``BTSR_KERNELS=off`` switches them off. Raises ValueError for any other value than off or auto.
    """
    check_wanted()
    outcome = _outcome(cache_folder())
    if isinstance(outcome, KernelUnavailable):
        raise KernelUnavailable(str(outcome))
    return outcome


def variant_for(*tensors: torch.Tensor) -> Variant | None:
    """The kernels' variant where they can take these tensors: float32 on the processor, not empty; else None."""
    if any(t.device.type != "cpu" or t.dtype != torch.float32 or t.numel() == 0 for t in tensors):
        return None
    try:
        return load().variant
    except KernelUnavailable:
        return None
