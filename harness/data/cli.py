"""`btsr-data`: which data sets there are, where their files lie, and what the split makes of them.

Heavy libraries are imported inside the commands, so that help and list answer at once.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from harness.config import PAPER_DATASETS, DataConfig, Filter, RunPaths
from harness.data.catalogue import DATA_DIR_VARIABLE, DATASETS, data_folder, dataset, locate
from harness.errors import BtsrError, ConfigError, DataError
from harness.values import Split

app = typer.Typer(
    name="btsr-data",
    help="The data sets: list them, prepare them for training, describe what the temporal split makes of them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

DatasetOption = Annotated[
    list[str],
    typer.Option("--dataset", help="key, several by comma or by repeating; all: the five of the paper"),
]
DataDirOption = Annotated[
    Path | None, typer.Option(help=f"folder of the raw files [default: {DATA_DIR_VARIABLE}, else ./data]")
]
OutOption = Annotated[Path, typer.Option("--out", help="folder of the run; prepared data go to OUT/prepared")]
TieOption = Annotated[
    Literal["stable", "random"], typer.Option(help="order among equal times: the raw file's, or at random (seed 0)")
]
FilterOption = Annotated[Filter, typer.Option(help="none, one_pass (distinct partners) or iterative (k-core)")]
MinItemOption = Annotated[
    int | None, typer.Option(min=1, help="an item needs this many [default: 5; 1 without a filter]")
]
MinUserOption = Annotated[
    int | None, typer.Option(min=1, help="a user needs this many [default: 5; 1 without a filter]")
]


@app.command("list")
def list_datasets(data_dir: DataDirOption = None) -> None:
    """All data sets by key, with the file that each would be read from."""
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for spec in DATASETS.values():
        table.add_row(spec.key, f"{spec.title}: {_file(spec.key, data_dir)}")
        for text in (spec.note, spec.licence, spec.url):
            if text:
                table.add_row("", text, style="dim")
    console = Console()
    console.print(table)
    console.print(f"Raw files are looked for in {data_folder(data_dir).absolute()} (--data-dir, {DATA_DIR_VARIABLE}).")


@app.command()
def prepare(
    dataset: DatasetOption,
    data_dir: DataDirOption = None,
    out: OutOption = Path("runs"),
    tie: TieOption = "stable",
    filter: FilterOption = "iterative",
    min_item: MinItemOption = None,
    min_user: MinUserOption = None,
) -> None:
    """Filter, split and check data sets, and keep them for training; what is there already is only checked."""
    table = Table("data set", "users", "items", "rows", "test users", "fingerprint", box=box.SIMPLE)
    for split in _splits(dataset, tie, filter, min_item, min_user, RunPaths(data_dir=data_dir, work_dir=out)):
        table.add_row(
            split.config.dataset,
            f"{split.n_train_users:,}",
            f"{split.n_items:,}",
            f"{len(split.train_items):,}",
            f"{split.n_test_users:,}",
            split.fingerprint[:12],
        )
    console = Console()
    console.print(table)
    console.print(f"Prepared below {(out / 'prepared').absolute()}.")


@app.command()
def describe(
    dataset: DatasetOption,
    data_dir: DataDirOption = None,
    out: OutOption = Path("runs"),
    tie: TieOption = "stable",
    filter: FilterOption = "iterative",
    min_item: MinItemOption = None,
    min_user: MinUserOption = None,
) -> None:
    """Every count of filter and split, step by step (prepares what is not there yet)."""
    from harness.prepare import describe as lines_of

    console = Console()
    for split in _splits(dataset, tie, filter, min_item, min_user, RunPaths(data_dir=data_dir, work_dir=out)):
        spec = DATASETS[split.config.dataset]
        table = Table(box=box.SIMPLE, show_header=False, title=spec.title, caption=spec.note)
        for label, value in lines_of(split):
            table.add_row(label, value)
        console.print(table)


def main() -> None:
    """Entry of the console script: an error of the user's is one line on stderr and exit code 2."""
    try:
        app()
    except BtsrError as error:
        print(f"btsr-data: {error}", file=sys.stderr)
        sys.exit(2)


def _file(key: str, data_dir: Path | None) -> str:
    """The file that a data set would be read from, in words."""
    if DATASETS[key].embedded:
        return "embedded"
    try:
        return locate(DATASETS[key], data_dir).name
    except DataError:
        return "missing"


def _keys(named: list[str]) -> list[str]:
    """The data set keys that the option means, each once; raises ConfigError for an unknown one."""
    keys: list[str] = []
    for word in (part.strip() for value in named for part in value.split(",")):
        keys += PAPER_DATASETS if word == "all" else [dataset(word).key] if word else []
    if not keys:
        raise ConfigError(f"--dataset names no data set: use all or some of {', '.join(DATASETS)}")
    return list(dict.fromkeys(keys))


def _splits(
    named: list[str],
    tie: Literal["stable", "random"],
    filter: Filter,
    min_item: int | None,
    min_user: int | None,
    paths: RunPaths,
) -> Iterator[Split]:
    """Prepare the named data sets one after the other; all names and files are looked up before the first."""
    from harness.prepare import prepare as prepare_one

    keys = _keys(named)
    for key in keys:
        if not DATASETS[key].embedded:
            locate(DATASETS[key], paths.data_dir)
    least = 1 if filter == "none" else 5
    if filter == "none" and (min_item or min_user or 1) > 1:
        raise ConfigError("--filter none drops nothing: leave out --min-item and --min-user, or choose a filter")
    for key in keys:
        config = DataConfig(dataset=key, filter=filter, min_item=min_item or least, min_user=min_user or least, tie=tie)
        with Console(stderr=True).status(f"preparing {key}"):
            split = prepare_one(config, paths)
        yield split
