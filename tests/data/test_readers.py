"""Every raw format: the rows as written, and one clear line for every kind of bad file."""

import gzip
import json
import logging
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from harness.data.catalogue import dataset
from harness.data.readers import read, read_amazon_json, read_movielens, read_movielens_tab, read_table
from harness.data.rows import RawRows
from harness.errors import DataError

RATINGS = "2::1193::5::978300760\n1::0661::3::978302109\n2::914::3::978301968\n"
ROWS = [("2", "1193", 978300760), ("1", "0661", 978302109), ("2", "914", 978301968)]


def rows(found: RawRows) -> list[tuple[str, str, int]]:
    frame = found.frame
    assert not found.dropped
    assert list(frame.columns) == ["user", "item", "time"]
    assert [str(dtype) for dtype in frame.dtypes] == ["str", "str", "int64"]
    return list(frame.itertuples(index=False, name=None))


def refuses(caught: pytest.ExceptionInfo[DataError], *parts: object) -> None:
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert str(part) in text


def zipped(path: Path, member: str, text: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml-1m/README", "read me")
        archive.writestr(member, text)
    return path


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return path


def test_movielens_plain_and_zipped(tmp_path: Path) -> None:
    plain = tmp_path / "ratings.dat"
    plain.write_text(RATINGS)
    assert rows(read_movielens(plain)) == ROWS
    assert rows(read_movielens(zipped(tmp_path / "ml-1m.zip", "ml-1m/ratings.dat", RATINGS))) == ROWS


def test_movielens_100k(tmp_path: Path) -> None:
    path = tmp_path / "u.data"
    path.write_text("196\t242\t3\t881250949\n186\t302\t3\t891717742\n")
    assert rows(read_movielens_tab(path)) == [("196", "242", 881250949), ("186", "302", 891717742)]


def test_unknown_archive_is_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = zipped(tmp_path / "ml-1m.zip", "ml-1m/ratings.dat", RATINGS)
    with caplog.at_level(logging.WARNING):
        assert rows(read(dataset("ml1m"), path)) == ROWS
    assert "not the official ml-1m.zip" in caplog.text
    caplog.clear()
    plain = tmp_path / "ratings.dat"
    plain.write_text(RATINGS)
    read(dataset("ml1m"), plain)
    assert "sha256" not in caplog.text and "has 3 rows, the official ratings.dat has 1,000,209" in caplog.text


@pytest.mark.parametrize(
    "header",
    ["user_id,item_id,timestamp", "UserID,MovieID,Time", "user,item,ts", "user_id:token,item_id:token,timestamp:float"],
)
def test_csv_spellings(tmp_path: Path, header: str) -> None:
    path = table(tmp_path, f"{header}\n007,NA,978300760\nnan,1E5,978302109.0\n")
    assert rows(read_table(path)) == [("007", "NA", 978300760), ("nan", "1E5", 978302109)]


def test_csv_ignores_other_columns_and_their_order(tmp_path: Path) -> None:
    path = tmp_path / "bom.csv"
    path.write_text("\ufefftimestamp,rating,item,user\n978300760,,a,b\n", encoding="utf-8")
    assert rows(read_table(path)) == [("b", "a", 978300760)]


def test_parquet_of_integers_and_of_text(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"item_id": [10, 2], "user_id": ["07", "x"], "timestamp": [978300760, 978300761]}).to_parquet(path)
    assert rows(read_table(path)) == [("07", "10", 978300760), ("x", "2", 978300761)]


def test_parquet_dates_are_utc_seconds(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    moments = pd.Series(["2010-10-19T23:55:27", "1999-12-31T00:00:00"])
    for times in (
        pd.to_datetime(moments),
        pd.to_datetime(moments).astype("datetime64[ns]"),
        pd.to_datetime(moments, utc=True).dt.tz_convert("Asia/Tokyo"),
    ):
        pd.DataFrame({"user": [1, 1], "item": [1, 2], "time": times}).to_parquet(path)
        assert rows(read_table(path)) == [("1", "1", 1287532527), ("1", "2", 946598400)]


def test_amazon_json(tmp_path: Path) -> None:
    path = tmp_path / "reviews_Beauty_5.json.gz"
    lines = [
        {
            "reviewerID": "A1",
            "asin": "0000013714",
            "reviewText": "a\nb",
            "helpful": [0, 1],
            "unixReviewTime": 1400000000,
        },
        {"unixReviewTime": 1390000000, "asin": "1E5", "reviewerID": "A0"},
    ]
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    assert rows(read_amazon_json(path)) == [("A1", "0000013714", 1400000000), ("A0", "1E5", 1390000000)]


def test_truncated_zip(tmp_path: Path) -> None:
    path = zipped(tmp_path / "ml-1m.zip", "ml-1m/ratings.dat", RATINGS * 500)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError) as caught:
        read_movielens(path)
    refuses(caught, path, "damaged, cut short", "download")


def test_zip_with_a_damaged_member(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "ml-1m.zip", "ml-1m/ratings.dat", "".join(f"{i}::{i}::1::97830{i:04}\n" for i in range(9999))
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_movielens(path)
    refuses(caught, path)


def test_zip_without_the_member(tmp_path: Path) -> None:
    path = zipped(tmp_path / "ml-1m.zip", "ml-1m/movies.dat", "1::Toy Story::x")
    with pytest.raises(DataError) as caught:
        read_movielens(path)
    refuses(caught, path, "holds no ratings.dat", "ml-1m/movies.dat")


def test_file_cut_in_a_row(tmp_path: Path) -> None:
    path = tmp_path / "ratings.dat"
    path.write_text(RATINGS[:-14])
    with pytest.raises(DataError) as caught:
        read_movielens(path)
    refuses(caught, path, "line 3 has 4 fields, not 7")


def test_truncated_gzip(tmp_path: Path) -> None:
    path = tmp_path / "reviews_Beauty_5.json.gz"
    lines = [{"reviewerID": f"A{i}", "asin": f"B{i * i}", "unixReviewTime": 1400000000 + i} for i in range(5000)]
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())[:-5000])
    with pytest.raises(DataError) as caught:
        read_amazon_json(path)
    refuses(caught, path, "damaged, cut short", "download")


@pytest.mark.parametrize(
    "content",
    [b"not gzip at all", gzip.compress(b"{'reviewerID': 'A1'}\n"), gzip.compress(b"[1]\n")],
    ids=["no gzip", "python", "list"],  # the bytes hold the time, which is another in the next worker
)
def test_amazon_of_another_format(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "reviews_Beauty_5.json.gz"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_amazon_json(path)
    refuses(caught, path)


def test_amazon_without_an_id(tmp_path: Path) -> None:
    path = tmp_path / "reviews_Beauty_5.json.gz"
    path.write_bytes(gzip.compress(b'{"reviewerID": "A1", "unixReviewTime": 1400000000}\n'))
    with pytest.raises(DataError) as caught:
        read_amazon_json(path)
    refuses(caught, path, "has no asin", "reviewerID, unixReviewTime")


@pytest.mark.parametrize("name", ["ratings.dat", "t.csv", "t.parquet", "t.json.gz", "t.zip"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    reader = {"t.csv": read_table, "t.parquet": read_table, "t.json.gz": read_amazon_json}.get(name, read_movielens)
    with pytest.raises(DataError) as caught:
        reader(path)
    refuses(caught, path)


def test_truncated_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"user": range(99), "item": range(99), "time": range(99)}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError) as caught:
        read_table(path)
    refuses(caught, path, "damaged")


def test_header_alone(tmp_path: Path) -> None:
    path = table(tmp_path, "user,item,time\n")
    with pytest.raises(DataError, match="has no rows"):
        read_table(path)


def test_missing_column_lists_those_found(tmp_path: Path) -> None:
    path = table(tmp_path, "user,film,time\n1,2,978300760\n")
    with pytest.raises(DataError) as caught:
        read_table(path)
    refuses(caught, path, "no item column", "user, film, time", "item_id", "--item-col")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (",2,978300760", "user id is missing"),
        ("1,,978300760", "item id is missing"),
        ("1,2,", "the time ''"),
        ("1,2,yesterday", "'yesterday'"),
        ("1,2,nan", "'nan'"),
        ("1,2,inf", "'inf'"),
        ("1,2,-5", "'-5'"),
        ("1,2,0", "'0'"),
        ("1,2,978300760.5", "'978300760.5'"),
        ("1,2,2019-13-01", "'2019-13-01'"),
        ("1,2,99999999999999999999999", "not a positive, whole number"),
        ("a\0b,2,978300760", "zero byte"),
        ("1,2,978300760000", "lies after 2100"),
    ],
)
def test_bad_row_is_named(tmp_path: Path, line: str, part: str) -> None:
    path = table(tmp_path, f"user,item,time\n1,1,978300760\n{line}\n1,3,978300760\n")
    with pytest.raises(DataError) as caught:
        read_table(path)
    refuses(caught, path, part, "line 3")


@pytest.mark.parametrize("first", ["1,1,978300760", "1,1,978300760,4"])
def test_row_with_too_many_fields(tmp_path: Path, first: str) -> None:
    path = table(tmp_path, f"user,item,time\n{first}\n1,2,978300760,4\n")
    with pytest.raises(DataError) as caught:
        read_table(path)
    refuses(caught, path)


@pytest.mark.parametrize(
    ("factor", "part"), [(1000, "milliseconds"), (0.01, "not Unix seconds")], ids=["milliseconds", "small"]
)
def test_wrong_unit(tmp_path: Path, factor: float, part: str) -> None:
    path = table(tmp_path, "user,item,time\n" + f"1,1,{int(978300760 * factor)}\n")
    with pytest.raises(DataError) as caught:
        read_table(path)
    refuses(caught, path, part, "1995..2030")


def test_float_ids_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"user": [1.0, 2.0], "item": [1, 2], "time": [978300760] * 2}).to_parquet(path)
    with pytest.raises(DataError, match="user ids are of type double"):
        read_table(path)


def test_missing_values_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    whole = pd.array([1, None], dtype="Int64")
    pd.DataFrame({"user": whole, "item": [1, 2], "time": [978300760] * 2}).to_parquet(path)
    with pytest.raises(DataError, match="row 2: the user id is missing"):
        read_table(path)
    pd.DataFrame({"user": [1, 2], "item": [1, 2], "time": pd.to_datetime(["2001-01-01", None])}).to_parquet(path)
    with pytest.raises(DataError, match="row 2: the time None"):
        read_table(path)


def test_unreadable_path_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_movielens(tmp_path)
    refuses(caught, tmp_path)
