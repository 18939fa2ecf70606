"""A connection to Ray: a quiet one of our own on this machine, or a cluster that is there already."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from harness.config import NUMERICS
from harness.errors import ConfigError, ExecutorError, ShadowedPackageError
from harness.executors import processors

CONNECT_SECONDS = 10.0
"""How long a cluster may take to answer at all."""

ANSWER_SECONDS = 30.0
"""How long it may take to say that it is one."""

WATCH_SECONDS = 2.0
"""How often to look whether Ray still lives on the driver's node."""

NODE_SECONDS = 300.0
"""How long a node may take to start its first worker."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_THRESHOLD_S": "1000",
}
"""Environment of Ray, where the user has not set it: no statistics, no files nobody reads, Ctrl-C is ours."""

LONGEST_ROOT = 17
"""Bytes in the path of the folder that ours is made in: a socket's has 103 at most on macOS (107 on Linux), and Ray's
names below take 86."""

STORE_BYTES = 80 * 2**20
"""Of Ray's object store on this machine, which carries nothing but results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Which Ray, how many trials at once, and what each of them takes."""

    address: str | None = None
    """Of a cluster; None: a Ray of our own on this machine, started and stopped by `connected`."""
    workers: int | None = None
    """Trials at once; None: as many as there is room for."""
    cpus: int = 1
    """Of each trial."""
    gpus: float = 0.0
    """Of each trial: a share of one, 1 at most."""

    def room(self) -> int:
        """How many trials fit at once. Raises ConfigError where not even one does."""
        import ray

        return self._fitting(ray.cluster_resources())

    def _fitting(self, there: Mapping[str, float]) -> int:
        cpus, gpus = there.get("CPU", 0.0), there.get("GPU", 0.0)
        if self.gpus > gpus:
            raise ConfigError(
                f"--gpus-per-trial {self.gpus:g} is more than the {gpus:g} GPUs that Ray finds: ask for less, "
                "such as 0.25 to let four trials share one, or drop it to train on the processor"
            )
        if self.cpus > cpus:
            raise ConfigError(f"--cpus-per-trial {self.cpus} is more than the {cpus:g} that Ray finds: ask for less")
        fitting = self.held_by(cpus, gpus)
        return min(self.workers or fitting, fitting)

    def held_by(self, cpus: float, gpus: float) -> int:
        """How many trials these processors and GPUs take at once; at least one."""
        by_gpu = int(1 / self.gpus) * int(gpus) if self.gpus else cpus
        return max(1, int(min(cpus // self.cpus, by_gpu)))

    @contextmanager
    def connected(self, folder: Path) -> Iterator[None]:
        """A connection to Ray; one that is there already is used and left alone. Our own one keeps to `folder`.

        Raises ConfigError where there is none, or a node cannot run trials, ShadowedPackageError as `_check_nodes`.
        """
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        import ray

        if ray.is_initialized():
            _check_nodes()
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        handlers = {number: signal.getsignal(number) for number in numbers}
        here = Path.cwd()
        os.chdir(folder)  # Ray puts the driver's folder in front of the workers' path: one that holds no packages
        try:
            self._connect(folder)
        finally:
            os.chdir(here)
            for number, handler in handlers.items():
                signal.signal(number, handler)
        try:
            _check_nodes()
            yield
        finally:
            ray.shutdown()

    def check(self) -> int:
        """Ask the cluster of `address` how many trials fit at once.

        Raises ConfigError as `room` does, and where no Ray answers there in some seconds.
        """
        assert self.address is not None
        check_address(self.address)
        use_token()
        return self._fitting(_resources(self.address))

    def _connect(self, folder: Path) -> None:
        import ray

        common: dict[str, Any] = {"include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
        if self.address is None:
            cpus = (self.workers or max(1, processors() // self.cpus)) * self.cpus
            try:
                with _few_processes():
                    ray.init(
                        address="local",  # whatever RAY_ADDRESS says: a cluster is used where it is asked for
                        num_cpus=cpus,
                        object_store_memory=STORE_BYTES,
                        _temp_dir=str(folder),
                        **common,
                    )
            except Exception as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise ExecutorError(
                    f"Ray did not start on this machine ({reason}): give the same command again when less else runs "
                    "here, or add --executor local"
                ) from error
            return
        check_address(self.address)
        use_token()
        try:
            del common["include_dashboard"]
            ray.init(address=self.address, **common)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(f"--ray-address {self.address}: no Ray cluster answers there ({reason})") from error


class Watch:
    """Looks after the node that the driver is connected to: without it nothing of Ray's says a word any more."""

    def __init__(self) -> None:
        import ray

        self._node = ray.get_runtime_context().get_node_id()
        self._next = time.monotonic() + WATCH_SECONDS

    def lost(self) -> ExecutorError | None:
        """The error where the node is dead; looks every few seconds only."""
        if time.monotonic() < self._next:
            return None
        self._next = time.monotonic() + WATCH_SECONDS
        import ray

        if any(node["Alive"] and node["NodeID"] == self._node for node in ray.nodes()):
            return None
        return ExecutorError(
            "Ray has ended on the driver's node (its raylet was killed or crashed): what is done is kept, "
            "give the same command again to go on"
        )


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder for Ray's sockets and logs, whose path is short enough for them; removed at the end.

    In /tmp where the usual place, such as a batch job's own, has too long a name. Those of drivers that were killed are
    removed too.
    """
    root = Path(tempfile.gettempdir())
    if len(os.fsencode(root)) > LONGEST_ROOT and os.access("/tmp", os.W_OK):
        root = Path("/tmp")
    for old in root.glob("btsr-[0-9]*-*"):
        with suppress(FileNotFoundError):  # its own driver has removed it meanwhile, or another one that starts
            if not _lives(old.name.split("-")[1]) and time.time() - old.stat().st_mtime > 3600:
                shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"btsr-{os.getpid()}-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _lives(process: str) -> bool:
    """Whether there is a process of this number; taken for granted where it is none."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError, ValueError):
        return True
    return True


@contextmanager
def silent_loggers() -> Iterator[None]:
    """Whatever Ray complains of reaches the driver as the failure of a trial."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.train", "ray.data")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def check_address(address: str) -> None:
    """Raise ConfigError, within seconds, for an address where nothing listens."""
    if address in {"auto", "local"}:
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise ConfigError(
            f"--ray-address {address} is not HOST:PORT: name the head node's, such as 10.0.0.1:6379, or auto"
        )
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, UnicodeError, OverflowError) as error:  # a name that cannot be one, a port beyond all ports
        raise ConfigError(
            f"--ray-address {address}: nothing answers there ({getattr(error, 'strerror', None) or error}): check that "
            "`ray start --head` runs, the port and the firewall"
        ) from error


def _resources(address: str) -> Mapping[str, float]:
    """What a cluster has, asked by a process of its own: where something listens that is no Ray, `ray.init` would try
    for ever. Raises ConfigError there."""
    code = (
        "import json, ray, sys; ray.init(sys.argv[1], logging_level='ERROR', log_to_driver=False); "
        "there = ray.cluster_resources(); ray.shutdown(); print(json.dumps(there))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, address], capture_output=True, text=True, timeout=ANSWER_SECONDS
        )
    except subprocess.TimeoutExpired:
        reason = f"no answer in {ANSWER_SECONDS:.0f} s"
    else:
        if done.returncode == 0:
            found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
            return found
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise ConfigError(
        f"--ray-address {address}: no Ray cluster answers there ({reason}); one that asks for a token finds it in "
        "RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN"
    )


@contextmanager
def _few_processes() -> Iterator[None]:
    """Our own Ray without an autoscaler and a log monitor, as `ray start --no-monitor --include-log-monitor=False`.

    `ray.init` has no option for it. One machine has nothing to scale, and nobody reads the logs; starting both and
    stopping the first takes more than a second. A Ray that names them otherwise starts them.
    """
    node: Any = getattr(sys.modules.get("ray._private.node"), "Node", None)
    kept = {name: getattr(node, name) for name in ("start_monitor", "start_log_monitor") if hasattr(node, name)}
    for name in kept:
        setattr(node, name, lambda self: None)
    try:
        yield
    finally:
        for name, start in kept.items():
            setattr(node, name, start)


def use_token() -> None:
    """Where this user has a token, show it to the cluster: `ray start` asks for one, and Ray shows none by itself."""
    kept = Path.home() / ".ray" / "auth_token"
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH") or kept.is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _self_description() -> tuple[str, int]:
    """What a worker imports: the home of our packages, and the version of the numbers they make."""
    import harness
    import harness.config

    return str(Path(harness.__file__).resolve().parent.parent), harness.config.NUMERICS


def _check_nodes() -> None:
    """Start a worker on every node and ask what it imports; meanwhile import Tune, which takes as long.

    Raises ShadowedPackageError where another package hides ours there, ConfigError for another version of btsr.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0)(_self_description)
    asked = []
    for node in ray.nodes():
        if node["Alive"]:
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked.append((node["NodeManagerHostname"], ask.options(scheduling_strategy=strategy).remote()))
    import_module("ray.tune")
    for name, answer in asked:
        try:
            _, numerics = ray.get(answer, timeout=NODE_SECONDS)
        except ray.exceptions.GetTimeoutError as error:
            raise ConfigError(
                f"node {name} has started no worker in {NODE_SECONDS:.0f} s: look at what else runs there"
            ) from error
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            shadowed = [line for line in lines if "ShadowedPackageError: " in line]
            if shadowed:
                reason = shadowed[-1].rpartition("ShadowedPackageError: ")[2]
                raise ShadowedPackageError(f"on node {name}: {reason}") from error
            raise ConfigError(f"node {name} cannot run trials ({lines[-1]}): install this btsr there") from error
        if numerics != NUMERICS:
            raise ConfigError(f"node {name} has a btsr of other numbers ({numerics}, here {NUMERICS}): update it")
