"""What the processor could do at most, measured: its multiply-adds a second, and what an epoch needs of them."""

import ctypes
import json
import os
import shlex
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from models.config import Precision
from models.kernels.build import HOME, KernelUnavailable, load
from tests.bench.job import Job

ROUNDS = 4_000_000
TRIES = 7
DIM, BLOCKS = 64, 2
"""Of the common task."""


def peak_rates() -> dict[Precision, float]:
    """Operations a second on all cores, a multiply-add being two, by precision; empty without kernels.

    The best of some tries: what else runs can only lower it.
    """
    try:
        flags = load().variant.flags  # which asks the system for AMX where that is used
    except KernelUnavailable:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "peak.so"
        source = Path(__file__).with_name("peak.cpp")
        words = ["-O3", "-shared", "-fPIC", *flags, f"-I{HOME}", str(source), "-o", str(library)]
        try:
            subprocess.run([*shlex.split(os.environ.get("CXX", "c++")), *words], check=True, capture_output=True)
        except (OSError, ValueError, subprocess.CalledProcessError):  # ValueError: an open quotation
            return {}
        handle = ctypes.CDLL(str(library))
    handle.round_operations.restype = ctypes.c_long
    handle.rounds.restype = ctypes.c_double
    handle.rounds.argtypes = [ctypes.c_int, ctypes.c_long]
    found: dict[Precision, float] = {}
    names: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in names:
        bf16 = int(precision == "bf16")
        if operations := handle.round_operations(bf16):
            seconds = min(_seconds(handle, bf16) for _ in range(TRIES))
            found[precision] = operations * ROUNDS * (os.cpu_count() or 1) / seconds
    return found


def best_rates(path: Path, processor: str) -> dict[Precision, float]:
    """The highest rates that were measured so far on this processor, now or for an earlier report; kept at `path`."""
    kept = json.loads(path.read_text()) if path.is_file() else {}
    best: dict[Precision, float] = kept.get(processor, {})
    best |= {name: max(rate, best.get(name, 0.0)) for name, rate in peak_rates().items()}
    path.write_text(json.dumps(kept | {processor: best}))
    return best


def _seconds(handle: ctypes.CDLL, bf16: int) -> float:
    """All cores at once."""
    threads = [threading.Thread(target=handle.rounds, args=(bf16, ROUNDS)) for _ in range(os.cpu_count() or 1)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun


def products(job: Job, targets: int) -> float | None:
    """Operations of the matrix products of an epoch with so many targets; None where its data are gone.

    Three products with the item table for every target, six maps in each block for every token, forward and twice
    backward; with Barlow Twins a second pass of the encoder, whose last block needs one token a sequence. Attention,
    exponentials, normalisation, dropout and the optimiser come on top.
    """
    path = Path(job.data) / "n_items.npy"
    if not path.is_file():
        return None
    encoder = BLOCKS * 6 * DIM**2 * 6
    passes = 1.0 if job.loss == "ce" else 1 + (1 + 1 / 3) / BLOCKS  # keys and values are two of six maps
    return targets * (6 * DIM * int(np.load(path)) + encoder * passes)
