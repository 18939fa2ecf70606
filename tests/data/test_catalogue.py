"""Where raw files are looked for, and what is said when they are not there."""

from pathlib import Path

import pytest

from harness.config import PAPER_DATASETS, DataConfig, file_key
from harness.data.catalogue import DATASETS, data_folder, dataset, dataset_of, locate, named_datasets
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


def test_a_folder_that_was_named_and_terms_stand_in_the_commands_that_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        locate(dataset("yelp"), tmp_path / "my data")
    place = f"--data-dir '{tmp_path / 'my data'}'"
    assert f"run btsr-data download yelp --accept-terms {place}, get" in str(caught.value)
    assert f"run btsr-data add yelp FILE {place}, or" in str(caught.value)
    with pytest.raises(DataError) as caught:
        locate(dataset("beauty"), tmp_path)
    assert "--accept-terms" not in str(caught.value)


def test_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder as"):
        locate(dataset("beauty"), tmp_path / "nowhere")


def test_data_folder_is_argument_then_environment_then_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTSR_DATA", "/from/environment")
    assert data_folder(Path("/told")) == Path("/told")
    assert data_folder(None) == Path("/from/environment")
    monkeypatch.delenv("BTSR_DATA")
    assert data_folder(None) == Path("data")


def test_a_file_has_one_name_wherever_it_is_named_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    paths = ["../a.csv", "./../a.csv", str(tmp_path / "a.csv"), str(tmp_path / "here" / ".." / "a.csv")]
    assert named_datasets(paths) == (str(tmp_path / "a.csv"),)
    assert {file_key(path) for path in paths} == {str(tmp_path / "a.csv")}


def test_files_and_keys_by_comma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b,c.csv").touch()
    assert named_datasets(["ml1m,a.csv", "a.csv, d.csv", "b,c.csv"]) == (
        "ml1m",
        *(str(tmp_path / name) for name in ("a.csv", "d.csv", "b,c.csv")),
    )


def test_the_reader_follows_the_end_of_the_name_alone() -> None:
    readers = {
        name: dataset(name).files[0].reader for name in ("a.jsonl/b.csv", "a.jsonl.csv", "a.jsonl", "a.JSONL.gz")
    }
    assert list(readers.values()) == ["table", "table", "jsonl", "jsonl"]


def test_a_missing_edition_is_told_where_it_is_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        locate(dataset_of(DataConfig(dataset="kindle_store", edition="2014-ratings")), tmp_path)
    for part in (
        f"btsr-data download kindle_store --edition 2014-ratings --data-dir {tmp_path}, ",
        "productGraph/categoryFiles/ratings_Kindle_Store.csv)",
        f"btsr-data add kindle_store FILE --edition 2014-ratings --data-dir {tmp_path}, ",
    ):
        assert part in str(caught.value)


def test_an_edition_of_a_data_set_that_has_none() -> None:
    with pytest.raises(ConfigError, match="ml1m has no editions: drop --edition foo"):
        dataset("ml1m").files_of("foo")
