"""Checkpoints: a folder per trial, named by its key, from which a killed trial goes on after its last whole epoch.

`last.pt` is replaced atomically after every epoch and deleted when the trial is recorded; `best.pt` stays if wanted.
Both hold tensors, numbers and JSON text, no classes, so that they can be read by `torch.load(weights_only=True)`.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.config import TrialSpec
from harness.errors import StoreError

FORMAT = 3
"""Raised whenever older checkpoints cannot be gone on with."""

SEAL = 64
"""Length of the archive's comment, which is its last field and stands behind its length."""

WAIT_SECONDS = 120.0
"""How long to wait for a process that still holds the trial, such as an orphan of a killed sweep."""

LAST, BEST = "last.pt", "best.pt"


class Checkpoint:
    """The folder of one trial on certain data; a checkpoint of other data or another torch is not gone on with."""

    def __init__(self, folder: Path, spec: TrialSpec, fingerprint: str) -> None:
        import torch

        self.folder = folder / spec.key
        self._spec = spec.canonical_json()
        self._identity = {"format": FORMAT, "key": spec.key, "fingerprint": fingerprint, "torch": torch.__version__}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process off this trial meanwhile; the system lets go when this one dies.

        Raises TimeoutError where another process does not let go, StoreError where the folder cannot be written.
        """
        with _writable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            deadline = time.monotonic() + WAIT_SECONDS
            while not _locked(handle):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"another process still trains the trial in {self.folder}")
                time.sleep(0.05)
            yield
        finally:
            os.close(handle)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace `last.pt`, durably. Raises StoreError where that cannot be, such as on a full disk."""
        self._write(LAST, {"identity": json.dumps(self._identity), "state": dict(state)})

    def load(self, device: Any) -> dict[str, Any] | None:
        """The last state; None where there is none, or one that is torn or of something else, which is deleted."""
        path = self.folder / LAST
        if not path.exists():
            return None
        found = read(path, device)
        state = found.get("state") if found else None
        if not isinstance(state, dict) or _identity_of(found) != self._identity:
            path.unlink()
            return None
        return state

    def keep_best(self, weights: Mapping[str, Any]) -> None:
        """Write `best.pt`: the weights by parameter name and the specification as JSON."""
        self._write(BEST, {"identity": json.dumps(self._identity), "spec": self._spec, "weights": dict(weights)})

    def _write(self, name: str, content: dict[str, Any]) -> None:
        import torch

        buffer = io.BytesIO()
        torch.save(content, buffer)
        fresh = self.folder / f"{name}.new"
        with _writable(self.folder):
            with fresh.open("wb") as file:
                file.write(sealed(buffer.getvalue()))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.folder / name)


def sealed(archive: bytes) -> bytes:
    """The zip archive with the SHA-256 of its bytes as its comment; torch reads it as before."""
    return archive[:-2] + SEAL.to_bytes(2, "little") + _digest(archive)


def _digest(archive: bytes) -> bytes:
    return hashlib.sha256(archive).hexdigest().encode()


def read(path: Path, device: Any) -> dict[str, Any] | None:
    """What was saved there; None where the file is torn, has a flipped bit, or is something else.

    Raises OSError where it cannot be read at all.
    """
    import torch

    content = path.read_bytes()
    archive = content[: -SEAL - 2] + bytes(2)  # without a comment; zip's own checksums leave its directory out
    if sealed(archive) != content:
        return None
    found = torch.load(io.BytesIO(archive), map_location=device, weights_only=True)
    return found if isinstance(found, dict) else None


def _identity_of(found: Mapping[str, Any] | None) -> object:
    """The identity that was saved; None where there is none."""
    with suppress(TypeError, KeyError, ValueError):
        return json.loads((found or {})["identity"])
    return None


def forget(folder: Path, key: str) -> None:
    """Delete the checkpoint of a trial that is recorded; the best weights stay where they were kept."""
    mine = folder / key
    if (mine / BEST).exists():
        for name in (LAST, f"{LAST}.new", f"{BEST}.new", "lock"):
            (mine / name).unlink(missing_ok=True)
    else:
        shutil.rmtree(mine, ignore_errors=True)


def tidy(folder: Path, done: Collection[str]) -> None:
    """Forget the checkpoints of finished trials that a driver left which was killed just after it had recorded them.

    One that a process holds stays: a sweep into another database may share the folder.
    """
    for key in {path.parent.name for path in folder.glob("*/*") if path.name != BEST}.intersection(done):
        with suppress(OSError):
            handle = os.open(folder / key / "lock", os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if _locked(handle):
                    forget(folder, key)
            finally:
                os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"checkpoint {folder} cannot be written ({error.strerror or error}): free or choose another --out, "
            "then give the same command again"
        ) from error
