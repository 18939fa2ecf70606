"""What the paper's tables consist of (spec 7.1 to 7.3): columns, metrics, and which column has to beat which."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from harness.config import PAPER_DATASETS, TrialSpec
from harness.rules import metric_name
from reports.names import METHOD_TITLES
from studies.points import MORE
from studies.points import TABLE2 as METHODS

OURS = "bt_sr"
IMPROVE = "improve"
"""Key of the column that tells by how many percent `OURS` is better."""

BASE_LOSSES: tuple[str, ...] = ("bce", "ce", "sce")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnPlan:
    """Which trials may stand in a column. With alpha = 0, BT-SR is its own base and stands in none of its columns."""

    key: str
    title: str
    methods: tuple[str, ...]
    base: str | None = None
    """Only with this base loss."""
    alpha: float | None = None
    """Only with this alpha."""
    beats: tuple[str, ...] = ()
    """Keys of columns: the best of them (by mean) is what this column is tested against."""
    anywhere: bool = False
    """Where the study has no such trial: those that other studies ran on the same data with the same profile."""

    def fits(self, spec: TrialSpec) -> bool:
        """Whether a trial may stand here."""
        return (
            spec.method in self.methods
            and (spec.aux.kind == "none" or spec.aux.alpha > 0)
            and self.base in {None, spec.loss.kind}
            and self.alpha in {None, spec.aux.alpha}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePlan:
    """A table of the paper."""

    number: int
    title: str
    """With `{metrics}` where it names its rows."""
    study: str
    """Read by default."""
    columns: tuple[ColumnPlan, ...]
    metrics: tuple[tuple[str, int], ...]
    improve: bool = False
    """With a column that tells by how many percent `OURS` is better than the best other."""
    datasets: tuple[str, ...] = field(default=PAPER_DATASETS)
    """Of the paper's table."""
    more: tuple[ColumnPlan, ...] = ()
    """Columns that the paper's table does not have: shown where the study runs their methods."""

    def titled(self, metrics: Sequence[tuple[str, int]]) -> str:
        """The title with these rows."""
        return self.title.replace("{metrics}", ", ".join(metric_name(metric).upper() for metric in metrics))

    def with_more(self, methods: AbstractSet[str]) -> "TablePlan":
        """With columns of those of these methods that the paper's table does not have, before the BT columns."""
        more = [column for column in self.more if methods & {*column.methods}]
        if not more:
            return self
        plain = [column for column in more if not column.beats]
        keys = tuple(column.key for column in plain)
        first = next(i for i, column in enumerate(self.columns) if column.beats)
        rest = [
            replace(column, beats=(*column.beats, *keys)) if len(column.beats) > 1 else column
            for column in self.columns[first:]
        ]
        tested = [column for column in more if column.beats]
        return replace(self, columns=(*self.columns[:first], *plain, *rest, *tested))

    def column(self, key: str) -> ColumnPlan:
        """The column of that key."""
        return next(column for column in self.columns if column.key == key)


def _plain(base: str, title: str) -> ColumnPlan:
    return ColumnPlan(key=f"sasrec_{base}", title=title, methods=(f"sasrec_{base}",))


def _bt(base: str, title: str) -> ColumnPlan:
    key = f"sasrec_{base}+bt"
    return ColumnPlan(key=key, title=f"{title}+BT", methods=(OURS, key), base=base, beats=(f"sasrec_{base}",))


_OTHERS = tuple(method for method in METHODS if method != OURS)
"""The other columns of table 2: the paper's, whatever else has a title."""

TABLE1 = TablePlan(
    number=1,
    title="{metrics} of three SASRec variants with and without the Barlow Twins term",
    study="table1",
    columns=(
        *(_plain(base, base.upper()) for base in BASE_LOSSES),
        *(_bt(base, base.upper()) for base in BASE_LOSSES),
    ),
    more=(_plain("ce_sampled", "CE-"), replace(_bt("ce_sampled", "CE-"), methods=("sasrec_ce_sampled+bt",))),
    metrics=(("ndcg", 10),),
)

TABLE2 = TablePlan(
    number=2,
    title="next-item metrics on the test users",
    study="table2",
    columns=(
        *(ColumnPlan(key=key, title=METHOD_TITLES[key], methods=(key,)) for key in _OTHERS),
        ColumnPlan(key=OURS, title=METHOD_TITLES[OURS], methods=(OURS,), beats=_OTHERS),
    ),
    more=tuple(ColumnPlan(key=key, title=METHOD_TITLES[key], methods=(key,)) for key in MORE),
    metrics=(
        *(("hr", k) for k in (1, 5, 10)),
        *(("ndcg", k) for k in (5, 10, 50)),
        *(("cov", k) for k in (1, 5, 10)),
    ),
    improve=True,
)

TABLE3 = TablePlan(
    number=3,
    title="{metrics} at two values of alpha (belongs to figure 5)",
    study="alpha_lambda",
    columns=(
        ColumnPlan(key="sasrec_bce", title=METHOD_TITLES["sasrec_bce"], methods=("sasrec_bce",), anywhere=True),
        *(
            ColumnPlan(
                key=f"{OURS}[alpha={alpha:g}]",
                title=f"{METHOD_TITLES[OURS]} (alpha = {alpha:g})",
                methods=(OURS,),
                alpha=alpha,
                beats=("sasrec_bce",),
            )
            for alpha in (0.1, 0.4)
        ),
    ),
    metrics=(("ndcg", 20),),
    datasets=("yelp",),
)

PART_OF: Mapping[str, str] = {"table1": "table2"}
"""Study -> the study that holds part of its trials."""

PLANS: Mapping[int, TablePlan] = {plan.number: plan for plan in (TABLE1, TABLE2, TABLE3)}
