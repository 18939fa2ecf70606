"""Who runs the trials, and on what: the options of the command line made into an executor, or refused."""

import warnings
from pathlib import Path
from typing import Literal

from harness.environment import check_environment
from harness.errors import ConfigError, StoreError, told
from harness.executors import Executor, processors, unbind
from harness.paths import RunPaths
from harness.ray_cluster import Cluster

DEVICES = ("cpu", "cuda")
"""What torch calls the devices that trials train on. It has no kernels for dropout's binomial draws on mps and xpu."""

GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""What NVIDIA's, AMD's and WSL's drivers make: without any of them torch, which takes a second, need not be asked."""


def device_name(name: str | None, *, gpus: float) -> str:
    """The torch device of the trials: as named, else a GPU where they are given a part of one."""
    if gpus > 1:
        raise ConfigError(f"--gpus-per-trial {gpus:g}: a trial trains on one GPU: use 1, or a share of it such as 0.5")
    chosen = name or ("cuda" if gpus else "cpu")
    if chosen.split(":")[0] not in DEVICES:
        raise ConfigError(
            f"--device {chosen}: use {' or '.join(DEVICES)}, with a number where there are several (cuda:1); on other "
            "devices, such as mps and xpu, torch lacks the random draws of training"
        )
    if gpus and chosen != "cuda":
        raise ConfigError(f"--gpus-per-trial {gpus:g} needs --device cuda, not {chosen}: Ray numbers the GPUs itself")
    return chosen


def check_shared(kind: Literal["ray", "local"], room: Cluster, *, device: str) -> None:
    """Raise ConfigError where nothing says how many trials share a device of which the number of cores says nothing."""
    if device.split(":")[0] == "cpu" or room.gpus or room.workers is not None:
        return
    shares = "--gpus-per-trial 0.25 (or 1), or " if kind == "ray" and device == "cuda" else ""
    raise ConfigError(f"--device {device}: add {shares}--workers N, which says how many trials share it")


def check_device(name: str, *, gpus: float = 0.0) -> None:
    """Raise ConfigError where this machine does not have the device, or no GPU to give trials a share of, or where the
    environment asks for other numbers on it."""
    if name == "cpu":  # which takes no torch
        check_environment(name)
        return
    if gpus and not _gpus():
        raise ConfigError(
            f"--gpus-per-trial {gpus:g}: torch finds no GPU on this machine: drop it to train on the processor, or "
            "install the torch build that fits your driver"
        )
    from harness.device import check_listed

    unbind()
    with warnings.catch_warnings(action="ignore"):
        check_listed(name)


def _gpus() -> int:
    """GPUs of this machine that torch can use; what it says of a driver that does not work is not shown."""
    from harness.device import gpu_count

    unbind()
    with warnings.catch_warnings(action="ignore"):
        return gpu_count()


def idle_gpu(kind: Literal["ray", "local"], room: Cluster, *, device: str | None) -> str | None:
    """What to say where no device was asked for and trials would leave a GPU of this machine alone; else None."""
    if device is not None or room.gpus or room.address is not None or not any(Path(f).exists() for f in GPU_FILES):
        return None
    if not _gpus():
        return None
    how = "--gpus-per-trial 0.25" if kind == "ray" else "--device cuda --workers N"
    return f"training on the processor; this machine has a GPU: add {how}"


def executor_of(kind: Literal["ray", "local"], room: Cluster, *, device: str, needed: bool) -> Executor:
    """Who runs the trials; everything that can be known before a trial starts is checked here.

    A cluster is asked for its room only where it is needed, that is, where anything is to run.

    Raises ConfigError for options that contradict each other, and for more than this machine, or the cluster, has.
    """
    for option, value in (("--gpus-per-trial", room.gpus), ("--ray-address", room.address)):
        if value and kind == "local":
            raise ConfigError(f"{option} is for --executor ray: drop it, or use ray")
    if room.address is None:
        check_device(device, gpus=room.gpus)
        here = processors()
        if room.cpus > here:
            raise ConfigError(f"--cpus-per-trial {room.cpus} is more than the {here} that may be used: ask for less")
    if kind == "ray":
        from harness.ray_executor import RayExecutor

        if room.address is not None and needed:
            room.check()
        return RayExecutor(room)
    from harness.local_executor import LocalExecutor

    return LocalExecutor(at_once(room))


def at_once(room: Cluster) -> int:
    """How many trials a start would run at once: on the cluster, which is asked, or here.

    Where GPUs are to be shared and this machine has none, as one GPU takes. Raises ConfigError for a cluster that does
    not answer, or has no room for a trial.
    """
    if room.address is not None:
        return room.check()
    cpus = processors()
    if not room.gpus:
        return room.workers or room.held_by(cpus, 0)
    fitting = room.held_by(cpus, _gpus() or 1)
    return min(room.workers or fitting, fitting)


def merge_into(paths: RunPaths, other: str) -> str:
    """Copy what another results database has and ours lacks; returns what was done, in words.

    Raises StoreError, and changes nothing, where it is the same, no database of ours, or saw other data.
    """
    from harness.exchange import merge
    from harness.store import open_store

    where, source = paths.results, RunPaths(database=other).results
    if isinstance(where, Path) and isinstance(source, Path) and where.exists() and source.exists():
        if where.samefile(source):
            raise StoreError(f"--merge {other} is the database that it would be merged into: name another one")
    try:
        opened = open_store(other, read_only=True)
    except StoreError as error:
        raise StoreError(told(error, "--merge")) from error
    with opened as theirs, open_store(where, create=True) as ours, ours.driver_lock():
        done, name = merge(ours, theirs), theirs.shown
    words = (
        f"merged {name}: {done.added} finished trials added, {done.known} were here already, "
        f"{done.unfinished} failed or pruned ones added"
    )
    if done.differing:
        keys = ", ".join(key[:8] for key in done.differing[:5])
        words += f"; {len(done.differing)} have other numbers there ({keys}), ours were kept"
    return words
