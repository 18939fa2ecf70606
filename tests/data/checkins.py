"""Check-ins in the layout of SNAP's Gowalla file, of any size: `python -m tests.data.checkins FILE [ROWS]`.

Five columns parted by tabs (user, ISO time, latitude, longitude, location), users in order, newest first in each.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

ROWS, USERS_PER_ROW, ITEMS_PER_ROW = 6_442_892, 1 / 60, 1 / 5
"""Of the official file: lines, users (107,092) and locations (1,280,969) per line, about."""

_BEGIN, _SPAN_SECONDS = 1_233_446_400, 53_000_000
"""2009-02-01, and until October 2010."""


def checkins(rows: int = ROWS, seed: int = 0) -> pa.Table:
    """Columns user, time, latitude, longitude, location; popularity falls like rank^-0.9, users begin at any time."""
    random = np.random.default_rng(seed)
    n_users, n_items = max(2, round(rows * USERS_PER_ROW)), max(5, round(rows * ITEMS_PER_ROW))
    users = np.sort(np.floor(n_users * random.random(rows) ** 1.5).astype(np.int32))
    weight = np.cumsum((1.0 + np.arange(n_items)) ** -0.9)
    items = np.searchsorted(weight / weight[-1], random.random(rows)).astype(np.int32)
    begin = random.random(n_users) * 0.97
    times = _BEGIN + ((begin + 0.03 * random.random((n_users)))[users] * _SPAN_SECONDS).astype(np.int64)
    times += (random.random(rows) * 60 * 86_400).astype(np.int64)
    order = np.lexsort((-times, users))
    places = random.random((2, rows), dtype=np.float32)
    return pa.table({
        "user": users[order],
        "time": pa.array(times[order].astype("datetime64[s]")),
        "latitude": pa.array(180 * places[0] - 90),
        "longitude": pa.array(360 * places[1] - 180),
        "location": 8_932 + items[order],
    })


def write(path: Path, rows: int = ROWS, seed: int = 0) -> None:
    """Write them as SNAP does, gzipped if the name ends in .gz."""
    table = checkins(rows, seed)
    stamp = pa.compute.strftime(table["time"], format="%Y-%m-%dT%H:%M:%SZ")
    table = table.set_column(1, "time", stamp)
    options = pyarrow.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with gzip.open(path, "wb", compresslevel=1) if path.suffix == ".gz" else path.open("wb") as file:
        pyarrow.csv.write_csv(table, file, options)


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
