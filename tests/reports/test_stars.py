"""Stars, Improve and tables 1 and 3: what is tested against what, and what the paper's rule alone would say."""

from pathlib import Path

import pytest

from harness.config import SEEDS
from harness.store import open_store
from harness.values import Split, TrialResult
from reports.plans import PLANS, TABLE1, TABLE2
from reports.results import Request
from reports.stats import Comparison
from reports.table import Cell, Contest, Table
from reports.tables import table
from tests.reports.world import data_config, result, spec, split_of, write


def _read(database: Path, number: int, study: str, *datasets: str) -> Table:
    with open_store(database, read_only=True) as store:
        return table(number, store, Request(study=study, datasets=datasets))


def _cell(found: Table, metric: str, column: str) -> Cell:
    row = next(i for i, row in enumerate(found.rows) if row.metric == metric)
    return found.cells[row][[c.key for c in found.columns].index(column)]


def _test(difference: float, p_seeds: float | None, p_users: float | None, p_holm: float | None) -> Contest:
    found = Comparison(
        n=5, difference=difference, interval=None, p_seeds=p_seeds, p_users=p_users, p_exact=None, detectable=None
    )
    return Contest(against="x", comparison=found, p_holm=p_holm)


def test_stars() -> None:
    assert _test(0.1, 0.001, 0.001, 0.01).star == "*"
    assert _test(0.1, 0.001, 0.2, 0.5).star == "(*)", "users could explain it"
    assert _test(0.1, 0.01, 0.01, 0.2).star == "(*)", "one of many tests"
    assert _test(0.1, 0.06, 0.001, 0.06).star == ""
    assert _test(-0.1, 0.001, 0.001, 0.01).star == "", "smaller"
    assert _test(0.1, None, 0.001, None).star == "", "not enough runs"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seeds of CE, BCE and a far better BT-SR on 300 users; BCE+BT is no better than BCE."""
    split = split_of(data_config("yelp"), 300)
    runs = []
    for seed in SEEDS:
        runs += [
            result(spec(dataset="yelp", seed=seed), split, valid=1, test=0.9),
            result(spec("sasrec_bce", dataset="yelp", loss="bce", seed=seed), split, valid=1, test=0.8),
            result(spec("bt_sr", dataset="yelp", alpha=0.1, seed=seed), split, valid=2, test=2),
            result(spec("bt_sr", dataset="yelp", alpha=0.4, seed=seed), split, valid=1.5, test=1.5),
            result(spec("bt_sr", dataset="yelp", loss="bce", alpha=0.2, seed=seed), split, valid=0.5, test=0.8),
        ]
    file = tmp_path_factory.mktemp("three") / "btsr.db"
    write(file, "table2", [run.spec for run in runs], runs, [split])
    line = [run.spec for run in runs if run.spec.method == "bt_sr"]
    return write(file, "alpha_lambda", line)


def test_improve_is_against_the_best_other_that_was_run(three: Path) -> None:
    found = _read(three, 2, "table2", "yelp")
    for metric in ("hr@10", "ndcg@10", "cov@10"):
        ours = _cell(found, metric, "bt_sr").value
        others = [_cell(found, metric, key).value for key in ("sasrec_ce", "sasrec_bce")]
        assert ours is not None and None not in others
        best = max(value for value in others if value is not None)
        improve = _cell(found, metric, "improve")
        assert improve.value == pytest.approx(100 * (ours - best) / best)
        assert improve.percent and improve.std is None and improve.mark == ""
    assert _cell(found, "hr@1", "improve").published == 8.9


def test_a_large_difference_is_starred_after_holm(three: Path) -> None:
    found = _read(three, 2, "table2", "yelp")
    cell = _cell(found, "hr@10", "bt_sr")
    assert cell.star == "*" and cell.base == "CE"
    assert cell.test is not None and cell.test.against == "sasrec_ce"
    assert cell.test.p_holm is not None and cell.test.comparison.p is not None
    assert cell.test.p_holm > cell.test.comparison.p
    assert cell.published_star is False, "Yelp hr@10 has none in the paper"
    assert _cell(found, "hr@1", "bt_sr").published_star
    notes = "\n".join(found.footnotes)
    assert "after Holm over the 9 tests of this table" in notes and "the best other column by mean" in notes
    assert "9 of 9 comparisons with the best other column by mean: not enough runs for an exact test: 5 runs" in notes
    detectable = _cell(found, "ndcg@10", "bt_sr").test
    assert detectable is not None and detectable.comparison.detectable is not None
    assert f"given the spread seen: YELP, BT-SR {detectable.comparison.detectable:.4f}." in notes
    assert all(c.test is None for row in found.cells for c in row[:-2]), "only BT-SR is tested"


def test_table_1_tests_every_base_against_itself_with_bt(three: Path) -> None:
    found = _read(three, 1, "table2", "yelp")
    assert [row.metric for row in found.rows] == ["ndcg@10"]
    ce, bce = _cell(found, "ndcg@10", "sasrec_ce+bt"), _cell(found, "ndcg@10", "sasrec_bce+bt")
    assert ce.test is not None and ce.test.against == "sasrec_ce" and ce.star == "*"
    assert bce.test is not None and bce.test.against == "sasrec_bce" and bce.star == ""
    assert (ce.base, bce.base) == ("CE", "BCE") and ce.published == 0.0150
    assert _cell(found, "ndcg@10", "sasrec_sce+bt").value is None
    notes = "\n".join(found.footnotes)
    assert "better than its base" in notes and "Not asked for in study table2: SCE." in notes
    assert "Not asked for in study table2: SCE+BT (study table1 has them)." in notes


def test_table_3_takes_its_baseline_from_another_study(three: Path) -> None:
    found = _read(three, 3, "alpha_lambda")
    assert [(row.dataset, row.metric) for row in found.rows] == [("yelp", "ndcg@20")]
    values = [cell.value for cell in found.cells[0]]
    assert None not in values and values[1] > values[2] > values[0]  # type: ignore[operator]
    assert [cell.published for cell in found.cells[0]] == [0.0176, 0.0180, 0.0182]
    assert "seeds 1235, 37, 2451, 12, 3425; mean validation ndcg@10" in "\n".join(found.footnotes)
    assert sum("run by another study" in note for note in found.footnotes) == 1
    assert "* better than SASRec (BCE), and p < 0.05" in "\n".join(found.footnotes), "which is the base of neither"


def test_improve_is_positive_where_ours_is_better(three: Path) -> None:
    """Also of a metric that less is better of."""
    with open_store(three, read_only=True) as store:
        found = table(2, store, Request(study="table2", datasets=("yelp",)), metrics=(("gini", 10), ("hr", 10)))
    for metric, sign in (("gini@10", -1), ("hr@10", 1)):
        ours = _cell(found, metric, "bt_sr").value
        others = [_cell(found, metric, key).value for key in ("sasrec_ce", "sasrec_bce")]
        assert ours is not None
        best = max(sign * value for value in others if value is not None)
        assert _cell(found, metric, "improve").value == pytest.approx(100 * (sign * ours - best) / abs(best))
    notes = "\n".join(found.footnotes)
    assert "Positive is better: of gini@10 less is." in notes and "(metrics that are no mean over users: seeds" in notes


def test_metrics_can_be_asked_for(three: Path) -> None:
    with open_store(three, read_only=True) as store:
        found = table(2, store, Request(study="table2", datasets=("yelp",)), metrics=(("hr", 20), ("mrr", 7)))
    assert [row.metric for row in found.rows] == ["hr@20", "mrr@7"]
    assert all(cell.published is None for row in found.cells for cell in row)


def _two_alphas(split: Split) -> list[TrialResult]:
    """Two seeds each."""
    return [
        result(spec("bt_sr", dataset="yelp", alpha=a, seed=seed), split, valid=1, test=1)
        for a in (0.1, 0.4)
        for seed in (1235, 37)
    ]


def test_of_one_alpha_those_with_most_seeds_compete(tmp_path: Path) -> None:
    """Beside the line over alpha with its seeds there is a grid of one seed, whose best lambda is a lucky one."""
    split = split_of(data_config("yelp"), 60)
    line = _two_alphas(split)
    lucky = result(spec("bt_sr", dataset="yelp", alpha=0.1, lam=0.3), split, valid=9, test=1)
    runs = [*line, lucky]
    file = write(tmp_path / "btsr.db", "alpha_lambda", [run.spec for run in runs], runs, [split])
    found = _read(file, 3, "alpha_lambda")
    assert _cell(found, "ndcg@20", "bt_sr[alpha=0.1]").n == 2
    notes = "\n".join(found.footnotes)
    assert "Of one alpha, those with most seeds compete." in notes and "lambda 0.3" not in notes


def test_two_values_of_alpha_differ_in_alpha_alone(tmp_path: Path) -> None:
    """Both lines of the study cross at alpha 0.1, which alone has other lambdas; a luckier one is no comparison."""
    split = split_of(data_config("yelp"), 60)
    places = {(0.1, 0.05): 1.0, (0.4, 0.05): 1.0, (0.1, 0.0): 9.0, (0.1, 0.3): 5.0}
    runs = [
        result(spec("bt_sr", dataset="yelp", alpha=alpha, lam=lam, seed=seed), split, valid=valid, test=valid)
        for (alpha, lam), valid in places.items()
        for seed in (1235, 37)
    ]
    file = write(tmp_path / "btsr.db", "alpha_lambda", [run.spec for run in runs], runs, [split])
    notes = "\n".join(_read(file, 3, "alpha_lambda").footnotes)
    assert "YELP, all columns: " in notes and "lambda 0.05, " in notes
    assert "lambda 0," not in notes and "lambda 0.3" not in notes and "best of" not in notes
    more = [
        result(spec("bt_sr", dataset="yelp", alpha=0.4, lam=lam, seed=seed), split, valid=valid, test=valid)
        for lam, valid in ((0.0, 0.1), (0.3, 2.0))
        for seed in (1235, 37)
    ]
    write(file, "alpha_lambda", [run.spec for run in (*runs, *more)], more)
    notes = "\n".join(_read(file, 3, "alpha_lambda").footnotes)
    assert "lambda 0.3" in notes and notes.count("best of 3 configurations") == 2, "by the mean of both"


def test_a_base_of_another_protocol_is_not_taken_from_another_study(tmp_path: Path) -> None:
    split = split_of(data_config("yelp"), 60)
    line = _two_alphas(split)
    file = write(tmp_path / "btsr.db", "alpha_lambda", [run.spec for run in line], line, [split])
    for precision, there in (("bf16", False), ("fp32", True)):
        base = result(spec("sasrec_bce", dataset="yelp", loss="bce", precision=precision), split, valid=1, test=1)
        write(file, "table2", [base.spec], [base])
        found = _read(file, 3, "alpha_lambda")
        assert (_cell(found, "ndcg@20", "sasrec_bce").value is not None) is there
        assert (_cell(found, "ndcg@20", "bt_sr[alpha=0.4]").test is not None) is there
        command = (
            "btsr-sweep --study table2 --dataset yelp --profile released --filter none --methods sasrec_bce --out "
        )
        assert any(told.startswith(command) for told in found.commands) is not there


def test_one_seed_is_not_enough(tmp_path: Path) -> None:
    split = split_of(data_config(), 30)
    runs = [result(spec(), split, valid=1, test=1), result(spec("bt_sr", alpha=0.1), split, valid=1, test=3)]
    found = _read(write(tmp_path / "btsr.db", "table2", [r.spec for r in runs], runs, [split]), 2, "table2", "ml1m")
    cell = _cell(found, "hr@10", "bt_sr")
    assert cell.star == "" and cell.test is not None and cell.test.comparison.p is None
    assert (
        "9 of 9 comparisons with the best other column by mean: not enough runs: 1 common seed, a test over seeds "
        "needs 2." in found.footnotes
    )
    assert not any(note.startswith("Detectable") for note in found.footnotes)


def test_plans_are_the_papers() -> None:
    assert list(PLANS) == [1, 2, 3]
    assert len(TABLE2.metrics) == 9 and TABLE2.column("bt_sr").beats == tuple(c.key for c in TABLE2.columns[:-1])
    assert not TABLE1.column("sasrec_ce+bt").fits(spec("bt_sr", alpha=0.0)), "alpha = 0 is the base itself"
