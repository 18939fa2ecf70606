"""Footnotes of a table: everything that must stand beside its numbers (spec section 10, rule 2)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from itertools import product

from harness.config import TrialSpec
from harness.geometry import GEOMETRY
from harness.metrics import repeat_share
from harness.rules import LOWER_IS_BETTER, metric_name
from models.config import ADDED, Frozen
from reports.findings import Findings
from reports.groups import SELECT_K, SELECT_NAME, SELECT_ON, Choice, Group
from reports.missing import missing_notes
from reports.names import count, dataset_title
from reports.opponents import beside_the_term
from reports.plans import IMPROVE
from reports.published import published
from reports.ran import odd_ones
from reports.stats import user_standard_error
from reports.table import Cell

PRECISION = {"fp32": "fp32", "bf16": "bf16 (linear maps and full softmax)"}
"""What a precision is called, and of what it is."""


def settings(spec: TrialSpec) -> str:
    """What must stand beside a number of this configuration."""
    return ", ".join(_words(spec))


def column_words(title: str, n: int, spec: TrialSpec, odd: str = "") -> str:
    """What a caption says of a column with `n` runs; `odd`: on what they were made, where it is not as most."""
    words = f"{title} n = {n}, {spec.loss.kind.upper()}, B {spec.train.batch_size}"
    if spec.aux.kind == "barlow_twins":
        words += f", alpha {spec.aux.alpha:g}, lambda {spec.aux.lam:g}, {spec.aux.bt_reduction}"
    return f"{words}, {odd}" if odd else words


def _words(spec: TrialSpec) -> list[str]:
    """The settings one by one, first base loss and B."""
    encoder, train = spec.encoder, spec.train
    reduced = f" ({spec.loss.reduction})" if spec.loss.kind in {"bce", "gbce"} else ""  # alpha compares under one alone
    words = [
        f"base loss {spec.loss.kind.upper()}{reduced}",
        f"B {train.batch_size}",
        f"T {encoder.max_len}",
        f"D {encoder.dim}, {encoder.blocks} blocks, {encoder.heads} head{'s' if encoder.heads > 1 else ''}",
        f"dropout {encoder.dropout:g}",
        f"lr {train.lr:g}",
        f"weight decay {train.weight_decay:g}",
        f"at most {train.max_epochs} epochs (patience {train.patience})",
        f"padded keys {'masked' if encoder.mask_pad_keys else 'attended to'}",
        f"precision {PRECISION[train.precision]}",
    ]
    words += _unusual(encoder, ()) + _unusual(spec.loss, ()) + _unusual(train, ("beta2", "validate_every"))
    if spec.aux.kind == "barlow_twins":
        words += [
            f"alpha {spec.aux.alpha:g}",
            f"lambda {spec.aux.lam:g}",
            f"bt_reduction {spec.aux.bt_reduction}",
            f"bt_std {spec.aux.bt_std}",
            f"no_partner {spec.aux.no_partner}",
        ]
    elif spec.aux.kind != "none":
        words += [f"auxiliary {spec.aux.kind}", f"alpha {spec.aux.alpha:g}"]
    return words + _unusual(spec.aux, ())


def _unusual(config: Frozen, also: Sequence[str]) -> list[str]:
    """Settings that came later, and those in `also`, where they are not at their defaults: few tables have them."""
    fields = type(config).model_fields
    later = {name for name, field in fields.items() if field.json_schema_extra == ADDED}
    said = {"precision"}
    return [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, field in fields.items()
        if name in (later | {*also}) - said and (value := getattr(config, name)) != field.get_default()
    ]


def footnotes(found: Findings, cells: Sequence[tuple[Cell, ...]]) -> Iterator[str]:
    """In the order of reading: rules, then each data set, then what is doubtful, then what is missing."""
    yield (
        "Ours: mean ± sample standard deviation over n seeds (no ± for one seed), test users evaluated once with the "
        "weights of the best validation epoch."
    )
    yield selection_note(found)
    yield from _test_notes(found, cells)
    if found.plan.improve:
        less = " and ".join(metric_name(metric) for metric in found.metrics if metric[0] in LOWER_IS_BETTER)
        yield (
            "Improve: BT-SR against the best other column that was run, in percent, from unrounded means "
            "(published: as printed, ? where it does not follow from the printed values)."
            + (f" Positive is better: of {less} less is." if less else "")
        )
    if any(name in GEOMETRY for name, _ in found.metrics):
        yield (
            "Effective rank, overlap, alignment and uniformity: as every run stored them, of states and scores of some "
            "test users; no means over users, so that tests are over seeds alone. Less is better of all but the first."
        )
    yield from place_notes(found, seeds=True)


def selection_note(found: Findings) -> str:
    """How a configuration came to stand in a column."""
    return (
        f"Selection: where a method has several configurations, the one with the best mean validation {SELECT_ON} "
        "over the seeds that they share; test values take no part. alpha = 0 is no candidate for BT-SR."
        + (
            " Of one alpha, those with most seeds compete."
            if any(c.alpha is not None for c in found.plan.columns)
            else ""
        )
    )


def place_notes(found: Findings, *, seeds: bool = False) -> Iterator[str]:
    """Data and configurations of each data set, what is doubtful, and what is missing; with `seeds` also that columns
    have different ones."""
    for dataset in found.data:
        mine = {c.key: found.chosen[dataset, c.key] for c in found.plan.columns if (dataset, c.key) in found.chosen}
        yield _data_note(found, dataset, mine)
        yield from _method_notes(found, dataset, mine)
        yield from _precision_note(found, dataset, mine)
        yield from _odd_note(found, dataset)
        if seeds:
            yield from _seeds_note(found, dataset, mine)
        if any(place[:2] == (found.plan.number, dataset) for place in published()):
            yield from _compared_note(found, dataset)
    yield from _doubtful_notes(found)
    yield from missing_notes(found)


def _compared_note(found: Findings, dataset: str) -> Iterator[str]:
    """What keeps published numbers from comparing with ours."""
    data, title = found.data[dataset], dataset_title(dataset)
    if not found.applies(dataset):
        yield (
            f"{title}: published numbers do not apply: other data (our {data.n_test_users:,} evaluated test users are "
            "not known to be the authors')."
        )
    elif data.config.tie != "targets":
        yield (
            f"{title}: the authors drew their targets among ratings of equal time; here ties are {data.config.tie}. "
            "Nearest to theirs is a sweep with --tie targets."
        )


def _precision_note(found: Findings, dataset: str, mine: Mapping[str, Choice]) -> Iterator[str]:
    """That columns have runs of the other precision, too."""
    shown = {key: choice.group.spec.train.precision for key, choice in mine.items()}
    titles: dict[str, list[str]] = {}
    for key, precision in shown.items():
        column = found.plan.column(key)
        there = {group.spec.train.precision for group in found.evidence.groups(dataset, column.fits)}
        for other in there - {precision}:
            titles.setdefault(other, []).append(column.title)
    for name, names in titles.items():
        yield (
            f"{dataset_title(dataset)}: {', '.join(names)} also ran in {name}, which takes no part in the choice: "
            f"--precision {name} shows it."
        )


def _test_notes(found: Findings, cells: Sequence[tuple[Cell, ...]]) -> Iterator[str]:
    """What the stars mean here, and what the number of runs does not allow."""
    tests = [cell.test for row in cells for cell in row if cell.test]
    if not tests:
        return
    made = [test for test in tests if test.comparison.p is not None]
    rival = _rival(found, {test.against for test in tests})
    if made:
        yield (
            f"* better than {rival}, and p < 0.05 after Holm over the {count(len(made), 'test')} of this table, p "
            "being the larger of the paired t test over seeds and the paired permutation test over users (metrics that "
            "are no mean over users: seeds alone); (*) by the paper's rule alone: paired t over seeds, p < 0.05, "
            "uncorrected."
        )
    notes = Counter(test.comparison.note for test in tests)
    for note, times in notes.items():
        if note:
            yield f"{times} of {len(tests)} comparisons with {rival}: {note}."
    found_by = [
        f"{dataset_title(dataset)}, {column.title} {cell.test.comparison.detectable:.4f}"
        for (dataset, metric), row in zip(product(found.evidence.datasets, found.metrics), cells, strict=True)
        for column, cell in zip(found.plan.columns, row, strict=False)  # a row may end with Improve
        if metric == (SELECT_NAME, SELECT_K) and cell.test and cell.test.comparison.detectable is not None
    ]
    if found_by:
        yield (
            f"Detectable: a true difference in {SELECT_ON} of this size is found with probability 0.8 by the paired t "
            f"test over seeds (two-sided, p < 0.05, uncorrected), given the spread seen: {'; '.join(found_by)}."
        )


def _rival(found: Findings, against: AbstractSet[str]) -> str:
    """In words what the tests are against, which are these columns."""
    if against & _rivals(found):
        return "the best other column by mean"
    return found.plan.column(*against).title if len(against) == 1 else "its base"


def _rivals(found: Findings) -> set[str]:
    """Columns that are tested against because they are best of several."""
    return {key for column in found.plan.columns if len(column.beats) > 1 for key in column.beats}


def _data_note(found: Findings, dataset: str, mine: dict[str, Choice]) -> str:
    row, config = found.data[dataset], found.data[dataset].config
    ranks = {key: found.evidence.test_ranks(choice.group) for key, choice in mine.items()}
    errors = []
    for key, replications in ranks.items():
        error = user_standard_error(replications, "ndcg", 10)
        if error is not None:
            errors.append(f"{found.plan.column(key).title} {error:.4f}")
    repeats = max((repeat_share(replications[0]) or 0.0 for replications in ranks.values()), default=0.0)
    boundary = f"boundary {row.boundary} ({_day(row.boundary)}); " if config.split == "temporal" else ""
    return (
        f"{dataset_title(dataset)}: data {row.fingerprint[:16]}, {row.n_items:,} items, "
        f"{row.n_train_users:,} training users, {row.n_test_users:,} test users; {boundary}"
        f"{config.protocol(row.file, row.edition)}; {repeats:.1%} of the targets are "
        f"already in their input and cannot be hit. Standard error over test users of ndcg@10: "
        f"{', '.join(errors) or 'not defined'}."
    )


def _day(seconds: int) -> str:
    """The date, UTC; Unix seconds of a table of the user's own may be beyond any calendar."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d} UTC"
    except (OverflowError, ValueError, OSError):
        return "no date"


def _method_notes(found: Findings, dataset: str, mine: dict[str, Choice]) -> Iterator[str]:
    """The settings that all columns share, then each column with its own; never an alpha without base loss and B."""
    words = {key: _words(choice.group.spec) for key, choice in mine.items()}
    first = next(iter(words.values()))[2:]
    common = [word for word in first if all(word in theirs for theirs in words.values())] if len(words) > 1 else []
    if common:
        yield f"{dataset_title(dataset)}, all columns: {', '.join(common)}."
    for key, choice in mine.items():
        yield _method_note(found, dataset, key, choice, [word for word in words[key] if word not in common])


def _method_note(found: Findings, dataset: str, key: str, choice: Choice, own: Sequence[str]) -> str:
    group = choice.group
    seeds = ", ".join(map(str, group.seeds))
    others = ""
    if choice.candidates > 1:
        same = (
            ""
            if choice.compared == group.seeds
            else f" on the seeds they share ({', '.join(map(str, choice.compared))})"
        )
        others = f", best of {choice.candidates} configurations{same}"
    if choice.left_out:
        compared = ", ".join(map(str, choice.compared))
        others += f", {choice.left_out} not run with the seeds compared ({compared}) left out"
    beats = found.plan.column(key).beats
    if len(beats) == 1 and (base := found.chosen.get((dataset, beats[0]))):
        others += beside_the_term(base.group, group, found.plan.column(beats[0]).title)
    asked = {spec.key for spec in found.evidence.specs}
    outside = "; run by another study" if not asked & set(group.keys) else ""
    return (
        f"{dataset_title(dataset)}, {found.plan.column(key).title}: {', '.join(own)}; seeds {seeds}; mean validation "
        f"{SELECT_ON} {choice.score:.4f}{others}{outside}{_clamped(found, group)}{_untouched(group)}."
    )


def _untouched(group: Group) -> str:
    """Runs whose best weights are from before the auxiliary term began: they are those of the base loss alone."""
    first = group.spec.aux.first_epoch
    early = [run.spec.seed for run in group.runs if run.best_epoch is not None and run.best_epoch < first]
    if not early:
        return ""
    which = "in every run" if len(early) == len(group.runs) else f"with seed {', '.join(map(str, early))}"
    return (
        f"; best before epoch {first}, in which its auxiliary term begins, {which}: weights that the term never touched"
    )


def _clamped(found: Findings, group: Group) -> str:
    """A batch that had to be smaller than it was asked for."""
    sizes = {found.evidence.store.provenance(run).batch_size for run in group.keys}
    if sizes == {group.spec.train.batch_size}:
        return ""
    return f"; B clamped to {', '.join(map(str, sorted(sizes)))} (all training users)"


def _odd_note(found: Findings, dataset: str) -> Iterator[str]:
    """Cells whose runs were made on another device or in another precision than most, or that mix them."""
    usual, odd = odd_ones(found.columns_ran(dataset))
    if odd:
        listed = "; ".join(f"{found.plan.column(key).title}: {words}" for key, words in odd.items())
        yield (
            f"‡ {dataset_title(dataset)}: not computed as most runs here were ({usual}): {listed}. A difference to "
            "other cells is not the method's alone."
        )


def _seeds_note(found: Findings, dataset: str, mine: dict[str, Choice]) -> Iterator[str]:
    """Means over different seeds stand beside each other, and what compares them."""
    columns: dict[tuple[int, ...], list[str]] = {}
    for key, choice in mine.items():
        columns.setdefault(choice.group.seeds, []).append(found.plan.column(key).title)
    if len(columns) < 2:
        return
    listed = "; ".join(f"{', '.join(map(str, seeds))}: {', '.join(titles)}" for seeds, titles in columns.items())
    several = ["the best other column"] * bool(_rivals(found)) + ["Improve"] * found.plan.improve
    *most, last = ["Best", "second best", *several]
    yield (
        f"{dataset_title(dataset)}: columns have different seeds ({listed}). {', '.join(most)} and {last} are by means "
        "over each column's own; tests are on those that both have and may say otherwise."
    )


def _doubtful_notes(found: Findings) -> Iterator[str]:
    """Printed cells that contradict themselves or their table."""
    titles = {column.key: column.title for column in found.plan.columns}
    metrics = set(map(metric_name, found.metrics))
    for printed in published().values():
        here = printed.table == found.plan.number and printed.dataset in found.evidence.datasets
        if here and printed.metric in metrics and printed.doubtful and printed.method != IMPROVE:
            place = f"{dataset_title(printed.dataset)}, {titles[printed.method]}, {printed.metric}"
            reason = printed.note.removeprefix("suspect: ")
            yield f"{place}: published value {printed.value:.4f} is doubtful: {reason}."
