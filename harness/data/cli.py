"""`btsr-data`: which data sets there are, getting them, and what filter and split make of them.

Heavy libraries are imported inside the commands, so that help and list answer at once.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from harness.choices import DataChoices
from harness.config import DEFAULT_PROFILE, DataConfig, dataset_slug
from harness.data.catalogue import DATA_DIR_VARIABLE, DATASETS, data_folder, dataset_of, find, named_datasets
from harness.data.catalogue import dataset as registered
from harness.data.kinds import DatasetSpec
from harness.data.options import (
    CountOption,
    DataDirOption,
    DatasetOption,
    EditionOption,
    FilterOption,
    ItemColOption,
    MinItemOption,
    MinUserOption,
    NamesArgument,
    NoDownloadOption,
    OutOption,
    ProfileOption,
    QuantileOption,
    RepeatsOption,
    SplitOption,
    TieOption,
    TimeColOption,
    UserColOption,
    choices_of,
)
from harness.errors import BtsrError
from harness.paths import RunPaths
from harness.plain import plain
from harness.profiles import profile_data

if TYPE_CHECKING:
    from harness.data.describe import Value
    from harness.data.shelf import Finding

app = typer.Typer(
    name="btsr-data",
    help="The data sets: list, download, add, verify, prepare and describe them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command("list")
def list_datasets(data_dir: DataDirOption = None) -> None:
    """All data sets by key, with the file that each would be read from."""
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for spec in DATASETS.values():
        table.add_row(spec.key, f"{spec.title}: {_file(spec, data_dir)}")
        editions = f"editions: {', '.join(spec.editions)}" if spec.editions else ""
        files = f"files: {', '.join(file.name for file in spec.files)}" if spec.files else ""
        for text in (spec.note, files, editions, spec.licence, spec.url):
            if text:
                table.add_row("", text, style="dim")
    console = plain()
    console.print(table)
    console.print(f"Raw files are looked for in {data_folder(data_dir).absolute()} (--data-dir, {DATA_DIR_VARIABLE}).")


@app.command()
def download(
    names: NamesArgument = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    edition: EditionOption = "",
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="you have read and accept the source's terms (Yelp)")
    ] = False,
) -> None:
    """Fetch the official files of data sets; what is there already stays as it is."""
    from harness.data.fetch import download as fetch

    for name in named_datasets(names, dataset):
        spec = dataset_of(profile_data(name, DEFAULT_PROFILE, DataChoices(edition=edition)))
        where = "generated" if spec.embedded else fetch(spec, data_dir, consent=accept_terms)
        typer.echo(f"{spec.key}: {where}")


@app.command()
def add(
    dataset: Annotated[str, typer.Argument(help="key of the data set")],
    file: Annotated[Path, typer.Argument(help="its official file, wherever you got it")],
    data_dir: DataDirOption = None,
    edition: EditionOption = "",
) -> None:
    """Check a file that you have and copy it to where it is looked for: for use without a network."""
    from harness.data.shelf import add as put
    from harness.data.shelf import spec_to_add

    finding = put(spec_to_add(dataset, file), file, edition=edition, data_dir=data_dir)
    typer.echo(f"{dataset}: {finding.path}: {finding.words}")


@app.command()
def verify(
    names: NamesArgument = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    user_col: UserColOption = "",
    item_col: ItemColOption = "",
    time_col: TimeColOption = "",
) -> None:
    """Read the files that are there to their end, and compare them with the official ones.

    Without a name every data set that has a file. Exit code 1 if a file is bad, or not the official one although that
    one's SHA-256 is known, or if a data set that was named has none.
    """
    from harness.data.shelf import verify as check

    chosen = named_datasets(names, dataset) if names or dataset else ()
    folder = data_folder(data_dir).absolute()
    found: list[Finding] = []
    missing = []
    columns = (user_col, item_col, time_col)
    for spec in [dataset_of(profile_data(name, DEFAULT_PROFILE, columns=columns)) for name in chosen or DATASETS]:
        findings = check(spec, data_dir)
        if chosen and not findings and not spec.embedded:
            missing.append(spec.key)
            typer.echo(f"{spec.key}: {f'no file of it in {folder}' if spec.url else 'there is no such file'}")
        for finding in findings:
            typer.echo(f"{spec.key}: {finding.state}: {finding.words}")
        found += findings
    if not chosen and not found:
        typer.echo(f"no file of any data set in {folder}")
    if missing or any(finding.state != "ok" for finding in found):
        raise typer.Exit(1)


@app.command()
def prepare(
    context: typer.Context,
    names: NamesArgument = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    out: OutOption = Path("runs"),
    no_download: NoDownloadOption = False,
    edition: EditionOption = "",
    profile: ProfileOption = DEFAULT_PROFILE,
    tie: TieOption = "stable",
    filter: FilterOption = None,
    min_item: MinItemOption = None,
    min_user: MinUserOption = None,
    count: CountOption = "usual",
    repeats: RepeatsOption = "keep",
    split: SplitOption = "temporal",
    quantile: QuantileOption = None,
    user_col: UserColOption = "",
    item_col: ItemColOption = "",
    time_col: TimeColOption = "",
) -> None:
    """Filter, split and check data sets, and keep them for training; what is there already is only checked."""
    from harness.prepare import prepare as prepare_one

    choices = choices_of(context)
    columns = (user_col, item_col, time_col)
    configs = [
        profile_data(name, profile, choices, tie=tie, columns=columns) for name in named_datasets(names, dataset)
    ]
    paths = RunPaths(data_dir=data_dir, work_dir=out, download=not no_download)
    table = Table("data set", "users", "items", "rows", "test users", "fingerprint", box=box.SIMPLE)
    for config in _ready(configs, paths):
        made = prepare_one(config, paths)
        table.add_row(
            registered(made.config.dataset).key,
            f"{made.n_train_users:,}",
            f"{made.n_items:,}",
            f"{len(made.train_items):,}",
            f"{made.n_test_users:,}",
            made.fingerprint[:12],
        )
    console = plain()
    console.print(table)
    console.print(f"Prepared below {(out / 'prepared').absolute()}.")


@app.command()
def describe(
    context: typer.Context,
    names: NamesArgument = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    out: OutOption = Path("runs"),
    no_download: NoDownloadOption = False,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="also draw the distributions")] = True,
    edition: EditionOption = "",
    profile: ProfileOption = DEFAULT_PROFILE,
    tie: TieOption = "stable",
    filter: FilterOption = None,
    min_item: MinItemOption = None,
    min_user: MinUserOption = None,
    count: CountOption = "usual",
    repeats: RepeatsOption = "keep",
    split: SplitOption = "temporal",
    quantile: QuantileOption = None,
    user_col: UserColOption = "",
    item_col: ItemColOption = "",
    time_col: TimeColOption = "",
) -> None:
    """Every count of filter and split, step by step, and a table and pictures of the data sets, saved in OUT/data."""
    from harness.data.describe import statistics
    from harness.data.output import comparison, draw_distributions, save_statistics, steps
    from harness.prepare import distributions_of
    from harness.prepare import prepare as prepare_one

    choices = choices_of(context)
    placed = (user_col, item_col, time_col)
    configs = [profile_data(name, profile, choices, tie=tie, columns=placed) for name in named_datasets(names, dataset)]
    paths = RunPaths(data_dir=data_dir, work_dir=out, download=not no_download)
    console, folder = plain(), out / "data"
    columns: dict[str, dict[str, Value]] = {}
    for config in _ready(configs, paths):
        made, found = prepare_one(config, paths), distributions_of(config, paths)
        spec = registered(config.dataset)
        console.print(steps(spec, made))
        name = dataset_slug(config.dataset)
        columns[name] = statistics(made, found)
        if pictures:
            for path in draw_distributions(spec.title, made, found, folder / name):
                typer.echo(path)
    for path in save_statistics(columns, folder):
        typer.echo(path)
    if len(columns) > 1:
        console.print(comparison(columns))


def main() -> None:
    """Entry of the console script: an error of the user's is one line on stderr and exit code 2."""
    try:
        app()
    except BtsrError as error:
        print(f"btsr-data: {error}", file=sys.stderr)
        sys.exit(2)


def _file(spec: DatasetSpec, data_dir: Path | None) -> str:
    """The file that a data set would be read from, in words."""
    if spec.embedded:
        return "embedded"
    path = find(spec, data_dir)
    return path.name if path else "missing"


def _ready(configs: Sequence[DataConfig], paths: RunPaths) -> Iterator[DataConfig]:
    """The configurations one after the other; the files of all are looked up, and fetched, before the first."""
    from harness.prepare import raw_file

    for config in configs:
        raw_file(config, paths)
    for config in configs:
        with plain(stderr=True).status(Text(f"preparing {config.dataset}")):
            yield config
