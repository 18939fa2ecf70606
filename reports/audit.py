"""What follows from the printed numbers alone, recomputed (spec section 8): no run of ours takes part.

Rounding is taken into account throughout: a printed value stands for everything that rounds to it. A row here says
that two printed things do not follow from each other, not why.
"""

from collections.abc import Iterator
from functools import cache
from math import log2, sqrt

import numpy as np
from scipy import stats

from harness.config import PAPER_DATASETS
from reports.names import dataset_title, method_title
from reports.plans import BASE_LOSSES, IMPROVE, OURS, TABLE2
from reports.published import AUTHORS_TEST_USERS, Published, published
from reports.sheet import Sheet
from reports.stats import LEVEL

RUNS = 5
"""The paper's means are over five runs."""
NEEDED_T = float(stats.t.ppf(1 - LEVEL / 2, RUNS - 1))
"""What t of so many runs has to exceed for p < 0.05."""
HALF = 0.00005
"""Half a unit of the last printed digit of a metric."""
DROP_IN_WORDS = 0.02
"""What precision at the top is said to lose at least ("only 2-3 percentage points")."""
HALF_PERCENT = 0.05
"""The same of Improve."""

Row = tuple[str, str, str, str, str]
METRICS: tuple[str, ...] = tuple(f"{name}@{k}" for name, k in TABLE2.metrics)


def _cell(dataset: str, metric: str, method: str, table: int = 2) -> Published:
    return published()[table, dataset, metric, method]


def _row(dataset: str, metric: str) -> dict[str, Published]:
    """Method -> printed cell of a row of table 2."""
    return {column.key: _cell(dataset, metric, column.key) for column in TABLE2.columns}


def _best_other(row: dict[str, Published]) -> Published:
    return max((cell for method, cell in row.items() if method != OURS), key=lambda cell: cell.value)


def _place(dataset: str, metric: str) -> str:
    return f"{dataset_title(dataset)}, {metric}"


def improve_range(ours: float, other: float) -> tuple[float, float]:
    """The least and largest Improve (percent) of all values that round to these."""
    low, high = ((ours + sign * HALF) / (other - sign * HALF) for sign in (-1, 1))
    return 100 * (low - 1), 100 * (high - 1)


def improve() -> Iterator[Row]:
    """Rows whose printed Improve does not follow from the printed values (I4)."""
    for dataset in PAPER_DATASETS:
        for metric in METRICS:
            row = _row(dataset, metric)
            other, printed = _best_other(row), _cell(dataset, metric, IMPROVE)
            low, high = improve_range(row[OURS].value, other.value)
            if not low - HALF_PERCENT <= printed.value <= high + HALF_PERCENT:
                change = 100 * (row[OURS].value / other.value - 1)
                yield (
                    "Improve",
                    _place(dataset, metric),
                    f"{printed.value:+.1f} %",
                    f"{change:+.1f} %",
                    f"recomputed against the best other column, {method_title(other.method)} {other.value:.4f}",
                )


def star_t(row: dict[str, Published]) -> float:
    """t of our printed mean and spread over five runs against the best other printed value, taken as a constant."""
    ours = row[OURS]
    assert ours.std is not None
    return (ours.value - _best_other(row).value) / (ours.std / sqrt(RUNS))


def stars() -> Iterator[Row]:
    """Asterisks that the printed spread does not give (I9)."""
    for dataset in PAPER_DATASETS:
        for metric in METRICS:
            row = _row(dataset, metric)
            if row[OURS].starred and star_t(row) < NEEDED_T:
                yield (
                    "asterisk",
                    _place(dataset, metric),
                    f"{row[OURS].value:.4f} ±{row[OURS].std:.4f} *",
                    f"t = {star_t(row):.2f}",
                    f"recomputed against {method_title(_best_other(row).method)} {_best_other(row).value:.4f}",
                )


@cache
def attainable(users: int) -> tuple[frozenset[int], frozenset[int]]:
    """Printed hr values (in units of 0.0001) of one run with so many users, and of the mean of five runs.

    For the mean, both ways count: of exact values, and of values that were rounded to four digits first.
    """
    most = int(0.25 * users)
    single = {round(10_000 * hits / users) for hits in range(most + 1)}
    exact = {v for hits in range(RUNS * most + 1) for v in _roundings(10_000 * hits / (RUNS * users))}
    near = np.zeros(10_000, np.int64)
    near[list(single)] = 1
    sums = near.copy()
    for _ in range(RUNS - 1):
        sums = (np.convolve(sums, near) > 0).astype(np.int64)[:20_000]
    rounded = {v for total in np.flatnonzero(sums).tolist() for v in _roundings(total / RUNS)}
    return frozenset(single), frozenset(exact | rounded)


def _roundings(value: float) -> set[int]:
    """Both integers where a value is half between them, otherwise the nearest."""
    return {int(np.floor(value + 0.5 - 1e-9)), int(np.floor(value + 0.5 + 1e-9))}


def impossible() -> Iterator[Row]:
    """hr values that no run, and no mean of five runs, on the known number of test users can have (I6, I7)."""
    for dataset, users in AUTHORS_TEST_USERS.items():
        single, mean = attainable(users)
        for metric in ("hr@1", "hr@5", "hr@10"):
            for method, cell in _row(dataset, metric).items():
                units = round(10_000 * cell.value)
                if units not in mean:
                    near = min(mean, key=lambda value: abs(value - units))
                    alone = "a single run could have it" if units in single else "nor can a single run have it"
                    yield (
                        "test users",
                        f"{_place(dataset, metric)}, {method_title(method)}",
                        f"{cell.value:.4f}",
                        f"{near / 10_000:.4f}",
                        f"recomputed: nearest mean of five runs on {users:,} test users; {alone}",
                    )


def tables_agree() -> Iterator[Row]:
    """ndcg@10 of Table 1 against Table 2: base losses, and the best +BT against BT-SR (I3)."""
    for dataset in PAPER_DATASETS:
        pairs = [(f"sasrec_{base}", f"sasrec_{base}") for base in BASE_LOSSES]
        best = max((f"sasrec_{base}+bt" for base in BASE_LOSSES), key=lambda m: _cell(dataset, "ndcg@10", m, 1).value)
        for one, two in (*pairs, (best, OURS)):
            first, second = _cell(dataset, "ndcg@10", one, 1), _cell(dataset, "ndcg@10", two)
            if abs(first.value - second.value) > HALF:
                yield (
                    "table 1 and 2",
                    f"{_place(dataset, 'ndcg@10')}, {method_title(two)}",
                    f"{first.value:.4f} in table 1",
                    f"{second.value:.4f} in table 2",
                    f"{100 * (first.value / second.value - 1):+.1f} %: one is a single run, the other a mean, as far "
                    "as the released runs tell",
                )


def small_spread() -> Iterator[Row]:
    """Spreads smaller than what one user's hit at the last place is worth (I27)."""
    for dataset, users in AUTHORS_TEST_USERS.items():
        for metric in METRICS:
            name, k = metric.split("@")
            cell = _cell(dataset, metric, OURS)
            grain = {"hr": 1.0, "ndcg": 1 / log2(int(k) + 1)}.get(name, 0.0) / users
            if cell.std is not None and cell.std + HALF < grain:
                yield (
                    "spread",
                    f"{_place(dataset, metric)}, {method_title(OURS)}",
                    f"±{cell.std:.4f}",
                    f"{grain:.4f}",
                    f"recomputed: what one of {users:,} users adds who finds the target at place {k}",
                )


def equal_cells() -> Iterator[Row]:
    """Values of BT-SR that equal another method's although its Improve says otherwise (I5)."""
    for dataset in PAPER_DATASETS:
        for metric in METRICS:
            row = _row(dataset, metric)
            printed = _cell(dataset, metric, IMPROVE)
            for method, cell in row.items():
                if method != OURS and cell.value == row[OURS].value and abs(printed.value) > HALF_PERCENT + 0.2:
                    yield (
                        "equal values",
                        f"{_place(dataset, metric)}, {method_title(OURS)}",
                        f"{row[OURS].value:.4f}",
                        f"{_best_other(row).value * (1 + printed.value / 100):.4f}",
                        f"equals {method_title(method)}; recomputed from the printed Improve and the best other column",
                    )


def coverage_words() -> Iterator[Row]:
    """Coverage that falls where the text speaks of gains (I17)."""
    for dataset in ("ml1m", "beauty", "yelp"):
        for metric in ("cov@1", "cov@5", "cov@10"):
            row = _row(dataset, metric)
            other = _best_other(row)
            if row[OURS].value < other.value:
                yield (
                    "coverage in the text",
                    _place(dataset, metric),
                    "a gain, in words",
                    f"{100 * (row[OURS].value / other.value - 1):+.1f} %",
                    f"recomputed against the best other column, {method_title(other.method)}",
                )


def base_loss() -> Iterator[Row]:
    """Best base losses of Table 1 whose lead is within the spread that Table 2 prints (I20)."""
    for dataset in PAPER_DATASETS:
        values = {base: _cell(dataset, "ndcg@10", f"sasrec_{base}+bt", 1).value for base in BASE_LOSSES}
        first, second = sorted(values, key=lambda base: -values[base])[:2]
        spread = _cell(dataset, "ndcg@10", OURS).std
        if spread is not None and values[first] - values[second] < spread:
            yield (
                "best base loss",
                _place(dataset, "ndcg@10"),
                f"{first.upper()}+BT {values[first]:.4f}",
                f"{second.upper()}+BT {values[second]:.4f}",
                f"recomputed: their difference is within the printed spread ±{spread:.4f}",
            )


def points_words() -> Iterator[Row]:
    """A drop in percentage points, in the text, that is larger than the printed value (I19)."""
    value = _cell("yelp", "hr@1", OURS).value
    if value < DROP_IN_WORDS:
        yield (
            "drop in the text",
            _place("yelp", "hr@1"),
            "2 to 3 points, in words",
            f"{100 * value:.2f} % in all",
            "recomputed from the printed value; read as relative percent the words fit",
        )


CHECKS = (
    improve,
    stars,
    impossible,
    tables_agree,
    equal_cells,
    small_spread,
    coverage_words,
    points_words,
    base_loss,
)


def audit() -> Sheet:
    """Every printed thing that does not follow from the others."""
    rows = tuple(row for check in CHECKS for row in check())
    pairs = [(dataset, metric) for dataset in PAPER_DATASETS for metric in METRICS]
    best = [place for place in pairs if _cell(*place, OURS).rank == 1]
    starred = [place for place in pairs if _cell(*place, OURS).starred]
    counts = {name: sum(row[0] == name for row in rows) for name in dict.fromkeys(row[0] for row in rows)}
    alone = sum(cell.std is None for cell in published().values() if cell.table == 2 and cell.method != IMPROVE)
    return Sheet(
        name="audit",
        title="The printed numbers, recomputed",
        header=("check", "where", "printed", "recomputed", "remark"),
        rows=rows,
        footnotes=(
            "; ".join(f"{name}: {count}" for name, count in counts.items())
            + f". Improve follows from the printed values in {len(pairs) - counts['Improve']} of {len(pairs)} rows.",
            f"BT-SR is best in {len(best)} of {len(pairs)} rows; "
            f"{'exactly these' if best == starred else 'not these'} bear an asterisk.",
            f"{alone} of the {alone + len(pairs)} values of table 2 are printed without a spread (all baselines), so "
            "no paired test can be recomputed from print.",
            "Asterisk: t of the printed mean and spread over five runs, against the best other printed value taken as "
            f"a constant; p < 0.05 needs t > {NEEDED_T:.3f}. A paired test could differ.",
            "Test users: other users, another number of runs or editing would explain such a value. Spread: small, not "
            "impossible. Coverage in the text: it may mean another comparison.",
            "Only printed numbers take part, none of ours. A printed value stands for everything that rounds to it. "
            "Numbers of test users (ML 1M 750, Beauty 1,116) are those of the released runs.",
        ),
    )
