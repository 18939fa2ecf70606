"""`btsr-report`: tables and figures from a results database. Heavy imports happen inside the command."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.config import PAPER_DATASETS
from harness.errors import BtsrError, ConfigError

if TYPE_CHECKING:
    from reports.results import Evidence
    from reports.table import Table

app = typer.Typer(add_completion=True, pretty_exceptions_enable=False)


class Format(StrEnum):
    """How a table is written."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"


class ProfileName(StrEnum):
    """Which settings the results were made with."""

    paper = "paper"
    released = "released"


class TieName(StrEnum):
    """Order among equal time stamps."""

    stable = "stable"
    random = "random"


DEFAULT_STUDY = {"table": "table2", "figure": "alpha_lambda"}


def _names(words: list[str]) -> tuple[str, ...]:
    """Data sets from repeated or comma-separated words; `all` means the paper's five."""
    names = [name.strip() for word in words for name in word.split(",") if name.strip()]
    return tuple(dict.fromkeys(n for name in names for n in (PAPER_DATASETS if name == "all" else (name,))))


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"folder {path} cannot be made ({error.strerror}): choose another --out") from error
    return path


def _write_table(table: "Table", formats: list[Format], out: Path) -> list[Path]:
    from reports.render import RENDERERS

    written = []
    for name in formats:
        suffix, render = RENDERERS[name]
        path = _folder(out) / f"{table.name}{suffix}"
        try:
            path.write_text(render(table), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path} cannot be written ({error.strerror}): choose another --out") from error
        written.append(path)
    return written


def _print_table(table: "Table", style: Format) -> None:
    from reports.render import RENDERERS, show

    if style is Format.text and sys.stdout.isatty():
        from rich.console import Console

        show(table, Console(highlight=False))
    else:
        sys.stdout.write(RENDERERS[style][1](table))


def _write_figures(number: int, evidence: "Evidence", datasets: tuple[str, ...], out: Path) -> list[Path]:
    from reports.figures import FIGURES, save

    written: list[Path] = []
    for dataset in datasets:
        figure = FIGURES[number](evidence, dataset)
        try:
            written += save(figure, _folder(out) / f"figure{number}_{dataset}")
        except OSError as error:
            raise ConfigError(f"figure in {out} cannot be written ({error.strerror}): choose another --out") from error
    return written


@app.command()
def report(
    table: Annotated[int | None, typer.Option(help="Number of the table in the paper: 2.")] = None,
    figure: Annotated[
        int | None, typer.Option(help="Number of the figure in the paper: 3 (alpha sensitivity).")
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Study to report (default: table2 for tables, alpha_lambda for figures).")
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="Data sets, comma-separated or repeated; all: the paper's five (default: what the study has)."
        ),
    ] = None,
    profile: Annotated[
        ProfileName | None, typer.Option(help="Needed where the study has results of both; they never mix.")
    ] = None,
    tie: Annotated[TieName | None, typer.Option(help="Only results on data with this tie rule.")] = None,
    fingerprint: Annotated[
        list[str] | None, typer.Option(help="Beginning of the data fingerprint, where a data set has several versions.")
    ] = None,
    db: Annotated[str, typer.Option(help="Results database: a file or a URL.")] = "runs/btsr.db",
    style: Annotated[
        Format | None, typer.Option("--format", help="Of a table (default: text; with --out all four).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for files (default: tables to the terminal, figures to 'report' next to the database)."
        ),
    ] = None,
) -> None:
    """Tables and figures from the results of btsr-sweep, the published numbers beside ours."""
    from harness.store import open_store
    from reports.results import Request, gather

    if table is None and figure is None:
        raise ConfigError("nothing asked for: use --table 2 or --figure 3")
    if figure is not None:
        from reports.figures import FIGURES

        if figure not in FIGURES:
            raise ConfigError(f"there is no figure {figure} yet: use --figure {', '.join(map(str, FIGURES))}")

    def request(kind: str) -> Request:
        return Request(
            study=study or DEFAULT_STUDY[kind],
            profile=profile.value if profile else None,
            datasets=_names(dataset or []),
            tie=tie.value if tie else None,
            fingerprints=tuple(fingerprint or ()),
        )

    with open_store(db, read_only=True) as store:
        if table is not None:
            from reports.tables import table as make_table

            made = make_table(table, store, request("table"))
            if out is None:
                _print_table(made, style or Format.text)
            else:
                for path in _write_table(made, [style] if style else list(Format), out):
                    typer.echo(f"wrote {path}", err=True)
        if figure is not None:
            evidence = gather(store, request("figure"))
            there = evidence.datasets if dataset else evidence.finished
            folder = out or (Path("report") if "://" in db else Path(db).parent / "report")
            for path in _write_figures(figure, evidence, there, folder):
                typer.echo(f"wrote {path}", err=True)


def main() -> None:
    """Entry point: errors of the user are one line and exit code 2."""
    try:
        app(prog_name="btsr-report")
    except BtsrError as error:
        typer.echo(f"btsr-report: {error}", err=True)
        raise SystemExit(2) from None
