"""The official layouts of every public data set, plain and wrapped, with the traps that they are known for."""

import gzip
import io
import json
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.config import DataConfig
from harness.data import readers
from harness.data.catalogue import DATASETS, dataset, dataset_of
from harness.data.readers import (
    read,
    read_amazon_csv,
    read_amazon_json,
    read_beer_csv,
    read_beer_json,
    read_behance,
    read_jsonl,
    read_snap,
    read_table,
    read_yelp,
    rows_of,
)
from harness.data.rows import RawRows
from harness.errors import DataError

Row = tuple[str, str, int]


def rows(found: RawRows) -> list[Row]:
    assert [str(kind) for kind in found.frame.dtypes] == ["str", "str", "int64"]
    return list(found.frame[["user", "item", "time"]].itertuples(index=False, name=None))


def lines(*objects: dict[str, Any]) -> str:
    return "".join(json.dumps(found) + "\n" for found in objects)


SNAP = (
    "0\t2010-10-19T23:55:27Z\t30.2359091167\t-97.7951395833\t22847\n"
    "0\t2010-10-18T22:17:43Z\t30.2691029532\t-97.7493953705\t420315\n"
    "7\t2010-03-28T01:59:59Z\t999.9\t-97.7\t007\n"
)


ZONES = {"UTC0": 0, "EST5EDT,M3.2.0,M11.1.0": 5, "CET-1CEST,M3.5.0,M10.5.0/3": -1}
"""As the C library reads them without a database of zones; hours west of Greenwich."""


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest) -> Iterator[None]:
    """The machine stands there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        assert time.timezone == 3600 * ZONES[request.param]
        yield
    time.tzset()


@pytest.mark.usefixtures("zone")
def test_gowalla_is_utc_whatever_the_machine_says(tmp_path: Path) -> None:
    path = tmp_path / "loc-gowalla_totalCheckins.txt.gz"
    path.write_bytes(gzip.compress(SNAP.encode()))
    assert rows(read_snap(path)) == [
        ("0", "22847", 1287532527),
        ("0", "420315", 1287440263),
        ("7", "007", 1269741599),
    ]


REVIEWS = lines(
    {
        "review_id": "r1",
        "user_id": "-QrS",
        "business_id": "_x1",
        "stars": 5.0,
        "text": 'a "quoted"\nline, {brace}',
        "date": "2018-07-07 22:09:11",
    },
    {"review_id": "r2", "user_id": "u2", "business_id": "b2", "text": "né", "date": "2012-01-03"},
)
YELP = [("-QrS", "_x1", 1531001351), ("u2", "b2", 1325548800)]


def tarred(name: str, text: str, mode: Any = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for member, content in (("yelp/Dataset_User_Agreement.pdf", b"%PDF"), (name, text.encode())):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


NAME = "yelp_academic_dataset_review.json"
WRAPPED = {
    NAME: REVIEWS.encode(),
    f"{NAME}.gz": gzip.compress(REVIEWS.encode()),
    "yelp_dataset.tar": tarred(NAME, REVIEWS),
    "yelp_dataset.tgz": tarred(f"dataset/{NAME}", REVIEWS, "w:gz"),
    "yelp-2022.zip": zipped(**{"yelp_academic_dataset_business.json": b"{}", NAME: REVIEWS.encode()}),
    "yelp-2018.zip": zipped(**{"dataset.tgz": tarred("dataset/review.json", REVIEWS, "w:gz")}),
    "Yelp-JSON.zip": zipped(**{
        "__MACOSX/Yelp JSON/._yelp_dataset.tar": b"x",
        "Yelp JSON/yelp_dataset.tar": tarred(NAME, REVIEWS),
    }),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_yelp_in_every_wrapping(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / name).write_bytes(WRAPPED[name])
    assert rows(read_yelp(tmp_path / name)) == YELP
    assert rows(read(dataset("yelp"), tmp_path / name)) == YELP
    assert ("not the official" in caplog.text) == (".zip" in name)


def test_yelp_archive_without_reviews(tmp_path: Path) -> None:
    path = tmp_path / "Yelp-JSON.zip"
    path.write_bytes(zipped(**{"yelp_dataset.tar": tarred("business.json", "{}")}))
    with pytest.raises(DataError, match="holds no yelp_academic_dataset_review.json or review.json but yelp/Dataset"):
        read_yelp(path)


A, B = "A1QA985ULVCQOB", "A3AMNY44OP8AOU"
ITEM, DIGITS = "B0009RF9DW", "013031859X"


@pytest.mark.parametrize(
    "text",
    [
        f"{A},{ITEM},5.0,1405209600\n{B},{DIGITS},1.0,1030838400\n",
        f"{ITEM},{A},5.0,1405209600\r\n{DIGITS},{B},1.0,1030838400\r\n",
        f"user_id,parent_asin,rating,timestamp\n{A},{ITEM},5.0,1405209600123\n{B},{DIGITS},1.0,1030838400999\n",
    ],
    ids=["2014", "2018", "2023"],
)
def test_amazon_ratings_in_either_order(tmp_path: Path, text: str) -> None:
    for name, content in (("ratings.csv", text.encode()), ("ratings.csv.gz", gzip.compress(text.encode()))):
        (tmp_path / name).write_bytes(content)
        assert rows(read_amazon_csv(tmp_path / name)) == [(A, ITEM, 1405209600), (B, DIGITS, 1030838400)]


@pytest.mark.parametrize("first", [f"{ITEM},{DIGITS}", f"{A},{B}", "1,2"])
def test_amazon_columns_that_are_not_clear(tmp_path: Path, first: str) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(f"{first},5.0,1405209600\n")
    with pytest.raises(DataError, match="not clearly user and item"):
        read_amazon_csv(path)


def test_amazon_reviews_of_every_edition(tmp_path: Path) -> None:
    path = tmp_path / "reviews.json.gz"
    strict = lines({"reviewerID": A, "asin": ITEM, "helpful": [0, 1], "unixReviewTime": 1405209600})
    literal = f"{{'reviewerID': '{A}', 'asin': '{ITEM}', 'reviewText': 'it\\'s \\d', 'unixReviewTime': 1405209600}}\n"
    later = lines({"user_id": A, "asin": "B000000000", "parent_asin": ITEM, "timestamp": 1405209600999, "images": [{}]})
    for text in (strict, literal, strict + literal, literal + strict, later):
        path.write_bytes(gzip.compress(text.encode()))
        assert set(rows(read_amazon_json(path))) == {(A, ITEM, 1405209600)}


def test_behance_keeps_leading_zeros(tmp_path: Path) -> None:
    path = tmp_path / "Behance_appreciate_1M"
    path.write_text("1238354 01398047 1307583271\n3 1 1307583272\n")
    assert rows(read_behance(path)) == [("1238354", "01398047", 1307583271), ("3", "1", 1307583272)]


BEER_HEADER = (
    "brewery_id,brewery_name,review_time,review_overall,review_aroma,review_appearance,review_profilename,"
    "beer_style,review_palate,review_taste,beer_name,beer_abv,beer_beerid"
)


def test_beeradvocate_in_both_forms(tmp_path: Path) -> None:
    """Users called NA and null are users; rows without a user are dropped and counted."""
    table = tmp_path / "beer_reviews.csv"
    line = '1,"Vecchio, ""Birr""\nificio",{},1,2,2,{},Hefe,1,1,Saus,5,{}\n'
    table.write_text(
        f"{BEER_HEADER}\n"
        + line.format(1234817823, "NA", 47986)
        + line.format(1235915097, "", 1)
        + line.format(1235915098, "null", 2)
    )
    found = read_beer_csv(table)
    assert rows(found) == [("NA", "47986", 1234817823), ("null", "2", 1235915098)]
    assert dict(found.dropped) == {"no user": 1}
    literals = tmp_path / "beeradvocate.json.gz"
    text = "".join(
        repr({"beer/name": "it's\t", "beer/beerId": item, "review/time": time, "review/profileName": user}) + "\n"
        for item, time, user in (("47986", "1234817823", "NA"), ("1", "1235915097", ""), ("2", "1235915098", "null"))
    )
    literals.write_bytes(gzip.compress(text.encode()))
    again = read_beer_json(literals)
    assert rows(again) == rows(found) and again.dropped == found.dropped


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "who,what,when,rating\nx,007,2001-01-01,5\ny,8,2001-01-02 03:04:05,4\n"),
        ("a.tsv", "when\twho\twhat\n2001-01-01T00:00:00Z\tx\t007\n2001-01-02T04:04:05+01:00\ty\t8\n"),
        ("a.csv", "what;when;who\n007;978307200;x\n8;978404645.0;y\n"),
        ("a.jsonl", '{"who": "x", "what": "007", "when": 978307200}\n\n{"when": 978404645.0, "who": "y", "what": 8}\n'),
        ("a.csv", "\ufeffwho,what,when\r\nx,007,978307200\r\ny,8,978404645\r\n"),
    ],
    ids=["dates", "zones", "semicolon", "mixed", "bom_crlf"],
)
def test_own_file_with_named_columns(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    config = DataConfig(dataset=str(path), user_col="who", item_col="what", time_col="when")
    spec = dataset_of(config)
    assert rows(read(spec, path)) == [("x", "007", 978307200), ("y", "8", 978404645)]
    compressed = tmp_path / f"{name}.gz"
    compressed.write_bytes(gzip.compress(content.encode()))
    assert rows(read(dataset_of(config.model_copy(update={"dataset": str(compressed)})), compressed)) == [
        ("x", "007", 978307200),
        ("y", "8", 978404645),
    ]


def test_own_parquet_with_named_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    when = pd.to_datetime(["2001-01-01 00:00:00.9", "2001-01-02 03:04:05.0"])
    pd.DataFrame({"who": pd.Categorical(["x", "y"]), "what": [7, 8], "when": when}).to_parquet(path)
    assert rows(read_table(path, ("who", "what", "when"))) == [("x", "7", 978307200), ("y", "8", 978404645)]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (("wo", "", ""), "no column wo, only user, item, time"),
        (("item", "", ""), "not three columns but item, item, time"),
    ],
)
def test_wrong_column_names(tmp_path: Path, columns: tuple[str, str, str], words: str) -> None:
    for name, content in (("a.csv", "user,item,time\n1,2,3\n"), ("a.jsonl", '{"user": 1, "item": 2, "time": 3}\n')):
        path = tmp_path / name
        path.write_text(content)
        with pytest.raises(DataError, match=words):
            rows_of(dataset(str(path)).files[0], path, columns)


def test_jsonl_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = '{"user": "a", "item": "b", "time": 978307200}\n'
    for bad, words in (
        ('{"user": "a", "item": "b"\n', "line 4 is neither"),
        ("[1, 2]\n", "line 4 holds no object"),
        ('{"user": "a", "item": ["b"], "time": 978307200}\n', "line 4: item is"),
        ('{"user": "a", "time": 978307200}\n', "line 4: the item id is missing"),
        ('{"user": "a", "item": "b", "time": "soon"}\n', "line 4: the time 'soon'"),
        ('{"user": true, "item": "b", "time": 978307200}\n', "line 4: user is True"),
        ('{"user": NaN, "item": "b", "time": 978307200}\n', "line 4: user is nan, not text or a whole number"),
        ('{"user": "a", "item": 8.0, "time": 978307200}\n', "line 4: item is 8.0, not text or a whole number"),
        ('{"user": "a", "item": "b", "time": NaN}\n', "line 4: the time 'nan'"),
    ):
        path.write_text(good + "\n" + good + bad + good)
        with pytest.raises(DataError, match=words) as caught:
            read_jsonl(path)
        assert "\n" not in str(caught.value)


def test_jsonl_ids_are_no_decimal_numbers(tmp_path: Path) -> None:
    """3.0 would be another user than 3."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"user": 3.0, "item": "b", "time": 978307200}\n{"user": 3, "item": "b", "time": 978307201}\n')
    with pytest.raises(DataError, match="line 1: user is 3.0"):
        read_jsonl(path)


@pytest.mark.parametrize(
    "moment",
    [
        "2010-10-19T23:55:27.000Z",
        "2010-10-19T23:55:27.999999Z",
        "2010-10-20 01:55:27.5+02:00",
        "2010-10-19 23:55:27.25",
        "2010-10-19T23:55:27Z",
        "2010-10-19 23:55:27",
    ],
)
@pytest.mark.parametrize("other", ["2010-10-19T23:55:28Z", "1287532528", "2010-10-19 23:55:28.125"])
def test_dates_with_and_without_fraction_and_zone(tmp_path: Path, moment: str, other: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"user,item,time\na,b,{moment}\na,c,{moment}\na,d,{other}\n")
    assert read_table(path).frame["time"].tolist() == [1287532527, 1287532527, 1287532528]


def test_every_registered_reader_exists() -> None:
    for spec in DATASETS.values():
        for file in spec.files:
            assert file.reader in readers.READERS or file.reader in readers.TABLE_READERS


def test_row_count_of_an_official_file_is_compared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "Behance_appreciate_1M"
    path.write_text("1 2 1307583271\n")
    read(dataset("behance"), path)
    assert "has 1 rows, the official Behance_appreciate_1M has 1,000,000" in caplog.text
