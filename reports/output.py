"""Where reports go: the terminal, or files in a folder, which take their names when they are whole."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reports.sheet import Sheet
    from reports.table import Table


class Output:
    """Prints tables, or writes them where a folder was named; figures are always files."""

    def __init__(self, out: Path | None, formats: Sequence[str], figures: Path) -> None:
        self._out = out
        self._formats = formats
        self._figures = out or figures

    def table(self, table: "Table") -> None:
        """A table of the paper."""
        from reports.render import RENDERERS, show

        if self._out is None and not self._formats and sys.stdout.isatty():
            from rich.console import Console

            show(table, Console(highlight=False))
        else:
            self._emit(
                table.name, {name: (suffix, partial(render, table)) for name, (suffix, render) in RENDERERS.items()}
            )

    def sheet(self, sheet: "Sheet") -> None:
        """Audit, claims, verdicts, provenance."""
        from reports.sheet import SHEET_RENDERERS, show_sheet

        if self._out is None and not self._formats and sys.stdout.isatty():
            from rich.console import Console

            show_sheet(sheet, Console(highlight=False))
        else:
            self._emit(
                sheet.name,
                {name: (suffix, partial(render, sheet)) for name, (suffix, render) in SHEET_RENDERERS.items()},
            )

    def _emit(self, stem: str, renderers: dict[str, tuple[str, Callable[[], str]]]) -> None:
        """To the terminal in one format (text), or to files in those asked for (all)."""
        if self._out is None:
            for name in self._formats or ("text",):
                sys.stdout.write(renderers[name][1]())
            return
        for name in self._formats or tuple(renderers):
            suffix, render = renderers[name]
            write(self._out / f"{stem}{suffix}", render())

    def figure(self, stem: str, figure: "Figure") -> None:
        """As PNG, SVG and PDF; of a bare one also the LaTeX that sets it with its title and notes as the caption."""
        from reports.draw import save
        from reports.words import latex_figure

        folder = made(self._figures)
        try:
            paths = save(figure, folder / stem)
        except OSError as error:
            raise ConfigError(
                f"figure in {folder} cannot be written ({error.strerror}): choose another --out"
            ) from error
        for path in paths:
            typer.echo(f"wrote {path}", err=True)
        if words := str(figure.get_label()).splitlines():
            write(folder / f"{stem}.tex", latex_figure(stem, words))


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file, which takes the place of `path` at the end; where that fails nothing is left of it."""
    if path.exists() and not path.is_file():  # a device, or a folder, which is the writer's error to tell
        yield path
        return
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def made(folder: Path, option: str = "--out") -> Path:
    """The folder, made where it is missing. Raises ConfigError where it cannot be; `option` is what named it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"folder {folder} cannot be made ({error.strerror}): choose another {option}") from error
    return folder


def write(path: Path, words: str, option: str = "--out") -> None:
    """A text file, with its folder. Raises ConfigError where it cannot be written; `option` is what named it."""
    made(path.parent, option)
    try:
        with whole(path) as part:
            part.write_text(words, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}): choose another {option}") from error
    typer.echo(f"wrote {path}", err=True)
