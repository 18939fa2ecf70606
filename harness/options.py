"""What a sweep is told beside its study; checked here, written once."""

import shlex
from itertools import pairwise
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from models.config import Frozen

Search = Literal["grid", "random", "tpe", "nsga2"]
Prune = Literal["halving", "median"]

WINNERS = "_winners"
"""What the name of a study of winners ends in: `tune_winners` for the study `tune`."""

SEARCH_ENDS = tuple(f"_{search}" for search in get_args(Search) if search != "grid")
"""What the name of a study of a search ends in: `tune_tpe` for a search of the study `tune`."""


def is_search(study: str) -> bool:
    """Whether a study is named as one whose points a search chose."""
    return study.endswith(SEARCH_ENDS)


def searched(study: str) -> tuple[str, str]:
    """The study that a search is of, and its kind, by its name; the study itself and nothing where it is no search.

    >>> searched("tune_tpe"), searched("alpha_lambda")
    (('tune', 'tpe'), ('alpha_lambda', ''))
    """
    name, _, search = study.rpartition("_")
    return (name, search) if is_search(study) else (study, "")


def options_of(study: str) -> str:
    """The options of `btsr-sweep` by which a study of this name comes about.

    >>> options_of("tune_tpe"), options_of("tune_tpe_winners")
    ('--study tune --search tpe --trials N', '--winners-of tune_tpe')
    """
    if study.endswith(WINNERS):
        return f"--winners-of {study.removesuffix(WINNERS)}"
    name, search = searched(study)
    return f"--study {name} --search {search} --trials N" if search else f"--study {study}"


def said(command: str, option: str) -> str | None:
    """What a command that was typed says by an option, as in `--study mine.py` and `--study=mine.py`; None: nothing.

    Of an option that is given again the last counts, of --methods all, by comma.
    """
    try:
        words = [*shlex.split(command), ""]
    except ValueError:  # a program may keep any text as its command
        return None
    found = [
        after if word == option else word.removeprefix(f"{option}=")
        for word, after in pairwise(words)
        if word == option or word.startswith(f"{option}=")
    ]
    return (",".join(found) if option == "--methods" else found[-1]) if found else None


class SweepOptions(Frozen):
    """How a study is swept; none of it is part of a trial's key."""

    max_failures: Annotated[
        int, Field(ge=0, description="failures of a trial that are followed by another attempt")
    ] = 2
    retry_failed: Annotated[bool, Field(description="trials that failed for good get all their attempts anew")] = False
    only: Annotated[str | None, Field(min_length=4, description="run one trial: its key, or the beginning")] = None
    extend: Annotated[bool, Field(description="run a study whose definition has changed since it was stored")] = False
    replace: Annotated[
        bool, Field(description="the same, and what it asked for before and has not finished is no longer part of it")
    ] = False
    search: Annotated[Search, Field(description="grid: the study's trials; otherwise points of its space")] = "grid"
    trials: Annotated[int, Field(ge=0, description="points that a search tries of each method on each data set")] = 0
    prune: Annotated[Prune | None, Field(description="give up trials of a search that fall behind")] = None

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        if self.search == "grid" and (self.trials or self.prune):
            name = "trials" if self.trials else "prune"
            raise ValueError(f"--{name} needs a search: a grid is run whole, add --search tpe or drop it")
        if self.search != "grid" and not self.trials:
            raise ValueError(f"--search {self.search} needs --trials N: how many points to try")
        if self.search == "nsga2" and self.prune:
            raise ValueError("--prune compares one number and nsga2 has two: drop one of them, or use --search tpe")
        for name in ("only", "replace"):
            if self.search != "grid" and getattr(self, name):
                raise ValueError(f"--{name} is for a grid: drop it")
        return self

    def is_final(self, attempt: int, error: str) -> bool:
        """Whether a failure recorded as this attempt is the last: of too many, or of a kind that repeats itself."""
        return attempt > self.max_failures or error.startswith("TrialError:")
