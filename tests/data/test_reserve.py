"""A lock that leaves nothing behind, and still lets one in at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.data.reserve import reserved

COUNT = """
import sys
from pathlib import Path
from harness.data.reserve import reserved
target = Path(sys.argv[1])
for _ in range(int(sys.argv[2])):
    with reserved(target):
        count = int(target.read_text()) if target.exists() else 0
        draft = target.with_name("draft")
        draft.touch(exist_ok=False)
        draft.write_text(str(count + 1))
        draft.replace(target)
"""


def test_one_at_a_time(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "count"
    command = [sys.executable, "-c", COUNT, str(target), "200"]
    running = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(timeout=500) for process in running] == [0] * 4
    assert target.read_text() == "800" and list(target.parent.iterdir()) == [target]


def test_only_what_was_made_and_is_empty_is_removed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="refused"), reserved(tmp_path / "there" / "a" / "b" / "file"):
        assert (tmp_path / "there" / "a" / "b").is_dir()
        raise ValueError("refused")
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]
    with reserved(tmp_path / "there" / "a" / "b" / "file"):
        (tmp_path / "there" / "a" / "kept").touch()
    assert {path.name for path in tmp_path.rglob("*")} == {"there", "a", "kept"}


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), reserved(tmp_path / "file" / "x"):
        pass
    assert (tmp_path / "file").is_file()


@pytest.mark.parametrize("missed", [FileNotFoundError, FileExistsError])
def test_a_folder_that_another_removes_while_it_is_made(
    missed: type[OSError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, left = Path.mkdir, [missed("gone again")] * 3

    def interrupted(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if parents and left:
            raise left.pop()
        make(self, mode, parents, exist_ok)

    monkeypatch.setattr(Path, "mkdir", interrupted)
    with reserved(tmp_path / "a" / "b" / "file"):
        assert (tmp_path / "a" / "b").is_dir() and not left
    assert not list(tmp_path.iterdir())
