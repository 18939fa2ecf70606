"""`btsr-sweep`: run what is missing of a study. Heavy libraries are imported inside the command."""

import importlib.util
import os
import shlex
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from harness.config import PAPER_DATASETS, SEEDS, Profile, RunPaths, Study, StudyOptions
from harness.data.catalogue import DATA_DIR_VARIABLE, DATASETS, dataset, locate
from harness.errors import BtsrError, ConfigError
from studies import STUDIES, StudyFunction, default_datasets, study_function

if TYPE_CHECKING:
    from harness.sweep import Plan

INCOMPLETE, USER_ERROR, INTERRUPTED, TERMINATED = 1, 2, 130, 143
"""Exit codes: trials failed or missing, a mistake in what was asked, Ctrl-C, SIGTERM."""

app = typer.Typer(
    name="btsr-sweep", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=True
)


@app.command()
def sweep(
    study: Annotated[
        str | None, typer.Option(help="study name, or a Python file with a function study(options) -> Study")
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="key, several by comma or by repeating; all: the five of the paper [default: the study's]"),
    ] = None,
    profile: Annotated[Profile, typer.Option(help="hyperparameters of the paper's text or of the files")] = "released",
    seeds: Annotated[
        int, typer.Option(min=1, max=len(SEEDS), help=f"how many of the seeds {', '.join(map(str, SEEDS))}")
    ] = len(SEEDS),
    reduced: Annotated[bool, typer.Option("--reduced", help="the study's smaller form")] = False,
    max_epochs: Annotated[int | None, typer.Option(min=1, help="cap the epochs of every trial")] = None,
    tie: Annotated[Literal["stable", "random"], typer.Option(help="order among equal time stamps")] = "stable",
    out: Annotated[Path, typer.Option(help="folder of the results, OUT/btsr.db, and of prepared data")] = Path("runs"),
    data_dir: Annotated[
        Path | None, typer.Option(help=f"folder of the raw data [default: {DATA_DIR_VARIABLE}, else ./data]")
    ] = None,
    executor: Annotated[Literal["local"], typer.Option(help="what runs the trials")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="processes [default: one per processor]")] = None,
    device: Annotated[str, typer.Option(help="torch device of the trials, such as cpu or cuda")] = "cpu",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what is done and what is missing")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress, only the end")] = False,
    list_studies: Annotated[bool, typer.Option("--list", help="list the studies and their data sets")] = False,
) -> None:
    """Run what is missing of a study. A finished trial is never run again: after an interruption, start it again."""
    if list_studies:
        _show_studies()
        return
    if study is None:
        raise ConfigError(f"--study is missing: name one of {', '.join(STUDIES)}, or a Python file")
    function, usual = _study(study)
    keys = _datasets(dataset, usual)
    options = StudyOptions(
        datasets=keys, profile=profile, seeds=SEEDS[:seeds], reduced=reduced, max_epochs=max_epochs, tie=tie
    )
    wanted = _built(function, options, study)
    paths = RunPaths(data_dir=data_dir, work_dir=out)

    from harness.sweep import current_plan, database

    plan = current_plan(wanted, paths)
    if dry_run:
        _show_plan(plan, database(paths))
        return
    for key in dict.fromkeys(spec.data.dataset for spec in plan.missing):
        if not DATASETS[key].embedded:
            locate(DATASETS[key], data_dir)
    assert executor == "local"
    _run(wanted, plan, paths, workers=workers, device=device, quiet=quiet)


def main() -> None:
    """Entry of the console script: an error of the user's is one line on stderr and exit code 2."""
    try:
        app()
    except BtsrError as error:
        print(f"btsr-sweep: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)


def _run(study: Study, before: "Plan", paths: RunPaths, *, workers: int | None, device: str, quiet: bool) -> None:
    """Run the study to its end or interruption; leaves by typer.Exit unless everything is done."""
    from harness.executors import LocalExecutor, RunContext
    from harness.sweep import current_plan, database, run_study

    stopped_by = INTERRUPTED

    def terminate(_: int, __: FrameType | None) -> None:
        nonlocal stopped_by
        stopped_by = TERMINATED
        raise KeyboardInterrupt

    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    context = RunContext(paths=paths, device=device, command=command)
    usual = signal.signal(signal.SIGTERM, terminate)
    try:
        after = run_study(study, LocalExecutor(workers), context, console=Console(stderr=True), quiet=quiet)
    except KeyboardInterrupt:
        after = current_plan(study, paths)
        typer.echo(
            f"interrupted: {after.done} of {len(study.specs)} trials are done and kept in {database(paths)}; "
            "give the same command again to go on",
            err=True,
        )
        raise typer.Exit(stopped_by) from None
    finally:
        signal.signal(signal.SIGTERM, usual)
    new = after.done - before.done
    typer.echo(
        f"{study.name}: {after.done} of {len(study.specs)} trials are done"
        f" ({new} now, {before.done} before) in {database(paths)}"
    )
    if after.missing:
        _show_failures(study, paths)
        raise typer.Exit(INCOMPLETE)


def _study(name: str) -> tuple[StudyFunction, tuple[str, ...]]:
    """The study function and its usual data sets; a name that looks like a file is one."""
    if not name.endswith(".py") and os.sep not in name:
        return study_function(name), default_datasets(name)
    path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"there is no study file {path.absolute()}: check the path, or name one of {', '.join(STUDIES)}"
        )
    spec = importlib.util.spec_from_file_location(f"study_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"study file {path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"study file {path} cannot be loaded: {_summary(error)}") from error
    function = getattr(module, "study", None)
    if not callable(function):
        raise ConfigError(f"study file {path} has no function study(options): write one that returns a Study")
    return function, tuple(getattr(module, "DATASETS", PAPER_DATASETS))


def _built(function: StudyFunction, options: StudyOptions, name: str) -> Study:
    """The study for these options; what a study file does wrong is the user's error."""
    try:
        built: object = function(options)
    except BtsrError:
        raise
    except Exception as error:
        if name in STUDIES:
            raise
        raise ConfigError(f"study file {name} failed: {_summary(error)}") from error
    if not isinstance(built, Study):
        raise ConfigError(f"study file {name}: study(options) returned {type(built).__name__}, not a Study")
    if not built.specs:
        raise ConfigError(f"study {built.name} lists no trial for data sets {', '.join(options.datasets)}")
    for spec in built.specs:
        dataset(spec.data.dataset)
    return built


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _datasets(named: list[str] | None, usual: tuple[str, ...]) -> tuple[str, ...]:
    """The data sets that the option means, each once. Raises ConfigError for an unknown one."""
    keys: list[str] = []
    for word in (part.strip() for value in named or () for part in value.split(",")):
        keys += PAPER_DATASETS if word == "all" else [dataset(word).key] if word else []
    if named and not keys:
        raise ConfigError(f"--dataset names no data set: use all or some of {', '.join(DATASETS)}")
    return tuple(dict.fromkeys(keys)) or usual


def _show_studies() -> None:
    table = Table("study", "data sets by default", "what", box=box.SIMPLE)
    for name, function in STUDIES.items():
        title = function(StudyOptions(datasets=default_datasets(name), reduced=True)).title
        table.add_row(name, ", ".join(default_datasets(name)), title)
    Console().print(table)


def _show_plan(plan: "Plan", database: Path) -> None:
    """Counts by data set and method, and their sum."""
    table = Table("data set", "method", box=box.SIMPLE, show_footer=True, title=f"{plan.study.name} in {database}")
    table.columns[0].footer = "total"
    rows = plan.rows
    for name in ("trials", "done", "failed", "missing"):
        total = sum(getattr(row, name) for row in rows)
        table.add_column(name, justify="right", footer=f"{total:,}")
    for row in rows:
        table.add_row(row.dataset, row.method, *(f"{n:,}" for n in (row.trials, row.done, row.failed, row.missing)))
    console = Console()
    console.print(table)
    console.print("missing: what a start would run, failed trials included", style="dim")


def _show_failures(study: Study, paths: RunPaths) -> None:
    """The errors of failed trials, each once with its count."""
    from harness.store import open_store
    from harness.sweep import database

    mine = {spec.key for spec in study.specs}
    with open_store(database(paths), read_only=True) as store:
        failed = [row for row in store.trials(study=study.name, status="failed") if row.key in mine]
    for error, count in Counter(row.error for row in failed).most_common(5):
        typer.echo(f"{count} failed: {error}", err=True)
    typer.echo("give the same command again to try failed and missing trials once more", err=True)
