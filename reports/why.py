"""Where a number comes from: the runs behind it, their provenance, and the command that makes them."""

from collections.abc import Iterator, Sequence
from string import ascii_lowercase

from harness.config import TrialSpec, dataset_slug, is_file
from harness.errors import ConfigError, unknown_name
from harness.geometry import GEOMETRY
from harness.rules import Metric, metric_name, metric_of
from reports.commands import exact_plan
from reports.findings import Findings, best_other
from reports.groups import Choice
from reports.names import dataset_title
from reports.notes import settings
from reports.plans import IMPROVE, OURS, ColumnPlan, TablePlan
from reports.published import published
from reports.sheet import Sheet
from reports.table import number
from reports.tables import improve, plan_of
from reports.unasked import unasked

AGAIN = "again/btsr.db"
"""Where runs are made again: what is done is not run a second time in its own database."""

IMPROVEMENT = ColumnPlan(key=IMPROVE, title="Improve", methods=(OURS,))
"""Stands for the column of percent: behind it are BT-SR and the best other."""


def place_of(words: str) -> tuple[TablePlan, str, Metric, ColumnPlan | None]:
    """Table, data set, metric and column of words such as `table 2, ml1m, hr@1` or `table 2, ml1m, hr@1, bt_sr`.

    A data set that is a file may have commas in its path. Raises ConfigError for what is not understood.
    """
    first, _, rest = words.partition(",")
    table = first.strip().lower().removeprefix("table").strip()
    dataset, _, metric = rest.rpartition(",")
    named = None
    if not _is_metric(metric) and _is_metric(dataset.rpartition(",")[2]):
        named = metric.strip()
        dataset, _, metric = dataset.rpartition(",")
    dataset = dataset.strip()
    if not dataset or not table.isdecimal() or ("," in dataset and not is_file(dataset)):
        raise ConfigError(f"'{words}' is not understood: write it as 'table 2, ml1m, hr@1' or with a method at the end")
    plan = plan_of(int(table))
    column = None
    if named is not None:
        improvement = [IMPROVEMENT] if plan.improve else []
        columns = {column.key: column for column in (*plan.columns, *plan.more, *improvement)}
        if named not in columns:
            raise unknown_name("column", named, columns)
        column = columns[named]
    return plan, dataset, metric_of(metric), column


def _is_metric(words: str) -> bool:
    """Whether the last part of a place is meant as a metric, not as a column."""
    return "@" in words or words.strip().lower() in GEOMETRY


def commands_of(found: Findings, choices: Sequence[Choice]) -> tuple[str, ...]:
    """The btsr-sweep commands, for a folder of their own, that plan exactly these runs of one data set, or as few
    others as possible: one where no more is planned by it than by one for each choice.

    They are of the study of the report, else of another that asks for the runs; where no study's plan holds those of a
    choice (a search's points, a study file of the user's own, several studies together), the commands that ran them.
    """
    parts: list[tuple[str, list[TrialSpec], str, frozenset[str]]] = []
    typed: list[str] = []
    for choice in choices:
        specs = [run.spec for run in choice.group.runs]
        made = _planned(found, specs)
        if made is None:
            typed += [found.evidence.store.provenance(key).command for key in choice.group.keys]
            continue
        study, command, keys = made
        for place, (other, theirs, _, planned) in enumerate(parts):
            if other != study:
                continue
            both = [*theirs, *specs]
            joint = exact_plan(study, found.evidence.profile, (specs[0].data.dataset,), both, AGAIN)
            if joint and joint[1] <= planned | keys:
                parts[place] = study, both, *joint
                break
        else:
            parts.append((study, specs, command, keys))
    begun: list[str] = []
    out = []
    for study, _, command, _ in parts:
        out.append(f"{command} --extend" if study in begun else command)
        begun.append(study)
    return *out, *dict.fromkeys(typed)


def _planned(found: Findings, specs: Sequence[TrialSpec]) -> tuple[str, str, frozenset[str]] | None:
    """The study that asks for these trials, its command and what that plans; None where no plan holds them."""
    evidence, store = found.evidence, found.evidence.store
    for study in dict.fromkeys((evidence.study, *store.studies())):
        asked = evidence.specs if study == evidence.study else store.study(study).specs
        if {spec.key for spec in specs} <= {spec.key for spec in asked}:
            made = exact_plan(study, evidence.profile, (specs[0].data.dataset,), specs, AGAIN)
            if made is not None:
                return study, *made
    return None


Run = tuple[str, int, float, str, str, str, str, str, str, float, str]
"""Title of the column, seed, value, key, data, revision, host, device, when it began, seconds, command."""


def why(found: Findings, dataset: str, metric: Metric, column: ColumnPlan | None) -> Sheet:
    """The runs behind one row (or one cell) of a table, one by one; behind Improve, those of the two that it compares.

    Raises ConfigError where nothing of it was run.
    """
    there, name = _there(found, dataset, metric, column), metric_name(metric)
    runs = [run for c in there for run in _runs(found, dataset, metric, c)]
    letters = {command: _letter(i) for i, command in enumerate(dict.fromkeys(run[-1] for run in runs))}
    notes: list[str] = []
    for c in there:
        choice = found.chosen[dataset, c.key]
        mean, reduction = float(found.measured[dataset, c.key, metric].by_seed.mean()), choice.group.spec.loss.reduction
        notes.append(
            f"{c.title}: {number(mean)}{_theirs(found, dataset, name, c.key)}; {settings(choice.group.spec)}"
            f"{'' if reduction in settings(choice.group.spec) else f'; loss: {reduction}'}; group {choice.group.key}."
        )
    if column is IMPROVEMENT:
        change = improve(found, dataset, metric).value
        words = "not defined" if change is None else f"{number(change, percent=True)} %"
        notes.append(
            f"Improve: {words}{_theirs(found, dataset, name, IMPROVE)}; {there[0].title} against the best other column "
            f"by mean, {there[1].title}."
        )
    return Sheet(
        name=f"why_table{found.plan.number}_{dataset_slug(dataset)}_{name.replace('@', '')}",
        title=f"Why: table {found.plan.number}, {dataset_title(dataset)}, {name}, profile {found.evidence.profile}",
        header=("method", "seed", name, "trial", "data", "git", "host", "device", "started", "seconds", "run by"),
        rows=tuple(
            (title, str(seed), number(value), *words, f"{seconds:.0f}", letters[command])
            for title, seed, value, *words, seconds, command in runs
        ),
        exact=tuple(runs),
        footnotes=(*notes, *(f"Run by {letter}: {command}" for command, letter in letters.items())),
        commands_title="To run these again in an empty database:",
        commands=commands_of(found, [found.chosen[dataset, c.key] for c in there]),
    )


def _there(found: Findings, dataset: str, metric: Metric, column: ColumnPlan | None) -> list[ColumnPlan]:
    """The columns that have a value. Raises ConfigError, with what to do, where one that is asked for has none."""
    wanted = list(found.plan.columns) if column is None else [column]
    if column is IMPROVEMENT:
        ours = found.plan.column(OURS)
        rival = best_other(found, dataset, metric, ours.beats)
        wanted = [ours, *([found.plan.column(rival)] if rival else [])]
    there = [c for c in wanted if (dataset, c.key, metric) in found.measured]
    if there and (column is not IMPROVEMENT or len(there) == 2):
        return there
    place = f"table {found.plan.number}, {dataset}, {metric_name(metric)}{f', {column.title}' if column else ''}"
    if any((dataset, c.key) in found.chosen for c in wanted if c not in there):
        raise ConfigError(f"nothing is behind {place}: a run there has no such number")
    needs = ", which needs BT-SR and another column" if column is IMPROVEMENT else ""
    raise ConfigError(f"nothing is behind {place}{needs}: {_to_run(found, dataset, column)}")


def _to_run(found: Findings, dataset: str, column: ColumnPlan | None) -> str:
    """What gives a column a value: what its study lacks, else the command of a study that names its method."""
    evidence = found.evidence
    mine = [spec for spec in evidence.specs if spec.data.dataset == dataset]
    wanted = [] if column is None else [column]
    if column is IMPROVEMENT:  # needs BT-SR, and one other
        ours = found.plan.column(OURS)
        wanted = [ours] if (dataset, OURS) not in found.chosen else [found.plan.column(ours.beats[0])]
    absent = [c for c in wanted if not any(map(c.fits, mine))]
    if absent:
        (first, *_) = unasked(evidence, found.plan.study, {dataset: absent})
        if first.study:
            return first.remedy
    return evidence.to_run((dataset,))


def _theirs(found: Findings, dataset: str, metric: str, key: str) -> str:
    """The published value, and whether it is doubtful or of other data."""
    printed = published().get((found.plan.number, dataset, metric, key))
    if printed is None:
        return ""
    value = f"{number(printed.value, percent=True)} %" if key == IMPROVE else number(printed.value)
    odd = " (doubtful)" if printed.doubtful else ""
    return f"; published {value}{odd}{'' if found.applies(dataset) else ' (other data)'}"


def _runs(found: Findings, dataset: str, metric: Metric, column: ColumnPlan) -> Iterator[Run]:
    """The runs behind one cell."""
    choice, measured = found.chosen[dataset, column.key], found.measured[dataset, column.key, metric]
    for run, seed, value in zip(choice.group.runs, measured.seeds, measured.by_seed.tolist(), strict=True):
        origin = found.evidence.store.provenance(run.key)
        yield (
            column.title,
            seed,
            value,
            run.key,
            choice.group.fingerprint[:8],
            f"{(origin.git_revision or 'unknown')[:10]}{' with changes' if origin.git_dirty else ''}",
            origin.host,
            origin.device,
            origin.started[:16].replace("T", " "),
            origin.seconds.get("total", 0.0),
            origin.command,
        )


def _letter(place: int) -> str:
    """a to z, then aa, ab, ..."""
    more, last = divmod(place, len(ascii_lowercase))
    return (_letter(more - 1) if more else "") + ascii_lowercase[last]


def origins(found: Findings) -> Sheet:
    """Every cell of a table: which runs are behind it, and the command that makes them."""
    rows = []
    for (dataset, key), choice in found.chosen.items():
        origin = [found.evidence.store.provenance(run) for run in choice.group.keys]
        revisions = sorted({(one.git_revision or "unknown")[:10] for one in origin})
        rows.append((
            dataset_title(dataset),
            found.plan.column(key).title,
            settings(choice.group.spec),
            ", ".join(map(str, choice.group.seeds)),
            ", ".join(run[:8] for run in choice.group.keys),
            ", ".join(revisions),
            "; ".join(commands_of(found, (choice,))),
        ))
    return Sheet(
        name=f"origins{found.plan.number}",
        title=f"Where the cells of table {found.plan.number} come from",
        header=("data set", "column", "configuration", "seeds", "trials", "git", "command"),
        rows=tuple(rows),
    )
