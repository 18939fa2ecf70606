"""Whatever bytes a reader is given: the right rows, or one line of DataError; never a traceback, never a lost row."""

import datetime
import gzip
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from harness.data.readers import READERS, TABLE_READERS
from harness.data.rows import RawRows
from harness.errors import DataError

SETTINGS = settings(max_examples=40)

SUFFIX = {"table": ".csv", "jsonl": ".jsonl"}
ALL = [*READERS, *TABLE_READERS]


def parse(reader: str, content: bytes, suffix: str = "") -> RawRows:
    """What the reader makes of a file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"raw{suffix or SUFFIX.get(reader, '')}"
        path.write_bytes(content)
        if reader in TABLE_READERS:
            return TABLE_READERS[reader](path, ("", "", ""))  # type: ignore[index]
        return READERS[reader](path)  # type: ignore[index]


def rows_or_error(reader: str, content: bytes, suffix: str = "") -> RawRows | str:
    """The rows, or the error's text, which is one line that names the file."""
    try:
        found = parse(reader, content, suffix)
    except DataError as error:
        text = str(error)
        assert "\n" not in text and "raw" in text and len(text) < 1_000
        return text
    frame = found.frame
    assert len(frame) and (frame["time"] > 0).all()
    assert (frame["user"] != "").all() and (frame["item"] != "").all() and not frame.isna().any(axis=None)
    return found


@pytest.mark.parametrize("reader", ALL)
@SETTINGS
@given(content=st.binary(max_size=300))
@example(content=b"")
@example(content=b"\n\n\n")
@example(content=b"\xef\xbb\xbf")
@example(content=b"\x1f\x8b")
@example(content=b"PK\x03\x04")
@example(content=b"PK\x05\x06" + bytes(18))
@example(content=bytes(257) + b"ustar")
@example(content=b"<!DOCTYPE html><html><body>Log in</body></html>")
@example(content=b"[" * 100_000)
@example(content=b'{"a":' * 100_000)
def test_random_bytes(reader: str, content: bytes) -> None:
    rows_or_error(reader, content)


@SETTINGS
@given(content=st.binary(max_size=200), head=st.sampled_from([b"PAR1", b"ARROW1"]))
def test_random_parquet(content: bytes, head: bytes) -> None:
    assert isinstance(rows_or_error("table", head + content + head, ".parquet"), str)


# Ids as the formats can write them: no delimiter, no line break, nothing that is cut off by design.
TOKEN = st.text(
    st.characters(codec="utf-8", exclude_characters='\0\r\n\t ,:;"\x1c\x1d\x1e\x85\u2028\u2029\ufeff'),
    min_size=1,
    max_size=8,
)
SECOND = st.integers(800_000_000, 1_800_000_000)
ROWS = st.lists(st.tuples(TOKEN, TOKEN, SECOND), min_size=1, max_size=12)
Rows = list[tuple[str, str, int]]


def moment(second: int) -> str:
    return datetime.datetime.fromtimestamp(second, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def objects(user: str, item: str, time: str, of: Callable[[int], Any] = int) -> Callable[[Rows], list[str]]:
    return lambda rows: [json.dumps({time: of(t), "x": [{}], user: u, item: i}) for u, i, t in rows]


def literals(rows: Rows) -> list[str]:
    return [repr({"review/time": f"{t}", "review/profileName": u, "beer/beerId": i}) for u, i, t in rows]


BEER = ["h"] * 2 + ["review_time"] + ["h"] * 3 + ["review_profilename"] + ["h"] * 5 + ["beer_beerid"]
WRITTEN: dict[str, Callable[[Rows], list[str]]] = {
    "movielens": lambda rows: [f"{u}::{i}::5::{t}" for u, i, t in rows],
    "movielens_tab": lambda rows: [f"{u}\t{i}\t5\t{t}" for u, i, t in rows],
    "snap": lambda rows: [f"{u}\t{moment(t)}\t1.0\t-2\t{i}" for u, i, t in rows],
    "behance": lambda rows: [f"{u} {i} {t}" for u, i, t in rows],
    "table": lambda rows: ["time,x,user,item", *(f'{t},"a ""b"", c",{u},{i}' for u, i, t in rows)],
    "beer_csv": lambda rows: [",".join(BEER), *(f"1,2,{t},,,,{u},,,,,,{i}" for u, i, t in rows)],
    "jsonl": objects("user", "item", "time"),
    "yelp_json": objects("user_id", "business_id", "date", lambda t: moment(t)[:-1].replace("T", " ")),
    "amazon_json": objects("reviewerID", "asin", "unixReviewTime"),
    "beer_json": literals,
}


@pytest.mark.parametrize("reader", WRITTEN)
@SETTINGS
@given(
    rows=ROWS,
    ending=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    bom=st.booleans(),
    blank=st.integers(0, 3),
    packed=st.booleans(),
)
@example(
    rows=[("NA", "null", 978307200), ("007", "1E5", 978307200)] * 3,
    ending="\n",
    last=False,
    bom=True,
    blank=2,
    packed=True,
)
def test_good_rows_come_back_in_order(
    reader: str, rows: Rows, ending: str, last: bool, bom: bool, blank: int, packed: bool
) -> None:
    """Repeated rows, ids that look like numbers or nothing, CRLF, a byte order mark, blank lines, no end of line."""
    lines = WRITTEN[reader](rows)
    lines[len(lines) // 2 : len(lines) // 2] = [""] * blank
    text = "\ufeff" * bom + ending.join(lines) + (ending if last else "")
    suffix = SUFFIX.get(reader, "") + (".gz" if packed and reader in SUFFIX else "")
    found = parse(reader, gzip.compress(text.encode(), 1) if packed else text.encode(), suffix)
    assert list(found.frame.itertuples(index=False, name=None)) == rows
    assert not found.dropped


BROKEN: list[Callable[[list[str], int], list[str]]] = [
    lambda fields, _: fields[:-1],
    lambda fields, _: [*fields, "1"],
    lambda fields, at: [*fields[:at], "", *fields[at + 1 :]],
]
PLACES = {"movielens": (":", (0, 2, 6)), "movielens_tab": ("\t", (0, 1, 3)), "behance": (" ", (0, 1, 2))}


@pytest.mark.parametrize("reader", PLACES)
@SETTINGS
@given(rows=ROWS, data=st.data())
def test_one_bad_line_is_named(reader: str, rows: Rows, data: st.DataObject) -> None:
    """A field too few, too many or empty: the error has the number of that line."""
    delimiter, places = PLACES[reader]
    lines = WRITTEN[reader](rows)
    bad = data.draw(st.integers(0, len(lines) - 1), label="line")
    fields = lines[bad].split(delimiter)
    broken = delimiter.join(data.draw(st.sampled_from(BROKEN))(fields, data.draw(st.sampled_from(places))))
    lines[bad] = broken
    said = rows_or_error(reader, "\n".join(lines).encode())
    assert isinstance(said, str) and f"line {bad + 1}" in said


BAD_TIMES = ["nan", "NaN", "-1", "0", "1.5", "", "soon", "2019-02-30", "9" * 30, "1e400", "0x", "١٢٣"]


@pytest.mark.parametrize("reader", ["movielens", "table", "snap", "jsonl"])
@SETTINGS
@given(rows=ROWS, bad=st.sampled_from(BAD_TIMES), data=st.data())
def test_a_bad_time_is_named(reader: str, rows: Rows, bad: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rows) - 1), label="row")
    lines = {
        "movielens": [f"{u}::{i}::5::{t}" for u, i, t in rows],
        "table": ["user,item,time", *(f"{u},{i},{t}" for u, i, t in rows)],
        "snap": [f"{u}\t{moment(t)}\t1.0\t-2\t{i}" for u, i, t in rows],
        "jsonl": [json.dumps({"user": u, "item": i, "time": t}) for u, i, t in rows],
    }[reader]
    line = at + (reader == "table")
    old = moment(rows[at][2]) if reader == "snap" else f"{rows[at][2]}"
    head, _, tail = lines[line].rpartition(old) if reader != "snap" else lines[line].partition(old)
    lines[line] = head + (json.dumps(bad) if reader == "jsonl" else bad) + tail
    said = rows_or_error(reader, "\n".join(lines).encode())
    assert isinstance(said, str) and f"line {line + 1}:" in said


@pytest.mark.parametrize("reader", ["movielens", "behance", "table", "jsonl", "amazon_json"])
@SETTINGS
@given(rows=ROWS, factor=st.sampled_from([1_000, 1_000_000, 0.001]))
def test_another_unit_is_refused(reader: str, rows: Rows, factor: float) -> None:
    said = rows_or_error(reader, "\n".join(WRITTEN[reader]([(u, i, int(t * factor)) for u, i, t in rows])).encode())
    assert isinstance(said, str) and "outside 1995..2030" in said


@pytest.mark.parametrize("reader", ["movielens", "table", "jsonl", "snap", "beer_csv"])
@SETTINGS
@given(rows=ROWS, damage=st.binary(min_size=1, max_size=4), data=st.data())
def test_random_damage(reader: str, rows: Rows, damage: bytes, data: st.DataObject) -> None:
    """Overwritten bytes in a good file: as many rows as there are lines, or an error."""
    text = bytearray("\n".join(WRITTEN[reader](rows)).encode())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at : at + len(damage)] = damage
    found = rows_or_error(reader, bytes(text))
    event(f"refused: {isinstance(found, str)}")
    if isinstance(found, RawRows) and b"\n" not in damage and b"\r" not in damage:
        whole = bytes(text).replace(b"\r\n", b"\n").split(b"\n")
        header = reader in {"table", "beer_csv"}
        assert len(found.frame) + sum(found.dropped.values()) == sum(bool(line.strip()) for line in whole) - header


@pytest.mark.parametrize("reader", ALL)
def test_line_of_a_million_characters(reader: str) -> None:
    said = rows_or_error(reader, b"x" * 1_000_000 + b"\n" + b"y" * 1_000_000)
    assert isinstance(said, str)


def test_long_lines_are_read() -> None:
    long = "x" * 1_000_000
    text = json.dumps({"user": "a", "item": "b", "time": 978307200, "text": long}) + "\n"
    assert len(parse("jsonl", (text * 3).encode()).frame) == 3
    assert len(parse("table", f"user,item,time,text\na,b,978307200,{long}\n".encode()).frame) == 1
    assert parse("behance", f"{long} b 978307200\n".encode()).frame["user"][0] == long


def test_a_quote_that_is_never_closed_swallows_nothing() -> None:
    text = 'user,item,time,text\na,b,978307200,fine\na,c,978307200,"open\na,d,978307200,x\n'
    for content in (text, text + 'a,e,978307200,"open\n'):
        found = rows_or_error("table", content.encode())
        assert isinstance(found, str) and "behind line 2" in found and "double quote" in found
    found = rows_or_error("table", f'{text}a,e,978307200,"open, too"\na,f,978307200,x\n'.encode())
    assert isinstance(found, str) and "Row #3: Expected 4 columns, got 5" in found
    closed = text.replace('"open', '"in two\n\nlines"')
    assert len(parse("table", closed.encode()).frame) == 3


@SETTINGS
@given(st.binary(min_size=1, max_size=3), st.data())
def test_damaged_archives(damage: bytes, data: st.DataObject) -> None:
    """Flipped bytes in a zip or gzip: the checksums let nothing wrong through."""
    rows = [(f"u{i}", f"i{i * i}", 978_307_200 + i) for i in range(50)]
    text = "\n".join(WRITTEN["movielens"](rows)).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raw.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("ml-1m/ratings.dat", text)
        contents = [bytearray(path.read_bytes()), bytearray(gzip.compress(text))]
    content = data.draw(st.sampled_from(contents))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at : at + len(damage)] = damage
    cut = data.draw(st.booleans())
    found = rows_or_error("movielens", bytes(content[: len(content) - 5] if cut else content))
    if isinstance(found, RawRows):
        assert list(found.frame.itertuples(index=False, name=None)) == rows
