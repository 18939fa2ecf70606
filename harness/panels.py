"""Plain help under headings: what typer groups by `rich_help_panel` only in boxes."""

from typing import Any

from typer.core import TyperCommand


class Panelled(TyperCommand):
    """A command whose help lists its options under the headings that they name; those without one come first."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section for each heading."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(param, "rich_help_panel", None) or "Options", []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)
