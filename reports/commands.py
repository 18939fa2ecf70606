"""The `btsr-sweep` command that runs what a table or a figure lacks."""

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path

from harness.choices import DataChoices, option
from harness.config import SEEDS, DataConfig, Profile, StudyOptions, TrialSpec, is_file
from harness.errors import ConfigError
from harness.options import WINNERS, said, searched
from harness.profiles import profile_data
from models.config import Precision
from studies import STUDIES

POINTS = 20
"""Of a search that has none yet."""

_COLUMNS = ("--user-col", "--item-col", "--time-col")
DATA_HABITS = ("--tie", "--precision")
_HABITS = ("--seeds", "--max-epochs", "--validate-every", *DATA_HABITS)
_PLANNING = (
    *("--methods", "--seeds", "--tie", "--max-epochs", "--precision", "--validate-every"),
    *map(option, DataChoices.model_fields),
)
"""What decides, with a value, which trials a study file asks for."""


def sweep_command(
    study: str,
    profile: Profile,
    datasets: Sequence[str],
    missing: Sequence[TrialSpec],
    database: str,
    asked: Sequence[TrialSpec] = (),
    *,
    more: bool = False,
    narrow: bool = True,
    unsaid: Callable[[], Sequence[str]] = list,
    typed: str = "",
) -> str:
    """The shortest command whose plan holds every missing trial; `database` as the store names it.

    Without `narrow` it is of all the study's methods. Where no trial says how the data are, `unsaid` has the words.

    Of a search, one for as many points as the method with most of the trials `asked` for has, with their settings;
    with `more`, which is for one that is finished, for twice as many. Of winners (`asked` is then of the study whose
    winners they are), with the methods that are missing where these are not all.
    A plan narrowed by --methods, --reduced, --seeds, --tie or --max-epochs, with another --precision or
    --validate-every, or on data that are not as the profile filters them, is recognised by its trial keys. Where none
    fits (the missing trials come from several calls) the plain command is given.

    Of a study file of the user's own, its file and options are those of `typed`, a command that ran trials of it; empty
    where that names no file.
    """
    tried = [spec for spec in asked if spec.data.dataset in datasets]
    methods = tuple(dict.fromkeys(spec.method for spec in missing))
    if study.endswith(WINNERS):
        words = ["btsr-sweep", "--winners-of", study.removesuffix(WINNERS), "--dataset", ",".join(datasets)]
        words += ["--methods", ",".join(methods)] if methods and {*methods} < {spec.method for spec in tried} else []
        seeds = max((SEEDS.index(spec.seed) + 1 for spec in missing if spec.seed in SEEDS), default=len(SEEDS))
        return shlex.join([*words, *["--seeds", str(seeds)] * (seeds < len(SEEDS)), *_place(database)])
    base, search = searched(study)
    if search and (base in STUDIES or said(typed, "--search") == search):
        points = max(Counter(spec.place for spec in tried).values(), default=0 if more else POINTS)
        words = ["--search", search, "--trials", str(max(POINTS, 2 * points) if more else points)]
        if base in STUDIES and tried:
            words += _searching(base, profile, datasets, tried)
            words += [*_tied(tried[0].data.tie), *_always(_usual(profile, datasets, tried))]
        elif base in STUDIES:
            words += unsaid()
        study = base
    else:
        options = _options(study, profile, datasets, missing, narrow=narrow)
        words = [*unsaid()] if options is None and study in STUDIES else options or []
    if study in STUDIES:
        return _command(study, profile, datasets, words, database)
    file = said(typed, "--study") or ""
    return _command(file, profile, datasets, [*words, *_kept(typed, datasets)], database) if file else ""


def _searching(study: str, profile: Profile, datasets: Sequence[str], tried: Sequence[TrialSpec]) -> list[str]:
    """The methods that a search has trials of, where they are not those that its study has spaces of by itself."""
    spaces = STUDIES[study](StudyOptions(datasets=tuple(datasets), profile=profile)).search
    usual, mine = {space.base.method for space in spaces}, tuple(dict.fromkeys(spec.method for spec in tried))
    return ["--methods", ",".join(mine)] if usual and usual != {*mine} else []


def _kept(typed: str, datasets: Sequence[str]) -> list[str]:
    """The words of a command that decide which trials its study file asks for."""
    words = ["--reduced"] * ("--reduced" in shlex.split(typed))
    for name in (*_PLANNING, *(_COLUMNS if any(map(is_file, datasets)) else ())):
        value = said(typed, name)
        words += [] if value is None else [name, value]
    return words


def extending_command(
    study: str,
    profile: Profile,
    datasets: Sequence[str],
    asked: Sequence[TrialSpec],
    database: str,
    unsaid: Callable[[], Sequence[str]] = list,
) -> str:
    """The command that runs, beside the trials that a study of ours was asked for, the others that it has without
    --reduced."""
    options = _options(study, profile, datasets, _of_today(study, profile, asked), narrow=False)
    words = unsaid() if options is None else [word for word in options if word != "--reduced"]
    return _command(study, profile, datasets, words, database) + " --extend"


def naming_words(
    study: str,
    profile: Profile,
    dataset: str,
    asked: Sequence[TrialSpec],
    unsaid: Callable[[], Sequence[str]],
) -> tuple[str, ...]:
    """The options of a command that runs further methods of a study of ours on a data set, beside those of the trials
    `asked` for there that it has."""
    options = _options(study, profile, (dataset,), _of_today(study, profile, asked), narrow=False)
    return tuple(unsaid() if options is None else options)


def naming_command(
    study: str,
    profile: Profile,
    datasets: Sequence[str],
    words: Sequence[str],
    methods: Sequence[str],
    database: str,
) -> str:
    """That command, for data sets with the same `words`."""
    return _command(study, profile, datasets, [*words, "--methods", ",".join(methods)], database) + " --extend"


def planned(study: str, profile: Profile, dataset: str, method: str) -> tuple[TrialSpec, ...]:
    """What a study of ours asks for on a data set where this method is named; nothing where it has no such method."""
    try:
        options = StudyOptions(datasets=(dataset,), profile=profile, methods=(method,))
        return STUDIES[study](options).specs if study in STUDIES else ()
    except ConfigError:
        return ()


def options_like(
    profile: Profile,
    datasets: Sequence[str],
    there: Sequence[TrialSpec],
    *,
    tie: str | None = None,
    precision: Precision | None = None,
) -> list[str]:
    """Words for data as the trials `there` have them, as far as all agree; their columns alone where not all the data
    sets are among them. `tie` and `precision` are said in place of theirs."""
    mine = [spec for spec in there if spec.data.dataset in datasets and spec.profile == profile]
    every = mine if {*datasets} == {spec.data.dataset for spec in mine} else []
    ties, precisions = {spec.data.tie for spec in every}, {spec.train.precision for spec in every}
    options = StudyOptions(
        datasets=tuple(datasets),
        profile=profile,
        data=_choices(profile, [spec.data for spec in every]),
        precision=precision or (precisions.pop() if len(precisions) == 1 else "fp32"),
        columns=next((spec.data.columns for spec in mine if any(spec.data.columns)), ("", "", "")),
    )
    return _tied(tie or (ties.pop() if len(ties) == 1 else None)) + _always(options)


def habits(study: str, profile: Profile, asked: Sequence[TrialSpec]) -> dict[str, tuple[str, ...]]:
    """Option -> its words, of how a study of ours was asked for: seeds, epochs, validation, ties, precision and whether
    reduced; only what all its data sets agree on."""
    mine = _of_today(study, profile, asked)
    found: list[set[tuple[str, tuple[str, ...]]]] = []
    for dataset in dict.fromkeys(spec.data.dataset for spec in mine):
        here = [spec for spec in mine if spec.data.dataset == dataset]
        words = _options(study, profile, (dataset,), here, narrow=False) or []
        found.append({(word, (word,)) for word in words if word == "--reduced"})
        for name in _HABITS:
            if (value := said(shlex.join(words), name)) is not None:
                found[-1].add((name, (name, value)))
    return dict(sorted(set.intersection(*found))) if found else {}


def hears_seeds(study: str, profile: Profile, datasets: Sequence[str]) -> bool:
    """Whether a study of ours is another with fewer seeds; --seeds is refused where it is not."""
    few = StudyOptions(datasets=tuple(datasets), profile=profile, seeds=SEEDS[:1])
    return _planned(study, few) != _planned(study, few.model_copy(update={"seeds": SEEDS}))


def _of_today(study: str, profile: Profile, asked: Sequence[TrialSpec]) -> list[TrialSpec]:
    """Those of the trials that a study of ours, as it is today, has."""
    old = {spec.key for spec in unplanned(study, profile, asked)}
    return [spec for spec in asked if spec.key not in old]


def exact_plan(
    study: str, profile: Profile, datasets: Sequence[str], specs: Sequence[TrialSpec], database: str
) -> tuple[str, frozenset[str]] | None:
    """The command whose plan, as the study of ours is today, holds all these trials and as few others as possible, and
    the keys of that plan; None where none does.

    A search has no such plan: its points are drawn.
    """
    found = _best(study, profile, datasets, specs)
    return None if found is None else (_command(study, profile, datasets, found[1], database), found[0])


def _command(study: str, profile: Profile, datasets: Sequence[str], options: Sequence[str], database: str) -> str:
    words = ["btsr-sweep", "--study", study, "--dataset", ",".join(datasets), "--profile", profile]
    return shlex.join([*words, *options, *_place(database)])


def _tied(tie: str | None) -> list[str]:
    return ["--tie", tie] if tie not in {None, "stable"} else []


def _place(database: str) -> list[str]:
    """The words that name the database."""
    name = database.removeprefix("sqlite:///")
    if "://" in name:
        return ["--db", database]
    return ["--out", str(Path(name).parent)] if Path(name).name == "btsr.db" else ["--db", name]


Plan = tuple[frozenset[str], list[str]]
"""Keys of what a command plans, and its options."""


def _options(
    study: str, profile: Profile, datasets: Sequence[str], missing: Sequence[TrialSpec], *, narrow: bool = True
) -> list[str] | None:
    """Words that narrow the study to a plan with all these trials, and as few others as possible; None where none has
    them. Of equals with the usual order of ties and the usual precision, which a study may vary itself."""
    found = _best(study, profile, datasets, missing, narrow=narrow)
    return None if found is None else found[1]


def _best(
    study: str, profile: Profile, datasets: Sequence[str], missing: Sequence[TrialSpec], *, narrow: bool = True
) -> Plan | None:
    if not missing or study not in STUDIES:
        return None
    methods = tuple(dict.fromkeys(spec.method for spec in missing))
    every, some = (_smallest(study, profile, datasets, missing, names) for names in ((), methods))
    if every is None or (narrow and some is not None and len(some[0]) < len(every[0])):
        return None if some is None else (some[0], ["--methods", ",".join(methods), *some[1]])
    return every


def _smallest(
    study: str, profile: Profile, datasets: Sequence[str], missing: Sequence[TrialSpec], methods: tuple[str, ...]
) -> Plan | None:
    """The smallest plan with these methods (empty: those of the study) that has all these."""
    keys = {spec.key for spec in missing}
    ties = sorted({spec.data.tie for spec in missing}, key=lambda tie: (tie != "stable", tie))
    precisions = sorted({"fp32", *(spec.train.precision for spec in missing)}, reverse=True)
    caps = [None, max(spec.train.max_epochs for spec in missing)]
    usual = _usual(profile, datasets, missing).model_copy(update={"methods": methods})
    best: Plan | None = None
    for cap, reduced, tie, precision in product(caps, (False, True), ties, precisions):
        said = {"reduced": reduced, "max_epochs": cap, "tie": tie, "precision": precision}
        for n_seeds in range(len(SEEDS), 0, -1):
            options = usual.model_copy(update={"seeds": SEEDS[:n_seeds], **said})
            planned = _planned(study, options)
            if not keys <= planned:
                break  # fewer seeds hold less
            if best is None or len(planned) < len(best[0]):
                words = ["--reduced"] if reduced else []
                words += ["--seeds", str(n_seeds)] if n_seeds < len(SEEDS) else []
                words += _tied(tie)
                words += ["--max-epochs", str(cap)] if cap is not None else []
                best = planned, words + _always(options)
    return best


def _usual(profile: Profile, datasets: Sequence[str], specs: Sequence[TrialSpec]) -> StudyOptions:
    """What the trials share beside methods, seeds, tie and epochs, and the precision of the first."""
    return StudyOptions(
        datasets=tuple(datasets),
        profile=profile,
        data=_choices(profile, [spec.data for spec in specs]),
        precision=specs[0].train.precision,
        validate_every=specs[0].train.validate_every,
        columns=next((spec.data.columns for spec in specs if any(spec.data.columns)), ("", "", "")),
    )


def _always(options: StudyOptions) -> list[str]:
    """The words for it."""
    words = ["--precision", options.precision] if options.precision != "fp32" else []
    words += ["--validate-every", str(options.validate_every)] if options.validate_every > 1 else []
    words += [word for name, value in options.data.said.items() for word in (option(name), str(value))]
    for name, value in zip(_COLUMNS, options.columns, strict=True):
        words += [name, value] if value else []
    return words


def _choices(profile: Profile, configs: Sequence[DataConfig]) -> DataChoices:
    """What these data have in common that the profile does not say."""
    said = {}
    for name in DataChoices.model_fields:
        values = {getattr(config, name) for config in configs}
        usual = {getattr(profile_data(config.dataset, profile), name) for config in configs}
        if len(values) == 1 and values != usual:
            said[name] = values.pop()
    idle = {"min_item", "min_user"} if said.get("filter") == "none" else set()
    return DataChoices(**{name: value for name, value in said.items() if name not in idle})


def unplanned(study: str, profile: Profile, missing: Sequence[TrialSpec]) -> tuple[TrialSpec, ...]:
    """Those of the missing trials that a study of ours does not ask for as it is today: an earlier definition did."""
    if study not in STUDIES:
        return ()
    old = []
    for dataset in dict.fromkeys(spec.data.dataset for spec in missing):
        here = [spec for spec in missing if spec.data.dataset == dataset]
        if (
            _options(study, profile, (dataset,), here, narrow=False) is None
        ):  # one by one only where not all are planned
            old += [spec for spec in here if _options(study, profile, (dataset,), [spec], narrow=False) is None]
    return tuple(old)


@lru_cache(maxsize=1024)
def _planned(study: str, options: StudyOptions) -> frozenset[str]:
    """Keys of the trials that the options plan; none where the study refuses them.

    It does where the data sets belong to a study of the user's own with the same name, and for methods that it has on
    some data sets only.
    """
    try:
        return frozenset(spec.key for spec in STUDIES[study](options).specs)
    except ConfigError:
        return frozenset()
