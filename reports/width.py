"""How a figure is printed: its width and what follows from it, such as panels side by side and the size of type."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import wrap

from harness.errors import ConfigError

NARROWEST, WIDEST = 3.0, 8.0
"""In inches: a column of the narrowest two-column layouts, a page without margins."""
_NARROW = 5.0
"""In inches: below it figures have fewer panels side by side."""
_NO_BREAK = "\u00a0"


@dataclass(frozen=True, slots=True)
class Width:
    """The width of a figure as it is printed. Sizes of type are in points."""

    inches: float
    bare: bool = False
    """Without title and notes, which go into a LaTeX caption."""

    @property
    def narrow(self) -> bool:
        """Whether it has room for two small panels side by side, not for three."""
        return self.inches < _NARROW

    @property
    def type(self) -> float:
        """Of labels, legends and titles of panels; the figure's title has one more."""
        return 7.5 if self.narrow else 8.0

    @property
    def caption(self) -> float:
        """Of the notes below."""
        return 6.0 if self.narrow else 6.5

    def wrapped(self, paragraphs: Sequence[str]) -> list[str]:
        """The lines of a caption, where B, alpha and lambda are never apart from their values."""
        characters = round(self.inches * (20.4 if self.narrow else 92 / 5.5))
        return [row for words in paragraphs for row in wrap(_kept_together(words), characters)]


def _kept_together(words: str) -> str:
    for name in ("B ", "lambda ", "alpha ", "n = "):
        words = words.replace(name, name.replace(" ", _NO_BREAK))
    return words


COLUMN, TEXT = Width(3.33), Width(5.5)
WIDTHS: Mapping[str, Width] = {"column": COLUMN, "text": TEXT}
"""One of two columns as ACM has them; the text of a page with one column."""


def width_of(words: str, *, bare: bool = False) -> Width:
    """The width that a name or a number of inches says. Raises ConfigError for others, and beyond the bounds."""
    if words in WIDTHS:
        return replace(WIDTHS[words], bare=bare)
    try:
        inches = float(words)
    except ValueError:
        inches = 0.0
    if not NARROWEST <= inches <= WIDEST:
        names = ", ".join(f"{name} ({width.inches:g} inches)" for name, width in WIDTHS.items())
        raise ConfigError(
            f"--width '{words}' is no width of a figure: use {names}, or inches from {NARROWEST:g} to {WIDEST:g}"
        )
    return Width(inches, bare)
