"""SHA-256 of raw files, remembered for the large ones: every start of every process asks for it."""

import hashlib
import json
from pathlib import Path

from harness.data.archives import damage

REMEMBERED_BYTES = 32 << 20
"""From this size on a sum is kept."""


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits. Raises DataError for a file that cannot be read."""
    with damage(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered_sha256(path: Path, folder: Path) -> str:
    """The same, from a note in `folder` if the file has the size, time and place that it had then.

    Where `folder` cannot be written the sum is computed each time.
    """
    with damage(path):
        state = path.stat()
    if state.st_size < REMEMBERED_BYTES:
        return sha256(path)
    place = str(path.absolute())
    known: dict[str, str | int] = {
        "path": place,
        "bytes": state.st_size,
        "changed": state.st_mtime_ns,
        "inode": state.st_ino,
    }
    note = folder / f".digest-{hashlib.sha256(place.encode()).hexdigest()[:16]}.json"
    try:
        stored = json.loads(note.read_text(encoding="utf-8"))
        if {name: stored[name] for name in known} == known:
            return str(stored["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        stored = {}
    digest = sha256(path)
    draft = note.with_suffix(f".{state.st_mtime_ns}.partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps({**known, "sha256": digest}), encoding="utf-8")
        draft.replace(note)
    except OSError:
        return digest
    return digest
