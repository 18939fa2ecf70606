"""The `btsr-sweep` command that runs what a table or a figure lacks."""

import shlex
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from harness.choices import DataChoices, option
from harness.config import SEEDS, DataConfig, Profile, StudyOptions, TrialSpec
from harness.errors import ConfigError
from harness.options import SEARCHES, WINNERS
from harness.profiles import profile_data
from studies import STUDIES

POINTS = 20
"""Of a search that has none yet."""


def sweep_command(
    study: str,
    profile: Profile,
    datasets: Sequence[str],
    missing: Sequence[TrialSpec],
    database: str,
    asked: Sequence[TrialSpec] = (),
) -> str:
    """The shortest command whose plan holds every missing trial; `database` as the store names it.

    Of a search, one for as many points as the method with most of the trials `asked` for has.
    A plan narrowed by --methods, --reduced, --seeds, --tie or --max-epochs, in another precision or on data that are
    not as the profile filters them, is recognised by its trial keys. Where none fits (the missing trials come from
    several calls, or from a study file of the user's own) the plain command is given.
    """
    if study.endswith(WINNERS):
        words = ["btsr-sweep", "--winners-of", study.removesuffix(WINNERS), "--dataset", ",".join(datasets)]
        seeds = max((SEEDS.index(spec.seed) + 1 for spec in missing if spec.seed in SEEDS), default=len(SEEDS))
        return shlex.join([*words, *["--seeds", str(seeds)] * (seeds < len(SEEDS)), *_place(database)])
    searched, _, search = study.rpartition("_")
    words = ["btsr-sweep", "--study", searched if _is_search_of_ours(study) else study]
    words += ["--dataset", ",".join(datasets), "--profile", profile]
    if _is_search_of_ours(study):
        points = Counter(spec.place for spec in asked if spec.data.dataset in datasets).values()
        words += ["--search", search, "--trials", str(max(points, default=POINTS))]
    words += _options(study, profile, datasets, missing)
    return shlex.join([*words, *_place(database)])


def is_named(study: str) -> bool:
    """Whether a command can name the study; one of a file of the user's own is known by its file alone."""
    return study in STUDIES or study.endswith(WINNERS) or _is_search_of_ours(study)


def _is_search_of_ours(study: str) -> bool:
    """Whether it is a search of a study of ours."""
    searched, _, search = study.rpartition("_")
    return search in SEARCHES and searched in STUDIES


def _place(database: str) -> list[str]:
    """The words that name the database."""
    name = database.removeprefix("sqlite:///")
    if "://" in name:
        return ["--db", database]
    return ["--out", str(Path(name).parent)] if Path(name).name == "btsr.db" else ["--db", name]


def _options(study: str, profile: Profile, datasets: Sequence[str], missing: Sequence[TrialSpec]) -> list[str]:
    """Words that narrow the study to a plan with all these trials, and as few others as possible."""
    if not missing or study not in STUDIES:
        return []
    keys = {spec.key for spec in missing}
    ties = sorted({spec.data.tie for spec in missing}, reverse=True)
    caps = [None, max(spec.train.max_epochs for spec in missing)]
    usual = StudyOptions(
        datasets=tuple(datasets),
        profile=profile,
        data=_choices(profile, [spec.data for spec in missing]),
        precision=missing[0].train.precision,
        validate_every=missing[0].train.validate_every,
        columns=next((spec.data.columns for spec in missing if any(spec.data.columns)), ("", "", "")),
    )
    always = ["--precision", usual.precision] if usual.precision != "fp32" else []
    always += ["--validate-every", str(usual.validate_every)] if usual.validate_every > 1 else []
    always += [word for name, value in usual.data.said.items() for word in (option(name), str(value))]
    for name, value in zip(("--user-col", "--item-col", "--time-col"), usual.columns, strict=True):
        always += [name, value] if value else []
    best: tuple[int, list[str], StudyOptions] | None = None
    for cap, reduced, tie in product(caps, (False, True), ties):
        for n_seeds in range(len(SEEDS), 0, -1):
            options = usual.model_copy(
                update={"seeds": SEEDS[:n_seeds], "reduced": reduced, "max_epochs": cap, "tie": tie}
            )
            planned = _planned(study, options)
            if not keys <= planned:
                break  # fewer seeds hold less
            if best is None or len(planned) < best[0]:
                words = ["--reduced"] if reduced else []
                words += ["--seeds", str(n_seeds)] if n_seeds < len(SEEDS) else []
                words += ["--tie", tie] if tie != "stable" else []
                words += ["--max-epochs", str(cap)] if cap is not None else []
                best = len(planned), words + always, options
    if best is None:
        return []
    size, words, options = best
    methods = tuple(dict.fromkeys(spec.method for spec in missing))
    some = _planned(study, options.model_copy(update={"methods": methods}))
    return ["--methods", ",".join(methods), *words] if keys <= some and len(some) < size else words


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


def _planned(study: str, options: StudyOptions) -> set[str]:
    """Keys of the trials that the options plan; none where the study refuses them.

    It does where the data sets belong to a study of the user's own with the same name, and for methods that it has on
    some data sets only.
    """
    try:
        return {spec.key for spec in STUDIES[study](options).specs}
    except ConfigError:
        return set()
