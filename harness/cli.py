"""`btsr-sweep`: run what is missing of a study. Heavy libraries are imported inside the commands."""

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.asked import check_together, command_typed, methods_named, study_asked, study_named
from harness.choices import checked
from harness.config import DEFAULT_PROFILE, SEEDS, Profile, Study, StudyOptions, is_file
from harness.data.catalogue import named_datasets
from harness.data.options import (
    CountOption,
    DataDirOption,
    EditionOption,
    FilterOption,
    ItemColOption,
    MinItemOption,
    MinUserOption,
    NoDownloadOption,
    QuantileOption,
    RepeatsOption,
    SplitOption,
    StudyDatasetsOption,
    TieOption,
    TimeColOption,
    UserColOption,
    choices_of,
)
from harness.errors import BtsrError, ConfigError, told
from harness.options import Prune, Search, SweepOptions
from harness.panels import Panelled
from harness.paths import RunPaths
from harness.plain import plain
from models.config import Precision
from studies import STUDIES

if TYPE_CHECKING:
    from harness.executors import Executor, RunContext
    from harness.ledger_page import Facts
    from harness.values import Estimate

INCOMPLETE, USER_ERROR, INTERRUPTED, TERMINATED = 1, 2, 130, 143
"""Exit codes: trials failed or missing, a mistake in what was asked, Ctrl-C, SIGTERM."""

SEARCH, WHERE, AGAIN, SHOW = "Search", "Where trials run", "Failures and growth", "What is shown"
"""Headings of the help."""

app = typer.Typer(name="btsr-sweep", pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command(cls=Panelled, no_args_is_help=True)
def sweep(
    context: typer.Context,
    study: Annotated[
        str | None, typer.Option(help="study name, or a Python file with a function study(options) -> Study")
    ] = None,
    winners_of: Annotated[
        str | None,
        typer.Option(help="in place of --study: the best setting of each method of a study that ran, with all seeds"),
    ] = None,
    dataset: StudyDatasetsOption = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            help="only these methods, of any study but smoke and augmentation [default: those of the paper; table1, "
            "table2, alpha_lambda and tune have further ones]"
        ),
    ] = None,
    profile: Annotated[
        Profile, typer.Option(help="hyperparameters and filter of the paper's text, or of the released files")
    ] = DEFAULT_PROFILE,
    seeds: Annotated[
        int, typer.Option(min=1, max=len(SEEDS), help=f"how many of the seeds {', '.join(map(str, SEEDS))}")
    ] = len(SEEDS),
    reduced: Annotated[bool, typer.Option("--reduced", help="the study's smaller form")] = False,
    max_epochs: Annotated[int | None, typer.Option(min=1, help="cap the epochs of every trial")] = None,
    validate_every: Annotated[
        int, typer.Option(min=1, help="epochs between validations, which the patience of early stopping counts")
    ] = 1,
    precision: Annotated[
        Precision, typer.Option(help="of linear maps and the full softmax; bf16 is faster where the processor has it")
    ] = "fp32",
    search: Annotated[
        Search,
        typer.Option(
            help="the study's grid, or points of its space: of tune, alpha_lambda, smoke or one of your own",
            rich_help_panel=SEARCH,
        ),
    ] = "grid",
    trials: Annotated[
        int, typer.Option(min=0, help="points of a search, of each method on each data set", rich_help_panel=SEARCH)
    ] = 0,
    prune: Annotated[
        Prune | None, typer.Option(help="give up trials of a search that fall behind", rich_help_panel=SEARCH)
    ] = None,
    out: Annotated[
        Path, typer.Option(help="folder of the results, OUT/btsr.db, of prepared data and checkpoints")
    ] = Path("runs"),
    db: Annotated[
        str | None, typer.Option(help="results database elsewhere: a file, or postgresql://user@host/name")
    ] = None,
    data_dir: DataDirOption = None,
    no_download: NoDownloadOption = False,
    edition: EditionOption = "",
    filter: FilterOption = None,
    min_item: MinItemOption = None,
    min_user: MinUserOption = None,
    count: CountOption = "usual",
    repeats: RepeatsOption = "keep",
    split: SplitOption = "temporal",
    quantile: QuantileOption = None,
    tie: TieOption = "stable",
    user_col: UserColOption = "",
    item_col: ItemColOption = "",
    time_col: TimeColOption = "",
    merge: Annotated[
        str | None, typer.Option(help="copy the results of another database into this one, and do nothing else")
    ] = None,
    executor: Annotated[
        Literal["ray", "local"],
        typer.Option(help="what runs the trials: Ray Tune, or plain processes here", rich_help_panel=WHERE),
    ] = "ray",
    workers: Annotated[
        int | None, typer.Option(min=1, help="trials at once [default: as many as fit]", rich_help_panel=WHERE)
    ] = None,
    cpus_per_trial: Annotated[
        int, typer.Option(min=1, help="processors, which is torch threads, of each trial", rich_help_panel=WHERE)
    ] = 1,
    gpus_per_trial: Annotated[
        float,
        typer.Option(min=0, help="share of a GPU for each trial, such as 0.25: four on one", rich_help_panel=WHERE),
    ] = 0.0,
    ray_address: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of a Ray cluster, or auto [default: one of its own]", rich_help_panel=WHERE),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda or cuda:1 [default: cpu, with --gpus-per-trial cuda]", rich_help_panel=WHERE),
    ] = None,
    max_failures: Annotated[
        int, typer.Option(min=0, help="failures of a trial that are followed by another attempt", rich_help_panel=AGAIN)
    ] = 2,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="try trials again that failed for good", rich_help_panel=AGAIN)
    ] = False,
    only: Annotated[
        str | None, typer.Option(help="run one trial: its key, or its beginning", rich_help_panel=AGAIN)
    ] = None,
    extend: Annotated[
        bool, typer.Option("--extend", help="run a study that has changed since it was stored", rich_help_panel=AGAIN)
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="the same, and forget what it asked for on these data, has not finished and does not ask for now",
            rich_help_panel=AGAIN,
        ),
    ] = False,
    keep_checkpoints: Annotated[
        bool, typer.Option("--keep-checkpoints", help="keep the best weights of every trial in OUT/checkpoints")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="only show what is done, what is missing and its price", rich_help_panel=SHOW),
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="measure the price by short runs first", rich_help_panel=SHOW),
    ] = False,
    status: Annotated[
        bool,
        typer.Option("--status", help="only show how far it is; without --study: all studies", rich_help_panel=SHOW),
    ] = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="serve the Optuna dashboard meanwhile", rich_help_panel=SHOW)
    ] = False,
    dashboard_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="its port; 0: any", rich_help_panel=SHOW)
    ] = 8080,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress, only the end", rich_help_panel=SHOW)] = False,
    recipe: Annotated[
        Literal["slurm", "onprem", "aws"] | None,
        typer.Option(help="print a script for a cluster: for sbatch, for ray up on your machines, for ray up on AWS"),
    ] = None,
    list_studies: Annotated[
        bool, typer.Option("--list", help="list the studies and their data sets", rich_help_panel=SHOW)
    ] = False,
) -> None:
    """Run what is missing of a study. A finished trial is never run again: after an interruption, start it again."""
    from harness import show
    from harness.executors import RunContext
    from harness.launch import at_once, check_device, check_shared, device_name, executor_of, idle_gpu, merge_into
    from harness.plan import current_plan
    from harness.price import estimates_of, price
    from harness.ray_cluster import Cluster
    from harness.sweep import start_plan

    check_together(_typed(context))
    if recipe is not None:
        show.recipe(recipe)
        return
    if list_studies:
        show.studies()
        return
    if merge is not None:
        typer.echo(merge_into(RunPaths(work_dir=out, database=db), merge))
        return
    if status and winners_of is None and study is None:
        show.status_of_all(RunPaths(work_dir=out, database=db))
        return
    if winners_of is not None and study is not None:
        raise ConfigError("--winners-of stands in place of --study: drop one of them")
    if winners_of is None and study is None:
        raise ConfigError(f"--study is missing: name one of {', '.join(STUDIES)}, or a Python file")
    function, usual = study_named(study) if study is not None else (None, ())
    keys = named_datasets(dataset or usual) if dataset or usual else ()
    if any((user_col, item_col, time_col)) and not any(map(is_file, keys)):
        raise ConfigError(
            f"--user-col, --item-col and --time-col are for files, and {', '.join(keys)} is none: drop them"
        )
    asked = StudyOptions(
        datasets=keys,
        profile=profile,
        seeds=SEEDS[:seeds],
        reduced=reduced,
        max_epochs=max_epochs,
        validate_every=validate_every,
        tie=tie,
        data=choices_of(context),
        precision=precision,
        columns=(user_col, item_col, time_col),
        methods=methods_named(methods),
    )
    options = checked(
        SweepOptions,
        max_failures=max_failures,
        retry_failed=retry_failed,
        only=only,
        extend=extend,
        replace=replace,
        search=search,
        trials=trials,
        prune=prune,
    )
    paths = RunPaths(data_dir=data_dir, work_dir=out, database=db, download=not no_download)
    if function is not None and study is not None:
        wanted = study_asked(function, asked, study, searched=search != "grid")
    else:
        wanted = _winners(str(winners_of), asked, paths)
    run = RunContext(
        paths=paths,
        device=device_name(device, gpus=gpus_per_trial),
        threads=cpus_per_trial,
        command=command_typed(sys.argv),
        keep_checkpoints=keep_checkpoints,
        ask_each_epoch=prune is not None,
    )
    room = Cluster(address=ray_address, workers=workers, cpus=cpus_per_trial, gpus=gpus_per_trial)
    if status:
        show.status(current_plan(wanted, paths, options), paths)
        return
    check_shared(executor, room, device=run.device)
    plan = start_plan(wanted, paths, options, shown=dry_run)
    console = plain(stderr=True, soft_wrap=True, quiet=quiet)
    with _stoppable(lambda: " before the first trial"):
        if calibrate:
            check_device(run.device, gpus=gpus_per_trial)
        estimates = estimates_of(plan, run, measure=calibrate, tell=console.print)
        if dry_run:
            cost = price(plan, estimates)
            workers = at_once(room) if cost.hours else 1
            show.plan(plan, paths.shown, estimates, cost, workers, here=ray_address is None)
            return
        runner = executor_of(executor, room, device=run.device, needed=bool(plan.upcoming))
        if plan.upcoming:
            from harness.prepare import raw_file

            if words := idle_gpu(executor, room, device=device):
                console.print(words)
            for config in dict.fromkeys(spec.data for spec in plan.upcoming):
                raw_file(config, paths)
    with ExitStack() as stack:
        if dashboard:
            from harness.dashboard import dashboard as served

            address = stack.enter_context(served(paths.results, paths.artifacts, dashboard_port))
            typer.echo(f"dashboard while the sweep runs: {address}", err=True)
        _run(wanted, runner, run, options, tuple(estimates.values()), quiet=quiet)


@contextmanager
def _stoppable(stand: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C, or the SIGTERM of a batch scheduler, leaves the ``with`` block by typer.Exit and says how to go on."""
    stopped_by = INTERRUPTED

    def terminate(_: int, __: FrameType | None) -> None:
        nonlocal stopped_by
        stopped_by = TERMINATED
        raise KeyboardInterrupt

    usual = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"interrupted{stand()}; give the same command again to go on", err=True)
        raise typer.Exit(stopped_by) from None
    finally:
        signal.signal(signal.SIGTERM, usual)


def main() -> None:
    """Entry of the console script: an error of the user's is one line on stderr and exit code 2."""
    try:
        app()
    except BtsrError as error:
        print(f"btsr-sweep: {told(error, '--out or --db')}", file=sys.stderr)
        sys.exit(USER_ERROR)


def _typed(context: typer.Context) -> set[str]:
    """The options that stand in the command."""
    return {
        option.opts[0]
        for option in context.command.params
        if option.name and (source := context.get_parameter_source(option.name)) and source.name == "COMMANDLINE"
    }


def _pictures(title: str, done: "Sequence[Facts]") -> "Mapping[str, bytes]":
    from reports.live import pictures

    return pictures(title, done)


def _winners(study: str, asked: StudyOptions, paths: RunPaths) -> Study:
    from harness.store import open_store
    from harness.winners import winners

    with open_store(paths.results, read_only=True) as store:
        return winners(store, study, asked)


def _run(
    study: Study,
    executor: "Executor",
    context: "RunContext",
    options: SweepOptions,
    estimates: "Sequence[Estimate]",
    *,
    quiet: bool,
) -> None:
    """Run the study to its end or interruption; leaves by typer.Exit unless everything is done."""
    from harness import show
    from harness.plan import current_plan
    from harness.sweep import run_study

    paths = context.paths

    def kept() -> str:
        there = current_plan(study, paths, options)
        return f": {there.done} of {there.total} trials are done and kept in {paths.shown}"

    before = current_plan(study, paths, options)
    with _stoppable(kept):
        after = run_study(
            study,
            executor,
            context,
            console=plain(stderr=True),
            quiet=quiet,
            options=options,
            estimates=estimates,
            draw=_pictures,
        )
    counts = f"{after.done} of {after.total} trials are done ({after.done - before.done} now, {before.done} before)"
    if after.pruned:
        counts += f", {after.pruned} were given up early"
    typer.echo(f"{after.study.name}: {counts} in {paths.shown}")
    bare = [key for key, ended in before.statuses.items() if ended == "done" and not (paths.checkpoints / key).exists()]
    if context.keep_checkpoints and bare:
        typer.echo(
            f"--keep-checkpoints: {len(bare)} trials were done before without their weights, which only another run "
            "makes: give the command with another --out",
            err=True,
        )
    if not after.complete:
        show.failures(after, paths)
        raise typer.Exit(INCOMPLETE)
