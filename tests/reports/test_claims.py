"""Claims answered from invented results whose truth is known."""

from pathlib import Path

import pytest

from harness.config import SEEDS
from harness.store import open_store
from reports.claims import Claim, Claims, answer, claims
from reports.results import Request, gather
from reports.stats import Comparison, Interval
from tests.reports.world import data_config, result, spec, split_of, write


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ML-1M: BT far better than CE and growing with alpha; BCE as good as BCE with BT; nothing on Yelp."""
    split = split_of(data_config(), 400)
    line = [
        result(spec("bt_sr", alpha=a, seed=seed), split, valid=1 + a, test=0.5 + 3 * a)
        for a in (0.0, 0.1, 0.5)
        for seed in SEEDS
    ]
    others = [result(spec(seed=seed), split, valid=1, test=0.5) for seed in SEEDS]
    others += [result(spec("sasrec_bce", loss="bce", seed=s), split, valid=1, test=0.5) for s in SEEDS]
    others += [result(spec("bt_sr", loss="bce", alpha=0.1, seed=s), split, valid=0, test=0.5) for s in SEEDS]
    file = tmp_path_factory.mktemp("claims") / "btsr.db"
    write(file, "table2", [run.spec for run in others], others, [split])
    return write(file, "alpha_lambda", [run.spec for run in line], line, [split])


def _answers(database: Path) -> dict[tuple[str, str], Claim]:
    with open_store(database, read_only=True) as store:
        found = Claims(gather(store, Request(study="alpha_lambda", datasets=("ml1m", "yelp")))).all()
        return {(claim.dataset, claim.claim): claim for claim in found}


def test_answer_by_interval() -> None:
    def made(low: float, high: float) -> Comparison:
        span = Interval(low=low, high=high, over="seeds")
        return Comparison(
            n=5, difference=(low + high) / 2, interval=span, p_seeds=None, p_users=None, p_exact=None, detectable=None
        )

    assert answer(made(0.1, 0.2)) == "yes"
    assert answer(made(-0.2, -0.1)) == "no"
    assert answer(made(-0.1, 0.1)) == "undecided"


def test_answers(database: Path) -> None:
    found = _answers(database)
    for claim, expected in (
        ("alpha lowers hr@1 in the head bucket", "no"),
        ("alpha raises hr@10 in the tail bucket", "yes"),
        ("hr@1 peaks at alpha <= 0.1", "no"),
        ("BT raises ndcg@10 of CE", "yes"),
        ("BT raises ndcg@10 of BCE", "undecided"),
        ("BT raises ndcg@10 of SCE", "not run"),
        ("BT-SR raises hr@10 in the mid bucket", "yes"),
        ("BT-SR has the best ndcg@10", "yes"),
    ):
        assert found["ml1m", claim].answer == expected, found["ml1m", claim]
    assert all(claim.answer == "not run" for (dataset, _), claim in found.items() if dataset == "yelp")
    head = found["ml1m", "alpha lowers hr@1 in the head bucket"]
    assert "difference +0." in head.numbers and "over seeds and users, n = 5" in head.numbers
    assert head.how == "alpha 0.5 against 0, lambda 0.05, CE, B 256, mean_d"
    assert "chosen on test" in found["ml1m", "hr@1 peaks at alpha <= 0.1"].how


def test_the_sheet_counts_and_tells_its_power(database: Path) -> None:
    with open_store(database, read_only=True) as store:
        sheet = claims(gather(store, Request(study="alpha_lambda")))
    notes = " ".join(sheet.footnotes)
    assert "not corrected for the number of claims" in notes
    assert "ML 1M: with 5 runs and the spread seen, a true difference of" in notes
    assert len(sheet.rows) == 5 * 12
