"""The published and cross-checked counts of the real research data sets (spec: raw data formats, golden numbers)."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.config import DataConfig
from harness.data.catalogue import dataset_of, locate
from harness.data.readers import read
from harness.data.split import keep_rows
from harness.paths import RunPaths
from harness.prepare import prepare
from harness.values import Split

pytestmark = pytest.mark.realdata

NONE = {"filter": "none", "min_item": 1, "min_user": 1}
ONE_PASS = {"filter": "one_pass", "min_item": 5, "min_user": 5}
USERS_FIRST = {"filter": "one_pass_users_first", "min_item": 5, "min_user": 5}
ITERATIVE = {"filter": "iterative", "min_item": 5, "min_user": 5}


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


@pytest.mark.parametrize(
    ("key", "filtering", "t", "late", "testers", "earlier", "train", "before", "unseen", "evaluated"),
    [
        ("ml1m", ITERATIVE, 993073637, 49_981, 813, 809, (724_964, 5_227, 3_411), 949_630, 32, 750),
        ("beauty", ITERATIVE, 1403049600, 10_010, 3_626, 3_342, (152_324, 18_737, 12_000), 188_492, 1_374, 1_116),
        (
            "kindle_store",
            ITERATIVE,
            1400716800,
            26_263,
            10_871,
            10_695,
            (298_265, 27_363, 37_520),
            490_904,
            4_599,
            2_434,
        ),
        ("yelp", ITERATIVE, 1574428898, 15_819, 7_282, 7_096, (201_784, 23_149, 19_920), 300_535, 396, 1_802),
        ("gowalla", NONE, 1286658965, 6_949, 942, 696, (84_488, 6_173, 17_029), 132_008, 1_496, 456),
        ("gowalla", ITERATIVE, 1286637097, 5_085, 669, 585, (61_103, 2_787, 6_220), 96_602, None, None),
        ("ml100k", NONE, 891717885, 5_001, 113, 83, (80_161, 830, 1_611), 94_999, None, None),
    ],
)
def test_split(
    research_data: Path,
    work_dir: Path,
    key: str,
    filtering: dict[str, Any],
    t: int,
    late: int,
    testers: int,
    earlier: int,
    train: tuple[int, int, int],
    before: int,
    unseen: int | None,
    evaluated: int | None,
) -> None:
    split = prepare(DataConfig(dataset=key, **filtering), RunPaths(data_dir=research_data, work_dir=work_dir))
    report = split.report
    assert split.boundary == report["boundary"] == t
    assert report["test_rows"] == late
    assert (report["test_users"], report["test_users_with_earlier_rows"]) == (testers, earlier)
    assert (report["train_rows"], report["train_users"], report["train_items"]) == train
    assert (len(split.train_items), split.n_train_users, split.n_items) == train
    assert report["rows_before_boundary"] == before
    assert unseen is None or report["test_rows_of_unseen_items"] == unseen
    assert evaluated is None or split.n_test_users == report["evaluated_users"] == evaluated


@pytest.mark.parametrize(
    ("key", "filtering", "sizes"),
    [
        ("gowalla", NONE, (138_957, 7_115, 21_509)),
        ("gowalla", ITERATIVE, (101_687, 3_456, 6_568)),
        ("gowalla", ONE_PASS, (86_627, 3_145, 5_276)),
        ("yelp", ITERATIVE, (316_354, 30_431, 20_033)),
        ("yelp", ONE_PASS, (304_489, 28_689, 19_332)),
        ("gowalla", USERS_FIRST, (87_257, 3_651, 4_988)),
        ("yelp", USERS_FIRST, (304_648, 29_061, 18_998)),
        ("ml100k", USERS_FIRST, (99_287, 943, 1_349)),
        ("ml100k", ITERATIVE, (99_287, 943, 1_349)),
        ("ml100k", ONE_PASS, (99_287, 943, 1_349)),
        *(
            (key, filtering, sizes)
            for filtering in (ITERATIVE, ONE_PASS, USERS_FIRST)
            for key, sizes in (
                ("beauty", (198_502, 22_363, 12_101)),
                ("ml1m", (999_611, 6_040, 3_416)),
                ("kindle_store", (517_167, 38_234, 38_519)),
            )
        ),
    ],
)
def test_filter(
    research_data: Path, work_dir: Path, key: str, filtering: dict[str, Any], sizes: tuple[int, int, int]
) -> None:
    split = prepare(DataConfig(dataset=key, **filtering), RunPaths(data_dir=research_data, work_dir=work_dir))
    assert tuple(split.report[name] for name in ("rows", "users", "items")) == sizes


@pytest.mark.parametrize(
    ("key", "sizes", "first", "last"),
    [
        ("ml1m", (999_611, 6_040, 3_416), "2000-04-25T23:05:32", "2003-02-28T17:49:50"),
        ("ml100k", (100_000, 943, 1_682), "1997-09-20T03:05:10", "1998-04-22T23:10:38"),
        ("beauty", (198_502, 22_363, 12_101), "2002-06-12", "2014-07-23"),
        ("kindle_store", (517_167, 38_234, 38_519), "1997-03-25", "2014-07-22"),
        ("yelp", (316_354, 30_431, 20_033), "2019-01-01T00:00:09", "2019-12-13T15:48:37"),
        ("gowalla", (138_957, 7_115, 21_509), "2009-04-23T22:37:00", "2010-10-23T01:09:33"),
    ],
)
def test_file_as_is(
    research_data: Path, work_dir: Path, key: str, sizes: tuple[int, int, int], first: str, last: str
) -> None:
    report = prepare(DataConfig(dataset=key, **NONE), RunPaths(data_dir=research_data, work_dir=work_dir)).report
    for kind in ("", "raw_"):
        assert tuple(report[kind + name] for name in ("rows", "users", "items")) == sizes
    assert report["rows_dropped_by_reader"] == 0
    times = [np.datetime64(report[name], "s") for name in ("first_time", "last_time")]
    assert times == [np.datetime64(first, "s"), np.datetime64(last, "s")]


@pytest.mark.parametrize(
    ("key", "share", "whole_days", "shortest"),
    [("ml1m", 0.53, False, 18), ("beauty", 0.39, True, 5), ("kindle_store", 0.22, True, 5)],
)
def test_equal_times(research_data: Path, key: str, share: float, whole_days: bool, shortest: int) -> None:
    """Which rows have the time of the row before them of the same user, and how short users are."""
    config = DataConfig(dataset=key, **ITERATIVE)
    kept = keep_rows(read(dataset_of(config), locate(dataset_of(config), research_data)).frame, config)
    rows = pd.DataFrame({"user": kept.users, "time": kept.times})
    equal = (rows["user"].diff() == 0) & (rows["time"].diff() == 0)
    assert equal.mean() == pytest.approx(share, abs=0.005)
    assert (rows["time"] % 86_400 == 0).all() == whole_days
    assert rows.groupby("user").size().min() == shortest


@pytest.mark.parametrize(
    ("key", "rows", "exact", "repeated"),
    [
        ("gowalla", 138_957, 6, 35_462),
        ("yelp", 316_354, 0, 11_830),
        ("beauty", 198_502, 0, 0),
        ("kindle_store", 517_167, 0, 0),
        ("ml1m", 999_611, 0, 0),
    ],
)
def test_repeats(research_data: Path, work_dir: Path, key: str, rows: int, exact: int, repeated: int) -> None:
    paths = RunPaths(data_dir=research_data, work_dir=work_dir)
    filtering = NONE if key == "gowalla" else ITERATIVE
    assert prepare(DataConfig(dataset=key, **filtering), paths).report["repeated_rows"] == repeated
    if key == "gowalla":
        for policy, dropped in (("exact", exact), ("first", repeated), ("last", repeated)):
            report = prepare(DataConfig(dataset=key, repeats=policy, **NONE), paths).report
            assert report["rows_dropped_as_repeats"] == dropped and report["rows"] == rows - dropped


@pytest.fixture(scope="module")
def ml1m(research_data: Path, work_dir: Path) -> Split:
    return prepare(DataConfig(dataset="ml1m"), RunPaths(data_dir=research_data, work_dir=work_dir))


def test_ml1m_targets_per_bucket(ml1m: Split) -> None:
    assert np.bincount(ml1m.bucket[ml1m.targets("test")])[1:].tolist() == [170, 215, 365]


def test_ml1m_random_ties_change_targets_not_counts(ml1m: Split, research_data: Path, work_dir: Path) -> None:
    random = prepare(DataConfig(dataset="ml1m", tie="random"), RunPaths(data_dir=research_data, work_dir=work_dir))
    assert random.n_test_users == 750
    np.testing.assert_array_equal(random.user_ids, ml1m.user_ids)
    np.testing.assert_array_equal(random.bucket, ml1m.bucket)
    counts = np.bincount(random.bucket[random.targets("test")])[1:]
    # The authors, who draw the target among equal times, have 173 / 216 / 361.
    assert np.abs(counts - [173, 216, 361]).max() <= 12
    changed = (random.targets("test") != ml1m.targets("test")).mean()
    assert 0.1 < changed < 0.6


def test_ml1m_items_are_numbered_by_value(ml1m: Split) -> None:
    numbers = ml1m.item_ids.astype(int)
    assert (np.diff(numbers) > 0).all()


def test_ml1m_official_layouts_give_the_same_split(
    ml1m: Split, research_data: Path, work_dir: Path, tmp_path: Path
) -> None:
    """`ratings.dat` with the rows that the filter drops, plain and in the archive, against the Parquet file."""
    table = pd.read_parquet(research_data / "ml-1m.parquet")
    rare = pd.read_csv(research_data / "ml-1m_rare_items.csv").dropna(subset=["timestamp"])
    whole = pd.concat([table, rare[table.columns].astype("int64")]).sort_values("user_id", kind="stable")
    text = "\n".join(
        whole["user_id"].astype("str")
        + "::"
        + whole["item_id"].astype("str")
        + "::3::"
        + whole["timestamp"].astype("str")
    )
    (tmp_path / "plain" / "ml-1m").mkdir(parents=True)
    (tmp_path / "plain" / "ml-1m" / "ratings.dat").write_text(text + "\n")
    (tmp_path / "zip").mkdir()
    with zipfile.ZipFile(tmp_path / "zip" / "ml-1m.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(tmp_path / "plain" / "ml-1m" / "ratings.dat", "ml-1m/ratings.dat")
    for name in ("plain", "zip"):
        official = prepare(DataConfig(dataset="ml1m"), RunPaths(data_dir=tmp_path / name, work_dir=tmp_path / "runs"))
        assert official.report["raw_rows"] == 1_000_030
        assert official.fingerprint == ml1m.fingerprint
