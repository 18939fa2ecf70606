"""`btsr-data`: what it prints, and that a mistake is one line and exit code 2."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.data.catalogue import DATASETS
from harness.data.cli import main


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Exit code of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["btsr-data", *words])
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, and no BTSR_DATA."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BTSR_DATA", raising=False)
    return tmp_path


def test_list(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "ml-1m.csv").touch()
    assert run(monkeypatch, "list") == 0
    text = capsys.readouterr().out
    assert all(key in text for key in DATASETS)
    assert "MovieLens 1M: ml-1m.csv" in text and "Amazon Beauty: missing" in text and "embedded" in text
    assert "stand-in" in text


def test_prepare_and_describe(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "prepare", "--dataset", "synthetic,synthetic", "--out", "o") == 0
    text = capsys.readouterr().out
    assert text.count("381ddd2f6f95") == 1 and "2,762" in text
    assert len(list((folder / "o" / "prepared").glob("synthetic-*/split.json"))) == 1
    assert run(monkeypatch, "describe", "--dataset", "synthetic", "--out", "o") == 0
    assert "47,739 rows, 3,000 users, 599 items" in capsys.readouterr().out


def test_options_reach_the_split(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "describe", "--dataset", "synthetic", "--filter", "none", "--tie", "random") == 0
    text = capsys.readouterr().out
    assert "after filter (none)" in text and "ties random" in text
    assert run(monkeypatch, "describe", "--dataset", "synthetic", "--filter", "one_pass", "--min-item", "60") == 0
    assert "one_pass, items 60, users 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("describe", "--dataset", "sintetic"), "did you mean 'synthetic'"),
        (("prepare", "--dataset", "all"), "ml-1m.zip"),
        (("prepare", "--dataset", "synthetic,beauty"), "reviews_Beauty_5.json.gz"),
        (("prepare", "--dataset", ","), "names no data set"),
        (("prepare", "--dataset", "synthetic", "--filter", "none", "--min-user", "3"), "--filter none drops nothing"),
        (("prepare", "--dataset", "synthetic", "--min-item", "2000"), "leaves none of 47739 rows"),
        (("prepare", "--dataset", "synthetic", "--out", "file"), "choose another folder by --out"),
    ],
)
def test_mistake_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], part: str
) -> None:
    (folder / "file").touch()
    assert run(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("btsr-data: ") and error.count("\n") == 1 and part in error
    assert not list(folder.rglob("split.json"))


def test_missing_file_is_found_before_anything_is_prepared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "prepare", "--dataset", "synthetic", "--dataset", "ml1m") == 2
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("words", [["--help"], ["list"], ["prepare", "--help"]])
def test_help_and_list_load_nothing_heavy(folder: Path, words: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['btsr-data', *{words!r}]\n"
        "from harness.data.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print(sorted({'torch', 'ray', 'pandas', 'pyarrow', 'scipy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("[]\n")
