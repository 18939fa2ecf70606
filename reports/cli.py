"""`btsr-report`: tables and figures from a results database. Heavy imports happen inside the command."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.choices import Tie
from harness.config import Profile, names_in
from harness.errors import BtsrError, ConfigError, told
from models.config import Precision

app = typer.Typer(name="btsr-report", pretty_exceptions_enable=False, rich_markup_mode=None)


class Format(StrEnum):
    """How a table is written."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    html = "html"


@app.command(no_args_is_help=True)
def report(
    table: Annotated[list[int] | None, typer.Option(help="number of a table in the paper: 1, 2, 3")] = None,
    figure: Annotated[list[int] | None, typer.Option(help="number of a figure in the paper: 1 to 9")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="all tables and figures, audit and claims; what cannot be made is named")
    ] = False,
    verdict: Annotated[
        bool, typer.Option("--verdict", help="with --table: ours, published, gap and verdict, cell by cell")
    ] = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="the printed numbers alone, recomputed; needs no database")
    ] = False,
    claims: Annotated[
        bool, typer.Option("--claims", help="what the paper's text says, in our results: yes, no or undecided")
    ] = False,
    effects: Annotated[
        bool,
        typer.Option(
            "--effects",
            help="what each setting is worth that a study switches by itself: of protocol, precision and augmentation, "
            "or of --study",
        ),
    ] = False,
    pareto: Annotated[
        bool,
        typer.Option(
            "--pareto",
            help="ndcg@10 against cov@10 over alpha and lambda, or over the points of a search; heat maps where a "
            "grid is",
        ),
    ] = False,
    pick: Annotated[
        str | None,
        typer.Option(
            help="the alpha and lambda that a rule chooses on validation: precise, balanced, diverse, or such as "
            "'max cov@10 subject to ndcg@10 >= 0.99*best' (of gini and arp the best is the least)"
        ),
    ] = None,
    why: Annotated[
        str | None,
        typer.Option(help="the runs behind a row or cell: 'table 2, ml1m, hr@1' (and a method)"),
    ] = None,
    page: Annotated[Path | None, typer.Option(help="everything in one HTML file that needs no network")] = None,
    sql: Annotated[
        str | None,
        typer.Option(
            help="a query of your own, such as 'select * from results'; reading only. The view results looks at all "
            "studies of the file at once, a table at one"
        ),
    ] = None,
    export: Annotated[
        Literal["parquet"] | None, typer.Option(help="all tables as files of this kind, into --out")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="with --table or --effects: these rows, such as hr@10,ndcg@20 (K up to 50) or erank"),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="study to report [default: table2 or alpha_lambda, as the paper has it]")
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="keys, see btsr-data list; all: the five of the paper; or csv, tsv, parquet or jsonl files; several "
            "by comma or by repeating [default: what the study has]. Each must have what is asked for, except as a "
            "row of a table, or of a figure of several"
        ),
    ] = None,
    profile: Annotated[
        Profile | None, typer.Option(help="needed where the study has results of both; they never mix")
    ] = None,
    tie: Annotated[Tie | None, typer.Option(help="only results on data with this tie rule")] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="only results in this precision; both may stand in one study")
    ] = None,
    fingerprint: Annotated[
        list[str] | None, typer.Option(help="beginning of the data fingerprint, where a data set has several versions")
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(
            help="of figures as they are printed, drawn anew for it: column (3.33 inches, of two), text (5.5), or "
            "inches from 3 to 8 [default: text]"
        ),
    ] = None,
    bare: Annotated[
        bool,
        typer.Option(
            "--bare", help="figures without title and notes; a .tex beside each sets it with these as the caption"
        ),
    ] = False,
    db: Annotated[str, typer.Option(help="results database: a file, such as OUT/btsr.db of a sweep, or a URL")] = (
        "runs/btsr.db"
    ),
    style: Annotated[
        list[Format] | None, typer.Option("--format", help="of a table [default: text; with --out all five]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="folder for files [default: tables to the terminal, figures to 'report' next to the database]"
        ),
    ] = None,
) -> None:
    """Tables and figures from the results of btsr-sweep, the published numbers beside ours."""
    from harness.paths import RunPaths
    from reports.output import Output
    from reports.width import width_of

    tables, figures = tuple(table or ()), tuple(figure or ())
    results = RunPaths(database=db).results
    folder = results.parent / "report" if isinstance(results, Path) else Path("report")
    if verdict and not tables:
        raise ConfigError("--verdict is about the cells of a table: add --table 2")
    if metric and not (tables or effects):
        raise ConfigError("--metric chooses the rows of a table: add --table 2 or --effects")
    if why is not None and dataset:
        raise ConfigError("--why names its data set itself: drop --dataset")
    shown = (tables, figures, everything, claims, effects, pareto, pick is not None, why is not None)
    chosen_by_study = any((*shown, page))
    of_database = any((chosen_by_study, sql is not None, export))
    if not of_database and not audit:
        raise ConfigError("nothing asked for: use --table 2, --figure 3, --all, --audit, or --help for the rest")
    if out is not None and page is not None and not any((*shown, sql, export, audit)):
        raise ConfigError("--page names its file itself: drop --out")
    for name, words in {"dataset": dataset, "metric": metric, "fingerprint": fingerprint, "study": study}.items():
        given = [words] if isinstance(words, str) else words
        if given is not None and any(not part.strip() for word in given for part in word.split(",")):
            raise ConfigError(f"--{name} has an empty name in it: give it a value, or drop it")
    narrowing = {"study": study, "dataset": dataset, "profile": profile, "tie": tie}
    narrowing |= {"precision": precision, "fingerprint": fingerprint}
    idle = [f"--{name}" for name, value in narrowing.items() if value]
    if idle and not chosen_by_study:
        raise ConfigError(f"{', '.join(idle)} has no effect on --audit, --sql and --export: drop it")
    if style and not any((tables, everything, claims, effects, pick, why, sql, audit)):
        raise ConfigError("--format is of tables; figures are always written as PNG, SVG and PDF: drop it")
    drawn = width_of("text" if width is None else width, bare=bare)
    if not any((figures, everything, pareto)):
        if option := "--bare" if bare else "" if width is None else "--width":
            raise ConfigError(
                f"{option} is of figures that are files (the page keeps its own): add --figure 3, --pareto or --all"
            )
    if tables:
        from reports.tables import plan_of as table_plan

        for number in tables:
            table_plan(number)
    if figures:
        from reports.figures import plan_of as figure_plan

        for number in figures:
            figure_plan(number)
    output = Output(out, [name.value for name in style or ()], folder)
    if audit:
        from reports.audit import audit as recomputed

        output.sheet(recomputed())
        if not of_database:
            return

    from harness.store import open_store
    from reports.asked import Asked
    from reports.measure import metrics_of

    metrics = metrics_of(metric or ())
    with open_store(db, read_only=True) as store:
        asked = Asked(
            store=store,
            output=output,
            study=study,
            profile=profile,
            datasets=names_in(dataset or ()),
            tie=tie,
            precision=precision,
            fingerprints=tuple(fingerprint or ()),
            width=drawn,
        )
        for number in tables:
            asked.table(number, metrics, verdict=verdict)
        for number in figures:
            asked.figure(number)
        if claims:
            asked.claims()
        if effects:
            asked.effects(metrics)
        if pareto:
            asked.pareto()
        if pick is not None:
            asked.pick(pick)
        if why is not None:
            asked.why(why)
        if sql is not None:
            asked.sql(sql)
        if everything:
            asked.everything()
        if page is not None:
            asked.page(page)
        if export is not None:
            asked.export(out or folder)


def main() -> None:
    """Entry point: errors of the user are one line and exit code 2."""
    try:
        app(prog_name="btsr-report")
    except BtsrError as error:
        typer.echo(f"btsr-report: {told(error, '--db')}", err=True)
        raise SystemExit(2) from None
