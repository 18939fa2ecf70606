"""Where a number comes from: the runs behind it, their provenance, and the command that makes them."""

from collections.abc import Iterator
from string import ascii_lowercase

from harness.config import dataset_slug, is_file
from harness.errors import ConfigError, unknown_name
from harness.rules import Metric, metric_of
from reports.commands import exact_command
from reports.findings import Findings
from reports.groups import Choice
from reports.names import dataset_title
from reports.notes import settings
from reports.plans import ColumnPlan, TablePlan
from reports.published import published
from reports.sheet import Sheet
from reports.table import number
from reports.tables import plan_of


def place_of(words: str) -> tuple[TablePlan, str, Metric, ColumnPlan | None]:
    """Table, data set, metric and column of words such as `table 2, ml1m, hr@1` or `table 2, ml1m, hr@1, bt_sr`.

    A data set that is a file may have commas in its path. Raises ConfigError for what is not understood.
    """
    first, _, rest = words.partition(",")
    table = first.strip().lower().removeprefix("table").strip()
    dataset, _, metric = rest.rpartition(",")
    named = None
    if "@" not in metric and "@" in dataset.rpartition(",")[2]:
        named = metric.strip()
        dataset, _, metric = dataset.rpartition(",")
    dataset = dataset.strip()
    if not dataset or not table.isdecimal() or ("," in dataset and not is_file(dataset)):
        raise ConfigError(f"'{words}' is not understood: write it as 'table 2, ml1m, hr@1' or with a method at the end")
    plan = plan_of(int(table))
    column = None
    if named is not None:
        columns = {column.key: column for column in (*plan.columns, *plan.more)}
        if named not in columns:
            raise unknown_name("column", named, columns)
        column = columns[named]
    return plan, dataset, metric_of(metric), column


def commands_of(found: Findings, choice: Choice) -> tuple[str, ...]:
    """The btsr-sweep command whose plan holds exactly these runs, or as few others as possible.

    It is that of the study of the report, else of another that asks for them all; where no study's plan holds them (a
    search's points, a study file of the user's own, several studies together), the commands that ran them.
    """
    specs = [run.spec for run in choice.group.runs]
    evidence, store = found.evidence, found.evidence.store
    for study in dict.fromkeys((evidence.study, *store.studies())):
        asked = evidence.specs if study == evidence.study else store.study(study).specs
        if {*choice.group.keys} <= {spec.key for spec in asked}:
            command = exact_command(study, evidence.profile, (specs[0].data.dataset,), specs, store.shown)
            if command is not None:
                return (command,)
    return tuple(dict.fromkeys(store.provenance(key).command for key in choice.group.keys))


def why(found: Findings, dataset: str, metric: Metric, column: ColumnPlan | None) -> Sheet:
    """The runs behind one row (or one cell) of a table, one by one.

    Raises ConfigError where nothing of it was run.
    """
    columns = [column] if column else list(found.plan.columns)
    there = [c for c in columns if (dataset, c.key, metric) in found.measured]
    name = f"{metric[0]}@{metric[1]}"
    if not there:
        raise ConfigError(
            f"nothing is behind table {found.plan.number}, {dataset}, {name}: {found.evidence.to_run((dataset,))}"
        )
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    typed: list[str] = []
    for c in there:
        choice = found.chosen[dataset, c.key]
        rows += _runs(found, dataset, metric, c, choice, typed)
        printed = published().get((found.plan.number, dataset, name, c.key))
        theirs = f"; published {number(printed.value)}" if printed else ""
        mean = found.measured[dataset, c.key, metric].by_seed.mean()
        notes.append(
            f"{c.title}: {number(float(mean))}{theirs}; {settings(choice.group.spec)}; "
            f"loss: {choice.group.spec.loss.reduction}; group {choice.group.key}."
        )
    header = ("method", "seed", name, "trial", "data", "git", "host", "device", "started", "seconds", "run by")
    commands = {_letter(i): command for i, command in enumerate(typed)}
    return Sheet(
        name=f"why_table{found.plan.number}_{dataset_slug(dataset)}_{name.replace('@', '')}",
        title=f"Why: table {found.plan.number}, {dataset_title(dataset)}, {name}, profile {found.evidence.profile}",
        header=header,
        rows=tuple(rows),
        records=tuple(dict(zip(header, (*row[:-1], commands[row[-1]]), strict=True)) for row in rows),
        footnotes=(*notes, *(f"Run by {letter}: {command}" for letter, command in commands.items())),
        commands_title="To run these again in an empty database:",
        commands=tuple(
            dict.fromkeys(words for c in there for words in commands_of(found, found.chosen[dataset, c.key]))
        ),
    )


def _runs(
    found: Findings, dataset: str, metric: Metric, column: ColumnPlan, choice: Choice, typed: list[str]
) -> Iterator[tuple[str, ...]]:
    """A row for each run; `typed` gets the commands that ran them, each once, and the row the letter of its own."""
    measured = found.measured[dataset, column.key, metric]
    for run, seed, value in zip(choice.group.runs, measured.seeds, measured.by_seed.tolist(), strict=True):
        origin = found.evidence.store.provenance(run.key)
        if origin.command not in typed:
            typed.append(origin.command)
        revision = f"{(origin.git_revision or 'unknown')[:10]}{' with changes' if origin.git_dirty else ''}"
        yield (
            column.title,
            str(seed),
            number(value),
            run.key,
            choice.group.fingerprint[:8],
            revision,
            origin.host,
            origin.device,
            origin.started[:16].replace("T", " "),
            f"{origin.seconds.get('total', 0.0):.0f}",
            _letter(typed.index(origin.command)),
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
            "; ".join(commands_of(found, choice)),
        ))
    return Sheet(
        name=f"origins{found.plan.number}",
        title=f"Where the cells of table {found.plan.number} come from",
        header=("data set", "column", "configuration", "seeds", "trials", "git", "command"),
        rows=tuple(rows),
    )
