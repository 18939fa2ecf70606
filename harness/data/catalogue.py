"""The data sets by key, and where their files lie (spec: notes on raw data formats). Imports no heavy library.

Nothing is downloaded here: a missing file is an error that names the folder, the accepted names and the source.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import DataError, unknown_name

DATA_DIR_VARIABLE = "BTSR_DATA"
"""Environment variable that names the folder of the raw files."""

Reader = Literal["movielens", "movielens_tab", "table", "amazon_json"]
"""How a raw file is read: a key of `harness.data.readers.READERS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFile:
    """One file that a data set can be read from."""

    name: str
    """Path below the data folder, with forward slashes."""
    reader: Reader
    sha256: str | None = None
    """Of the official file, where it is known; mirrors re-pack, so another sum is only warned about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """One data set: what it is called, which files it is read from and where they come from."""

    key: str
    title: str
    files: tuple[RawFile, ...]
    """In order of preference, official names first; empty: the data set is generated."""
    url: str
    """Where the official file is to be had; empty for a generated one."""
    licence: str
    note: str = ""

    @property
    def embedded(self) -> bool:
        """Whether the data set is generated and needs no file."""
        return not self.files

    def raw_file(self, path: Path) -> RawFile:
        """The entry of `files` that `path`, a result of `locate`, was found under."""
        return next(file for file in self.files if path.as_posix().endswith("/" + file.name) or str(path) == file.name)


def _tables(*stems: str) -> tuple[RawFile, ...]:
    """Parquet and CSV tables with columns for user, item and time stamp."""
    return tuple(RawFile(name=f"{stem}{suffix}", reader="table") for stem in stems for suffix in (".parquet", ".csv"))


_GROUPLENS = "GroupLens usage licence: research only, no redistribution (Harper and Konstan 2015)"
_AMAZON = "no formal licence; research use with citation (McAuley et al. 2015)"

DATASETS: dict[str, DatasetSpec] = {
    "synthetic": DatasetSpec(
        key="synthetic",
        title="Synthetic Markov chain",
        files=(),
        url="",
        licence="part of btsr",
        note="generated, nothing to download; the best achievable NDCG@10 is known",
    ),
    "ml1m": DatasetSpec(
        key="ml1m",
        title="MovieLens 1M",
        files=(
            RawFile(
                name="ml-1m.zip",
                reader="movielens",
                sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
            ),
            RawFile(name="ml-1m/ratings.dat", reader="movielens"),
            RawFile(name="ratings.dat", reader="movielens"),
            *_tables("ml-1m"),
        ),
        url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        licence=_GROUPLENS,
    ),
    "yelp": DatasetSpec(
        key="yelp",
        title="Yelp",
        files=_tables("yelp-2019-5core"),
        url="https://www.yelp.com/dataset",
        licence="Yelp Dataset terms of use: academic, no redistribution",
        note="reviews of calendar 2019, 5-core: a subset of the paper's Yelp",
    ),
    "gowalla": DatasetSpec(
        key="gowalla",
        title="Gowalla",
        files=_tables("gowalla-nyc"),
        url="https://snap.stanford.edu/data/loc-gowalla.html",
        licence="none given; cite Cho, Myers and Leskovec 2011",
        note="check-ins in a New York City box: a subset of the paper's Gowalla",
    ),
    "beauty": DatasetSpec(
        key="beauty",
        title="Amazon Beauty",
        files=(
            RawFile(name="reviews_Beauty_5.json.gz", reader="amazon_json"),
            *_tables("amazon-beauty-2014-5core"),
        ),
        url="https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/reviews_Beauty_5.json.gz",
        licence=_AMAZON,
        note="2014 edition, official 5-core",
    ),
    "kindle_store": DatasetSpec(
        key="kindle_store",
        title="Amazon Kindle Store",
        files=(
            RawFile(name="Kindle_Store_5.json.gz", reader="amazon_json"),
            *_tables("amazon-books-2014-usersample-5core"),
        ),
        url="https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/categoryFilesSmall/Kindle_Store_5.json.gz",
        licence=_AMAZON,
        note="amazon-books-2014-usersample-5core is a stand-in: Amazon Books 2014, a sample of users, not Kindle Store",
    ),
    "ml100k": DatasetSpec(
        key="ml100k",
        title="MovieLens 100K",
        files=(
            RawFile(name="ml-100k.zip", reader="movielens_tab"),
            RawFile(name="ml-100k/u.data", reader="movielens_tab"),
            RawFile(name="u.data", reader="movielens_tab"),
            *_tables("ml-100k"),
        ),
        url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        licence=_GROUPLENS,
        note="small, for quick runs on real data; not in the paper",
    ),
}


def dataset(key: str) -> DatasetSpec:
    """The data set of that key; raises ConfigError with the nearest spelling for an unknown one."""
    if key not in DATASETS:
        raise unknown_name("data set", key, DATASETS)
    return DATASETS[key]


def data_folder(data_dir: Path | None) -> Path:
    """Folder of the raw files: `data_dir`, else the environment's BTSR_DATA, else ./data."""
    return (data_dir or Path(os.environ.get(DATA_DIR_VARIABLE) or "data")).expanduser()


def locate(spec: DatasetSpec, data_dir: Path | None = None) -> Path:
    """Path of the first of the data set's accepted files that exists below the data folder.

    Raises DataError that names the folder, the accepted names, the source and how to name another folder.
    """
    assert not spec.embedded, f"{spec.key} is generated and has no file"
    folder = data_folder(data_dir)
    for file in spec.files:
        if (folder / file.name).is_file():
            return folder / file.name
    where = f"no file of it in {folder.absolute()}" if folder.is_dir() else f"no such folder as {folder.absolute()}"
    raise DataError(
        f"{spec.key} ({spec.title}): {where}: put one of {', '.join(file.name for file in spec.files)} there "
        f"(source: {spec.url}), or name another folder by --data-dir or {DATA_DIR_VARIABLE}"
    )
