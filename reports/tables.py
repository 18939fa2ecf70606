"""The paper's tables from our own results, the published numbers beside them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from harness.config import TrialSpec
from harness.errors import ConfigError
from harness.metrics import repeat_share
from harness.store import DataRow, Store
from harness.values import Provenance
from reports.names import METHOD_TITLES, dataset_title, method_title
from reports.published import published, same_population
from reports.results import SELECT_ON, Choice, Evidence, Group, Request, choose, gather
from reports.stats import summarise, user_standard_error
from reports.table import Cell, Column, Row, Table, marked

TABLE2_METRICS: tuple[tuple[str, int], ...] = (
    ("hr", 1),
    ("hr", 5),
    ("hr", 10),
    ("ndcg", 5),
    ("ndcg", 10),
    ("ndcg", 50),
    ("cov", 1),
    ("cov", 5),
    ("cov", 10),
)
METHODS: tuple[str, ...] = tuple(METHOD_TITLES)


def settings(spec: TrialSpec) -> str:
    """What must stand beside a number of this configuration (spec section 10, rule 2)."""
    words = [
        f"base loss {spec.loss.kind.upper()}",
        f"B {spec.train.batch_size}",
        f"T {spec.encoder.max_len}",
        f"dropout {spec.encoder.dropout:g}",
        f"weight decay {spec.train.weight_decay:g}",
        f"at most {spec.train.max_epochs} epochs (patience {spec.train.patience})",
    ]
    if spec.aux.kind == "barlow_twins":
        words += [
            f"alpha {spec.aux.alpha:g}",
            f"lambda {spec.aux.lam:g}",
            f"bt_reduction {spec.aux.bt_reduction}",
            f"bt_std {spec.aux.bt_std}",
        ]
    return ", ".join(words)


def _candidates(evidence: Evidence, dataset: str, method: str) -> tuple[Group, ...]:
    """The configurations that may stand in the method's column: with alpha = 0, bt_sr is its own base and does not."""
    groups = evidence.groups(dataset, method)
    return tuple(g for g in groups if g.spec.aux.kind == "none" or g.spec.aux.alpha > 0)


def _chosen(evidence: Evidence) -> dict[tuple[str, str], Choice]:
    """(data set, method) -> the configuration shown. Test numbers are out of reach here."""
    validation = evidence.store.validation()
    found = {(d, m): _candidates(evidence, d, m) for d in evidence.datasets for m in METHODS}
    return {place: choose(groups, validation) for place, groups in found.items() if groups}


def table2(evidence: Evidence) -> Table:
    """Nine metrics of spec 7.2 by data set, seven methods; mean and sample standard deviation over seeds."""
    chosen = _chosen(evidence)
    numbers = {place: evidence.test_metrics(choice.group) for place, choice in chosen.items()}
    data = {place[0]: evidence.data(choice.group) for place, choice in chosen.items()}
    rows, cells = [], []
    for dataset in evidence.datasets:
        applies = dataset not in data or same_population(dataset, data[dataset].n_test_users)
        for name, k in TABLE2_METRICS:
            metric = f"{name}@{k}"
            line = []
            for method in METHODS:
                values = numbers.get((dataset, method), {}).get((name, k, 0), ())
                spread = summarise(values) if values else None
                printed = published().get((2, dataset, metric, method))
                line.append(
                    Cell(
                        value=spread.mean if spread else None,
                        std=spread.std if spread else None,
                        n=spread.n if spread else 0,
                        published=printed.value if printed else None,
                        published_std=printed.std if printed else None,
                        doubtful=printed is not None and printed.doubtful,
                        applies=applies,
                        fingerprint=data[dataset].fingerprint if spread else None,
                    )
                )
            marks = marked([cell.value for cell in line])
            rows.append(Row(dataset=dataset, title=dataset_title(dataset), metric=metric))
            cells.append(tuple(cell.with_mark(mark) for cell, mark in zip(line, marks, strict=True)))
    return Table(
        name="table2",
        title=f"Table 2: next-item metrics on the test users, study {evidence.study}, profile {evidence.profile}",
        profile=evidence.profile,
        columns=tuple(Column(key=method, title=method_title(method)) for method in METHODS),
        rows=tuple(rows),
        cells=tuple(cells),
        footnotes=tuple(_footnotes(evidence, chosen, data)),
        commands=_commands(evidence),
    )


def _footnotes(
    evidence: Evidence, chosen: Mapping[tuple[str, str], Choice], data: Mapping[str, DataRow]
) -> Iterator[str]:
    yield (
        "Ours: mean ± sample standard deviation over n seeds (no ± for one seed), test users evaluated once with the "
        "weights of the best validation epoch."
    )
    yield (
        f"Selection: where a method has several configurations, the one with the best mean validation {SELECT_ON} "
        "among those with most finished seeds; test values take no part. alpha = 0 is no candidate for BT-SR."
    )
    for dataset, row in data.items():
        mine = {method: chosen[dataset, method] for method in METHODS if (dataset, method) in chosen}
        yield _data_note(evidence, row, mine)
        for method, choice in mine.items():
            yield _method_note(evidence, dataset, method, choice)
        if not same_population(dataset, row.n_test_users) and (2, dataset, "hr@1", METHODS[0]) in published():
            yield (
                f"{dataset_title(dataset)}: published numbers do not apply: other data (our {row.n_test_users:,} "
                "evaluated test users are not known to be the authors')."
            )
    for printed in published().values():
        if (
            printed.table == 2
            and printed.dataset in evidence.datasets
            and printed.method in METHODS
            and printed.doubtful
        ):
            place = f"{dataset_title(printed.dataset)}, {method_title(printed.method)}, {printed.metric}"
            reason = printed.note.removeprefix("suspect: ")
            yield f"{place}: published value {printed.value:.4f} is doubtful ({reason})."
    yield from _missing_notes(evidence)


def _data_note(evidence: Evidence, row: DataRow, mine: Mapping[str, Choice]) -> str:
    config = row.config
    rule = "no filter" if config.filter == "none" else f"filter {config.filter} {config.min_item}/{config.min_user}"
    ranks = {method: evidence.test_ranks(choice.group) for method, choice in mine.items()}
    errors = []
    for method, replications in ranks.items():
        error = user_standard_error(replications, "ndcg", 10)
        if error is not None:
            errors.append(f"{method_title(method)} {error:.4f}")
    repeats = max((repeat_share(replications[0]) or 0.0 for replications in ranks.values()), default=0.0)
    return (
        f"{dataset_title(config.dataset)}: data {row.fingerprint[:16]}, {row.n_items:,} items, "
        f"{row.n_train_users:,} training users, {row.n_test_users:,} test users; {rule}, boundary {row.boundary} "
        f"(quantile {config.quantile:g}), ties {config.tie}; {repeats:.1%} of the targets are "
        f"already in their input and cannot be hit. Standard error over test users of ndcg@10: "
        f"{', '.join(errors) or 'not defined'}."
    )


def _method_note(evidence: Evidence, dataset: str, method: str, choice: Choice) -> str:
    group = choice.group
    seeds = ", ".join(map(str, group.seeds))
    others = f", best of {choice.candidates} configurations" if choice.candidates > 1 else ""
    fewer = f", {choice.fewer_seeds} with fewer seeds left out" if choice.fewer_seeds else ""
    origin = [evidence.store.provenance(key) for key in group.keys]
    return (
        f"{dataset_title(dataset)}, {method_title(method)}: {settings(group.spec)}; seeds {seeds}; mean validation "
        f"{SELECT_ON} {choice.score:.4f}{others}{fewer}{_oddities(group.spec, origin)}."
    )


def _oddities(spec: TrialSpec, origin: Sequence[Provenance]) -> str:
    """What the runs of one group do not share though they should, and a batch that had to be clamped."""
    out = ""
    sizes = {run.batch_size for run in origin}
    if sizes != {spec.train.batch_size}:
        out += f"; B clamped to {', '.join(map(str, sorted(sizes)))} (all training users)"
    kinds = {
        "devices": {run.device for run in origin},
        "precisions": {run.precision for run in origin},
        "kernels": {run.kernels for run in origin},
    }
    for what, names in kinds.items():
        if len(names) > 1:
            out += f"; mixes {what}: {', '.join(sorted(names))}"
    return out


def _unstarted(evidence: Evidence) -> tuple[str, ...]:
    """Data sets of the table that the study was never asked for."""
    listed = {spec.data.dataset for spec in evidence.specs}
    return tuple(dataset for dataset in evidence.datasets if dataset not in listed)


def _missing_notes(evidence: Evidence) -> Iterator[str]:
    """Cells that are not there or not complete."""
    listed = Counter((spec.data.dataset, spec.method) for spec in evidence.specs)
    absent = _unstarted(evidence)
    for dataset in evidence.datasets:
        lacking = {method: len(evidence.missing(dataset, method)) for method in METHODS}
        parts = [
            f"{method_title(method)} {listed[dataset, method] - count} of {listed[dataset, method]} trials done"
            for method, count in lacking.items()
            if count
        ]
        failed = len(evidence.failed(dataset))
        if parts:
            yield f"{dataset_title(dataset)}: incomplete: {', '.join(parts)}{f' ({failed} failed)' if failed else ''}."
    if absent:
        yield f"Never started: {', '.join(map(dataset_title, absent))}."
    outside = [method_title(method) for method in METHODS if not any(place[1] == method for place in listed)]
    if outside:
        yield f"Not part of study {evidence.study}: {', '.join(outside)}."


def _commands(evidence: Evidence) -> tuple[str, ...]:
    """What runs the missing cells: of data sets that were started, and of those that were not."""
    started = tuple(dataset for dataset in evidence.datasets if evidence.missing(dataset))
    return tuple(evidence.command(datasets) for datasets in (started, _unstarted(evidence)) if datasets)


TABLES: Mapping[int, Callable[[Evidence], Table]] = {2: table2}
"""Number in the paper: function."""


def table(number: int, store: Store, request: Request) -> Table:
    """A table of the paper from the results of a store. Raises ConfigError, StoreError as `gather` does."""
    if number not in TABLES:
        raise ConfigError(f"there is no table {number} yet: use --table {', '.join(map(str, TABLES))}")
    return TABLES[number](gather(store, request))
