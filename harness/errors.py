"""The error tree: what a user can cause has a name here, and its message says what to do.

    BtsrError
      ConfigError            what the user asked for cannot be          (also a ValueError)
        AmbiguousError       several results are meant, which never mix: the options that choose
      DataError              a file is missing, damaged or not what its name says
        ChecksumError        the file is not the one we know
        LeakError            a training interaction is at or after the boundary, or a user is on both sides
      StoreError             the results database cannot be used
        SchemaError          it was written by another version, or is not ours
        SweepLocked          another driver holds it: its host and process id
      ExecutorError          what runs the trials has ended beneath them
      TrialError             a trial failed: its key, and the original cause
      ShadowedPackageError   another `models`, `studies` or `reports` package hides ours: its path

Message pattern: what was found, where it came from, what to do. Bugs hit an ``assert`` instead.
"""

from collections.abc import Iterable
from difflib import get_close_matches

ELSEWHERE = "name another database"
"""How a message about a results database ends: every command names one by an option of its own, see `told`."""


class BtsrError(Exception):
    """Base of every error that a user can cause; the command line prints its message as one line."""


class ConfigError(BtsrError, ValueError):
    """What the user asked for cannot be."""


class AmbiguousError(ConfigError):
    """Several results are what the user asked for, and they never mix: the message names the option that chooses."""


class DataError(BtsrError):
    """An input file is missing, damaged, or not what its name says."""


class ChecksumError(DataError):
    """The file is not the one the registry knows."""


class LeakError(DataError):
    """The split breaks its own promise: see ``harness.data.leaks.check_leaks``."""


class StoreError(BtsrError):
    """The results database cannot be used."""


class SchemaError(StoreError):
    """The database was written by another version of btsr, or by another program."""


class SweepLocked(StoreError):
    """Another driver holds the database."""


class ExecutorError(BtsrError):
    """What runs the trials, such as Ray, has ended beneath them."""


class TrialError(BtsrError):
    """A trial failed; the message names its key, the cause is chained."""


class ShadowedPackageError(BtsrError):
    """Another package of the same name hides one of ours."""


def told(error: BtsrError, option: str) -> str:
    """The message, with the option by which a database is named here where the message advises another one.

    >>> told(StoreError("x.db is damaged: restore it, or name another database"), "--db")
    'x.db is damaged: restore it, or name another database by --db'
    """
    message = str(error)
    return f"{message} by {option}" if message.endswith(ELSEWHERE) else message


def nearest(name: str, known: Iterable[str]) -> str:
    """The question whether the nearest of the known names is meant, with a space behind; empty where none is near."""
    near = get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'? " if near else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that no registry has: the nearest spelling and the whole list.

    >>> print(unknown_name("study", "smok", ["smoke", "table2"]))
    unknown study 'smok': did you mean 'smoke'? Known: smoke, table2
    """
    names = sorted(known)
    return ConfigError(f"unknown {kind} '{name}': {nearest(name, names)}Known: {', '.join(names)}")
