"""The study that `btsr-sweep` was asked for: by name or from a file, with options that it may not ignore."""

import importlib.util
import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.choices import option, what_is_wrong
from harness.config import PAPER_DATASETS, REDUCED_SEEDS, Study, StudyOptions, TrialSpec
from harness.data.catalogue import dataset_of
from harness.errors import BtsrError, ConfigError
from harness.fits import check_settings
from harness.options import SEARCH_ENDS, WINNERS
from harness.paths import RunPaths
from studies import STUDIES, StudyFunction, default_datasets, study_function

DEMANDS: Mapping[str, str] = {
    "max_epochs": "train.max_epochs",
    "validate_every": "train.validate_every",
    "precision": "train.precision",
    "tie": "data.tie",
}
"""Option -> the field of a trial that it is for; another one is for the field of `data` named as it is."""


RESULTS = ("--out", "--db")
ALONE: Mapping[str, tuple[str, ...]] = {"--recipe": (), "--list": (), "--merge": RESULTS}
"""Options that do one thing and end, each with those that say how."""

IN_VAIN = (
    ("--status", "--dry-run"),
    ("--status", "--calibrate"),
    ("--only", "--retry-failed"),
    ("--only", "--replace"),
    ("--replace", "--extend"),
)
"""Options of which the second has no effect beside the first."""

TAKEN = (WINNERS, *SEARCH_ENDS)
"""What the name of a study must not end in: it would be taken for the winners, or for a search, of another."""


def check_together(given: Collection[str]) -> None:
    """Raise ConfigError where one of the options that were typed would have no effect beside the others.

    A start's own options may stand beside --dry-run and --status, which are added to its command.
    """
    for first, how in ALONE.items():
        if first in given and (rest := sorted(set(given) - {first, *how})):
            raise ConfigError(f"{rest[0]} has no effect with {first}: drop one of them")
    for first, idle in IN_VAIN:
        if first in given and idle in given:
            raise ConfigError(f"{idle} has no effect with {first}: drop one of them")
    if "--status" in given and not {"--study", "--winners-of"} & set(given):
        if rest := sorted(set(given) - {"--status", *RESULTS}):
            raise ConfigError(f"{rest[0]} has no effect with --status of all studies: drop it, or name one by --study")
    if "--dashboard-port" in given and "--dashboard" not in given:
        raise ConfigError("--dashboard-port has no effect without --dashboard: add that")
    if {"--calibrate", "--ray-address"} <= set(given):
        raise ConfigError(
            "--calibrate measures this machine, not the cluster of --ray-address: drop one of them (measured first, "
            "without the address, its prices are known to later plans)"
        )


def command_typed(words: Sequence[str]) -> str:
    """The command, program first, as a shell takes it, to be kept with results: without a database's password."""

    def told(word: str) -> str:
        option, sign, value = word.partition("=") if word.startswith("--") and "=" in word else ("", "", word)
        return option + sign + (RunPaths(database=value).shown if "://" in value else value)

    return shlex.join([Path(words[0]).name, *map(told, words[1:])])


def study_named(name: str) -> tuple[StudyFunction, tuple[str, ...]]:
    """The study function and its usual data sets; a name that looks like a file is one.

    Raises ConfigError for an unknown name, and for a file that is missing, cannot be loaded or has no such function.
    """
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
    sys.modules[spec.name] = module  # where dataclasses look for it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"study file {path} cannot be loaded: {_summary(error)}") from error
    function = getattr(module, "study", None)
    if not callable(function):
        raise ConfigError(f"study file {path} has no function study(options): write one that returns a Study")
    usual = getattr(module, "DATASETS", PAPER_DATASETS)
    if isinstance(usual, str):
        usual = (usual,)
    if not isinstance(usual, Sequence) or not all(isinstance(name, str) for name in usual):
        raise ConfigError(f'study file {path}: DATASETS is no sequence of names ({usual!r}): write ("ml1m",)')
    return function, tuple(usual)


def methods_named(words: list[str] | None) -> tuple[str, ...]:
    """The methods that the option means, several by comma. Raises ConfigError where it means none."""
    found = tuple(name.strip() for word in words or () for name in word.split(",") if name.strip())
    if words and not found:
        raise ConfigError("--methods names no method: drop it, or name some such as sasrec_ce,bt_sr")
    return found


def study_asked(function: StudyFunction, options: StudyOptions, name: str, *, searched: bool = False) -> Study:
    """The study for these options; whether its spaces are to be `searched`, its trials then not run.

    Raises ConfigError for what a study file does wrong, for data that there are not, where the study (or a search of
    it) ignores an option, and where a trial would end before its auxiliary term begins.
    """
    built = _built(function, options, name)
    if taken := next((end for end in TAKEN if built.name.endswith(end)), None):
        raise ConfigError(
            f"study {name} calls itself {built.name}, which would be taken for {built.name.removesuffix(taken)}'s "
            f"{taken[1:]}: give it a name that does not end in {taken}"
        )
    there = [_called(spec) for spec in built.specs]
    asked = set(options.methods)
    if asked and not (asked <= set().union(*there) and all(asked & names for names in there)):
        about = ", ".join(sorted({spec.method for spec in built.specs}))
        raise ConfigError(f"--methods does not choose in study {built.name}, which is about {about}")
    if not built.specs:
        raise ConfigError(f"study {built.name} lists no trial for data sets {', '.join(options.datasets)}")
    for data in dict.fromkeys(spec.data for spec in _trials(built)):
        dataset_of(data)
    _refuse_idle(built, options)
    for spec in _trials(built):
        check_settings(spec)
    _refuse_deaf(built, options, lambda silent: _built(function, silent, name), searched=searched)
    return built


def _called(spec: TrialSpec) -> set[str]:
    """What --methods may call a trial's method: BT-SR also by its base loss."""
    return {spec.method, *([f"sasrec_{spec.loss.kind}+bt"] if spec.method == "bt_sr" else [])}


def _built(function: StudyFunction, options: StudyOptions, name: str) -> Study:
    """What the function returns; what a study file does wrong is the user's error."""
    try:
        built: object = function(options)
        if isinstance(built, Study):
            return Study.model_validate(built)  # again: model_copy and model_construct check nothing
    except BtsrError:
        raise
    except Exception as error:
        if name in STUDIES:
            raise
        raise ConfigError(f"study file {name} failed: {_summary(error)}") from error
    raise ConfigError(f"study file {name}: study(options) returned {type(built).__name__}, not a Study")


def _refuse_idle(built: Study, options: StudyOptions) -> None:
    """Raise ConfigError for a --count that no data set needs: the trials would be others by name alone."""
    asked, configs = options.data.count, {spec.data for spec in _trials(built)}
    if asked != "usual" and all(
        data.count == asked and data.counted == data.model_copy(update={"count": "usual"}).counted for data in configs
    ):
        filters = ", ".join(sorted({data.filter for data in configs}))
        raise ConfigError(f"--count {asked} is what filter {filters} counts anyway: drop it")


def _refuse_deaf(
    built: Study, options: StudyOptions, rebuild: Callable[[StudyOptions], Study], *, searched: bool
) -> None:
    """Raise ConfigError where a trial has another value than was asked for, and would have it unasked.

    A study that switches a setting itself hears an option for it: without the option its trials are others, and with
    it one has the value that was asked for, all else equal. The same for --seeds, --profile and --reduced where the
    study is the same without them, or, in a search, its spaces are.
    """
    for field in ("max_epochs", "validate_every", "precision", "tie", "data"):
        asked, silence = getattr(options, field), StudyOptions.model_fields[field].default
        if asked == silence:
            continue
        trials = tuple(_trials(built))
        unasked = tuple(_trials(rebuild(options.model_copy(update={field: silence}))))
        heard = trials if trials != unasked else ()
        for spec, same in zip(trials, unasked, strict=True) if len(trials) == len(unasked) else ():
            _refuse_ignored(built.name, spec, same, asked.said if field == "data" else {field: asked}, heard)
    for field in ("seeds", "profile", "reduced"):
        silence = StudyOptions.model_fields[field].default
        if getattr(options, field) == silence or (field == "reduced" and len(options.seeds) <= REDUCED_SEEDS):
            continue  # fewer seeds may be all that the smaller form is
        without = rebuild(options.model_copy(update={field: silence}))
        if without == built:
            raise ConfigError(f"{option(field)} changes nothing in study {built.name}: drop it")
        if searched and built.search and without.search == built.search:
            raise ConfigError(f"{option(field)} changes nothing in a search of study {built.name}: drop it")


def _refuse_ignored(
    study: str, spec: TrialSpec, unasked: TrialSpec, asked: Mapping[str, Any], others: Sequence[TrialSpec]
) -> None:
    has, before = spec.flat(), unasked.flat()
    for name, value in asked.items():
        path = DEMANDS.get(name, f"data.{name}")
        found = has[path]
        fits = found <= value if name == "max_epochs" else found == value
        if not fits and found == before[path] and has | {path: value} not in [other.flat() for other in others]:
            raise ConfigError(
                f"{option(name)} {value} is ignored by study {study} (a {spec.method} trial has {found}): "
                "drop it, or let the study take it from its options"
            )


def _trials(study: Study) -> Iterator[TrialSpec]:
    """The study's trials, and the middle of each search space."""
    yield from study.specs
    yield from (space.base for space in study.search)


def _summary(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return what_is_wrong(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
