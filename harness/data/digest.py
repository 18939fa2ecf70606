"""SHA-256 of raw files, remembered for the large ones: every start of every process asks for it."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.data.archives import damage

REMEMBERED_BYTES = 32 << 20
"""From this size on a sum is kept."""


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits. Raises DataError for a file that cannot be read."""
    with damage(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """The sum of a file as it was at one moment."""

    sha256: str
    note: Path
    """Where it is written down."""
    state: Mapping[str, str | int]
    """Place, size, time and number of the file then."""
    kept: bool
    """Whether it is written down already, or need not be."""


def remembered_sha256(path: Path, folder: Path) -> Digest:
    """The same, from a note in `folder` if the file has the size, time and place that it had then; writes nothing."""
    with damage(path):
        found = path.stat()
    place = str(path.absolute())
    note = folder / f".digest-{hashlib.sha256(place.encode()).hexdigest()[:16]}.json"
    state: dict[str, str | int] = {
        "path": place,
        "bytes": found.st_size,
        "changed": found.st_mtime_ns,
        "inode": found.st_ino,
    }
    small = found.st_size < REMEMBERED_BYTES
    stored = {} if small else _read(note)
    if "sha256" in stored and all(stored.get(name) == value for name, value in state.items()):
        return Digest(sha256=str(stored["sha256"]), note=note, state=state, kept=True)
    return Digest(sha256=sha256(path), note=note, state=state, kept=small)


def remember(digest: Digest) -> None:
    """Write a sum down for the next time; where that cannot be, it is computed again then."""
    if digest.kept:
        return
    draft = digest.note.with_suffix(f".{digest.state['changed']}.partial")
    with suppress(OSError):
        draft.write_text(json.dumps({**digest.state, "sha256": digest.sha256}), encoding="utf-8")
        draft.replace(digest.note)


def _read(note: Path) -> dict[str, object]:
    """What a note says; nothing where it is missing or torn."""
    try:
        stored = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}
