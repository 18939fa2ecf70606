"""Raw files as tables with columns user (str), item (str), time (int64, Unix seconds UTC), in raw row order.

One function per raw format, listed in `READERS`. Every function raises DataError in one line, with the file and what
to do, for a file that is damaged, empty, lacks a column, or holds a missing id or a time that is none.
"""

import csv
import gzip
import hashlib
import logging
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet

from harness.data.catalogue import DatasetSpec, Reader
from harness.errors import DataError

USER_COLUMNS = ("user", "user_id", "userid", "reviewerid", "uid")
ITEM_COLUMNS = (
    "item",
    "item_id",
    "itemid",
    "movie_id",
    "movieid",
    "business_id",
    "location_id",
    "parent_asin",
    "asin",
    "iid",
)
TIME_COLUMNS = ("timestamp", "time", "unixreviewtime", "unix_time", "unix", "unixtime", "ts")
"""Accepted spellings, compared in lower case, the first that a file has."""

_EARLIEST, _LATEST = 788_918_400, 1_893_456_000
"""1995 and 2030 in Unix seconds: the median time of a file in the right unit lies between them."""

_DAMAGED = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, pa.ArrowException)
_AGAIN = "download or export it again"


def read(spec: DatasetSpec, path: Path) -> pd.DataFrame:
    """The rows of the data set's file at `path`; logs a warning when it is not the official archive."""
    known = spec.raw_file(path)
    if known.sha256 and sha256(path) != known.sha256:
        logging.getLogger(__name__).warning(
            "%s is not the official %s (its sha256 differs); its rows are used as they are", path, known.name
        )
    return READERS[known.reader](path)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with _damage(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_movielens(path: Path) -> pd.DataFrame:
    """MovieLens 1M: lines `user::item::rating::seconds`, plain or as member ratings.dat of a zip archive."""
    # A two-character separator would need pandas' slow engine; with one colon every other field is empty.
    return _read_separated(path, member="ratings.dat", separator=":", columns=[0, 2, 6])


def read_movielens_tab(path: Path) -> pd.DataFrame:
    """MovieLens 100K: lines of user, item, rating, seconds parted by tabs, plain or as member u.data of a zip."""
    return _read_separated(path, member="u.data", separator="\t", columns=[0, 1, 3])


def read_table(path: Path) -> pd.DataFrame:
    """A Parquet or CSV table whose header has a user, an item and a time column under a usual spelling.

    Other columns are ignored. Date-time columns of Parquet are read as UTC.
    """
    if path.suffix == ".parquet":
        with _damage(path):
            names = _three_columns(path, pyarrow.parquet.read_schema(path).names)
            table = pd.read_parquet(path, columns=names, dtype_backend="pyarrow")
    else:
        with _damage(path):
            # All columns: with a choice of columns pandas would pass over rows that have too many fields.
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
            if not isinstance(table.index, pd.RangeIndex):
                raise DataError(f"{path}: rows have more fields than the header has names: correct the header")
            names = _three_columns(path, [str(name) for name in table.columns])
    return _checked(path, *(table[name] for name in names))


def read_amazon_json(path: Path) -> pd.DataFrame:
    """Amazon 5-core reviews, 2014 or 2018: gzipped JSON lines with reviewerID, asin and unixReviewTime."""
    schema = pa.schema([("reviewerID", pa.string()), ("asin", pa.string()), ("unixReviewTime", pa.int64())])
    parse = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    # A review must fit into a block.
    blocks = pyarrow.json.ReadOptions(block_size=1 << 24)
    with _damage(path), gzip.open(path) as stream:
        if not stream.peek(1):
            raise DataError(f"{path} is empty: {_AGAIN}")
        table = pyarrow.json.read_json(stream, blocks, parse).to_pandas(types_mapper=pd.ArrowDtype)
    return _checked(path, table["reviewerID"], table["asin"], table["unixReviewTime"])


READERS: dict[Reader, Callable[[Path], pd.DataFrame]] = {
    "movielens": read_movielens,
    "movielens_tab": read_movielens_tab,
    "table": read_table,
    "amazon_json": read_amazon_json,
}


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Whatever a library says of an unreadable file becomes one DataError line."""
    try:
        yield
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} is empty: {_AGAIN}") from error
    except _DAMAGED as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{path} cannot be read, it is damaged, cut short or of another format ({reason}): {_AGAIN}"
        ) from error


def _read_separated(path: Path, *, member: str, separator: str, columns: list[int]) -> pd.DataFrame:
    """User, item and time in these columns of a file without header, plain or the zip's member of that name."""
    with _damage(path):
        if path.suffix != ".zip":
            table = _columns(path, separator, columns)
        else:
            with zipfile.ZipFile(path) as archive:
                inside = [name for name in archive.namelist() if name.rsplit("/", 1)[-1] == member]
                if not inside:
                    raise DataError(f"{path} holds no {member} but {', '.join(archive.namelist()[:8])}: {_AGAIN}")
                with archive.open(inside[0]) as stream:
                    table = _columns(stream, separator, columns)
    return _checked(path, table[columns[0]], table[columns[1]], table[columns[2]])


def _columns(source: Path | IO[bytes], separator: str, columns: list[int]) -> pd.DataFrame:
    """These columns of a file without header or quotes, all as text."""
    return pd.read_csv(
        source,
        sep=separator,
        header=None,
        usecols=columns,
        dtype=str,
        keep_default_na=False,
        quoting=csv.QUOTE_NONE,
    )


def _three_columns(path: Path, header: list[str]) -> list[str]:
    """The header's names of the user, item and time columns; RecBole's `name:type` counts as `name`."""
    known = {name.strip().lower().split(":")[0]: name for name in reversed(header)}
    names = []
    for what, spellings in (("user", USER_COLUMNS), ("item", ITEM_COLUMNS), ("time", TIME_COLUMNS)):
        spelled = next((spelling for spelling in spellings if spelling in known), None)
        if spelled is None:
            raise DataError(
                f"{path} has no {what} column, only {', '.join(header)}: name one of them {' or '.join(spellings[:3])}"
            )
        names.append(known[spelled])
    return names


def _checked(path: Path, user: pd.Series, item: pd.Series, time: pd.Series) -> pd.DataFrame:
    """The three columns as str, str, int64; raises DataError for missing ids, bad times and wrong units."""
    if user.empty:
        raise DataError(f"{path} has no rows: {_AGAIN}")
    frame = pd.DataFrame({"user": _ids(path, user), "item": _ids(path, item), "time": _seconds(path, time)})
    median = int(np.median(frame["time"]))
    if not _EARLIEST <= median < _LATEST:
        hint = "milliseconds or finer" if median >= _LATEST else "not Unix seconds"
        raise DataError(
            f"{path}: the median time {median} lies outside 1995..2030, so it is {hint}: convert to Unix seconds"
        )
    return frame


def _ids(path: Path, column: pd.Series) -> pd.Series:
    """Ids as text, as they are written: leading zeros stay, `NA` and `nan` are names; floats are refused."""
    if not (pd.api.types.is_string_dtype(column.dtype) or pd.api.types.is_integer_dtype(column.dtype)):
        raise DataError(
            f"{path}: ids in column {column.name} are of type {column.dtype}: store them as text or whole numbers"
        )
    ids = column.astype("str")
    missing = (ids.isna() | (ids == "")).to_numpy()
    if missing.any():
        raise DataError(
            f"{path}: {missing.sum()} of {len(ids)} rows have no id in column {column.name}, first row "
            f"{missing.argmax() + 1}: remove them, or {_AGAIN} if the file is cut short"
        )
    return ids


def _seconds(path: Path, column: pd.Series) -> pd.Series:
    """Times as int64 Unix seconds; date-times without a zone are UTC, numbers must be positive and whole."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        # NaT becomes the smallest integer, which is then refused as not positive.
        utc = pd.to_datetime(column, utc=True).dt.tz_localize(None)
        number = pd.Series(utc.to_numpy().astype("datetime64[s]").astype(np.int64))
    else:
        number = pd.to_numeric(column, errors="coerce")
    value = number.to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~((value > 0) & (value < 2**62) & (value == np.floor(value)))
    if bad.any():
        first = int(bad.argmax())
        raise DataError(
            f"{path}: {bad.sum()} of {len(value)} times in column {column.name} are not whole Unix seconds, first row "
            f"{first + 1}: {column.iloc[first]!r}: convert or remove them"
        )
    return number.astype(np.int64)
