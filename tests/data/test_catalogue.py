"""Where raw files are looked for, and what is said when they are not there."""

from pathlib import Path

import pytest

from harness.config import PAPER_DATASETS
from harness.data.catalogue import DATASETS, data_folder, dataset, locate
from harness.data.readers import READERS, TABLE_READERS
from harness.errors import ConfigError, DataError


def test_every_entry_is_complete() -> None:
    assert set(PAPER_DATASETS) <= set(DATASETS)
    for key, spec in DATASETS.items():
        assert spec.key == key and spec.title and spec.licence
        assert spec.embedded or spec.url.startswith("https://")
        assert len({file.name for file in spec.files}) == len(spec.files)
        assert all(file.reader in READERS or file.reader in TABLE_READERS for file in spec.files)


def test_the_stand_in_is_called_one() -> None:
    assert "stand-in" in DATASETS["kindle_store"].note


def test_unknown_key_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown data set 'ml-1m': did you mean 'ml1m'"):
        dataset("ml-1m")


def test_official_names_come_first(tmp_path: Path) -> None:
    spec = dataset("ml1m")
    for name in ("ml-1m.csv", "ml-1m.parquet", "ratings.dat", "ml-1m/ratings.dat", "ml-1m.zip"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert locate(spec, tmp_path) == path
        assert spec.raw_file(path).name == name


def test_missing_file_names_folder_files_source_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        locate(dataset("ml1m"), tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    for part in (str(tmp_path), "ml-1m.zip", "ml-1m/ratings.dat", "files.grouplens.org", "BTSR_DATA", "--data-dir"):
        assert part in text


def test_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder as"):
        locate(dataset("beauty"), tmp_path / "nowhere")


def test_data_folder_is_argument_then_environment_then_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTSR_DATA", "/from/environment")
    assert data_folder(Path("/told")) == Path("/told")
    assert data_folder(None) == Path("/from/environment")
    monkeypatch.delenv("BTSR_DATA")
    assert data_folder(None) == Path("data")
