"""The console on which commands print names, paths and errors as they are, square brackets and numbers too."""

from functools import partial

from rich.console import Console

plain = partial(Console, markup=False, highlight=False)
"""A rich Console without markup and colours of its own; takes what `Console` takes."""
