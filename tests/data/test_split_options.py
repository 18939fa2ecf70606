"""Repeats, leave-one-out and the words for every option, by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.config import DataConfig, TrialSpec
from harness.data.filters import repeat_rows
from harness.data.leaks import check_leaks
from harness.data.split import fingerprint, split_rows
from harness.errors import DataError, LeakError
from tests.data.rows import Row, frame, parts, unfiltered
from tests.data.test_split import SMALL


class TestRepeats:
    rows: list[Row] = [
        ("A", "a", 5),
        ("A", "a", 3),
        ("A", "b", 4),
        ("A", "a", 3),
        ("B", "a", 3),
        ("A", "a", 5),
    ]

    @pytest.mark.parametrize(
        ("policy", "kept"),
        [("keep", [0, 1, 2, 3, 4, 5]), ("first", [1, 2, 4]), ("last", [2, 4, 5]), ("exact", [0, 1, 2, 4])],
    )
    def test_policy(self, policy: str, kept: list[int]) -> None:
        users, items = (np.array([ord(row[side]) for row in self.rows]) for side in (0, 1))
        times = np.array([row[2] for row in self.rows])
        config = DataConfig(dataset="x", repeats=policy)
        assert np.flatnonzero(repeat_rows(users, items, times, config)).tolist() == kept

    def test_goes_before_the_filter_and_is_counted(self) -> None:
        rows = [*SMALL, ("A", "a", 2), ("C", "d", 20)]
        split, _ = split_rows(frame(rows), unfiltered(quantile=0.8, repeats="first"))
        expected, _ = split_rows(frame(SMALL), unfiltered(quantile=0.8, repeats="first"))
        assert split.fingerprint == expected.fingerprint
        assert split.report["rows_dropped_as_repeats"] == 2 and split.report["repeated_rows"] == 0
        assert split_rows(frame(rows), unfiltered(quantile=0.7))[0].report["repeated_rows"] == 2


class TestLeaveOneOut:
    config = unfiltered(split="leave_one_out")
    rows: list[Row] = [
        *(("A", item, time) for time, item in enumerate("abcd", 1)),
        *(("B", item, time) for time, item in enumerate("bcab", 30)),
        *(("C", item, time) for time, item in enumerate("abz", 20)),
        ("D", "d", 50),
        ("D", "c", 51),
    ]

    def test_by_hand(self) -> None:
        """A and B lose their last two rows; C's target z is no training item, D is too short: both only train."""
        split, evidence = split_rows(frame(self.rows), self.config)
        assert parts(split) == ([["a", "b"], ["b", "c"], ["a"], ["d", "c"]], [list("abcd"), list("bcab")])
        assert split.boundary == 0 and split.user_ids.tolist() == ["A", "B"]
        assert split.item_ids[split.targets("valid")].tolist() == ["c", "a"]
        assert split.item_ids[split.targets("test")].tolist() == ["d", "b"]
        assert split.item_ids.tolist() == list("abcd") and split.popularity.tolist() == [2, 2, 2, 1]
        assert evidence.train_times.tolist() == [1, 2, 30, 31, 20, 50, 51]
        report = split.report
        assert (report["test_users"], report["evaluated_users"], report["test_rows"]) == (3, 2, 6)
        assert report["test_rows_of_unseen_items"] == 1 and report["repeat_share"] == 0.5
        # A's test target is of time 4: the rows of B, C and D are later, and trained on.
        assert report["future_rows"] == 5

    def test_nobody_to_evaluate(self) -> None:
        rows = [("A", "a", 1), ("A", "b", 2), ("A", "y", 3), ("A", "z", 4), ("B", "a", 1), ("B", "b", 2)]
        with pytest.raises(DataError, match="zero test users: of 1 users"):
            split_rows(frame(rows), self.config)
        with pytest.raises(DataError, match="no training user has two rows besides those left out"):
            split_rows(frame(rows[:3]), self.config)

    @pytest.mark.parametrize(
        ("in_split", "in_evidence", "words"),
        [
            ({}, {"train_user_ids": ["A", "X", "C", "D"]}, "evaluated users are missing from training"),
            (
                {"train_items": [0, 1, 2, 1, 2, 0, 3, 2], "train_offsets": [0, 3, 5, 6, 8]},
                {"train_times": [1, 2, 3, 30, 31, 20, 50, 51]},
                "target is among the training rows of its user",
            ),
            ({"train_items": [0, 2, 1, 2, 0, 3, 2]}, {}, "not what stands in training"),
            ({}, {"train_times": [1, 3, 30, 31, 20, 50, 51]}, "not what stands in training"),
            ({"popularity": [3, 2, 2, 1]}, {}, "popularity does not come from the training rows alone"),
            ({"test_items": [0, 1, 2, 9, 1, 2, 0, 1]}, {}, "items that no training row has"),
            ({}, {"test_times": [1, 2, 4, 3, 30, 31, 32, 33]}, "rows of a test user are not in order of time"),
        ],
    )
    def test_planted(self, in_split: dict[str, list[int]], in_evidence: dict[str, list[Any]], words: str) -> None:
        split, evidence = split_rows(frame(self.rows), self.config)
        split = replace(split, **{name: np.array(value) for name, value in in_split.items()})
        evidence = replace(evidence, **{name: np.array(value) for name, value in in_evidence.items()})
        with pytest.raises(LeakError, match=words):
            check_leaks(split, evidence)


class TestProtocol:
    def test_every_option_is_named(self) -> None:
        config = DataConfig(
            dataset="yelp", filter="one_pass", min_user=20, repeats="exact", tie="random", edition="2022"
        )
        assert config.protocol() == (
            "items with at least 5 and users with at least 20 distinct partners (one pass, items first); one boundary "
            "in time at quantile 0.95; ties random; repeats: exact only; edition 2022"
        )
        assert "LEAKS THE FUTURE" in unfiltered(split="leave_one_out").protocol()

    def test_what_was_read_is_named_and_its_edition_once(self) -> None:
        for asked, found, end in (
            ("", "2014", "repeats kept; read from a.csv, edition 2014"),
            ("2014", "2014", "repeats kept; edition 2014; read from a.csv"),
            ("2018", "2014", "repeats kept; edition 2018; read from a.csv, edition 2014"),
            ("", "", "repeats kept; read from a.csv"),
        ):
            assert DataConfig(dataset="yelp", edition=asked).protocol("a.csv", found).endswith(end)

    @pytest.mark.parametrize(
        "change",
        [
            {"repeats": "first"},
            {"count": "partners"},
            {"split": "leave_one_out"},
            {"edition": "2018"},
            {"filter": "at_once"},
        ],
        ids=str,
    )
    def test_every_option_changes_key_and_fingerprint(self, change: dict[str, Any]) -> None:
        base, other = DataConfig(dataset="yelp"), DataConfig(dataset="yelp", **change)
        assert set(base.canonical()) < set(other.canonical()) or "filter" in change
        keys = {TrialSpec(method="sasrec_ce", data=config).key for config in (base, other)}
        assert len(keys) == 2 and other.protocol() != base.protocol()
        assert fingerprint(base, 1, {}) != fingerprint(other, 1, {})
