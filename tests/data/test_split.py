"""Filter, boundary, item ids, buckets and leak checks by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.config import DataConfig
from harness.data.filters import filter_rows
from harness.data.leaks import Evidence, check_leaks
from harness.data.split import popularity_buckets, split_rows
from harness.errors import DataError, LeakError
from harness.values import Split
from tests.data.rows import Row, frame, parts, unfiltered

SMALL: list[Row] = [
    ("A", "a", 1),
    ("A", "b", 2),
    ("A", "c", 3),
    ("B", "b", 1),
    ("B", "d", 2),
    ("B", "a", 3),
    ("C", "a", 1),
    ("C", "c", 18),
    ("C", "b", 19),
    ("C", "d", 20),
]


class TestSmallExample:
    def test_natural_boundary_leaves_nobody(self) -> None:
        with pytest.raises(DataError, match=r"zero test users: of 1 users .* boundary 20 ") as caught:
            split_rows(frame(SMALL), unfiltered())
        assert "\n" not in str(caught.value)

    def test_boundary_at_18(self) -> None:
        # 0.8 of the positions 0..9 is 7.2, hence position 7, which is time 18.
        split, evidence = split_rows(frame(SMALL), unfiltered(quantile=0.8))
        assert split.boundary == 18
        assert split.item_ids.tolist() == ["a", "b", "c", "d"]
        assert parts(split) == ([["a", "b", "c"], ["b", "d", "a"]], [["c", "b", "d"]])
        assert split.user_ids.tolist() == ["C"] and evidence.train_user_ids.tolist() == ["A", "B"]
        assert split.item_ids[split.targets("valid")].tolist() == ["b"]
        assert split.item_ids[split.targets("test")].tolist() == ["d"]
        assert split.popularity.tolist() == [2, 2, 1, 1]
        # Total 6: the running sums 2, 4, 5, 6 reach 2 at the first and 4 at the second item.
        assert split.bucket.tolist() == [1, 2, 3, 3]
        assert dict(split.report) == {
            "raw_rows": 10,
            "raw_users": 3,
            "raw_items": 4,
            "rows_dropped_as_repeats": 0,
            "repeated_rows": 0,
            "first_time": 1,
            "last_time": 20,
            "future_rows": 0,
            "rows": 10,
            "users": 3,
            "items": 4,
            "boundary": 18,
            "rows_before_boundary": 7,
            "test_rows": 3,
            "test_users": 1,
            "test_users_with_earlier_rows": 1,
            "test_rows_of_unseen_items": 0,
            "train_rows": 6,
            "train_users": 2,
            "train_items": 4,
            "train_sequences": 2,
            "evaluated_users": 1,
            "repeat_share": 0.0,
            "partner_share": 0.0,
        }

    def test_dtypes(self) -> None:
        split, _ = split_rows(frame(SMALL), unfiltered(quantile=0.8))
        types = {name: getattr(split, name).dtype.str[1:] for name in ("train_items", "test_items", "popularity")}
        assert types == dict.fromkeys(types, "i4")
        assert split.train_offsets.dtype == split.test_offsets.dtype == np.int64
        assert split.bucket.dtype == np.int8
        assert split.item_ids.dtype.kind == split.user_ids.dtype.kind == "U"

    def test_unseen_items_are_dropped_before_users_are_counted(self) -> None:
        rows = [*SMALL, ("C", "z", 21), ("D", "a", 19), ("D", "z", 20), ("D", "b", 22)]
        split, _ = split_rows(frame(rows), unfiltered(quantile=0.56))
        # 0.56 * 13 = 7.28: position 7, time 18. D keeps two rows only.
        assert split.boundary == 18
        assert parts(split)[1] == [["c", "b", "d"]]
        assert split.report["test_rows_of_unseen_items"] == 2
        assert split.report["test_users"] == 2 and split.report["evaluated_users"] == 1

    def test_training_user_with_one_row_counts_as_popularity(self) -> None:
        split, _ = split_rows(frame([*SMALL, ("E", "e", 1)]), unfiltered(quantile=0.8))
        assert split.item_ids.tolist() == ["a", "b", "c", "d", "e"]
        assert split.popularity.tolist() == [2, 2, 1, 1, 1]
        assert split.report["train_users"] == 3 and split.report["train_sequences"] == 2


def test_boundary_of_as_many_rows_as_ml1m_has() -> None:
    times = np.arange(1_000_209)
    users = np.where(times < 950_198, "before", "after")
    split, _ = split_rows(pd.DataFrame({"user": users, "item": "a", "time": times}), unfiltered())
    assert split.boundary == 950_198


def test_no_training_sequence() -> None:
    rows = [("A", "a", 1), ("B", "b", 1), ("C", "a", 5), ("C", "b", 6), ("C", "a", 7)]
    with pytest.raises(DataError, match="no training user has two rows before the boundary 5"):
        split_rows(frame(rows), unfiltered(quantile=0.5))


def test_all_rows_at_one_time() -> None:
    with pytest.raises(DataError, match="no training user has two rows before the boundary 7 "):
        split_rows(frame([("A", "a", 7), ("A", "b", 7)]), unfiltered())


def test_filter_that_leaves_nothing() -> None:
    with pytest.raises(DataError, match="leaves none of 10 rows"):
        split_rows(frame(SMALL), DataConfig(dataset="synthetic"))
    with pytest.raises(DataError, match="leaves none of 0 rows"):
        split_rows(frame([]), unfiltered())


def test_shares() -> None:
    rows = [
        *(("A", i, t) for t, i in enumerate("abc")),
        *(("B", i, t) for t, i in enumerate("bdc")),
        *(("E", i, t) for t, i in enumerate("cda")),
        ("F", "a", 1),
        *(("C", i, 30 + t) for t, i in enumerate("abca")),
        *(("D", i, 30 + t) for t, i in enumerate("bad")),
    ]
    split, _ = split_rows(frame(rows), unfiltered(quantile=0.6))
    assert split.boundary == 30
    assert split.report["repeat_share"] == 0.5
    # Last items c, c, a among the users with two rows or more: two of three share one.
    assert split.report["partner_share"] == pytest.approx(2 / 3)


class TestOrderOfIds:
    def rows(self, names: list[str]) -> list[Row]:
        known = [("u1", name, t) for t, name in enumerate(names)]
        return [*known, *(("u2", name, 100 + t) for t, name in enumerate(names[:3]))]

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["10", "9", "2", "100"], ["2", "9", "10", "100"]),
            (["007", "10", "7", "0"], ["0", "007", "7", "10"]),
            (["10", "9", "2", "x"], ["10", "2", "9", "x"]),
            (["10", "9", "-1"], ["-1", "10", "9"]),
            (["B", "a", "é", "A"], ["A", "B", "a", "é"]),
            (["123456789012345678901234567890", "5", "6"], ["5", "6", "123456789012345678901234567890"]),
        ],
    )
    def test_by_value_only_if_all_are_decimal(self, names: list[str], expected: list[str]) -> None:
        split, _ = split_rows(frame(self.rows(names)), unfiltered(quantile=(len(names) - 0.3) / (len(names) + 2)))
        assert split.item_ids.tolist() == expected

    def test_only_training_items_decide(self) -> None:
        rows = [*self.rows(["10", "9", "2"]), ("u2", "a-name-that-is-longer", 103)]
        split, _ = split_rows(frame(rows), unfiltered(quantile=0.5))
        assert split.item_ids.tolist() == ["2", "9", "10"]
        assert split.item_ids.dtype == np.dtype("U2")


class TestTies:
    rows: list[Row] = [
        *(("u1", str(i), 10) for i in (5, 3, 1, 4, 2, 9, 8, 7, 6)),
        *(("u2", str(i), 20) for i in (4, 6, 2, 8, 1)),
    ]

    def test_stable_is_the_order_of_the_file(self) -> None:
        split, _ = split_rows(frame(self.rows), unfiltered(quantile=0.7))
        assert parts(split) == ([list("531429876")], [list("46281")])

    def test_random_is_another_order_and_always_the_same(self) -> None:
        config = unfiltered(quantile=0.7, tie="random")
        split, _ = split_rows(frame(self.rows), config)
        again, _ = split_rows(frame(self.rows), config)
        (train,), (test,) = parts(split)
        assert parts(split) == parts(again) and split.fingerprint == again.fingerprint
        assert sorted(train) == list("123456789") and train != list("531429876")
        assert sorted(test) == list("12468")

    @pytest.mark.parametrize("tie", ["random", "targets"])
    def test_the_order_of_time_is_kept(self, tie: str) -> None:
        rows = [(user, item, time + position) for position, (user, item, time) in enumerate(self.rows)]
        stable, _ = split_rows(frame(rows), unfiltered(quantile=0.7))
        drawn, _ = split_rows(frame(rows), unfiltered(quantile=0.7, tie=tie))
        assert parts(stable) == parts(drawn)
        assert stable.fingerprint != drawn.fingerprint

    def test_targets_alone_are_drawn(self) -> None:
        """Of twenty test users with five rows of one time; inputs and training stay in the order of the file."""
        rows = [("u1", str(i), 10) for i in (5, 3, 1, 4, 2, 9, 8, 7, 6)] * 30
        testers = [f"t{i:02}" for i in range(20)]
        rows += [(user, str(i), 20 + (i in {2, 8})) for user in testers for i in (4, 6, 2, 8, 1)]
        split, _ = split_rows(frame(rows), unfiltered(quantile=0.8, tie="targets"))
        (train,), found = parts(split)
        assert train == list("531429876") * 30
        assert {tuple(sequence[3:]) for sequence in found} == {("2", "8"), ("8", "2")}, (
            "the later ones, in either order"
        )
        assert {tuple(sequence[:3]) for sequence in found} == {("4", "6", "1")}
        same_time = [(user, item, min(time, 20)) for user, item, time in rows]
        split, _ = split_rows(frame(same_time), unfiltered(quantile=0.8, tie="targets"))
        _, found = parts(split)
        pairs = {tuple(sequence[3:]) for sequence in found}
        assert len(pairs) > 8, "of 20 possible ones"
        for sequence in found:
            assert sequence[:3] == [item for item in "46281" if item not in sequence[3:]]

    def test_targets_are_drawn_of_known_items_and_without_a_boundary(self) -> None:
        """An unknown item of the latest time is no target. Leave-one-out trains on all but the drawn ones."""
        rows = [("u1", str(i), 10) for i in range(1, 6)] * 9
        rows += [(f"t{user:02}", item, 20) for user in range(12) for item in ("x", "1", "2", "3", "y")]
        split, _ = split_rows(frame(rows), unfiltered(quantile=0.5, tie="targets"))
        _, found = parts(split)
        assert len(found) == 12 and all(sorted(sequence) == ["1", "2", "3"] for sequence in found)
        assert len({sequence[-1] for sequence in found}) == 3
        left_out, _ = split_rows(frame(rows), unfiltered(split="leave_one_out", tie="targets"))
        train, test = parts(left_out)
        for mine in (sequence for sequence in test if len(sequence) == 5):
            assert mine[:3] in train and mine[:3] == [item for item in ("x", "1", "2", "3", "y") if item in mine[:3]]


class TestFilters:
    # Item z has two users but three rows; dropping it leaves user 3 with one item.
    users = np.array([0, 0, 1, 1, 2, 2, 2])
    items = np.array([0, 1, 0, 1, 0, 2, 2])

    def kept(self, **changes: Any) -> list[int]:
        return np.flatnonzero(filter_rows(self.users, self.items, DataConfig(dataset="x", **changes))).tolist()

    def test_none(self) -> None:
        assert self.kept(filter="none", min_item=1, min_user=1) == [0, 1, 2, 3, 4, 5, 6]

    def test_one_pass_counts_distinct_partners_items_first(self) -> None:
        assert self.kept(filter="one_pass", min_item=2, min_user=1) == [0, 1, 2, 3, 4]
        assert self.kept(filter="one_pass", min_item=2, min_user=2) == [0, 1, 2, 3]
        # User 2 leaves, item 0 then has two users only: one pass does not look again.
        assert self.kept(filter="one_pass", min_item=3, min_user=1) == [0, 2, 4]

    def test_iterative_counts_rows_until_nothing_changes(self) -> None:
        assert self.kept(filter="iterative", min_item=2, min_user=3) == [] == self.kept(filter="iterative", min_item=4)
        assert self.kept(filter="iterative", min_item=2, min_user=2) == [0, 1, 2, 3, 4, 5, 6]
        assert self.kept(filter="iterative", min_item=3, min_user=1) == [0, 2, 4]

    def test_users_first_looks_at_items_last(self) -> None:
        # User 2 has three rows of two distinct items, users 0 and 1 two rows each.
        assert self.kept(filter="one_pass_users_first", min_item=1, min_user=2) == [0, 1, 2, 3, 4, 5, 6]
        assert self.kept(filter="one_pass_users_first", min_item=2, min_user=2) == [0, 1, 2, 3, 4]
        assert self.kept(filter="one_pass_users_first", count="rows", min_item=1, min_user=3) == [4, 5, 6]

    def test_at_once_takes_both_counts_of_the_raw_rows(self) -> None:
        # Iterative, item 0 would fall to one row when users 0 and 1 leave.
        assert self.kept(filter="at_once", min_item=3, min_user=3) == [4]
        assert self.kept(filter="iterative", min_item=3, min_user=3) == []

    def test_what_is_counted_is_an_option(self) -> None:
        assert self.kept(filter="one_pass", min_item=2, min_user=1, count="rows") == [0, 1, 2, 3, 4, 5, 6]
        assert self.kept(filter="iterative", min_item=2, min_user=2, count="partners") == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("popularity", "expected"),
    [
        ([10, 6, 5, 4, 3, 2], [1, 2, 2, 3, 3, 3]),
        ([30, 1, 1, 1], [1, 2, 3, 3]),
        ([1] * 7, [1, 1, 1, 2, 2, 3, 3]),
        ([1, 1, 30, 1], [2, 3, 1, 3]),
        ([5], [1]),
        ([5, 5], [1, 2]),
        ([2_000_000_000] * 3, [1, 2, 3]),
    ],
)
def test_bucket_vectors(popularity: list[int], expected: list[int]) -> None:
    bucket = popularity_buckets(np.array(popularity, np.int32))
    assert bucket.dtype == np.int8
    assert bucket.tolist() == expected


class TestLeaks:
    @pytest.fixture
    def clean(self) -> tuple[Split, Evidence]:
        return split_rows(frame(SMALL), unfiltered(quantile=0.8))

    @pytest.mark.parametrize(
        ("in_split", "in_evidence", "words"),
        [
            ({}, {"train_times": [1, 2, 3, 1, 2]}, "6 training rows have 5 times, and users with 6 rows"),
            ({}, {"train_times": []}, "6 training rows have 0 times"),
            ({"train_offsets": [0, 3, 5]}, {}, "6 training rows have 6 times, and users with 5 rows"),
            ({}, {"train_user_ids": ["A"]}, "2 training users have 1 ids"),
            ({}, {"test_times": [18, 19]}, "3 test rows have 2 times"),
            ({"test_offsets": [0, 2]}, {}, "3 test rows have 3 times, and users with 2 rows"),
            ({"user_ids": []}, {}, "1 test users have 0 ids"),
            ({}, {"train_times": [1, 2, 3, 1, 2, 18]}, "1 training rows are at or after the boundary 18"),
            ({}, {"test_times": [17, 19, 20]}, "1 test rows are before the boundary 18"),
            ({}, {"train_user_ids": ["A", "C"]}, "1 users are in training and test, such as C"),
            ({"train_items": [0, 1, 0, 1, 3, 0]}, {}, "not exactly those of the training rows"),
            ({"train_items": [0, 1, 2, 1, 4, 0]}, {}, "not exactly those of the training rows"),
            ({"train_items": [0, 1, 2, -1, 3, 0]}, {}, "not exactly those of the training rows"),
            ({"test_items": [2, 1, 4]}, {}, "items that no training row has"),
            ({"test_items": [2, -1, 3]}, {}, "items that no training row has"),
            ({"popularity": [2, 3, 1, 1]}, {}, "popularity does not come from the training rows alone"),
            ({"test_items": [2, 1], "test_offsets": [0, 2]}, {"test_times": [18, 19]}, "fewer than 3 rows"),
            ({}, {"test_times": [18, 20, 19]}, "rows of a test user are not in order of time"),
            ({}, {"train_times": [1, 3, 2, 1, 2, 3]}, "rows of a training user are not in order of time"),
        ],
    )
    def test_planted(
        self,
        clean: tuple[Split, Evidence],
        in_split: dict[str, list[int]],
        in_evidence: dict[str, list[Any]],
        words: str,
    ) -> None:
        split, evidence = clean
        check_leaks(split, evidence)
        split = replace(split, **{name: np.array(value) for name, value in in_split.items()})
        evidence = replace(evidence, **{name: np.array(value) for name, value in in_evidence.items()})
        with pytest.raises(LeakError, match=words) as caught:
            check_leaks(split, evidence)
        assert "\n" not in str(caught.value)
