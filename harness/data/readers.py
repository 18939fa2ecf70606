"""The raw formats, one function each, listed in `READERS` (spec: raw formats of the data sets).

Every function gives `RawRows` in raw row order and raises DataError in one line, with file, place and what to do, for
a file that is damaged, empty, of another layout, or that holds a missing id or a time that is none. Files may be
plain or inside gzip, zip or tar. Rows that a format is known to need dropped are counted in `RawRows.dropped`.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet

from harness.data.archives import AGAIN, damage
from harness.data.digest import sha256
from harness.data.kinds import DatasetSpec, RawFile, Reader
from harness.data.parse import Choose, first_fields, first_object, read_headed, read_lines, read_objects
from harness.data.rows import Gather, RawRows
from harness.errors import DataError

Columns = tuple[str, str, str]
"""User, item and time column; empty names are found by the usual spellings."""

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
TIME_COLUMNS = ("timestamp", "time", "unixreviewtime", "unix_time", "unix", "unixtime", "ts", "date")
"""Accepted spellings, compared in lower case, the first that a file has."""

_AMAZON_USER = r"^A[0-9A-Z]{9,20}$"
_AMAZON_ITEM = r"^(B[0-9A-Z]{9}|[0-9]{9}[0-9X])$"
_FITS = 0.9
"""Share of ids that must look like what a column is taken for."""

_ROWS_AT_ONCE = 1 << 20


def read(spec: DatasetSpec, path: Path, digest: str | None = None) -> RawRows:
    """The rows of the data set's file at `path`; logs a warning when it is not the official one.

    `digest` is the file's SHA-256 where the caller has it.
    """
    known = spec.raw_file(path)
    log = logging.getLogger(__name__)
    official = known.sha256 is not None and (digest or sha256(path)) == known.sha256
    if known.sha256 and not official:
        log.warning("%s is not the official %s (its sha256 differs); its rows are used as they are", path, known.name)
    rows = rows_of(known, path, spec.columns)
    found = len(rows.frame) + sum(rows.dropped.values())
    if known.rows is not None and known.reader != "table" and found != known.rows:
        log.warning("%s has %s rows, the official %s has %s", path, f"{found:,}", known.name, f"{known.rows:,}")
    return rows


def rows_of(file: RawFile, path: Path, columns: Columns = ("", "", "")) -> RawRows:
    """The rows of the file at `path`, read as the entry `file` says."""
    if file.reader in TABLE_READERS:
        return TABLE_READERS[file.reader](path, columns)
    return READERS[file.reader](path)


def read_movielens(path: Path) -> RawRows:
    """MovieLens 1M: lines `user::item::rating::seconds` of ratings.dat."""
    # With one colon as delimiter every other field is empty.
    return read_lines(path, ("ratings.dat",), delimiter=":", fields=7, user=0, item=2, time=6)


def read_movielens_tab(path: Path) -> RawRows:
    """MovieLens 100K: lines of user, item, rating, seconds parted by tabs, of u.data."""
    return read_lines(path, ("u.data",), delimiter="\t", fields=4, user=0, item=1, time=3)


def read_snap(path: Path) -> RawRows:
    """Gowalla of SNAP: lines of user, time (ISO, UTC), latitude, longitude, location, parted by tabs, newest first."""
    return read_lines(path, ("loc-gowalla_totalCheckins.txt",), delimiter="\t", fields=5, user=0, item=4, time=1)


def read_behance(path: Path) -> RawRows:
    """Behance: lines of user, item, seconds parted by one space; item ids have leading zeros."""
    return read_lines(path, ("Behance_appreciate_1M",), delimiter=" ", fields=3, user=0, item=1, time=2)


def read_beer_csv(path: Path) -> RawRows:
    """BeerAdvocate as beer_reviews.csv, 13 columns with header; rows without a user name are dropped and counted."""
    return read_headed(path, _fixed(path, "review_profilename", "beer_beerid", "review_time"), nameless_users=True)


def read_beer_json(path: Path) -> RawRows:
    """BeerAdvocate as one Python literal a line; rows without a user name are dropped and counted."""
    choose = _fixed(path, "review/profileName", "beer/beerId", "review/time")
    return read_objects(path, ("beeradvocate.json",), choose, nameless_users=True)


def read_yelp(path: Path) -> RawRows:
    """Yelp reviews: JSON lines with user_id, business_id and date, bare or inside zip, tar, tgz or gzip."""
    members = ("yelp_academic_dataset_review.json", "review.json")
    return read_objects(path, members, _fixed(path, "user_id", "business_id", "date"))


def read_amazon_json(path: Path) -> RawRows:
    """Amazon reviews, an object a line: 2014 and 2018 (reviewerID, asin, seconds) or 2023 (user_id, milliseconds)."""
    found = first_object(path)
    if "parent_asin" in found and "reviewerID" not in found:
        return read_objects(path, (), _fixed(path, "user_id", "parent_asin", "timestamp"), per_second=1000)
    return read_objects(path, (), _fixed(path, "reviewerID", "asin", "unixReviewTime"))


def read_amazon_csv(path: Path) -> RawRows:
    """Amazon ratings: user and item in the order that their looks tell (2014, 2018), or by header, in ms (2023)."""
    header, _ = first_fields(path)
    if "user_id" in header:
        return read_headed(path, _fixed(path, "user_id", "parent_asin", "timestamp"), per_second=1000)
    rows = read_lines(path, (), delimiter=",", fields=4, user=0, item=1, time=3)
    sample = rows.frame.iloc[:: max(1, len(rows.frame) // 10_000)]
    share = {
        (column, what): float(sample[column].str.match(pattern).mean())
        for column in ("user", "item")
        for what, pattern in (("user", _AMAZON_USER), ("item", _AMAZON_ITEM))
    }
    written = min(share["user", "user"], share["item", "item"]) >= _FITS
    swapped = min(share["user", "item"], share["item", "user"]) >= _FITS
    if written == swapped:
        raise DataError(
            f"{path}: the first two columns are not clearly user and item: {share['user', 'user']:.0%} and "
            f"{share['item', 'user']:.0%} look like users (A...), {share['user', 'item']:.0%} and "
            f"{share['item', 'item']:.0%} like items (B... or 10 digits): give it a header and name the columns"
        )
    if swapped:
        frame = rows.frame.rename(columns={"user": "item", "item": "user"})[["user", "item", "time"]]
        return RawRows(frame=frame, dropped=rows.dropped)
    return rows


def read_table(path: Path, columns: Columns = ("", "", "")) -> RawRows:
    """A Parquet or delimited table whose header has a user, an item and a time column, named or under usual spellings.

    Other columns are ignored. Dates without a zone are UTC.
    """
    if path.suffix.lower() != ".parquet":
        return read_headed(path, lambda header: choose_columns(path, header, columns))
    with damage(path):
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty: {AGAIN}")
        gather = Gather(path, lambda row: f"row {row + 1}")
        with pyarrow.parquet.ParquetFile(path) as file:
            names = choose_columns(path, file.schema_arrow.names, columns)
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(names)):
                gather.add(*(batch.column(name) for name in names))
    return gather.rows()


def read_jsonl(path: Path, columns: Columns = ("", "", "")) -> RawRows:
    """JSON lines whose objects have a user, an item and a time, named or under usual spellings."""
    return read_objects(path, (), lambda keys: choose_columns(path, keys, columns))


TABLE_READERS: dict[Reader, Callable[[Path, Columns], RawRows]] = {"table": read_table, "jsonl": read_jsonl}
"""Formats whose columns can be named."""

READERS: dict[Reader, Callable[[Path], RawRows]] = {
    "movielens": read_movielens,
    "movielens_tab": read_movielens_tab,
    "amazon_json": read_amazon_json,
    "amazon_csv": read_amazon_csv,
    "yelp_json": read_yelp,
    "snap": read_snap,
    "behance": read_behance,
    "beer_csv": read_beer_csv,
    "beer_json": read_beer_json,
}
"""Formats whose columns are fixed."""


def choose_columns(path: Path, header: list[str], columns: Columns = ("", "", "")) -> Columns:
    """The header's names of the user, item and time columns; RecBole's `name:type` counts as `name`.

    Raises DataError, with the columns that there are, for one that is missing or there twice.
    """
    known = {name.strip().lower().split(":")[0]: name for name in reversed(header)}
    chosen = []
    spellings = (("user", USER_COLUMNS), ("item", ITEM_COLUMNS), ("time", TIME_COLUMNS))
    for named, (what, usual) in zip(columns, spellings, strict=True):
        name = named if named in header else next((known[word] for word in usual if word in known), None)
        if name is None or (named and named != name):
            asked = f"no column {named}" if named else f"no {what} column"
            raise DataError(
                f"{path} has {asked}, only {', '.join(header)[:300]}: name one by --{what}-col, or call it "
                f"{' or '.join(usual[:3])}"
            )
        chosen.append(name)
    if len(set(chosen)) < 3 or any(header.count(name) > 1 for name in chosen):
        raise DataError(f"{path}: user, item and time are not three columns but {', '.join(chosen)}: name three")
    return chosen[0], chosen[1], chosen[2]


def _fixed(path: Path, user: str, item: str, time: str) -> Choose:
    """Always these three, after a look whether they are there."""

    def choose(header: list[str]) -> Columns:
        missing = [name for name in (user, item, time) if name not in header]
        if missing:
            found = ", ".join(header)[:300]
            raise DataError(f"{path} has no {' and no '.join(missing)}, only {found}: it is another file, or {AGAIN}")
        return user, item, time

    return choose
