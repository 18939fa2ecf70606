"""The printed numbers are complete and say of themselves what spec 7.0 says of them."""

from collections import Counter

from harness.config import PAPER_DATASETS
from reports.published import published, same_population
from reports.table import marked
from studies.points import TABLE2

METRICS = ("hr@1", "hr@5", "hr@10", "ndcg@5", "ndcg@10", "ndcg@50", "cov@1", "cov@5", "cov@10")


def test_every_place_of_the_three_tables() -> None:
    assert Counter(row.table for row in published().values()) == {1: 30, 2: 360, 3: 3}
    for dataset in PAPER_DATASETS:
        for metric in METRICS:
            for method in TABLE2:
                row = published()[2, dataset, metric, method]
                assert 0 < row.value < 1
                assert (row.std is not None) == (method == "bt_sr")


def test_some_numbers() -> None:
    assert published()[2, "ml1m", "ndcg@10", "sasrec_ce"].value == 0.0494
    best = published()[2, "ml1m", "ndcg@10", "bt_sr"]
    assert (best.value, best.std, best.rank, best.starred) == (0.0534, 0.0037, 1, True)
    assert published()[2, "gowalla", "cov@1", "improve"].value == 25.9
    assert published()[3, "yelp", "ndcg@20", "bt_sr[alpha=0.4]"].value == 0.0182
    doubtful = {(row.dataset, row.metric, row.method) for row in published().values() if row.doubtful}
    assert {place for place in doubtful if place[2] != "improve"} == {
        ("ml1m", "hr@10", "sasrec_ce"),
        ("beauty", "cov@10", "bt_sr"),
    }
    assert len(doubtful) == 8


def test_ranks_are_those_of_the_values_and_35_rows_are_starred() -> None:
    names = {"best": 1, "second": 2, "": None}
    starred = 0
    for dataset in PAPER_DATASETS:
        for metric in METRICS:
            row = [published()[2, dataset, metric, method] for method in TABLE2]
            assert [cell.rank for cell in row] == [names[mark] for mark in marked([cell.value for cell in row])]
            assert [cell.method for cell in row if cell.starred] == (["bt_sr"] if row[-1].rank == 1 else [])
            starred += row[-1].starred
    assert starred == 35


def test_improve_checks_where_its_note_says_so() -> None:
    wrong = set()
    for dataset in PAPER_DATASETS:
        for metric in METRICS:
            row = {method: published()[2, dataset, metric, method].value for method in TABLE2}
            other = max(value for method, value in row.items() if method != "bt_sr")
            printed = published()[2, dataset, metric, "improve"]
            if abs(100 * (row["bt_sr"] - other) / other - printed.value) > 0.051:
                wrong.add((dataset, metric))
            assert ("NOT" in printed.note) == ((dataset, metric) in wrong)
    assert wrong == {(d, f"cov@{k}") for d in ("gowalla", "beauty") for k in (1, 5, 10)}


def test_population() -> None:
    assert same_population("ml1m", 750) and same_population("beauty", 1116)
    assert not same_population("ml1m", 751)
    assert not same_population("yelp", 750)
