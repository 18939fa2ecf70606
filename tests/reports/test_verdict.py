"""Verdicts on published numbers."""

from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from harness.config import SEEDS
from harness.store import open_store
from reports.findings import findings
from reports.plans import TABLE2
from reports.results import Request, gather
from reports.sheet import sheet_csv
from reports.stats import RESAMPLES_PER_CELL, Interval, interval
from reports.verdict import verdict, verdicts
from tests.reports.world import data_config, result, spec, split_of, write


@pytest.mark.parametrize(
    ("ours", "applies", "expected"),
    [
        (0.0500, True, "inside our 95 % interval"),
        (None, True, "not run"),
        (0.0500, False, "other data"),
        (None, False, "not run"),
    ],
)
def test_verdict(ours: float | None, applies: bool, expected: str) -> None:
    span = Interval(low=0.045, high=0.055, over="seeds and users")
    assert verdict(ours, span, 0.0494, applies=applies) == expected


def test_verdict_outside_the_interval() -> None:
    span = Interval(low=0.0499, high=0.0501, over="users")
    assert verdict(0.05, span, 0.0480, applies=True) == "within 5 %"
    assert verdict(0.05, span, 0.0400, applies=True) == "not reproduced"
    assert verdict(0.05, None, 0.0500, applies=True) == "within 5 %"


def test_every_printed_number_gets_one(tmp_path: Path) -> None:
    ml, yelp = split_of(data_config(), 750), split_of(data_config("yelp"), 40)
    runs = [result(spec(seed=seed), ml, valid=1, test=-0.3) for seed in SEEDS[:2]]
    runs.append(result(spec(dataset="yelp"), yelp, valid=1, test=1))
    file = write(tmp_path / "btsr.db", "table2", [run.spec for run in runs], runs, [ml, yelp])
    with open_store(file, read_only=True) as store:
        sheet = verdicts(findings(gather(store, Request(study="table2")), TABLE2))
    assert len(sheet.rows) == 5 * 9 * 7
    said = {row[:3]: row[-1] for row in sheet.rows}
    assert said["YELP", "hr@1", "SASRec (CE)"] == "other data"
    assert said["Gowalla", "hr@1", "BT-SR"] == "not run"
    assert said["ML 1M", "hr@1", "SASRec (CE)"] in {"inside our 95 % interval", "not reproduced"}
    row = next(row for row in sheet.rows if row[:3] == ("ML 1M", "hr@10", "SASRec (CE)"))
    assert row[6] == "0.0847 (doubtful)" and row[5].endswith("(seeds and users)")
    assert "not run: 297" in sheet.footnotes[0]
    assert ". 18 of these cells rest on fewer than 3 seeds." in sheet.footnotes[0]
    assert sheet.footnotes[0].endswith(" Of 'not reproduced' 1 is against a doubtful printed value.")
    values = [
        m.value for run in runs[:2] for m in run.metrics if (m.part, m.name, m.k, m.bucket) == ("test", "ndcg", 10, 0)
    ]
    (told,) = [note for note in sheet.footnotes if "Diagnostic, no result" in note]
    assert told.endswith(f"of this study, ML 1M: SASRec (CE) {max(filter(None, values)):.4f} (of 2).")
    assert min(filter(None, values)) < max(filter(None, values)), "the better of two, whatever validation says"


def test_where_nothing_is_printed_the_sheet_says_so(tmp_path: Path) -> None:
    split, one = split_of(data_config("synthetic"), 40), spec(dataset="synthetic")
    file = write(tmp_path / "btsr.db", "smoke", [one], [result(one, split, valid=1, test=1)], [split])
    with open_store(file, read_only=True) as store:
        found = verdicts(findings(gather(store, Request(study="smoke")), TABLE2))
    assert not found.rows and found.footnotes[0] == "The paper prints a number for none of these rows."


def test_a_printed_value_stands_for_all_that_round_to_it() -> None:
    """0.0494 may be anything from 0.04935 to 0.04945."""
    for low, high, expected in (
        (0.04944, 0.0600, "inside our 95 % interval"),
        (0.04945, 0.0600, "inside our 95 % interval"),
        (0.04947, 0.0600, "within 5 %"),
        (0.0400, 0.04936, "inside our 95 % interval"),
        (0.0400, 0.04933, "within 5 %"),
    ):
        span = Interval(low=low, high=high, over="seeds and users")
        assert verdict(0.0500, span, 0.0494, applies=True) == expected, (low, high)


def test_it_stands_alone(tmp_path: Path) -> None:
    """Seeds, data, configuration, how it was chosen and what is missing; intervals of shares within 0 and 1."""
    split = split_of(data_config(), 750)
    runs = [result(spec(seed=seed), split, valid=1, test=-2.5) for seed in SEEDS[:2]]
    asked = [*(run.spec for run in runs), spec(seed=SEEDS[2])]
    file = write(tmp_path / "btsr.db", "table2", asked, runs, [split])
    with open_store(file, read_only=True) as store:
        found = findings(gather(store, Request(study="table2", datasets=("ml1m",))), TABLE2)
        sheet, short = verdicts(found), verdicts(found, alone=False)
        spans = [interval(mine, resamples=RESAMPLES_PER_CELL) for mine in found.measured.values()]
    assert min(span.low for span in spans if span) < 0, "the intervals themselves go below 0"
    mine = [row for row in sheet.rows if row[2] == "SASRec (CE)"]
    assert {row[4] for row in mine} == {"2"} and not any(row[5].startswith("-") for row in mine)
    assert {row[4] for row in sheet.rows} == {"0", "2"}
    assert "9 of these cells rest on fewer than 3 seeds." in sheet.footnotes[0]
    notes = "\n".join(sheet.footnotes)
    for words in (
        "Selection: ",
        "ML 1M: data a00002eea00002ee, ",
        "one boundary in time at quantile 0.95",
        "ML 1M, SASRec (CE): base loss CE, B 256, T 200, ",
        "; seeds 1235, 37; ",
        "ML 1M: incomplete: SASRec (CE) 2 of 3 trials done.",
    ):
        assert words in notes and words not in "\n".join(short.footnotes), words
    assert short.rows == sheet.rows and short.footnotes[0] == sheet.footnotes[0]
    frame = pd.read_csv(StringIO(sheet_csv(sheet)))
    assert len(frame) == len(sheet.rows) and set(frame["n"]) == {0, 2}
    run = frame[(frame["method"] == "sasrec_ce") & frame["low"].notna()]  # all items in both runs: no interval
    assert (
        len(run) == 6
        and (run["low"] >= 0).all()
        and (run["low"] <= run["ours"]).all()
        and (run["ours"] <= run["high"]).all()
    )
    assert run["difference"].tolist() == pytest.approx((run["ours"] - run["published"]).tolist())


def test_cells_that_were_computed_otherwise_are_marked(tmp_path: Path) -> None:
    split = split_of(data_config(), 30)
    specs = [spec(method, seed=seed) for method in ("sasrec_ce", "cl4srec") for seed in SEEDS[:2]]
    other = spec("duorec", precision="bf16")
    runs = [result(one, split, valid=1, test=1) for one in (*specs, other)]
    file = write(tmp_path / "btsr.db", "table2", [*specs, other], runs, [split])
    with open_store(file, read_only=True) as store:
        sheet = verdicts(findings(gather(store, Request(study="table2", datasets=("ml1m",))), TABLE2))
    assert {row[2] for row in sheet.rows if row[2].endswith("‡")} == {"DuoRec ‡"}
    assert any(note.startswith("‡ ML 1M: ") for note in sheet.footnotes)
