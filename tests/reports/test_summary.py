"""The page's summary: who is best, and what the tests say of BT-SR, in every case that they can be in."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.config import SEEDS
from harness.store import open_store
from harness.values import TrialResult
from reports.findings import findings
from reports.plans import TABLE2
from reports.results import Request, gather
from reports.stats import Comparison
from reports.summary import _said, table_summary
from reports.table import Contest
from reports.tables import build
from reports.verdict import verdicts
from tests.reports.world import data_config, result, spec, split_of, write

SPLIT = split_of(data_config(), 400)


def said(folder: Path, runs: Sequence[TrialResult]) -> str:
    file = write(folder / "btsr.db", "table2", [run.spec for run in runs], runs, [SPLIT])
    with open_store(file, read_only=True) as store:
        found = findings(gather(store, Request(study="table2")), TABLE2)
        (sentence,) = table_summary(found, build(found))
    return sentence


def runs_of(method: str, test: Sequence[float]) -> list[TrialResult]:
    """A run for every quality on test, each with its own seed."""
    alpha = 0.2 if method == "bt_sr" else None
    return [
        result(spec(method, alpha=alpha, seed=seed), SPLIT, valid=1, test=quality)
        for seed, quality in zip(SEEDS, test, strict=False)
    ]


def test_without_ours(tmp_path: Path) -> None:
    words = said(tmp_path, runs_of("sasrec_ce", (1, 1.1)))
    assert words.startswith(
        "ML 1M (400 test users, 1 of 7 methods run): the best mean ndcg@10 is that of SASRec (CE), 0."
    )
    assert "(n = 2; 95 % interval 0." in words and words.endswith("over seeds and users). BT-SR was not run.")


def test_ours_alone(tmp_path: Path) -> None:
    words = said(tmp_path, runs_of("bt_sr", (1,)))
    assert "that of BT-SR, 0." in words and words.endswith("over users).")


def test_ours_is_best_and_significantly(tmp_path: Path) -> None:
    words = said(tmp_path, [*runs_of("bt_sr", (2, 2.1, 2.05)), *runs_of("sasrec_ce", (0.5, 0.55, 0.6))])
    assert " That is +" in words and "against the best other, SASRec (CE) with 0." in words
    assert ": significant over seeds and users after Holm (p = 0.0" in words


def test_one_seed_says_nothing(tmp_path: Path) -> None:
    words = said(tmp_path, [*runs_of("bt_sr", (1,)), *runs_of("sasrec_ce", (1.02,))])
    assert " BT-SR has 0." in words
    assert words.endswith(": not enough runs: 1 common seed, a test over seeds needs 2.")


def test_a_difference_that_comes_and_goes_with_the_seed(tmp_path: Path) -> None:
    words = said(tmp_path, [*runs_of("bt_sr", (1, 1.2, 0.9)), *runs_of("sasrec_ce", (1.2, 1, 1))])
    assert " BT-SR has 0." in words and ": not significant after Holm (p = " in words
    assert "asterisk" not in words


def test_the_interval_is_that_of_the_verdict(tmp_path: Path) -> None:
    runs = [*runs_of("bt_sr", (2, 2.1, 2.05)), *runs_of("sasrec_ce", (0.5, 0.55, 0.6))]
    file = write(tmp_path / "btsr.db", "table2", [run.spec for run in runs], runs, [SPLIT])
    with open_store(file, read_only=True) as store:
        found = findings(gather(store, Request(study="table2", datasets=("ml1m",))), TABLE2)
        (sentence,) = table_summary(found, build(found))
        span = next(row[5] for row in verdicts(found).rows if row[1:3] == ("ndcg@10", "BT-SR"))
    assert f"95 % interval {span.replace(' (', ' over ').removesuffix(')')})" in sentence


def test_the_papers_rule_is_told_where_it_differs() -> None:
    found = Comparison(n=5, difference=0.01, interval=None, p_seeds=0.03, p_users=0.2, p_exact=0.0625, detectable=None)
    words = _said(Contest(against="sasrec_ce", comparison=found, p_holm=0.9))
    assert words.startswith("not significant after Holm (p = 0.90); by the paper's rule alone")


def test_the_gap_is_of_the_seeds_that_both_have(tmp_path: Path) -> None:
    """CE is better by its mean of three seeds, BT-SR on the two that both have, which the test is about."""
    ours, theirs = runs_of("bt_sr", (0.9, 0.9)), runs_of("sasrec_ce", (0.5, 0.5, 3.0))
    mine, other, every = (float(np.mean([ndcg_of(run) for run in runs])) for runs in (ours, theirs[:2], theirs))
    words = said(tmp_path, [*ours, *theirs])
    assert other < mine < every
    gap = 100 * (mine / other - 1)
    assert f" BT-SR has {mine:.4f}, {gap:+.1f} % against the best other, SASRec (CE) with {every:.4f} " in words
    assert " (gap and test over 2 common seeds): " in words
    assert "common seed" not in said(tmp_path / "even", [*ours, *theirs[:2]])


def ndcg_of(run: TrialResult) -> float:
    (value,) = [m.value for m in run.metrics if (m.part, m.name, m.k, m.bucket) == ("test", "ndcg", 10, 0)]
    assert value is not None
    return value
