"""The audit finds what the specification lists (section 8), and nothing that rounding explains."""

import pytest

from reports import audit
from reports.sheet import SHEET_RENDERERS
from tests.reports.latex import check
from tests.reports.test_sheet import parsed


def _places(rows: object) -> list[str]:
    return [row[1] for row in rows]  # type: ignore[attr-defined]


def test_improve_of_six_rows() -> None:
    rows = list(audit.improve())
    assert [(row[1], row[2], row[3]) for row in rows] == [
        ("Gowalla, cov@1", "+25.9 %", "+18.9 %"),
        ("Gowalla, cov@5", "+36.3 %", "+28.3 %"),
        ("Gowalla, cov@10", "+34.6 %", "+32.5 %"),
        ("Beauty, cov@1", "-20.7 %", "-27.7 %"),
        ("Beauty, cov@5", "-29.2 %", "-30.7 %"),
        ("Beauty, cov@10", "-30.5 %", "-6.2 %"),
    ]


def test_improve_range_by_hand() -> None:
    low, high = audit.improve_range(0.0110, 0.0100)
    assert low == pytest.approx(100 * (0.01095 / 0.01005 - 1)) and high == pytest.approx(100 * (0.01105 / 0.00995 - 1))
    assert low < 10 < high


def test_eleven_asterisks() -> None:
    assert _places(audit.stars()) == [
        *(f"ML 1M, {metric}" for metric in ("hr@1", "hr@10", "ndcg@10", "ndcg@50")),
        *(f"YELP, {metric}" for metric in ("hr@1", "ndcg@10", "cov@5", "cov@10")),
        "Gowalla, hr@1",
        "Beauty, hr@5",
        "Kindle Store, hr@5",
    ]


def test_t_by_hand() -> None:
    """ML-1M hr@1: (0.0240 - 0.0213) / (0.0048 / sqrt 5) = 1.258."""
    row = audit._row("ml1m", "hr@1")
    assert audit.star_t(row) == pytest.approx(1.2578, abs=1e-3)


def test_values_that_750_users_cannot_give() -> None:
    found = {row[1]: row for row in audit.impossible()}
    for place in (
        "ML 1M, hr@5, CL4SRec",
        "ML 1M, hr@5, BT-SR",
        "ML 1M, hr@10, BT-SR",
        "ML 1M, hr@10, SASRec (CE)",
    ):
        assert place in found
    assert "nor can a single run" in found["ML 1M, hr@10, SASRec (CE)"][4]
    assert all(place.startswith(("ML 1M", "Beauty")) for place in found)


def test_attainable_values_by_hand() -> None:
    """Two users: one run gives 0, 0.5 (25 % is the limit that is looked at: none); ten users: 0, 0.1, 0.2."""
    single, mean = audit.attainable(10)
    assert single == {0, 1000, 2000}
    assert {0, 200, 400, 600, 800, 1000, 2000} <= mean and 100 not in mean
    single, mean = audit.attainable(750)
    assert 880 in single and 847 not in single, "66/750 is 0.0880"
    assert 847 not in mean


def test_table_1_and_2() -> None:
    rows = {row[1]: row for row in audit.tables_agree()}
    assert list(rows) == ["ML 1M, ndcg@10, BT-SR", "Beauty, ndcg@10, BT-SR"]
    assert rows["ML 1M, ndcg@10, BT-SR"][2:4] == ("0.0583 in table 1", "0.0534 in table 2")


def test_one_cell_equals_another_methods() -> None:
    ((_, place, printed, recomputed, remark),) = audit.equal_cells()
    assert (place, printed) == ("Beauty, cov@10, BT-SR", "0.3234")
    assert recomputed == "0.2396" and "DuoRec" in remark


def test_spreads_below_one_user() -> None:
    assert _places(audit.small_spread()) == ["Beauty, ndcg@5, BT-SR", "Beauty, ndcg@10, BT-SR"]


def test_words_against_numbers() -> None:
    assert len(_places(audit.coverage_words())) == 7
    assert "YELP, cov@1" in _places(audit.coverage_words())
    assert "YELP, ndcg@10" in _places(audit.base_loss())
    ((_, place, printed, recomputed, _),) = audit.points_words()
    assert (place, printed, recomputed) == ("YELP, hr@1", "2 to 3 points, in words", "0.49 % in all")


def test_the_sheet_is_complete_kind_and_renders() -> None:
    sheet = audit.audit()
    notes = " ".join(sheet.footnotes)
    assert "BT-SR is best in 35 of 45 rows; exactly these bear an asterisk" in notes
    assert "Improve follows from the printed values in 39 of 45 rows" in notes
    assert "270 of the 315 values" in notes
    assert "needs t > 2.776" in notes and "coverage in the text: 7; drop in the text: 1" in notes
    words = " ".join(word for row in sheet.rows for word in row).lower()
    assert not any(unkind in words for unkind in ("wrong", "false", "fake", "error", "mistake"))
    made = {name: render(sheet) for name, (_, render) in SHEET_RENDERERS.items()}
    check(made["latex"])
    parsed(made["html"])
