"""What the paper's text says, asked of our own results: yes, no or undecided, with numbers (spec 8, I17 to I20).

A claim is a difference that the text says is positive. It is answered by the 95 % interval of that difference: yes if
all of it is above 0, no if all of it is below, otherwise (and always with a single seed in common) undecided.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal, get_args

from harness.config import PAPER_DATASETS, TrialSpec
from harness.errors import AmbiguousError, BtsrError, ConfigError
from harness.store import Store
from harness.values import Part
from reports.groups import Group, replicated
from reports.lines import line
from reports.measure import Measurer
from reports.names import count, dataset_title, method_title
from reports.opponents import Opponents, beside_the_term
from reports.plans import BASE_LOSSES, OURS, TABLE1, TABLE2
from reports.ran import Ran, apart, ran
from reports.results import Evidence, Request, gather
from reports.sheet import Sheet
from reports.stats import Comparison, compare
from reports.unasked import unasked
from studies.points import beside

Answer = Literal["yes", "no", "undecided", "not run"]
BUCKETS = ("", "head", "mid", "tail")

AGAINST_OTHERS: Mapping[str, tuple[str, int, int, int]] = {
    "BT-SR is below the others at hr@1 in the head bucket": ("hr", 1, 1, -1),
    "BT-SR is above the others at hr@1 in the mid bucket": ("hr", 1, 2, 1),
    "BT-SR is above the others at hr@1 in the tail bucket": ("hr", 1, 3, 1),
    "BT-SR is above the others at hr@10 in the head bucket": ("hr", 10, 1, 1),
    "BT-SR has the best ndcg@10": ("ndcg", 10, 0, 1),
    "BT-SR has the best cov@10": ("cov", 10, 0, 1),
}
"""What the text says of BT-SR and the other methods: (name, K, bucket, sign), sign -1 for less than all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One statement about one data set, answered."""

    claim: str
    dataset: str
    answer: Answer
    numbers: str
    """The two values, their difference and its interval."""
    how: str
    """What was compared, with what."""
    fingerprint: str = ""
    """Of the data; empty where nothing was compared."""
    apart: str = ""
    """Device, precision or kernels that the two sides do not share."""
    ours: float | None = None
    theirs: float | None = None
    """Means over the common seeds."""
    difference: float | None = None
    """Ours minus theirs."""
    low: float | None = None
    high: float | None = None
    interval_over: str = ""
    n: int = 0
    """Common seeds."""
    p: float | None = None
    """See `Comparison.p`."""

    @property
    def record(self) -> Mapping[str, object]:
        """All but the words for the numbers, for CSV."""
        return {name: value for name, value in asdict(self).items() if name != "numbers"}


def answer(found: Comparison) -> Answer:
    """By the interval of the difference; with a single seed nothing is said of a method, only of two trained models."""
    if found.interval is None or found.n < 2:
        return "undecided"
    if found.interval.low > 0:
        return "yes"
    return "no" if found.interval.high < 0 else "undecided"


class Claims:
    """Answers every claim for the data sets of the evidence."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._measure = Measurer(evidence.store)
        self._ran: dict[str, tuple[Ran, ...]] = {}
        self._opponents = Opponents(evidence)

    def all(self) -> Iterator[Claim]:
        """Claim by claim, data set by data set."""
        for dataset in self._evidence.datasets:
            yield from self._alpha(dataset)
            yield from self._base_losses(dataset)
            yield from self._buckets(dataset)
            for claim, (name, k, bucket, sign) in AGAINST_OTHERS.items():
                yield self._against_others(claim, dataset, (name, k, bucket), sign)

    def _difference(
        self,
        claim: str,
        dataset: str,
        ours: Group,
        theirs: Group,
        metric: tuple[str, int, int],
        how: str,
        sign: int = 1,
    ) -> Claim:
        """Answer `ours > theirs` (sign 1) or `ours < theirs` (sign -1)."""
        name, k, bucket = metric
        a, b = self._measure(ours, name, k, bucket), self._measure(theirs, name, k, bucket)
        differ = apart(self._made(ours), self._made(theirs))
        made = partial(
            Claim,
            claim=claim,
            dataset=dataset,
            how=f"{how} ‡" if differ else how,
            fingerprint=ours.fingerprint,
            apart=differ,
        )
        if a is None or b is None:
            return made(answer="undecided", numbers="no target in the bucket")
        found = compare(a, b) if sign > 0 else compare(b, a)
        span = found.interval
        common = [seed for seed in a.seeds if seed in b.seeds]
        one, other = (float(m.of(common or m.seeds).by_seed.mean()) for m in (a, b))  # what the difference is of
        made = partial(made, ours=one, theirs=other, difference=sign * found.difference, n=found.n, p=found.p)
        numbers = f"{one:.4f} against {other:.4f}, difference {sign * found.difference:+z.4f}"
        if span is not None:
            low, high = (span.low, span.high) if sign > 0 else (-span.high, -span.low)
            numbers += f" ({low:+z.4f} to {high:+z.4f} over {span.over}, n = {found.n})"
            made = partial(made, low=low, high=high, interval_over=span.over)
        if found.n < 2:
            numbers += f"; {found.note}"
        return made(answer=answer(found), numbers=numbers)

    def _made(self, group: Group) -> tuple[Ran, ...]:
        if group.key not in self._ran:
            self._ran[group.key] = ran(self._evidence.store, group)
        return self._ran[group.key]

    def _missing(self, claim: str, dataset: str, what: str) -> Claim:
        return Claim(claim=claim, dataset=dataset, answer="not run", numbers="—", how=what)

    def _alpha(self, dataset: str) -> Iterator[Claim]:
        """What a growing alpha does: the largest alpha of the line against alpha = 0."""
        claims = {
            "alpha raises cov@10": ("cov", 10, 0, 1),
            "alpha lowers hr@1 in the head bucket": ("hr", 1, 1, -1),
            "alpha raises hr@10 in the tail bucket": ("hr", 10, 3, 1),
            "alpha raises cov@10 in the tail bucket": ("cov", 10, 3, 1),
        }
        groups, which = self._line(dataset)
        ends = None if len(groups) < 2 or groups[0].spec.aux.alpha > 0 else (groups[-1], groups[0])
        for claim, (name, k, bucket, sign) in claims.items():
            if ends is None:
                yield self._missing(claim, dataset, "needs the line over alpha with alpha = 0 (study alpha_lambda)")
            else:
                aux = ends[0].spec.aux
                how = f"alpha {aux.alpha:g} against 0, lambda {aux.lam:g}, {_settings(ends[0].spec)}{which}"
                yield self._difference(claim, dataset, *ends, (name, k, bucket), how, sign)
        yield self._peak(dataset, replicated(groups), which)

    def _line(self, dataset: str) -> tuple[tuple[Group, ...], str]:
        """Points of the line over alpha, ascending, and which of several lines it is; both empty without."""
        try:
            found = line(self._evidence, dataset, "alpha")
        except ConfigError:
            return (), ""
        return found.groups, f"; {found.which}" if found.which else ""

    def _peak(self, dataset: str, groups: tuple[Group, ...], which: str) -> Claim:
        """Where hr@1 is largest, against every alpha above 0.1, or what that is beside BCE."""
        limit = beside(groups[0].spec.loss, 0.1) if groups else 0.1
        claim = f"hr@1 peaks at alpha <= {limit:g}"
        low = [group for group in groups if group.spec.aux.alpha <= limit]
        high = [group for group in groups if group.spec.aux.alpha > limit]
        if not low or not high:
            return self._missing(claim, dataset, f"needs alphas on both sides of {limit:g} (study alpha_lambda)")
        best = [max(side, key=partial(self._mean, name="hr", k=1)) for side in (low, high)]
        how = (
            f"best alpha on either side, {best[0].spec.aux.alpha:g} against {best[1].spec.aux.alpha:g}, chosen on test"
            f"{which}"
        )
        return self._difference(claim, dataset, best[0], best[1], ("hr", 1, 0), how)

    def _mean(self, group: Group, name: str, k: int, bucket: int = 0, part: Part = "test") -> float:
        """Over the group's seeds; 0 where the bucket has no target."""
        found = self._measure(group, name, k, bucket, part)
        return 0.0 if found is None else float(found.by_seed.mean())

    def _chosen(self, dataset: str, key: str, beside: Group | None = None) -> Group | None:
        """The configuration of a column of table 2."""
        return self._opponents.chosen(dataset, TABLE2.column(key), beside)

    def _base_losses(self, dataset: str) -> Iterator[Claim]:
        for base in BASE_LOSSES:
            claim = f"BT raises ndcg@10 of {base.upper()}"
            with_bt = self._opponents.chosen(dataset, TABLE1.column(f"sasrec_{base}+bt"))
            without = self._opponents.base(dataset, with_bt) if with_bt else None
            if with_bt is None or without is None:
                yield self._missing(claim, dataset, f"needs {base.upper()} with and without BT under one protocol")
            else:
                yield self._difference(claim, dataset, with_bt, without, ("ndcg", 10, 0), _held(with_bt, without))

    def _buckets(self, dataset: str) -> Iterator[Claim]:
        ours = self._chosen(dataset, OURS)
        theirs = self._opponents.base(dataset, ours) if ours else None
        for bucket in (2, 3):
            claim = f"BT-SR raises hr@10 in the {BUCKETS[bucket]} bucket"
            if ours is None or theirs is None:
                yield self._missing(claim, dataset, "needs BT-SR and SASRec with its base loss under one protocol")
            else:
                yield self._difference(claim, dataset, ours, theirs, ("hr", 10, bucket), _held(ours, theirs))

    def _against_others(self, claim: str, dataset: str, metric: tuple[str, int, int], sign: int) -> Claim:
        """Above the best of the other methods (sign 1), or below the lowest of them (sign -1): of validation, since the
        best on test is the luckiest of them there. But a "yes" must hold against that one, too."""
        ours = self._chosen(dataset, OURS)
        others = {
            key: group
            for key in TABLE2.column(OURS).beats
            if ours is not None and (group := self._chosen(dataset, key, ours)) is not None
        }
        if ours is None or not others:
            return self._missing(claim, dataset, "needs BT-SR and another method under one protocol")
        rival = max(others, key=lambda key: sign * self._mean(others[key], *metric, part="valid"))
        place = "best" if sign > 0 else "lowest"
        among = f"the {place} of the {count(len(others), 'other')}"
        how = f"against {method_title(rival)}, {among} on validation"
        found = self._difference(claim, dataset, ours, others[rival], metric, how, sign)
        ahead = max(others, key=lambda key: sign * self._mean(others[key], *metric))
        if found.answer != "yes" or ahead == rival:
            return found
        how = f"against {method_title(ahead)}, {among} on test, not on validation"
        return self._difference(claim, dataset, ours, others[ahead], metric, how, sign)

    def remedies(self, found: Sequence[Claim]) -> Iterator[str]:
        """What runs the claims that were not."""
        for dataset in self._evidence.finished:
            lacking = [c for c in found if c.dataset == dataset and c.answer == "not run"]
            of_alpha = [c for c in lacking if "alpha" in c.claim]
            if of_alpha:
                yield f"{dataset_title(dataset)}, claims about alpha: {self._evidence.remedy(dataset)}."
            if len(of_alpha) == len(lacking):
                continue
            columns = (*TABLE2.columns, *TABLE1.columns[len(BASE_LOSSES) :])
            absent = [column for column in columns if self._opponents.chosen(dataset, column) is None]
            for group in unasked(self._evidence, TABLE1.study, {dataset: absent}):
                if group.study:
                    titles = ", ".join(column.title for column in group.columns)
                    yield f"{dataset_title(dataset)}, claims about {titles}: run `{group.command}`."

    def powers(self) -> Iterator[str]:
        """What the runs at hand could find, for each data set that has BT-SR and its base."""
        for dataset in self._evidence.finished:
            ours = self._chosen(dataset, OURS)
            theirs = self._opponents.base(dataset, ours) if ours else None
            if ours is None or theirs is None:
                continue
            a, b = self._measure(ours, "ndcg", 10), self._measure(theirs, "ndcg", 10)
            assert a is not None and b is not None, "bucket 0 has all users"
            found = compare(a, b, with_interval=False)
            if found.detectable is not None:
                yield (
                    f"{dataset_title(dataset)}: with {found.n} runs and the spread seen, a true difference of "
                    f"{found.detectable:.4f} in ndcg@10 between BT-SR and its base is found with probability 0.8 "
                    "(paired t test over seeds, two-sided, p < 0.05)."
                )


def gathered(store: Store, request: Callable[[str], Request]) -> Evidence:
    """What the claims are asked of: the study that varies alpha; where it has nothing, the one that compares methods.

    `request` says what to gather of a study. Where neither has anything, raises the error of the first that was
    started, else of the first; AmbiguousError where the user has to choose between results of the first that has any.
    """
    refused: dict[str, BtsrError] = {}
    for study in ("alpha_lambda", "table2"):
        try:
            return gather(store, request(study))
        except AmbiguousError:
            raise
        except BtsrError as error:
            refused[request(study).study] = error
    raise next((error for study, error in refused.items() if study in store.studies()), [*refused.values()][0])


def _settings(spec: TrialSpec) -> str:
    return f"{spec.loss.kind.upper()}, B {spec.train.batch_size}, {spec.aux.bt_reduction}"


def _held(ours: Group, theirs: Group) -> str:
    """What stands against BT-SR, and how it is unlike BT-SR beside its term."""
    base = "alpha = 0" if theirs.spec.aux.kind == "barlow_twins" else method_title(theirs.spec.method)
    return f"against {base}, {_settings(ours.spec)}{beside_the_term(theirs, ours)}"


def _data_notes(evidence: Evidence, found: Sequence[Claim]) -> Iterator[str]:
    """On which data each data set's claims were answered."""
    for dataset, fingerprint in dict.fromkeys((c.dataset, c.fingerprint) for c in found if c.fingerprint):
        row = evidence.store.data(fingerprint)
        yield (
            f"{dataset_title(dataset)}: data {fingerprint[:8]}, {row.n_test_users:,} test users; "
            f"{row.config.protocol(row.file, row.edition)}."
        )


def _apart_notes(found: Sequence[Claim]) -> Iterator[str]:
    """Claims whose two sides were not computed alike."""
    mine: dict[tuple[str, str], list[str]] = {}
    for c in found:
        if c.apart:
            mine.setdefault((c.dataset, c.apart), []).append(c.claim)
    for (dataset, differ), asked in mine.items():
        yield (
            f"‡ {dataset_title(dataset)}: the two sides were not computed alike ({differ}): {', '.join(asked)}. "
            "The difference is not the method's alone."
        )


def _counts(found: Sequence[Claim]) -> str:
    """How often each answer was given on data sets of the paper: its text says nothing of others."""
    mine = [claim for claim in found if claim.dataset in PAPER_DATASETS]
    others = dict.fromkeys(dataset_title(claim.dataset) for claim in found if claim.dataset not in PAPER_DATASETS)
    if not mine:
        return "Only the paper's five data sets are counted, and none of them was run."
    words = "; ".join(f"{said}: {sum(claim.answer == said for claim in mine)}" for said in get_args(Answer))
    return f"{words} (of the paper's five data sets, {', '.join(others)} not counted)." if others else f"{words}."


def claims(evidence: Evidence) -> Sheet:
    """All claims as a sheet."""
    asked = Claims(evidence)
    every = list(asked.all())
    there = {claim.dataset for claim in every if claim.answer != "not run"} | {*evidence.finished}
    found = [claim for claim in every if claim.dataset in there]
    several = {dataset: words for dataset in evidence.datasets if (words := evidence.unchosen(dataset))}
    absent = [dataset_title(name) for name in evidence.datasets if name not in there and name not in several]
    return Sheet(
        name="claims",
        title=f"What the paper's text says, in our results: study {evidence.study}, profile {evidence.profile}",
        header=("data set", "claim", "answer", "numbers", "compared"),
        rows=tuple((dataset_title(c.dataset), c.claim, c.answer, c.numbers, c.how) for c in found),
        records=tuple(c.record for c in found),
        footnotes=(
            _counts(found),
            "yes: the whole 95 % interval of the difference is on the claim's side of 0; no: on the other side; else, "
            "with a single seed in common, and where coverage differs alike in all runs, undecided. Intervals are not "
            "corrected for the number of claims: with 20 true nulls, one is expected to look decided.",
            "Means and differences are over the seeds that both sides have. Interval: bootstrap over seeds, then "
            "users, widened for few seeds (one seed: users alone); coverage: Student's t over seeds. Chosen on "
            "validation: configurations, of those with most seeds, and which other method is the best or the lowest; a "
            "yes must hold against the one of test, too. What another study ran is held against what has the same T, "
            "padded keys, ranked rows and precision.",
            *_data_notes(evidence, found),
            *_apart_notes(found),
            *asked.powers(),
            *asked.remedies(found),
            *several.values(),
            *([f"Nothing was run on {', '.join(absent)}."] if absent else []),
        ),
    )
