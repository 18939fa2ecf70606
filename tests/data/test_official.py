"""Official archives rebuilt from the real files at hand, served by a loopback server, and prepared from there."""

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.config import DataConfig
from harness.data.catalogue import DATASETS
from harness.paths import RunPaths
from harness.prepare import prepare
from harness.values import Split
from tests.data.server import served

pytestmark = pytest.mark.realdata

FILES = {
    "yelp": "yelp-2019-5core.parquet",
    "gowalla": "gowalla-nyc.parquet",
    "beauty": "amazon-beauty-2014-5core.parquet",
    "ml100k": "ml-100k.parquet",
}


def real(folder: Path, key: str) -> pd.DataFrame:
    """The real rows as text, time as Unix seconds, and `moment` as ISO text."""
    table = pd.read_parquet(folder / FILES[key])
    moment = table["timestamp"].to_numpy().astype("datetime64[s]")
    return pd.DataFrame({
        "user": table["user_id"].astype("str"),
        "item": table["item_id"].astype("str"),
        "time": table["timestamp"],
        "moment": np.datetime_as_string(moment),
    })


def delimited(table: pd.DataFrame, delimiter: str) -> bytes:
    return table.to_csv(sep=delimiter, header=False, index=False).encode()


def snap(rows: pd.DataFrame) -> bytes:
    moment = rows["moment"] + "Z"
    table = pd.DataFrame({"user": rows["user"], "time": moment, "lat": 40.7, "long": -74.0, "item": rows["item"]})
    return gzip.compress(delimited(table, "\t"), 1)


def yelp(rows: pd.DataFrame) -> bytes:
    """Reviews in a tar in a zip, as since 2023."""
    dates = rows["moment"].str.replace("T", " ")
    table = pd.DataFrame({"review_id": "r", "user_id": rows["user"], "business_id": rows["item"], "date": dates})
    text = table.to_json(orient="records", lines=True).encode()
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as archive:
        info = tarfile.TarInfo("yelp_academic_dataset_review.json")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    return zipped("Yelp JSON/yelp_dataset.tar", inner.getvalue())


def beauty(rows: pd.DataFrame) -> bytes:
    table = pd.DataFrame({"reviewerID": rows["user"], "asin": rows["item"], "unixReviewTime": rows["time"]})
    return gzip.compress(table.to_json(orient="records", lines=True).encode(), 1)


def ml100k(rows: pd.DataFrame) -> bytes:
    table = pd.DataFrame({"user": rows["user"], "item": rows["item"], "rating": 3, "time": rows["time"]})
    return zipped("ml-100k/u.data", delimited(table, "\t"))


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


MADE: dict[str, Callable[[pd.DataFrame], bytes]] = {"yelp": yelp, "gowalla": snap, "beauty": beauty, "ml100k": ml100k}


@pytest.mark.parametrize("key", MADE)
def test_fetched_archive_gives_the_split_of_the_real_file(
    research_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "BTSR_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    expected = prepare(DataConfig(dataset=key), RunPaths(data_dir=research_data, work_dir=tmp_path / "a"))
    content = MADE[key](real(research_data, key))
    official = next(file for file in DATASETS[key].files if file.urls)
    with served(content) as site:
        served_file = replace(
            official,
            urls=(f"{site.url}/missing/x", f"{site.url}/resume/{official.name}"),
            sha256=hashlib.sha256(content).hexdigest(),
            consent=False,
        )
        site.drops[f"/resume/{official.name}"] = [len(content) // 3]
        monkeypatch.setitem(DATASETS, key, replace(DATASETS[key], files=(served_file,)))
        paths = RunPaths(data_dir=tmp_path / "raw", work_dir=tmp_path / "b", download=True)
        split = prepare(DataConfig(dataset=key), paths)
        assert site.asked[-1][1].startswith("bytes=")
    assert split.fingerprint == expected.fingerprint
    assert dict(split.report) == dict(expected.report)


def shape(split: Split) -> dict[str, float]:
    return {name: value for name, value in split.report.items() if name != "partner_share"}


@pytest.mark.parametrize("edition", ["2014-ratings", "2018-all", "2023-0core"])
def test_amazon_ratings_of_every_edition(research_data: Path, tmp_path: Path, edition: str) -> None:
    """The same Beauty rows in three column orders, with ids of the official form."""
    rows = real(research_data, "beauty")
    file = next(file for file in DATASETS["beauty"].files if file.edition == edition)
    user, item = "A" + rows["user"].str.zfill(13), "B" + rows["item"].str.zfill(9)
    table = pd.DataFrame({"user_id": user, "parent_asin": item, "rating": 5.0, "timestamp": rows["time"]})
    if edition.startswith("2018"):
        table = table[["parent_asin", "user_id", "rating", "timestamp"]]
    if edition.startswith("2023"):
        table["timestamp"] *= 1000
    content = table.to_csv(header=edition.startswith("2023"), index=False).encode()
    path = tmp_path / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    expected = prepare(DataConfig(dataset="beauty"), RunPaths(data_dir=research_data, work_dir=tmp_path / "a"))
    split = prepare(DataConfig(dataset="beauty", edition=edition), RunPaths(data_dir=tmp_path, work_dir=tmp_path / "b"))
    assert shape(split) == shape(expected) and split.n_test_users == 1_116
    np.testing.assert_array_equal(split.train_items, expected.train_items)
    np.testing.assert_array_equal(split.test_items, expected.test_items)


def test_own_file_of_real_rows(research_data: Path, tmp_path: Path) -> None:
    """A CSV and a JSON lines file with names of their own give the arrays of the Parquet file."""
    rows = real(research_data, "gowalla").rename(columns={"user": "who", "item": "where", "moment": "when"})
    rows = rows.drop(columns="time")
    expected = prepare(DataConfig(dataset="gowalla"), RunPaths(data_dir=research_data, work_dir=tmp_path))
    for name in ("rows.csv", "rows.jsonl"):
        path = tmp_path / name
        if name.endswith("csv"):
            rows.to_csv(path, index=False)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows.to_dict("records")))
        config = DataConfig(dataset=str(path), user_col="who", item_col="where", time_col="when")
        split = prepare(config, RunPaths(work_dir=tmp_path))
        np.testing.assert_array_equal(split.train_items, expected.train_items)
        assert (split.boundary, dict(split.report)) == (expected.boundary, dict(expected.report))
