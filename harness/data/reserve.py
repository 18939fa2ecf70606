"""A place on disk for what is being made: its lock, its folder, and nothing of both when nothing came of it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

_TRIES = 20


@contextmanager
def reserved(target: Path) -> Iterator[None]:
    """Hold the lock of `target`, in its folder, which is made where it is missing.

    Afterwards the lock is gone, and so are the folders that were made for it and are still empty. Raises OSError where
    the folder cannot be made or written.
    """
    made = [folder for folder in target.parents if not folder.exists()]
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    _acquire(lock, target.parent)
    try:
        yield
    finally:
        with suppress(OSError):
            # While it is held: whoever waits for it finds that it has no name any more, and takes a new one.
            Path(lock.lock_file).unlink()
        lock.release()
        with suppress(OSError):
            for folder in made:
                folder.rmdir()


def _acquire(lock: FileLock, folder: Path) -> None:
    """Wait for the lock; another process may remove the folder, which it has made and found empty, at any moment."""
    for left in reversed(range(_TRIES)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            return
        except (FileNotFoundError, FileExistsError):
            # It was removed below mkdir, which then misses a parent or what it has just found to exist.
            if not left:
                raise
