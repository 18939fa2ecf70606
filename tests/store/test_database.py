"""Where a database may be: SQLite on local disks alone."""

from pathlib import Path

import pytest

from harness.database import file_system
from harness.errors import StoreError
from harness.paths import RunPaths
from harness.store import open_store


class Mounts:
    """The system's table of mounts, replaced by one of our own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch, self._read = monkeypatch, Path.read_text

    def are(self, *lines: str) -> None:
        text = "\n".join(("overlay / overlay rw 0 0", *lines)) + "\n"

        def read_text(path: Path, *args: object, **named: object) -> str:
            return text if path == Path("/proc/self/mounts") else self._read(path, *args, **named)  # type: ignore[arg-type]

        self._patch.setattr(Path, "read_text", read_text)


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> Mounts:
    return Mounts(monkeypatch)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "lustre", "fuse.sshfs", "9p", "ceph", "fuse.s3fs"])
def test_a_network_file_system_is_refused_with_the_remedy(kind: str, mounts: Mounts, tmp_path: Path) -> None:
    mounts.are(f"server:/home {tmp_path} {kind} rw 0 0")
    with pytest.raises(StoreError, match=f"is on a network file system \\({kind}\\).*--db FILE.*--db postgresql://"):
        open_store(tmp_path / "runs" / "btsr.db", create=True)
    assert not list(tmp_path.rglob("btsr.db*"))


def test_reading_there_is_allowed_and_what_is_mounted_deeper_or_later_counts(mounts: Mounts, tmp_path: Path) -> None:
    where = tmp_path / "runs" / "btsr.db"
    open_store(where, create=True).close()
    mounts.are(f"server:/home {tmp_path} nfs4 rw 0 0")
    open_store(where, read_only=True).close()
    mounts.are(f"server:/home {tmp_path} nfs4 rw 0 0", f"/dev/sda1 {where.parent} ext4 rw 0 0")
    open_store(where, create=True).close()
    mounts.are(f"/dev/sda1 {where.parent} ext4 rw 0 0", f"server:/home {where.parent} nfs4 rw 0 0")
    assert file_system(where) == "nfs4"


@pytest.mark.parametrize("name", ["with space", "größer", "back\\slash"])
def test_names_are_read_as_the_kernel_writes_them(name: str, mounts: Mounts, tmp_path: Path) -> None:
    written = str(tmp_path / name).replace("\\", "\\134").replace(" ", "\\040")
    mounts.are(f"server:/home {written} nfs4 rw 0 0")
    assert file_system(tmp_path / name / "btsr.db") == "nfs4"
    assert file_system(tmp_path / "btsr.db") == "overlay"


def test_a_file_is_a_file_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("sqlite:///x/btsr.db", f"sqlite:///{tmp_path}/x/btsr.db"):
        assert RunPaths(database=name).results == tmp_path / "x" / "btsr.db"
    assert RunPaths(database="postgresql://me@host/name").results == "postgresql://me@host/name"
