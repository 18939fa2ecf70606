"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from harness.errors import ConfigError
from reports.output import whole, write


def test_a_file_that_cannot_be_finished_leaves_the_former_one(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    path.write_text("before")
    with pytest.raises(OSError, match="full"), whole(path) as part:
        part.write_text("half")
        raise OSError("full")
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    write(path, "after")
    assert path.read_text() == "after" and list(tmp_path.iterdir()) == [path]


def test_a_device_is_written_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/dev/full cannot be written \(No space left on device\): .* --page"):
        write(Path("/dev/full"), "words", "--page")
    with pytest.raises(ConfigError, match=r"cannot be written \(Is a directory\)"):
        write(tmp_path, "words")
